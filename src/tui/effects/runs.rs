//! Work of the Runs screen.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use super::{Outside, queue, train};
use crate::app::runs::{Detail, Effect, Message as Runs, StepsFormat, steps};
use crate::app::{Message, Tone};
use crate::event::Event;
use crate::run::{self, History};

pub(super) fn carry_out(outside: &mut Outside, effect: Effect) {
    let runs = outside.runs_folder.clone();
    match effect {
        Effect::List => {
            let foreign = outside.foreign.started();
            let followed = outside.followed.clone();
            let mailbox = outside.mailbox.clone();
            outside.worker.run(move || {
                let folder = &runs;
                Some(match run::list(folder) {
                    Ok(runs) => {
                        queue::follow(&runs, folder, &followed, &mailbox);
                        foreign.listed(runs.iter().map(|(run, _)| run));
                        Message::Runs(Runs::Listed(runs))
                    }
                    Err(error) => Message::Say(Tone::Bad, error.to_string()),
                })
            });
        }
        Effect::Watch { path, seq_length } => {
            let foreign = outside.foreign.started();
            let mailbox = outside.mailbox.clone();
            outside.worker.run(move || {
                let (tone, text) = match foreign.watch(&path, seq_length, &runs) {
                    Ok(name) => (Tone::Good, format!("watching {name}")),
                    Err(why) => (Tone::Bad, why),
                };
                mailbox.send(Message::Say(tone, text));
                Some(Message::Runs(Runs::Listed(
                    run::list(&runs).unwrap_or_default(),
                )))
            });
        }
        Effect::Read(path) => outside.worker.run(move || {
            let detail = read(&path);
            Some(Message::Runs(Runs::Read(path, Box::new(detail))))
        }),
        Effect::EndJob { run, at_once } => queue::end(outside, run, at_once),
        Effect::Resubmit(run) => queue::resubmit(outside, run),
        Effect::Trash(path) => outside.worker.run(move || {
            Some(match trash(&path) {
                Ok(()) => Message::Runs(Runs::Listed(run::list(&runs).unwrap_or_default())),
                Err(error) => Message::Say(
                    Tone::Bad,
                    format!("cannot delete {}: {error}", path.display()),
                ),
            })
        }),
        Effect::Tag(path, tags) => outside.worker.run(move || {
            Some(match run::tag(&path, tags) {
                Ok(()) => Message::Runs(Runs::Listed(run::list(&runs).unwrap_or_default())),
                Err(error) => Message::Say(Tone::Bad, error.to_string()),
            })
        }),
        Effect::Export { runs, path, format } => outside.worker.run(move || {
            Some(match export(&runs, &path, format) {
                Ok(rows) => {
                    let text = format!("wrote {rows} steps to {}", path.display());
                    Message::Say(Tone::Good, text)
                }
                Err(why) => Message::Say(Tone::Bad, why),
            })
        }),
    }
}

/// Writes every step of the runs to a new file; returns how many.
fn export(runs: &[PathBuf], path: &Path, format: StepsFormat) -> Result<usize, String> {
    let read = |path: &PathBuf| {
        let run = run::open(path)?;
        Ok((run.info.id.clone(), History::open(path)?))
    };
    let histories: Result<Vec<_>, run::RunError> = runs.iter().map(read).collect();
    let histories = histories.map_err(|error| error.to_string())?;
    let text = steps(&histories, format);
    fs::File::create_new(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Ok(histories
        .iter()
        .map(|(_, history)| history.train.rows())
        .sum())
}

/// What can be read of a run; a run without events or recipe is compared by the rest.
fn read(path: &Path) -> Detail {
    if run::watched(path).is_some() {
        return read_watched(path);
    }
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

/// What can be read of a run that another program trains, which has no recipe of ours: what its files say, under the names of our keys.
fn read_watched(path: &Path) -> Detail {
    let history = History::open(path).unwrap_or_default();
    let mut values = BTreeMap::new();
    let mut insert = |key: &str, value: String| {
        values.insert(key.to_owned(), value);
    };
    for record in &history.events {
        if let Event::Started {
            total_steps,
            program,
            mtp_depth,
            parameters,
            ..
        } = &record.event
        {
            insert("program", program.clone());
            insert("model.mtp_num_hidden_layers", mtp_depth.to_string());
            for (key, value) in [("train.steps", total_steps), ("parameters", parameters)] {
                if *value > 0 {
                    insert(key, value.to_string());
                }
            }
        }
    }
    if let Some(tokens) = run::watched(path).and_then(|watched| watched.seq_length) {
        insert("train.seq_length", tokens.to_string());
    }
    Detail { history, values }
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
