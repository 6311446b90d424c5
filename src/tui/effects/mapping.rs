//! Work of the Mapping screen.

use super::Outside;
use crate::app::mapping::Effect;

pub(super) fn carry_out(_outside: &mut Outside, effect: Effect) {
    match effect {}
}
