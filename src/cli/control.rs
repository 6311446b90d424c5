//! Asks a running trainer: pause, continue, checkpoint, set, stop, mark.
//!
//! Each waits for the trainer's answer and prints it; a refusal is a failure.

use std::time::Duration;

use super::arguments::{MarkArguments, RunArgument, SetArguments, StopArguments, StopHow};
use super::{Context, Exit, Outcome};
use crate::event::{RequestKind, StopKind};
use crate::run::{self, Tail};

/// How long a trainer may take for its present step before nobody waits any more.
const PATIENCE: Duration = Duration::from_mins(2);

pub(super) fn pause(arguments: &RunArgument, context: &Context) -> Outcome {
    ask(&arguments.run, context, vec![RequestKind::Pause])
}

pub(super) fn resume_steps(arguments: &RunArgument, context: &Context) -> Outcome {
    ask(&arguments.run, context, vec![RequestKind::Continue])
}

pub(super) fn checkpoint(arguments: &RunArgument, context: &Context) -> Outcome {
    ask(&arguments.run, context, vec![RequestKind::Checkpoint])
}

pub(super) fn set(arguments: &SetArguments, context: &Context) -> Outcome {
    let mut requests = Vec::new();
    for assignment in &arguments.assignments {
        let Some((key, value)) = assignment.split_once('=') else {
            return Err(Exit::Usage.because(format!("`{assignment}` is not KEY=VALUE")));
        };
        let (key, value) = (key.trim().to_owned(), value.trim().to_owned());
        // What no trainer could take is refused before any of the changes is made.
        if let Err(problem) = crate::recipe::parse_live(&key, &value) {
            let failure = Exit::Usage.because(problem.message.clone());
            return Err(match &problem.hint {
                Some(hint) => failure.hint(hint.clone()),
                None => failure,
            });
        }
        requests.push(RequestKind::Set { key, value });
    }
    ask(&arguments.run, context, requests)
}

pub(super) fn stop(arguments: &StopArguments, context: &Context) -> Outcome {
    let how = match arguments.how {
        StopHow::Save => StopKind::Save,
        StopHow::Step => StopKind::Step,
        StopHow::Now => StopKind::Now,
    };
    ask(&arguments.run, context, vec![RequestKind::Stop { how }])
}

pub(super) fn mark(arguments: &MarkArguments, context: &Context) -> Outcome {
    let note = arguments.note.clone();
    ask(&arguments.run, context, vec![RequestKind::Mark { note }])
}

/// Makes the requests in order and prints each answer.
fn ask(wanted: &str, context: &Context, requests: Vec<RequestKind>) -> Outcome {
    let found = run::find(&context.runs_dir(), wanted)?;
    if !run::is_live(&found.path) {
        let word = run::summary(&found.path)?.status.word();
        let failure = Exit::Failure.because(format!("no trainer works on {} ({word})", found.id()));
        return Err(failure.hint(format!("`trestle resume {}` starts one", found.id())));
    }
    for kind in requests {
        let mut tail = Tail::from_end(&found.path)?;
        let request = run::request(&found, kind)?;
        let answer = run::wait_for_answer(&found, &mut tail, &request, PATIENCE)?;
        let text = format!("{} at step {}: {}", found.id(), answer.step, answer.message);
        if !answer.ok {
            return Err(Exit::Failure.because(format!("refused: {text}")));
        }
        context.out.line(text)?;
    }
    Ok(())
}
