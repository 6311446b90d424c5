//! The command line: parses arguments, runs one subcommand, turns errors into words and an exit code.
//!
//! Every subcommand has a file with `run(&Arguments, &Context) -> Outcome`. Results go to standard output through `output`;
//! errors reach [`main`] as a [`Failure`], which prints `error:`, its causes and a hint to standard error.

mod arguments;
mod bench;
mod bundled;
mod byte_progress;
mod check;
mod completions;
mod control;
mod convert;
mod data;
mod diagnostics;
mod failure;
mod fetch;
mod fetch_progress;
mod follow;
mod fork;
mod inspect;
mod job;
mod keys;
mod keys_ui;
mod launch;
mod layout;
mod machine;
mod man;
mod map;
mod model;
mod output;
mod plan;
mod probe;
mod progress;
mod recipes;
mod resume;
mod runs;
mod show;
mod tokenizer;
mod train;
mod trainer;
mod verify;
mod watch;
mod workbench;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use arguments::{Arguments, Command};
pub use failure::{Exit, Failure, OrExit};
use output::Output;

/// What every subcommand may ask of the global options.
#[derive(Debug)]
pub struct Context {
    /// Where runs lie, if `--runs` says so; else the recipe's `logging.runs`, or `runs` where there is no recipe.
    pub runs: Option<PathBuf>,
    /// Standard output.
    pub out: Output,
    /// Whether errors and diagnostics on standard error may have colours.
    pub color_stderr: bool,
}

impl Context {
    /// The folder of runs for subcommands that have no recipe.
    pub fn runs_dir(&self) -> PathBuf {
        self.runs.clone().unwrap_or_else(|| PathBuf::from("runs"))
    }
}

/// How a subcommand ends.
pub type Outcome = Result<(), Failure>;

/// Runs the program on the process's arguments.
pub fn main() -> ExitCode {
    if let Err(missing) = machine::check_cpu() {
        return Failure::new(Exit::Device, missing).report(false);
    }
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            // `--help` and `--version` arrive here too, with exit code 0.
            let code = u8::try_from(error.exit_code()).unwrap_or(2);
            return match error.print() {
                Ok(()) => ExitCode::from(code),
                Err(_) => ExitCode::from(1),
            };
        }
    };
    if let Err(error) = color_eyre::install() {
        return Exit::Failure.because(error.to_string()).report(false);
    }
    let context = Context {
        runs: arguments.global.runs.clone(),
        out: Output::stdout(arguments.global.color),
        color_stderr: output::stderr_has_color(arguments.global.color),
    };
    match dispatch(arguments, &context) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.report(context.color_stderr),
    }
}

fn dispatch(arguments: Arguments, context: &Context) -> Outcome {
    let Some(command) = arguments.command else {
        return workbench::run(&arguments.workbench, context);
    };
    match command {
        Command::Check(a) => check::run(&a, context),
        Command::Show(a) => show::run(&a, context),
        Command::Keys(a) => keys::run(&a, context),
        Command::Recipes(a) => recipes::run(&a, context),
        Command::Data(a) => data::run(&a, context),
        Command::Train(a) => train::run(&a, context),
        Command::Trainer(a) => trainer::run(&a, context),
        Command::Launch(a) => launch::run(&a, context),
        Command::Job(a) => job::run(&a, context),
        Command::Runs(a) => runs::run(&a, context),
        Command::Watch(a) => watch::run(&a, context),
        Command::Pause(a) => control::pause(&a, context),
        Command::Continue(a) => control::resume_steps(&a, context),
        Command::Checkpoint(a) => control::checkpoint(&a, context),
        Command::Set(a) => control::set(&a, context),
        Command::Stop(a) => control::stop(&a, context),
        Command::Mark(a) => control::mark(&a, context),
        Command::Resume(a) => resume::run(&a, context),
        Command::Fork(a) => fork::run(&a, context),
        Command::Plan(a) => plan::run(&a, context),
        Command::Inspect(a) => inspect::run(&a, context),
        Command::Probe(a) => {
            crate::ops::retain_heap();
            probe::run(&a, context)
        }
        Command::Bench(a) => {
            crate::ops::retain_heap();
            bench::run(&a, context)
        }
        Command::Tokenizer(a) => tokenizer::run(&a, context),
        Command::Map(a) => map::run(&a, context),
        Command::Convert(a) => convert::run(&a, context),
        Command::Verify(a) => verify::run(&a, context),
        Command::Fetch(a) => fetch::run(&a, context),
        Command::Completions(a) => completions::run(&a, context),
        Command::Man(a) => man::run(&a, context),
    }
}
