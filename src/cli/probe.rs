//! Runs one batch through a model directory.

use super::arguments::ProbeArguments;
use super::{Context, Exit, Outcome};

pub(super) fn run(_arguments: &ProbeArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("probe is not part of this build yet"))
}
