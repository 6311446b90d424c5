//! Work of the launch dialog for jobs of Megatron-Bridge. Tools are asked for their versions, so each work has a thread of its own.

use std::path::PathBuf;
use std::thread;

use super::Outside;
use crate::app::Message;
use crate::app::launch::bridge::{
    BridgeRequest, Effect, Found, Looked, Message as Bridge, Place as Wanted,
};
use crate::backend::Place;
use crate::backend::handover::Extra;
use crate::backend::launch::{self, LaunchError, Prepared, Request};
use crate::backend::profile;
use crate::base::Severity;

pub(super) fn carry_out(outside: &Outside, effect: Effect) {
    let runs = outside.runs.clone();
    let mailbox = outside.mailbox.clone();
    let work = move || {
        let message = match effect {
            Effect::Profiles => Bridge::Profiles(names()),
            Effect::Look(request) => Bridge::Looked(look(request, runs).map(Box::new)),
            Effect::Start(request) => Bridge::Started(start(request, runs)),
        };
        mailbox.send(Message::Bridge(message));
    };
    // Without a thread nothing happens, and the dialog says so by saying nothing more.
    let _ = thread::Builder::new().name("bridge".into()).spawn(work);
}

fn names() -> Result<Vec<String>, String> {
    let profiles = profile::load().map_err(|why| said(why.message, why.hint))?;
    if profiles.valid.is_empty() {
        return Err(format!("{} has no valid profile", profiles.path.display()));
    }
    Ok(profiles.valid.into_iter().map(|p| p.name).collect())
}

fn said(message: String, hint: Option<String>) -> String {
    match hint {
        Some(hint) => format!("{message}; {hint}"),
        None => message,
    }
}

fn prepare(
    request: &BridgeRequest,
    runs: Option<PathBuf>,
    is_dry: bool,
) -> Result<Prepared, String> {
    let profiles = profile::load().map_err(|why| said(why.message, why.hint))?;
    let request = Request {
        recipe: request.recipe.clone(),
        sets: request.sets.clone(),
        place: match request.place {
            Wanted::Slurm => Place::Slurm,
            Wanted::Torchrun => Place::Torchrun,
        },
        profile: request.profile.clone(),
        name: request.name.clone(),
        extra: Extra {
            upstream: request.upstream.clone(),
            pretrained: request.pretrained.clone(),
            options: Vec::new(),
        },
        accept: request.accept.clone(),
        tags: request.tags.clone(),
        runs,
        is_dry,
    };
    launch::prepare(request, &profiles).map_err(|error| match error {
        LaunchError::Unsaid(unsaid) => said(unsaid.message, unsaid.hint),
        LaunchError::Recipe(loaded) => loaded
            .diagnostics
            .iter()
            .find(|d| d.severity == Severity::Error)
            .map_or_else(
                || "the recipe is not valid".to_owned(),
                |problem| format!("{} ({})", problem.message, problem.place),
            ),
        other => other.to_string(),
    })
}

fn look(request: BridgeRequest, runs: Option<PathBuf>) -> Result<Looked, String> {
    let prepared = prepare(&request, runs, false)?;
    let mut found: Vec<Found> = prepared
        .all()
        .map(|finding| Found {
            severity: finding.severity,
            code: finding.code.clone(),
            message: finding.message.clone(),
            hint: finding.hint.clone(),
        })
        .collect();
    found.sort_by_key(|found| std::cmp::Reverse(found.severity));
    let mut facts = prepared.job.description(prepared.profile.gpus_per_node);
    let tools = prepared.tools.iter();
    let tools: Vec<String> = tools.map(|t| format!("{} {}", t.name, t.version)).collect();
    if !tools.is_empty() {
        facts.push(tools.join(", "));
    }
    if let Some(tokens) = prepared.tokens() {
        facts.push(format!("{:.3} G tokens in all", tokens as f64 / 1e9));
    }
    Ok(Looked {
        profile: prepared.profile.name.clone(),
        facts,
        found,
        refused: prepared.refused(),
        script: prepared.script().map_err(|error| error.to_string()),
        request,
    })
}

/// Looks once more, since minutes may have passed, and starts it.
fn start(request: BridgeRequest, runs: Option<PathBuf>) -> Result<(PathBuf, String), String> {
    let prepared = prepare(&request, runs, false)?;
    let (run, entry) = prepared.start().map_err(|error| match error {
        LaunchError::Start { run, source } => {
            format!("{}: {source}; R submits it again", run.id())
        }
        other => other.to_string(),
    })?;
    let text = format!("{} is {} {}", run.id(), kind(request.place), entry.job());
    Ok((run.path, text))
}

fn kind(place: Wanted) -> &'static str {
    match place {
        Wanted::Slurm => "job",
        Wanted::Torchrun => "process",
    }
}
