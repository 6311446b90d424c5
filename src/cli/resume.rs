//! Goes on with a run that ended.

use super::arguments::ResumeArguments;
use super::train::start;
use super::{Context, Exit, Outcome};
use crate::run;

pub(super) fn run(arguments: &ResumeArguments, context: &Context) -> Outcome {
    let run = run::find(&context.runs_dir(), &arguments.run)?;
    if run::is_live(&run.path) {
        return Err(Exit::Failure
            .because(format!("{} is being trained", run.id()))
            .hint(format!("`trestle stop {}` ends it", run.id())));
    }
    start(&run, arguments.detach, arguments.json, context)
}
