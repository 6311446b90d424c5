//! A thread that follows the runs that other programs train, while there are some.

use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;

use crate::backend::foreign::{self, Followers, Mirror};
use crate::run::RunDirectory;

/// What the thread is told.
enum Told {
    /// A run was opened.
    Opened(Box<Mirror>),
    /// These runs are listed.
    Listed(Vec<RunDirectory>),
}

/// The sending end of the thread, which begins with the first run to follow and ends with the last sender.
#[derive(Debug, Default, Clone)]
pub(super) struct Follower(Option<Sender<Told>>);

impl std::fmt::Debug for Told {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Opened(_) => "Opened",
            Self::Listed(_) => "Listed",
        })
    }
}

impl Follower {
    /// The sending end, its thread started where there was none.
    pub(super) fn started(&mut self) -> Self {
        if self.0.is_none() {
            let (sender, receiver) = channel();
            let thread = thread::Builder::new().name("foreign".into());
            // Without a thread the runs stay as they were read.
            if thread.spawn(move || follow(&receiver)).is_ok() {
                self.0 = Some(sender);
            }
        }
        self.clone()
    }

    /// Opens the run at `path` and lists it among those in `runs`; returns its name.
    pub(super) fn watch(
        &self,
        path: &Path,
        seq_length: Option<u64>,
        runs: &Path,
    ) -> Result<String, String> {
        let mirror = foreign::watch(path, seq_length, runs).map_err(|error| error.to_string())?;
        let name = mirror.folder().file_name().unwrap_or_default();
        let name = name.to_string_lossy().into_owned();
        self.tell(Told::Opened(Box::new(mirror)));
        Ok(name)
    }

    /// Follows those of the runs that other programs train.
    pub(super) fn listed<'a>(&self, runs: impl Iterator<Item = &'a RunDirectory>) {
        let watched: Vec<RunDirectory> = runs
            .filter(|run| run.info.watched.is_some())
            .cloned()
            .collect();
        if !watched.is_empty() {
            self.tell(Told::Listed(watched));
        }
    }

    fn tell(&self, told: Told) {
        if let Some(sender) = &self.0 {
            let _ = sender.send(told);
        }
    }
}

fn follow(receiver: &Receiver<Told>) {
    let mut followers = Followers::default();
    loop {
        // Nothing wakes the thread while nothing moves.
        let told = if followers.is_empty() {
            receiver.recv().map_err(RecvTimeoutError::from)
        } else {
            receiver.recv_timeout(Followers::PAUSE)
        };
        match told {
            Ok(Told::Opened(mirror)) => followers.add(*mirror),
            Ok(Told::Listed(runs)) => followers.tend(&runs),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        followers.poll();
    }
}
