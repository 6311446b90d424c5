//! Starts a run from a checkpoint of another.

use super::arguments::ForkArguments;
use super::{Context, Exit, Outcome};

pub(super) fn run(_arguments: &ForkArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("fork is not part of this build yet"))
}
