//! Goes on with a run that ended.

use super::arguments::ResumeArguments;
use super::{Context, Exit, Outcome};

pub(super) fn run(_arguments: &ResumeArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("resume is not part of this build yet"))
}
