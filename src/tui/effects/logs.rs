//! Work of the Logs screen.

use super::Outside;
use crate::app::logs::Effect;

/// The thread that follows the watched run's console.
#[derive(Debug, Default)]
pub(super) struct Follower;

pub(super) fn carry_out(outside: &mut Outside, effect: Effect) {
    match effect {
        Effect::Follow(_run) => outside.logs = Follower,
    }
}
