//! Asks a running trainer: pause, continue, checkpoint, set, stop, mark.

use super::arguments::{MarkArguments, RunArgument, SetArguments, StopArguments};
use super::{Context, Exit, Outcome};

pub(super) fn pause(_arguments: &RunArgument, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("pause is not part of this build yet"))
}

pub(super) fn resume_steps(_arguments: &RunArgument, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("continue is not part of this build yet"))
}

pub(super) fn checkpoint(_arguments: &RunArgument, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("checkpoint is not part of this build yet"))
}

pub(super) fn set(_arguments: &SetArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("set is not part of this build yet"))
}

pub(super) fn stop(_arguments: &StopArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("stop is not part of this build yet"))
}

pub(super) fn mark(_arguments: &MarkArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("mark is not part of this build yet"))
}
