//! Work of the Layout screen.

use super::Outside;
use crate::app::layout::Effect;

pub(super) fn carry_out(_outside: &mut Outside, effect: Effect) {
    match effect {}
}
