//! Opens the workbench.

use super::arguments::WorkbenchArguments;
use super::{Context, Exit, Outcome};

pub(super) fn run(_arguments: &WorkbenchArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("workbench is not part of this build yet"))
}
