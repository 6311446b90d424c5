//! What the Runs screen writes: a run's tags, and every step of the compared runs.

use std::path::{Path, PathBuf};

use crate::app::dialog::{Field, Form, Note, Purpose};
use crate::app::runs::{Effect as Runs, StepsFormat};
use crate::app::{Dialog, Effect, Screen, State, Tone};

/// Asks for the tags of the run under the cursor.
pub(super) fn ask_tags(state: &mut State) {
    let Some((run, _)) = state.runs.selected() else {
        return;
    };
    let form = Form {
        title: format!("Tags of {}", run.info.id),
        fields: vec![Field::text(
            "tags",
            &run.info.tags.join(" "),
            "words, separated by spaces; the search finds them",
        )],
        focus: 0,
        notes: vec![],
        accept: "write".into(),
        error: None,
        purpose: Purpose::Screen(Screen::Runs, "tags", run.path.clone()),
    };
    state.dialogs.push(Dialog::Form(form));
}

/// Reads the answer: each word once, in the order typed.
pub(super) fn read_tags(form: &Form, run: &Path) -> Result<Vec<Effect>, String> {
    let mut tags: Vec<String> = vec![];
    for word in form.text(0).split_whitespace() {
        if word.chars().any(char::is_control) {
            return Err(format!(
                "tag `{}` has a control character",
                word.escape_debug()
            ));
        }
        if !tags.iter().any(|tag| tag == word) {
            tags.push(word.to_owned());
        }
    }
    Ok(vec![Effect::Runs(Runs::Tag(run.to_owned(), tags))])
}

/// Asks for the files of a run that another program trains.
pub(super) fn ask_watch(state: &mut State) {
    let form = Form {
        title: "Watch a run of another program".into(),
        fields: vec![
            Field::text(
                "path",
                "",
                "a log of Megatron, a TensorBoard event file, or a folder with either",
            ),
            Field::text(
                "seq_length",
                "",
                "tokens of a sample, where the log does not say",
            ),
        ],
        focus: 0,
        notes: vec![Note::new(
            Tone::Neutral,
            "the files are read and never written; the run is listed with the others and followed while the workbench is open",
        )],
        accept: "watch".into(),
        error: None,
        purpose: Purpose::Screen(Screen::Runs, "watch", PathBuf::new()),
    };
    state.dialogs.push(Dialog::Form(form));
}

/// Reads the answer.
pub(super) fn read_watch(form: &Form) -> Result<Vec<Effect>, String> {
    let path = form.text(0).trim();
    if path.is_empty() {
        return Err("name a file or a folder".into());
    }
    let seq_length = match form.text(1).trim().replace('_', "") {
        none if none.is_empty() => None,
        text => match text.parse() {
            Ok(tokens) if tokens > 0 => Some(tokens),
            _ => return Err(format!("`{text}` is not a number of tokens")),
        },
    };
    Ok(vec![Effect::Runs(Runs::Watch {
        path: path.into(),
        seq_length,
    })])
}

/// Asks where to write the steps of the compared runs.
pub(super) fn ask_export(state: &mut State) {
    let ids: Vec<&str> = state
        .runs
        .compared()
        .iter()
        .map(|(run, _)| run.id())
        .collect();
    let Some(&first) = ids.first() else {
        return;
    };
    let form = export_form(&ids.join(", "), first, Screen::Runs, PathBuf::new());
    state.dialogs.push(Dialog::Form(form));
}

/// The question of an export of `what`, whose file is called after `stem`.
pub fn export_form(what: &str, stem: &str, screen: Screen, about: PathBuf) -> Form {
    Form {
        title: format!("Export {what}"),
        fields: vec![Field::text(
            "file",
            &format!("{stem}.csv"),
            "ends in .csv or .json",
        )],
        focus: 0,
        notes: vec![Note::new(
            Tone::Neutral,
            "every step with every number, in full; what a rewind left behind is left out",
        )],
        accept: "write".into(),
        error: None,
        purpose: Purpose::Screen(screen, "export", about),
    }
}

/// Reads the answer.
pub fn read_export(form: &Form, runs: Vec<PathBuf>) -> Result<Vec<Effect>, String> {
    let name = form.text(0).trim();
    let format = StepsFormat::of(name).ok_or("the name ends in neither .csv nor .json")?;
    Ok(vec![Effect::Runs(Runs::Export {
        runs,
        path: name.into(),
        format,
    })])
}
