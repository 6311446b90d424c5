//! Runs that were launched beyond this machine's trainer: their queue is asked, their console read as events, their jobs ended or begun again.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::Outside;
use crate::app::runs::Message as Runs;
use crate::app::{Message, Tone};
use crate::backend::record;
use crate::backend::slurm::{Backoff, QueueState, Slurm};
use crate::backend::steer::{self, Ending};
use crate::run::{self, RunDirectory, Summary};
use crate::tui::mailbox::Mailbox;

/// Between looks at a console.
const PAUSE: Duration = Duration::from_secs(1);

/// How often a queue is asked after something was asked of it, every second.
const SOON: usize = 20;

/// Folders of the runs that a thread follows.
pub(super) type Followed = Arc<Mutex<BTreeSet<PathBuf>>>;

/// Follows those of the listed runs whose job has not ended, each on a thread.
pub(super) fn follow(
    runs: &[(RunDirectory, Summary)],
    folder: &Path,
    followed: &Followed,
    mailbox: &Mailbox,
) {
    for (run, summary) in runs {
        let is_open = summary.launched.as_ref().is_some_and(|l| !l.is_over());
        if !is_open {
            continue;
        }
        let mut all = followed.lock().unwrap_or_else(PoisonError::into_inner);
        if !all.insert(run.path.clone()) {
            continue;
        }
        let (path, folder) = (run.path.clone(), folder.to_owned());
        let (followed, mailbox) = (followed.clone(), mailbox.clone());
        let work = move || {
            until_its_end(&path, &folder, &mailbox);
            let mut all = followed.lock().unwrap_or_else(PoisonError::into_inner);
            all.remove(&path);
        };
        // Without a thread the run stays as it was listed.
        let _ = thread::Builder::new().name("queue".into()).spawn(work);
    }
}

fn until_its_end(run: &Path, folder: &Path, mailbox: &Mailbox) {
    let slurm = Slurm::default();
    let mut backoff = Backoff::new(Duration::from_secs(2));
    let mut due = Instant::now();
    let mut before: Option<QueueState> = None;
    let mut mirror = None;
    loop {
        let mut is_over = false;
        if Instant::now() >= due {
            let Some(now) = steer::refresh(run, &slurm) else {
                return;
            };
            let changed = before.as_ref() != Some(&now);
            due = Instant::now() + backoff.after(now.state, changed);
            is_over = now.state.is_final();
            before = Some(now);
            if changed && !is_over && !list(folder, mailbox) {
                return;
            }
        }
        steer::read_console(run, &mut mirror, is_over);
        if is_over {
            // Before the last list the lock is free again.
            drop(mirror);
            list(folder, mailbox);
            return;
        }
        thread::sleep(PAUSE);
    }
}

fn list(folder: &Path, mailbox: &Mailbox) -> bool {
    let runs = run::list(folder).unwrap_or_default();
    mailbox.send(Message::Runs(Runs::Listed(runs)))
}

/// Ends the job of a run, with a last checkpoint or at once.
pub(super) fn end(outside: &Outside, path: PathBuf, at_once: bool) {
    let how = if at_once {
        Ending::AtOnce
    } else {
        Ending::Saved
    };
    let words = if at_once {
        "is cancelled"
    } else {
        "was asked for a last checkpoint and its end"
    };
    steer_it(outside, path, move |run| {
        let entry = record::newest_start(&run.path).ok_or("it was not launched")?;
        steer::end(run, &entry, how, &Slurm::default()).map_err(|error| error.to_string())?;
        Ok(words.to_owned())
    });
}

/// Starts the job of a run again, from its last checkpoint.
pub(super) fn resubmit(outside: &Outside, path: PathBuf) {
    steer_it(outside, path, |run| {
        let entry = steer::resubmit(run, &Slurm::default()).map_err(|error| error.to_string())?;
        Ok(format!("is job {} now", entry.job()))
    });
}

/// torchrun is waited for at its end, so this has a thread of its own.
fn steer_it(
    outside: &Outside,
    path: PathBuf,
    work: impl FnOnce(&RunDirectory) -> Result<String, String> + Send + 'static,
) {
    let mailbox = outside.mailbox.clone();
    let followed = outside.followed.clone();
    let folder = outside.runs_folder.clone();
    let steer = move || {
        let run = run::open(&path).map_err(|error| error.to_string());
        let done = run.and_then(|run| Ok(format!("{} {}", run.id(), work(&run)?)));
        let message = match done {
            Ok(text) => Message::Say(Tone::Good, text),
            Err(why) => Message::Say(Tone::Bad, why),
        };
        mailbox.send(message);
        let runs = run::list(&folder).unwrap_or_default();
        follow(&runs, &folder, &followed, &mailbox);
        mailbox.send(Message::Runs(Runs::Listed(runs)));
        // Whoever asked for something looks for it; the follower may ask rarely by now.
        let slurm = Slurm::default();
        for _ in 0..SOON {
            thread::sleep(PAUSE);
            let state = steer::refresh(&path, &slurm);
            if !list(&folder, &mailbox) || state.is_none_or(|s| s.state.is_final()) {
                return;
            }
        }
    };
    let _ = thread::Builder::new().name("steer".into()).spawn(steer);
}
