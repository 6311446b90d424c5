//! The trainer process of one run directory.

use super::arguments::TrainerArguments;
use super::{Context, Exit, Outcome};

pub(super) fn run(_arguments: &TrainerArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("trainer is not part of this build yet"))
}
