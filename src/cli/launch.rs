//! Hands a recipe to our trainer, to torchrun or to Slurm.

use serde_json::json;

use super::arguments::{LaunchArguments, LaunchPlace, TrainArguments};
use super::output::Tone;
use super::{Context, Exit, Failure, Outcome, diagnostics, job, train};
use crate::backend::handover::Extra;
use crate::backend::launch::{self, LaunchError, Place, Prepared, Request};
use crate::backend::preflight::Finding;
use crate::backend::profile::{self, Unusable};
use crate::base::Severity;

pub(super) fn run(arguments: &LaunchArguments, context: &Context) -> Outcome {
    let place = match arguments.on {
        LaunchPlace::Local => return local(arguments, context),
        LaunchPlace::Torchrun => Place::Torchrun,
        LaunchPlace::Slurm => Place::Slurm,
    };
    let prepared = prepare(request(arguments, place, context), context)?;
    let refused = prepared.refused();
    if !(arguments.json && arguments.dry_run) {
        say(&prepared, context);
    }
    if arguments.dry_run {
        return dry_run(&prepared, arguments.json, context);
    }
    if !refused.is_empty() {
        return Err(refusal(&refused));
    }
    let (run, entry) = prepared.start().map_err(failure)?;
    job::announce(&run, &entry, arguments.json, context)?;
    if arguments.follow {
        return job::follow(&run, &entry, arguments.json, context);
    }
    Ok(())
}

fn request(arguments: &LaunchArguments, place: Place, context: &Context) -> Request {
    Request {
        recipe: arguments.recipe.clone(),
        sets: arguments.sets.set.clone(),
        place,
        profile: arguments.profile.clone(),
        name: arguments.name.clone(),
        extra: Extra {
            upstream: arguments.upstream.clone(),
            pretrained: arguments.pretrained.clone(),
            options: arguments.options.clone(),
        },
        accept: arguments.accept.clone(),
        tags: Vec::new(),
        runs: context.runs.clone(),
        is_dry: arguments.dry_run,
    }
}

/// Looks at the launch; problems of the recipe and of the profiles go to standard error.
fn prepare(request: Request, context: &Context) -> Result<Prepared, Failure> {
    let color = context.color_stderr;
    let profiles = profile::load().map_err(unusable)?;
    for problem in &profiles.problems {
        diagnostics::print_to_stderr(&diagnostics::problem(problem, color));
    }
    let prepared = launch::prepare(request, &profiles);
    if let Err(LaunchError::Recipe(loaded)) = &prepared {
        diagnostics::print_to_stderr(&diagnostics::report(loaded, color));
        return Err(Failure::said(Exit::Recipe));
    }
    prepared.map_err(failure)
}

fn unusable(why: Unusable) -> Failure {
    let failure = Exit::Usage.because(why.message);
    match why.hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

fn failure(error: LaunchError) -> Failure {
    match error {
        LaunchError::Profile(why) => unusable(why),
        LaunchError::Unsaid(unsaid) => {
            let failure = Exit::Recipe.because(unsaid.message);
            match unsaid.hint {
                Some(hint) => failure.hint(hint),
                None => failure,
            }
        }
        LaunchError::Refused(codes) => refusal(&codes),
        LaunchError::Start { run, source } => {
            let hint = format!(
                "the run is {}; `trestle job {} --resubmit` tries again",
                run.path.display(),
                run.id()
            );
            Failure::new(Exit::Failure, source).hint(hint)
        }
        other => Failure::new(Exit::Failure, other),
    }
}

fn dry_run(prepared: &Prepared, json: bool, context: &Context) -> Outcome {
    let refused = prepared.refused();
    let script = prepared.script();
    if json {
        let all: Vec<&Finding> = prepared.all().collect();
        context.out.json(&json!({
            "script": script.as_deref().ok(), "findings": all, "can_start": refused.is_empty() && script.is_ok(),
            "profile": prepared.profile.name, "tokens": prepared.tokens(), "tools": prepared.tools,
            "gpus": prepared.job.gpus(),
        }))?;
    }
    let script = script.map_err(|error| Failure::new(Exit::Recipe, error))?;
    if !json {
        context.out.write(script)?;
    }
    if refused.is_empty() {
        Ok(())
    } else {
        Err(refusal(&refused))
    }
}

/// On our own trainer, which runs no recipe of Megatron-Bridge.
fn local(arguments: &LaunchArguments, context: &Context) -> Outcome {
    if arguments.dry_run {
        let (recipe, _) =
            diagnostics::load_valid(&arguments.recipe, &arguments.sets.set, context.color_stderr)?;
        train::check(&recipe)?;
        context.out.line("it can start here")?;
        return Ok(());
    }
    let train = TrainArguments {
        recipe: arguments.recipe.clone(),
        sets: arguments.sets.clone(),
        name: arguments.name.clone(),
        detach: !arguments.follow,
        json: arguments.json,
        steps: None,
    };
    train::run(&train, context)
}

/// What was found, with the recipe's own lines where they are to blame.
fn say(prepared: &Prepared, context: &Context) {
    let color = context.color_stderr;
    for problem in &prepared.loaded.diagnostics {
        diagnostics::print_to_stderr(&diagnostics::problem(problem, color));
    }
    let is_said = |finding: &&Finding| {
        let all = &prepared.loaded.diagnostics;
        all.iter()
            .any(|d| d.code == finding.code && d.message == finding.message)
    };
    let paint = |tone, text: String| super::output::paint(color, tone, text);
    for finding in prepared.all().filter(|finding| !is_said(finding)) {
        let head = match finding.severity {
            Severity::Error => paint(Tone::Error, format!("error[{}]", finding.code)),
            Severity::Warning => paint(Tone::Warning, format!("warning[{}]", finding.code)),
        };
        let mut text = format!("{head}: {}\n", finding.message);
        if let Some(hint) = &finding.hint {
            text += &["  ", &paint(Tone::Dim, "hint:".to_owned()), " ", hint, "\n"].concat();
        }
        diagnostics::print_to_stderr(&text);
    }
    for code in prepared.accepted_in_vain() {
        let head = paint(Tone::Warning, "warning".to_owned());
        let text = format!("{head}: --accept {code} is the code of nothing that was found\n");
        diagnostics::print_to_stderr(&text);
    }
    let mut facts: Vec<String> = prepared
        .tools
        .iter()
        .map(|tool| format!("{} {}", tool.name, tool.version))
        .collect();
    if let Some(tokens) = prepared.tokens() {
        facts.push(format!("{:.3} G tokens in all", tokens as f64 / 1e9));
    }
    if !facts.is_empty() {
        let line = paint(Tone::Dim, facts.join(", "));
        diagnostics::print_to_stderr(&format!("{line}\n"));
    }
}

fn refusal(codes: &[String]) -> Failure {
    let accept: Vec<String> = codes
        .iter()
        .map(|code| format!("--accept {code}"))
        .collect();
    Exit::Recipe
        .because(format!("it cannot start: {}", codes.join(", ")))
        .hint(format!("{} launches all the same", accept.join(" ")))
}
