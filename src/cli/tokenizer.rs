//! Trains a tokenizer and shows what one does.

use super::arguments::TokenizerArguments;
use super::{Context, Exit, Outcome};

pub(super) fn run(_arguments: &TokenizerArguments, _context: &Context) -> Outcome {
    Err(Exit::Failure.because("tokenizer is not part of this build yet"))
}
