//! Trains a tokenizer and shows what one does.

use std::fs;
use std::io::Read;

use crate::data::{self, DataError, Tokenizer};

use super::arguments::{
    TokenizerArguments, TokenizerCommand, TokenizerEncodeArguments, TokenizerTrainArguments,
};
use super::{Context, Exit, Failure, Outcome};

pub(super) fn run(arguments: &TokenizerArguments, context: &Context) -> Outcome {
    match &arguments.command {
        TokenizerCommand::Train(a) => train(a, context),
        TokenizerCommand::Encode(a) => encode(a, context),
    }
}

fn train(arguments: &TokenizerTrainArguments, context: &Context) -> Outcome {
    let json =
        data::train_tokenizer(&arguments.files, arguments.vocab_size).map_err(data_failure)?;
    let out = &arguments.out;
    let unfinished = out.with_extension("json.unfinished");
    fs::write(&unfinished, &json)
        .and_then(|()| fs::rename(&unfinished, out))
        .map_err(|error| {
            let _ = fs::remove_file(&unfinished);
            Exit::Failure.because(format!("cannot write {}: {error}", out.display()))
        })?;
    let tokenizer = Tokenizer::from_file(out).map_err(data_failure)?;
    context.out.line(format!(
        "{}: {} entries, {} bytes",
        out.display(),
        tokenizer.vocab_size(),
        json.len()
    ))?;
    Ok(())
}

fn encode(arguments: &TokenizerEncodeArguments, context: &Context) -> Outcome {
    let tokenizer = match &arguments.tokenizer {
        Some(path) => Tokenizer::from_file(path),
        None => Tokenizer::bundled(),
    }
    .map_err(data_failure)?;
    let text = if let Some(text) = &arguments.text {
        text.clone()
    } else {
        let mut text = String::new();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| Exit::Data.because(format!("cannot read standard input: {error}")))?;
        text
    };
    let ids = tokenizer.encode(&text).map_err(data_failure)?;
    if arguments.json {
        context.out.line(serde_json::to_string(&ids)?)?;
        return Ok(());
    }
    for id in ids {
        let piece = tokenizer.decode(&[id]).map_err(data_failure)?;
        // A part of a character has no text of its own; the vocabulary's spelling shows its bytes.
        let shown = if piece.contains('\u{fffd}') {
            tokenizer.piece(id).unwrap_or_default()
        } else {
            format!("{piece:?}")
        };
        context.out.line(format!("{id:>7}  {shown}"))?;
    }
    Ok(())
}

/// An error of the data room with its exit code and hint.
pub(super) fn data_failure(error: DataError) -> Failure {
    let hint = error.hint();
    let failure = Failure::new(Exit::Data, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}
