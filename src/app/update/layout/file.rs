//! What of a layout goes to files, and values that are typed.

use std::path::PathBuf;

use super::change;
use crate::app::dialog::{Answer, Choice, Dialog, Field, Form, Note, Purpose};
use crate::app::layout::{Effect as Work, Knob, View, Writing, degrees_line, svg, writing};
use crate::app::{Effect, Screen, State, Tone};
use crate::plan::{Plan, machine, report};

const VALUE: &str = "value";
const EXPORT: &str = "export";
const WRITE: &str = "write";

fn purpose(what: &'static str) -> Purpose {
    Purpose::Screen(Screen::Layout, what, PathBuf::new())
}

fn changes(view: &View) -> Writing {
    writing(&view.subject, &view.base, &view.job)
}

/// Why nothing can be written.
pub(super) fn cannot_write(view: &View) -> Option<String> {
    if !view.is_scratch {
        return Some("nothing is changed".into());
    }
    let writing = changes(view);
    writing.changes.is_empty().then(|| {
        let unsaid = match &writing.unsaid[..] {
            [] => "machine".to_owned(),
            unsaid => unsaid.join(", "),
        };
        format!("a recipe has no key for what is changed: {unsaid}")
    })
}

/// Writes the changes, or asks first where the layout could not start.
pub(super) fn write(state: &mut State) -> Vec<Effect> {
    let Some(view) = &state.layout.view else {
        return vec![];
    };
    let errors = view.errors();
    if errors == 0 {
        return write_now(state);
    }
    let many = if errors == 1 { "" } else { "s" };
    let file = view.subject.path.file_name().unwrap_or_default();
    let choice = Choice {
        title: format!("Write to {}", file.to_string_lossy()),
        notes: vec![
            Note::new(
                Tone::Bad,
                format!("{errors} error{many}: a run with this layout could not start."),
            ),
            Note::new(Tone::Neutral, changes(view).words()),
        ],
        answers: vec![
            Answer::new('n', "do not write", ""),
            Answer::new('w', "write all the same", ""),
        ],
        selected: 0,
        purpose: purpose(WRITE),
    };
    state.dialogs.push(Dialog::Choice(choice));
    vec![]
}

fn write_now(state: &mut State) -> Vec<Effect> {
    let Some(view) = &state.layout.view else {
        return vec![];
    };
    let checked = state.recipes.selected().and_then(|e| e.checked.as_ref());
    let Some(checked) = checked else {
        return vec![];
    };
    let Writing { changes, unsaid } = changes(view);
    let effect = Work::Write {
        path: view.subject.path.clone(),
        expected: checked.text.clone(),
        changes,
    };
    if !unsaid.is_empty() {
        let text = format!("not written, for want of a key: {}", unsaid.join(", "));
        state.say(Tone::Neutral, text);
    }
    vec![Effect::Layout(effect)]
}

/// Asks where to write picture or plan.
pub(super) fn ask_export(state: &mut State) {
    let Some(view) = &state.layout.view else {
        return;
    };
    let stem = view.subject.path.file_stem().unwrap_or_default();
    let name = format!("layout-{}.svg", stem.to_string_lossy());
    state.dialogs.push(Dialog::Form(Form {
        title: "Export the layout".into(),
        fields: vec![Field::text(
            "file",
            &name,
            "ends in .svg (picture) or .json (plan)",
        )],
        focus: 0,
        notes: Vec::new(),
        accept: "writes".into(),
        error: None,
        purpose: purpose(EXPORT),
    }));
}

/// Asks for the value of what `+` and `-` change.
pub(super) fn ask_value(state: &mut State) {
    let Some(view) = &state.layout.view else {
        return;
    };
    let knob = state.layout.knob;
    let (now, help) = match knob {
        Knob::Machine => {
            let names: Vec<&str> = machine::machines()
                .iter()
                .map(|m| m.name.as_str())
                .collect();
            (view.machine.name.clone(), names.join(", "))
        }
        Knob::SequenceParallel => {
            let on = view.job.degrees.sequence_parallel;
            (on.to_string(), "true or false".to_owned())
        }
        _ => {
            let value = knob.value(&view.job).unwrap_or(0);
            let most = knob.most().unwrap_or(usize::MAX);
            (value.to_string(), format!("to {most}"))
        }
    };
    state.dialogs.push(Dialog::Form(Form {
        title: "Try a value".into(),
        fields: vec![Field::text(knob.name(), &now, &help)],
        focus: 0,
        notes: vec![Note::new(
            Tone::Neutral,
            "A scratch change; no file is written.",
        )],
        accept: "tries".into(),
        error: None,
        purpose: purpose(VALUE),
    }));
}

/// A form of the screen was filled in.
pub(super) fn accept(state: &mut State, form: &Form) -> Result<Vec<Effect>, String> {
    let Purpose::Screen(_, what, _) = &form.purpose else {
        return Ok(vec![]);
    };
    let text = form.text(0).trim().to_owned();
    match *what {
        VALUE => typed(state, &text).map(|()| vec![]),
        EXPORT => export(state, &text),
        _ => Ok(vec![]),
    }
}

fn typed(state: &mut State, text: &str) -> Result<(), String> {
    let knob = state.layout.knob;
    match knob {
        Knob::Machine => {
            let machine = machine::machine(text).ok_or("no machine has that name")?;
            change::set_machine(state, machine);
        }
        Knob::SequenceParallel => {
            let on: bool = text
                .parse()
                .map_err(|_not_bool: std::str::ParseBoolError| "true or false")?;
            change::set_sequence_parallel(state, on);
        }
        _ => {
            let digits = text.replace(['_', ' '], "");
            let value: usize = digits
                .parse()
                .map_err(|_not_a_count: std::num::ParseIntError| "a whole number is expected")?;
            if let Some(most) = knob.most().filter(|&most| value > most) {
                return Err(format!("this screen tries {knob} to {most}"));
            }
            change::set(state, knob, value);
        }
    }
    Ok(())
}

/// The file's text by its name's end.
fn export(state: &State, name: &str) -> Result<Vec<Effect>, String> {
    let view = state.layout.view.as_ref().ok_or("no recipe is shown")?;
    let ending = name.rsplit_once('.').map(|(_, ending)| ending);
    let text = match ending {
        Some("svg") => {
            let recipe = view.subject.path.file_name().unwrap_or_default();
            let screen = &state.layout;
            svg(view, &recipe.to_string_lossy(), screen.axis, screen.rank)
        }
        Some("json") => json(state, view)?,
        _ => return Err("the name ends in neither .svg nor .json".into()),
    };
    Ok(vec![Effect::Layout(Work::Export {
        path: name.into(),
        text,
    })])
}

/// The plan as JSON; the problems alone where there is none.
fn json(state: &State, view: &View) -> Result<String, String> {
    let value = match &view.plan {
        Ok(plan) => {
            let shown = Plan {
                memory: view.memory.clone(),
                worst: if view.is_ours {
                    view.memory.iter().map(|stage| stage.total).collect()
                } else {
                    plan.worst.clone()
                },
                ..plan.clone()
            };
            let rank = view.grid().map(|_| state.layout.rank);
            report(&view.job, &shown, view.machine, rank)
        }
        Err(error) => {
            serde_json::json!({ "problems": view.problems, "error": error.to_string() })
        }
    };
    let text = serde_json::to_string_pretty(&value).map_err(|error| error.to_string())?;
    Ok(text + "\n")
}

/// Takes the changes along as arguments, or the degrees where nothing is changed.
pub(super) fn copy(state: &mut State) -> Vec<Effect> {
    let Some(view) = &state.layout.view else {
        return vec![];
    };
    let sets: Vec<String> = changes(view)
        .changes
        .into_iter()
        .filter_map(|(key, value)| Some(format!("--set '{key}={}'", value?)))
        .collect();
    let text = if sets.is_empty() {
        degrees_line(&view.job.degrees)
    } else {
        sets.join(" ")
    };
    vec![Effect::Copy(text)]
}

/// An answer of a choice of the screen was chosen.
pub(super) fn choose(state: &mut State, purpose: &Purpose, answer: usize) -> Vec<Effect> {
    match purpose {
        Purpose::Screen(_, WRITE, _) if answer == 1 => write_now(state),
        _ => vec![],
    }
}
