//! Trains a recipe headless.

use super::arguments::TrainArguments;
use super::{Context, Exit, Outcome};

pub(super) fn run(_arguments: &TrainArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("train is not part of this build yet"))
}
