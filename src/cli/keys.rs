//! Lists the keys of recipes and of the workbench.

use super::arguments::KeysArguments;
use super::{Context, Exit, Outcome};

pub(super) fn run(_arguments: &KeysArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("keys is not part of this build yet"))
}
