//! Questions of the Mapping screen: which model, which element, which file.

use std::path::{Path, PathBuf};

use crate::app::dialog::{Answer, Choice, Dialog, Field, Form, Note, Purpose};
use crate::app::mapping::{Effect as Work, Form as Class, Item, Origin, TableFormat};
use crate::app::{Effect, Screen, State, Tone};
use crate::spec::registry;

/// What a form or choice of the screen is about.
const MODEL: &str = "model";
const CLASS: &str = "class";
const FILES: &str = "files";
const ELEMENT: &str = "element";
const EXPORT: &str = "export";

/// Keys of the published sizes; letters that move in a list are left out.
const KEYS: &str = "123456789abcefgimnopstuvwxyz";

fn purpose(what: &'static str, about: impl Into<PathBuf>) -> Purpose {
    Purpose::Screen(Screen::Mapping, what, about.into())
}

/// The run whose checkpoint is meant: the one that Train watches, else the one selected on Runs.
fn run(state: &State) -> Option<PathBuf> {
    let selected = || state.runs.selected().map(|(run, _)| run.path.clone());
    state.train.run.clone().or_else(selected)
}

/// Asks which model to show.
pub(super) fn choose_model(state: &mut State) {
    let mut answers = vec![
        Answer::new('d', "a directory", "Hugging Face, torch_dist or shards"),
        Answer::new('r', "the recipe's model", ""),
        Answer::new('l', "a run's checkpoint", "the latest one"),
    ];
    if state.selected_recipe().is_none() {
        answers[1].unavailable = Some("no valid recipe is selected".into());
    }
    match run(state).as_deref().and_then(Path::file_name) {
        Some(id) => answers[2].detail = format!("{}, the latest one", id.display()),
        None => answers[2].unavailable = Some("there is no run".into()),
    }
    for (entry, key) in registry().iter().zip(KEYS.chars()) {
        let text = &entry.model.text;
        let experts = text.moe.as_ref();
        let detail = match experts {
            Some(moe) => format!(
                "{} layers, {} experts",
                text.num_hidden_layers, moe.num_experts
            ),
            None => format!(
                "{} layers, hidden {}",
                text.num_hidden_layers, text.hidden_size
            ),
        };
        answers.push(Answer::new(key, entry.display, detail));
    }
    state.dialogs.push(Dialog::Choice(Choice {
        title: "Open a model".into(),
        notes: Vec::new(),
        answers,
        selected: 0,
        purpose: purpose(MODEL, ""),
    }));
}

/// Asks in which class a published size is shown.
fn choose_class(state: &mut State, name: &str) {
    let Some(entry) = registry().iter().find(|entry| entry.name == name) else {
        return;
    };
    let mut answers = vec![
        Answer::new('v', "with vision", "as published"),
        Answer::new('t', "text only", "the class without the vision tower"),
        Answer::new(
            'e',
            "text only, each expert a tensor",
            "as transformers may write it",
        ),
    ];
    if entry.model.vision.is_none() {
        answers[0].label = "as it is".into();
    }
    if entry.model.text.moe.is_none() {
        answers[2].unavailable = Some("the model has no experts".into());
    }
    state.dialogs.push(Dialog::Choice(Choice {
        title: entry.display.into(),
        notes: Vec::new(),
        answers,
        selected: 0,
        purpose: purpose(CLASS, name),
    }));
}

fn ask_files(state: &mut State, path: &str) {
    state.dialogs.push(Dialog::Form(Form {
        title: "Open files".into(),
        fields: vec![
            Field::text("path", path, "a directory or a file"),
            Field::text("config", "", "only where none lies beside the weights"),
        ],
        focus: 0,
        notes: vec![Note::new(
            Tone::Neutral,
            "A Hugging Face directory, a Megatron checkpoint (torch_dist or shards), a run or one of its checkpoints. config is a config.json, a directory that has one, or the name of a published size.",
        )],
        accept: "opens".into(),
        error: None,
        purpose: purpose(FILES, ""),
    }));
}

/// Asks for an element to trace.
pub(super) fn ask_element(state: &mut State) {
    let model = state.mapping.model();
    let shape = model
        .zip(state.mapping.item())
        .map(|(model, item)| match item {
            Item::Extra(_) => String::new(),
            item => {
                let zeros = vec!["0"; model.shape(item).0.len().max(1)];
                format!("[{}]", zeros.join(","))
            }
        });
    state.dialogs.push(Dialog::Form(Form {
        title: "Trace an element".into(),
        fields: vec![Field::text("element", &shape.unwrap_or_default(), "")],
        focus: 0,
        notes: vec![Note::new(
            Tone::Neutral,
            "NAME[ROW,COLUMN] with a name of either side, global numbers; without a name, of the tensor under the cursor.",
        )],
        accept: "traces".into(),
        error: None,
        purpose: purpose(ELEMENT, ""),
    }));
}

/// Asks where to write the table.
pub(super) fn ask_export(state: &mut State) {
    let name = super::export_name(state);
    state.dialogs.push(Dialog::Form(Form {
        title: "Export the table".into(),
        fields: vec![Field::text("file", &name, "ends in .csv or .json")],
        focus: 0,
        notes: Vec::new(),
        accept: "writes".into(),
        error: None,
        purpose: purpose(EXPORT, ""),
    }));
}

fn open(state: &mut State, origin: Origin) -> Vec<Effect> {
    state.mapping.opening = Some(origin.clone());
    vec![Effect::Mapping(Work::Open(origin))]
}

/// An answer of a choice of the screen was chosen.
pub fn choose(state: &mut State, purpose: &Purpose, answer: usize) -> Vec<Effect> {
    let Purpose::Screen(_, what, about) = purpose else {
        return vec![];
    };
    match (*what, answer) {
        (MODEL, 0) => ask_files(state, ""),
        (MODEL, 1) => {
            state.mapping.opened = None;
            state.mapping.adopt();
        }
        (MODEL, 2) => {
            let run = run(state);
            return run.map_or_else(Vec::new, |path| {
                let config = String::new();
                open(state, Origin::Path { path, config })
            });
        }
        (MODEL, at) => {
            if let Some(entry) = registry().get(at - 3) {
                choose_class(state, entry.name);
            }
        }
        (CLASS, at) => {
            let form = [Class::Published, Class::Text, Class::TextPerExpert];
            let name = about.to_string_lossy().into_owned();
            return form.get(at).map_or_else(Vec::new, |&form| {
                open(state, Origin::Published { name, form })
            });
        }
        _ => {}
    }
    vec![]
}

/// A form of the screen was filled in.
pub fn accept(state: &mut State, form: &Form) -> Result<Vec<Effect>, String> {
    let Purpose::Screen(_, what, _) = &form.purpose else {
        return Ok(vec![]);
    };
    let text = form.text(0).trim().to_owned();
    if text.is_empty() {
        return Err("nothing is typed".into());
    }
    match *what {
        FILES => {
            let config = form.text(1).trim().to_owned();
            let path = PathBuf::from(text);
            Ok(open(state, Origin::Path { path, config }))
        }
        ELEMENT => super::trace(state, &text).map(|()| vec![]),
        EXPORT => {
            let format = TableFormat::of(&text).ok_or("the name ends in neither .csv nor .json")?;
            let model = state.mapping.model().cloned().ok_or("no model is open")?;
            Ok(vec![Effect::Mapping(Work::Export {
                path: text.into(),
                model: crate::app::mapping::Shared(model),
                format,
            })])
        }
        _ => Ok(vec![]),
    }
}
