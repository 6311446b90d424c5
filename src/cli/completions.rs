//! Prints completions for a shell.

use clap::CommandFactory;

use super::arguments::{Arguments, CompletionsArguments};
use super::{Context, Outcome};

pub(super) fn run(arguments: &CompletionsArguments, context: &Context) -> Outcome {
    let mut text = Vec::new();
    clap_complete::generate(
        arguments.shell,
        &mut Arguments::command(),
        "trestle",
        &mut text,
    );
    Ok(context.out.write(String::from_utf8_lossy(&text))?)
}
