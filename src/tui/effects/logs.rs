//! Work of the Logs screen: a thread that follows the watched run's console.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::Outside;
use crate::app::logs::{Effect, Message as Logs};
use crate::app::{Message, Tone};
use crate::event::layout;

/// Between looks at the console.
const PAUSE: Duration = Duration::from_millis(400);
/// Between looks after a while without a new line.
const IDLE: Duration = Duration::from_secs(1);
/// Bytes taken at a time.
const PIECE: u64 = 1 << 20;
/// Of a longer console, the end is read.
const MOST: u64 = 64 << 20;

/// The thread that follows the watched run's console; dropped, it ends.
#[derive(Debug, Default)]
pub(super) struct Follower(Arc<AtomicBool>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn carry_out(outside: &mut Outside, effect: Effect) {
    match effect {
        Effect::Follow(run) => {
            outside.logs = Follower::default();
            let stop = outside.logs.0.clone();
            let mailbox = outside.mailbox.clone();
            let follow = move || {
                let mut console = Console::default();
                let mut quiet = 0;
                while !stop.load(Ordering::Relaxed) {
                    let (restarted, lines) = console.poll(&run.join(layout::CONSOLE));
                    if restarted && !mailbox.send(Message::Logs(Logs::Restarted(run.clone()))) {
                        return;
                    }
                    if !lines.is_empty() {
                        quiet = 0;
                        if !mailbox.send(Message::Logs(Logs::Lines(run.clone(), lines))) {
                            return;
                        }
                        continue;
                    }
                    quiet += 1;
                    thread::sleep(if quiet > 20 { IDLE } else { PAUSE });
                }
            };
            // Without a thread the console stays empty; the file has everything.
            let _ = thread::Builder::new().name("console".into()).spawn(follow);
        }
        Effect::Save { path, text } => outside.worker.run(move || {
            Some(match fs::write(&path, text) {
                Ok(()) => Message::Say(Tone::Good, format!("saved {}", path.display())),
                Err(error) => Message::Say(
                    Tone::Bad,
                    format!("cannot write {}: {error}", path.display()),
                ),
            })
        }),
    }
}

/// A place in the console.
#[derive(Debug, Default)]
struct Console {
    inode: u64,
    offset: u64,
    /// The beginning of a line whose end has not come.
    torn: Vec<u8>,
}

impl Console {
    /// Whether the file is another one, and the lines that came since the last look.
    fn poll(&mut self, path: &Path) -> (bool, Vec<String>) {
        let mut restarted = false;
        let lines = self.read(path, &mut restarted).unwrap_or_default();
        (restarted, lines)
    }

    fn read(&mut self, path: &Path, restarted: &mut bool) -> std::io::Result<Vec<String>> {
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        if self.inode != metadata.ino() || metadata.len() < self.offset {
            *restarted = self.inode != 0;
            self.inode = metadata.ino();
            self.offset = metadata.len().saturating_sub(MOST);
            self.torn.clear();
        }
        file.seek(SeekFrom::Start(self.offset))?;
        let mut bytes = std::mem::take(&mut self.torn);
        self.offset += file.take(PIECE).read_to_end(&mut bytes)? as u64;
        let end = bytes.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
        self.torn = bytes.split_off(end);
        let text = String::from_utf8_lossy(&bytes);
        Ok(text.lines().map(str::to_owned).collect())
    }
}
