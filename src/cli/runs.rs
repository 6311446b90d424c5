//! Lists runs.

use super::arguments::RunsArguments;
use super::{Context, Exit, Outcome};

pub(super) fn run(_arguments: &RunsArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("runs is not part of this build yet"))
}
