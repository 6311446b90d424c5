//! Work of the Runs screen.

use std::fs;
use std::path::Path;

use super::{Outside, train};
use crate::app::runs::{Detail, Effect, Message as Runs};
use crate::app::{Message, Tone};
use crate::run::{self, History};

pub(super) fn carry_out(outside: &mut Outside, effect: Effect) {
    let runs = outside.runs_folder.clone();
    match effect {
        Effect::List => outside.worker.run(move || {
            Some(match run::list(&runs) {
                Ok(runs) => Message::Runs(Runs::Listed(runs)),
                Err(error) => Message::Say(Tone::Bad, error.to_string()),
            })
        }),
        Effect::Read(path) => outside.worker.run(move || {
            let detail = read(&path);
            Some(Message::Runs(Runs::Read(path, Box::new(detail))))
        }),
        Effect::Trash(path) => outside.worker.run(move || {
            Some(match trash(&path) {
                Ok(()) => Message::Runs(Runs::Listed(run::list(&runs).unwrap_or_default())),
                Err(error) => Message::Say(
                    Tone::Bad,
                    format!("cannot delete {}: {error}", path.display()),
                ),
            })
        }),
    }
}

/// What can be read of a run; a run without events or recipe is compared by the rest.
fn read(path: &Path) -> Detail {
    let loaded = train::load(path, &[]);
    let values = loaded
        .values
        .iter()
        .map(|(key, located)| ((*key).to_owned(), located.value.to_string()));
    Detail {
        history: History::open(path).unwrap_or_default(),
        values: values.collect(),
    }
}

/// Moves a run's folder to `.trash` beside it, under a name that is free there.
fn trash(path: &Path) -> std::io::Result<()> {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    if run::is_live(path) {
        return Err(std::io::Error::other("its trainer is at work"));
    }
    let trash = folder.join(".trash");
    fs::create_dir_all(&trash)?;
    let mut target = trash.join(name);
    let mut count = 1;
    while target.exists() {
        count += 1;
        target = trash.join(format!("{}.{count}", name.to_string_lossy()));
    }
    fs::rename(path, target)
}
