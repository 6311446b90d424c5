//! Debounced watching of folders: which files changed, whatever the file system.
//!
//! Notifications of the system say *that* something may have changed; comparing the files' sizes, times and inodes says *what*. So an editor
//! that replaces files, reads that change nothing, and network file systems without notifications all come out right: the comparison
//! also runs every two seconds. Folders are watched, not files, and may appear later.

mod snapshot;

use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher as _};
use thiserror::Error;

use snapshot::Snapshot;

/// How long a folder must be quiet before its changes are told.
pub const DEBOUNCE: Duration = Duration::from_millis(250);
/// Changes that never end are told after this long.
const PATIENCE: Duration = Duration::from_secs(1);
/// How often files are compared without being notified.
const POLL: Duration = Duration::from_secs(2);

/// Why nothing can be watched.
#[derive(Debug, Error)]
pub enum WatchError {
    /// The system gave no thread.
    #[error("cannot start the watching thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// A folder to watch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Folder {
    /// The folder; it may appear later.
    pub path: PathBuf,
    /// How many levels of folders below it belong to it; 0 is its own files alone.
    pub depth: usize,
}

enum Message {
    Notified,
    Watch(Vec<Folder>),
    Stop,
}

/// Watches folders in a thread of its own until it is dropped.
#[derive(Debug)]
pub struct Watcher {
    messages: Sender<Message>,
    thread: Option<JoinHandle<()>>,
}

impl Watcher {
    /// Starts watching; `tell` is called in the watching thread with the files that were made, changed or removed, sorted.
    pub fn spawn(
        folders: Vec<Folder>,
        tell: impl FnMut(Vec<PathBuf>) + Send + 'static,
    ) -> Result<Self, WatchError> {
        let (messages, inbox) = channel();
        let notified = messages.clone();
        // Taken here, so that every change after this function returns is told.
        let snapshot = Snapshot::of(&folders);
        let thread = thread::Builder::new()
            .name("watch".to_owned())
            .spawn(move || run(folders, snapshot, &inbox, notified, tell))?;
        Ok(Self {
            messages,
            thread: Some(thread),
        })
    }

    /// Watches these folders instead; what they hold now is not told as a change.
    pub fn watch(&self, folders: Vec<Folder>) {
        // The thread is there as long as `self` is.
        let _ = self.messages.send(Message::Watch(folders));
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.messages.send(Message::Stop);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn run(
    mut folders: Vec<Folder>,
    mut snapshot: Snapshot,
    inbox: &Receiver<Message>,
    notified: Sender<Message>,
    mut tell: impl FnMut(Vec<PathBuf>),
) {
    let mut system = System::new(notified);
    system.register(&folders);
    let mut next_poll = Instant::now() + POLL;
    // When the first untold notification came, and when it is to be told.
    let mut pending: Option<(Instant, Instant)> = None;
    loop {
        let due = pending.map_or(next_poll, |(_, due)| due.min(next_poll));
        match inbox.recv_timeout(due.saturating_duration_since(Instant::now())) {
            Ok(Message::Notified) => {
                let now = Instant::now();
                let first = pending.map_or(now, |(first, _)| first);
                pending = Some((first, (now + DEBOUNCE).min(first + PATIENCE)));
            }
            Ok(Message::Watch(new)) => {
                if new != folders {
                    snapshot = Snapshot::of(&new);
                    folders = new;
                    system.register(&folders);
                    pending = None;
                }
            }
            Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                let now = Instant::now();
                let polled = now >= next_poll;
                if polled {
                    next_poll = now + POLL;
                    // Folders that appeared since.
                    system.register(&folders);
                }
                let quiet = pending.is_none_or(|(_, due)| now >= due);
                if !quiet {
                    continue;
                }
                pending = None;
                let new = Snapshot::of(&folders);
                let changed = snapshot.changes(&new);
                snapshot = new;
                if !changed.is_empty() {
                    tell(changed);
                }
            }
        }
    }
}

/// The system's notifications; without them, polling alone remains.
struct System {
    watcher: Option<RecommendedWatcher>,
    registered: Vec<(Folder, u64)>,
}

impl System {
    fn new(notified: Sender<Message>) -> Self {
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Our own reads are events, too.
            if !matches!(
                event,
                Ok(notify::Event {
                    kind: EventKind::Access(_),
                    ..
                })
            ) {
                let _ = notified.send(Message::Notified);
            }
        });
        Self {
            watcher: watcher.ok(),
            registered: vec![],
        }
    }

    /// Registers the folders that exist; one that was replaced by another of the same name is registered again.
    fn register(&mut self, folders: &[Folder]) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted: Vec<(Folder, u64)> = folders
            .iter()
            .filter_map(|f| Some((f.clone(), snapshot::inode(&f.path)?)))
            .collect();
        if wanted == self.registered {
            return;
        }
        for (folder, _) in &self.registered {
            let _ = watcher.unwatch(&folder.path);
        }
        for (folder, _) in &wanted {
            let mode = if folder.depth == 0 {
                RecursiveMode::NonRecursive
            } else {
                RecursiveMode::Recursive
            };
            // Out of watches, or a file system that has none: polling sees the changes.
            let _ = watcher.watch(&folder.path, mode);
        }
        self.registered = wanted;
    }
}
