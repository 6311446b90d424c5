//! Prints a recipe's resolved values with their origins.

use super::arguments::ShowArguments;
use super::{Context, Exit, Outcome};

pub(super) fn run(_arguments: &ShowArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("show is not part of this build yet"))
}
