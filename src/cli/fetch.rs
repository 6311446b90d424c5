//! `trestle fetch`: downloads a model from the Hub into the cache.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use super::arguments::FetchArguments;
use super::fetch_progress::Display;
use super::output::Tone;
use super::{Context, Failure, Outcome, model};
use crate::base::Bytes;
use crate::hub::{self, Environment, HubError, ModelId, Options, Plan, PlannedFile};
use crate::spec;

/// The exit code of a program that a second `Ctrl-C` ended.
const INTERRUPTED: i32 = 130;

pub(super) fn run(arguments: &FetchArguments, context: &Context) -> Outcome {
    let id = identify(arguments).map_err(model::failure)?;
    let environment = Environment::from_process().map_err(model::failure)?;
    let options = Options {
        include: arguments.include.clone(),
        exclude: arguments.exclude.clone(),
        ..Options::default()
    };
    let cancel = cancel_on_signal()?;
    let begin = Instant::now();
    let fail = |error| failure(error, &id);
    let plan = hub::plan(&id, &options, &environment, &cancel).map_err(fail)?;
    if arguments.dry_run {
        if arguments.json {
            context.out.json(&describe(&plan))?;
        } else {
            context.out.write(table(&plan, context))?;
        }
        return Ok(());
    }

    let mut display = Display::new(io::stderr().is_terminal(), arguments.json);
    let fetched = hub::fetch(&plan, &options, &environment, &cancel, &mut |progress| {
        // Nobody is left to tell if standard error is closed.
        let _ = io::stderr().write_all(display.show(progress).as_bytes());
    });
    let _ = io::stderr().write_all(display.close().as_bytes());
    let progress = fetched.map_err(fail)?;
    if arguments.json {
        let mut value = describe(&plan);
        value["received"] = json!(progress.received);
        value["seconds"] = json!(begin.elapsed().as_secs_f64());
        context.out.json(&value)?;
    } else {
        context.out.line(plan.snapshot.display())?;
    }
    Ok(())
}

/// The model that is wanted: an id, or a size of the registry that has one.
fn identify(arguments: &FetchArguments) -> Result<ModelId, HubError> {
    let name = arguments.id.as_str();
    let size = spec::find(name).map(|entry| entry.hf_id);
    let name = match size {
        Some(id) if !name.contains('/') && !id.is_empty() => id,
        _ => name,
    };
    let id = ModelId::from_str(name)?;
    match &arguments.revision {
        Some(revision) => id.at(revision),
        None => Ok(id),
    }
}

/// The first `Ctrl-C` stops the download in good order, the second at once.
pub(super) fn cancel_on_signal() -> io::Result<Arc<AtomicBool>> {
    let cancel = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&cancel))?;
        flag::register(signal, Arc::clone(&cancel))?;
    }
    Ok(cancel)
}

/// A Hub error, with the name that was likely meant. The Hub answers 401 for names that it does not have.
fn failure(error: HubError, id: &ModelId) -> Failure {
    let may_be_mistyped = matches!(
        error,
        HubError::NotFound { .. }
            | HubError::Forbidden {
                with_token: false,
                ..
            }
    );
    let near = model::nearest(&id.repository()).filter(|_| may_be_mistyped);
    let failure = model::failure(error);
    match near {
        Some(near) => failure.hint(format!("did you mean {near}?")),
        None => failure,
    }
}

fn describe(plan: &Plan) -> Value {
    let file = |file: &PlannedFile| {
        json!({
            "name": file.name,
            "bytes": file.size,
            "present": file.present,
            "etag": file.checksum.etag(),
            "checksum": file.checksum.kind(),
        })
    };
    json!({
        "id": plan.id.repository(),
        "revision": plan.id.revision,
        "commit": plan.commit,
        "path": plan.snapshot,
        "files": plan.files.iter().map(file).collect::<Vec<_>>(),
        "bytes": plan.total(),
        "needed": plan.needed(),
    })
}

fn table(plan: &Plan, context: &Context) -> String {
    let name_width = plan.files.iter().map(|file| file.name.len()).max();
    let name_width = name_width.unwrap_or(0);
    let mut text = String::new();
    let heading = format!("{} at {}", plan.id, plan.commit);
    let _ = writeln!(text, "{}", context.out.paint(Tone::Heading, heading));
    for file in &plan.files {
        let state = match file.present {
            _ if file.is_whole => context.out.paint(Tone::Good, "here"),
            Bytes(0) => String::new(),
            part => context.out.paint(Tone::Warning, format!("{part} here")),
        };
        let line = format!(
            "  {:name_width$}  {:>10}  {state}",
            file.name,
            file.size.to_string()
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    let _ = writeln!(
        text,
        "{} files, {}, {} to download, into {}",
        plan.files.len(),
        plan.total(),
        plan.needed(),
        plan.snapshot.display()
    );
    text
}
