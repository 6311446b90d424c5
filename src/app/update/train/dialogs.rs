//! What the Train screen asks before it changes a run: stop, live edit, note, resume, fork.

use std::path::{Path, PathBuf};

use super::{about, ask, is_watched};
use crate::app::dialog::{Answer, Choice, Field, Form, Note, Purpose, View};
use crate::app::train::{Effect as Train, Fork, request};
use crate::app::{Dialog, Effect, Screen, State, Tone};
use crate::event::{RequestKind, StopKind};
use crate::recipe::parse_live;

fn purpose(state: &State, what: &'static str) -> Purpose {
    let run = state.train.run.clone().unwrap_or_default();
    Purpose::Screen(Screen::Train, what, run)
}

/// Asks how the run shall end, and says what each way loses.
pub(super) fn ask_stop(state: &mut State) {
    let train = &state.train;
    let unsaved = train.unsaved_steps();
    let lost = match (unsaved, train.summary.checkpoint_step) {
        (0, _) => "loses nothing: the last step is saved".to_owned(),
        (n, Some(step)) => format!("loses {n} steps since the checkpoint of step {step}"),
        (n, None) => format!("loses all {n} steps: there is no checkpoint yet"),
    };
    let choice = Choice {
        title: format!("Stop {}", train.info.id),
        notes: vec![Note::new(
            Tone::Neutral,
            format!(
                "at step {} of {}",
                train.summary.step, train.summary.total_steps
            ),
        )],
        answers: vec![
            Answer::new(
                '1',
                "save and stop",
                "after this step, with a checkpoint; loses nothing",
            ),
            Answer::new('2', "stop after this step", lost.clone()),
            Answer::new(
                '3',
                "stop now",
                format!("in the middle of the step; {lost}"),
            ),
        ],
        selected: 0,
        purpose: purpose(state, "stop"),
    };
    state.dialogs.push(Dialog::Choice(choice));
}

/// Offers the live keys with their present values.
pub(super) fn ask_live(state: &mut State) {
    let fields = state
        .train
        .live
        .iter()
        .map(|(key, value)| {
            let doc = crate::recipe::find_key(key).map_or("", |k| k.doc);
            Field::text(key, value, doc)
        })
        .collect();
    let form = Form {
        title: format!("Edit {} live", state.train.info.id),
        fields,
        focus: 0,
        notes: vec![Note::new(
            Tone::Neutral,
            "changed values count from the next step on; the recipe file stays as it is",
        )],
        accept: "apply".into(),
        error: None,
        purpose: purpose(state, "live"),
    };
    state.dialogs.push(Dialog::Form(form));
}

/// Asks for a note.
pub(super) fn ask_note(state: &mut State) {
    let form = Form {
        title: format!(
            "Note at step {} of {}",
            state.train.summary.step, state.train.info.id
        ),
        fields: vec![Field::text("note", "", "goes into the run's events")],
        focus: 0,
        notes: vec![],
        accept: "write".into(),
        error: None,
        purpose: purpose(state, "note"),
    };
    state.dialogs.push(Dialog::Form(form));
}

/// Shows the alert rules of the run's recipe.
pub(super) fn show_alerts(state: &mut State) {
    let lines = state
        .train
        .alerts
        .iter()
        .map(|line| Note::new(Tone::Neutral, line.as_str()));
    let warnings = format!("{} warnings so far", state.train.summary.warnings);
    let view = View {
        title: format!("Alert rules of {}", state.train.info.id),
        lines: lines.chain([Note::new(Tone::Neutral, warnings)]).collect(),
        scroll: 0,
    };
    state.dialogs.push(Dialog::View(view));
}

/// Continues the watched run.
pub fn ask_resume(state: &mut State) -> Vec<Effect> {
    let Some(run) = state.train.run.clone() else {
        return vec![];
    };
    state.say(
        Tone::Neutral,
        format!("starting a trainer for {}", state.train.info.id),
    );
    vec![Effect::Train(Train::Resume(run))]
}

/// Asks from which checkpoint and with which changes a new run shall start.
pub fn ask_fork(state: &mut State) {
    let train = &state.train;
    let step = train.summary.checkpoint_step.unwrap_or(0);
    let form = fork_form(
        &train.info.id,
        &train.info.name,
        step,
        purpose(state, "fork"),
    );
    state.dialogs.push(Dialog::Form(form));
}

/// The questions of a fork.
pub fn fork_form(id: &str, name: &str, step: u64, purpose: Purpose) -> Form {
    Form {
        title: format!("Fork {id}"),
        fields: vec![
            Field::text("name", name, "of the new run"),
            Field::text("step", &step.to_string(), "of the checkpoint to start from"),
            Field::text(
                "changes",
                "",
                "key=value, separated by spaces: optimizer.lr=1e-3",
            ),
        ],
        focus: 2,
        notes: vec![],
        accept: "start".into(),
        error: None,
        purpose,
    }
}

/// Reads a fork's answers.
pub fn read_fork(form: &Form, run: &Path) -> Result<Fork, String> {
    let step = form.text(1).trim();
    let sets: Vec<String> = form.text(2).split_whitespace().map(str::to_owned).collect();
    if let Some(wrong) = sets.iter().find(|set| !set.contains('=')) {
        return Err(format!("`{wrong}` is not key=value"));
    }
    Ok(Fork {
        run: run.to_owned(),
        name: form.text(0).trim().to_owned(),
        step: step.parse().map_err(|e| format!("step `{step}`: {e}"))?,
        sets,
    })
}

/// A form of the screen was filled in.
pub fn accept(state: &mut State, form: &Form) -> Result<Vec<Effect>, String> {
    if !is_watched(state, &form.purpose) {
        return Err("another run is watched now".into());
    }
    let run: PathBuf = state.train.run.clone().unwrap_or_default();
    match about(form) {
        "note" => {
            let note = form.text(0).trim().to_owned();
            if note.is_empty() {
                return Err("an empty note says nothing".into());
            }
            Ok(ask(state, RequestKind::Mark { note }))
        }
        "export" => crate::app::update::runs::read_export(form, vec![run]),
        "fork" => Ok(vec![Effect::Train(Train::Fork(read_fork(form, &run)?))]),
        "live" => {
            let mut effects = vec![];
            for (i, (key, before)) in state.train.live.iter().enumerate() {
                let value = form.text(i).trim();
                if value == before {
                    continue;
                }
                parse_live(key, value).map_err(|problem| format!("{key}: {}", problem.message))?;
                let (key, value) = ((*key).to_owned(), value.to_owned());
                effects.push(request(&run, RequestKind::Set { key, value }));
            }
            if effects.is_empty() {
                return Err("no value was changed".into());
            }
            state.say(Tone::Neutral, "asked; the trainer answers at its next step");
            Ok(effects)
        }
        _ => Ok(vec![]),
    }
}

/// An answer of a choice of the screen was chosen.
pub fn choose(state: &mut State, purpose: &Purpose, answer: usize) -> Vec<Effect> {
    let how = match answer {
        0 => StopKind::Save,
        1 => StopKind::Step,
        _ => StopKind::Now,
    };
    if is_watched(state, purpose) {
        ask(state, RequestKind::Stop { how })
    } else {
        vec![]
    }
}
