//! The trainer process of one run directory.

use super::arguments::TrainerArguments;
use super::{Context, Exit, Failure, Outcome};
use crate::train::{self, TrainError};

pub(super) fn run(arguments: &TrainerArguments, _context: &Context) -> Outcome {
    match train::run(&arguments.run_dir) {
        Ok(_) => Ok(()),
        Err(error) => Err(failure(error)),
    }
}

/// A training error with its exit code and hint.
pub(super) fn failure(error: TrainError) -> Failure {
    let exit = match &error {
        TrainError::Recipe { .. } | TrainError::Unsupported(_) => Exit::Recipe,
        TrainError::Data(_) | TrainError::Checkpoint(_) | TrainError::Progress { .. } => Exit::Data,
        TrainError::Device { .. } => Exit::Device,
        _ => Exit::Failure,
    };
    let hint = error.hint();
    let failure = Failure::new(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
