//! Counts a recipe's text.

use std::fmt::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::base::Bytes;
use crate::data::{Loader, Split, SplitStatistics, Statistics, statistics};

use super::arguments::DataArguments;
use super::diagnostics::load_valid;
use super::tokenizer::data_failure;
use super::{Context, Outcome};

/// What `--json` says.
#[derive(Serialize)]
struct Counted {
    #[serde(flatten)]
    statistics: Statistics,
    micro_batches_per_epoch: u64,
    tokens_per_micro_batch: usize,
    /// To count, and to tokenise if that was not done before.
    seconds: f64,
    /// What one thread makes into batches.
    loader_tokens_per_second: f64,
}

/// How long the loader is measured.
const MEASURED: Duration = Duration::from_millis(250);

pub(super) fn run(arguments: &DataArguments, context: &Context) -> Outcome {
    let (mut recipe, _) = load_valid(&arguments.recipe, &arguments.sets.set, context.color_stderr)?;
    let begin = Instant::now();
    // A recipe's paths are joined with its folder already.
    let here = Path::new("");
    let statistics = statistics(&recipe, here).map_err(data_failure)?;
    let seconds = begin.elapsed().as_secs_f64();
    // Without a thread of its own, so that what is measured is making batches and not handing them over.
    recipe.data.prefetch = 0;
    let mut loader = Loader::open(&recipe, Split::Train, here).map_err(data_failure)?;
    let micro_batches_per_epoch = loader.batches_in_epoch();
    let (begin, mut tokens) = (Instant::now(), 0);
    while begin.elapsed() < MEASURED {
        tokens += loader.next_batch().map_err(data_failure)?.input_ids.len();
    }
    let loader_tokens_per_second = tokens as f64 / begin.elapsed().as_secs_f64();
    let counted = Counted {
        statistics,
        micro_batches_per_epoch,
        tokens_per_micro_batch: recipe.train.micro_batch_size * recipe.train.seq_length,
        seconds,
        loader_tokens_per_second,
    };
    if arguments.json {
        context.out.json(&counted)?;
    } else {
        context.out.write(table(&counted))?;
    }
    Ok(())
}

fn table(counted: &Counted) -> String {
    let Counted {
        statistics,
        micro_batches_per_epoch,
        tokens_per_micro_batch,
        seconds,
        loader_tokens_per_second,
    } = counted;
    let mut text =
        String::from("             documents        tokens         bytes  bytes/token\n");
    for (name, split) in [
        ("train", &statistics.train),
        ("validation", &statistics.validation),
    ] {
        let SplitStatistics {
            documents,
            tokens,
            bytes,
        } = split;
        let ratio = *bytes as f64 / (*tokens).max(1) as f64;
        let _ = writeln!(
            text,
            "{name:<10} {documents:>11} {tokens:>13} {bytes:>13}  {ratio:>11.2}"
        );
    }
    let _ = writeln!(
        text,
        "\nepoch            {micro_batches_per_epoch} micro-batches of {tokens_per_micro_batch} tokens"
    );
    let _ = writeln!(text, "vocabulary       {} ids", statistics.vocab_size);
    if statistics.validation.tokens > 0 {
        let _ = writeln!(
            text,
            "unigram entropy  {:.4} nats a held-out token by training frequencies, {:.4} by its own",
            statistics.unigram_entropy, statistics.validation_entropy
        );
    }
    let size = std::fs::metadata(&statistics.cache).map_or(0, |metadata| metadata.len());
    let _ = writeln!(
        text,
        "token cache      {} ({}), {} in {seconds:.2} s",
        statistics.cache.display(),
        Bytes(size),
        if statistics.built { "made" } else { "read" }
    );
    let _ = writeln!(
        text,
        "loader           {:.1} million tokens/s on one thread",
        loader_tokens_per_second / 1e6
    );
    text
}
