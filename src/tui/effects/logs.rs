//! Work of the Logs screen: a thread that reads the watched run's console where it is looked at, and follows its end.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::Duration;

use super::Outside;
use crate::app::logs::{Effect, Filter, Message as Logs, PAGE, Page, Place};
use crate::app::search::Query;
use crate::app::{Message, Tone};
use crate::event::layout;
use crate::run::{Console, Want};
use crate::tui::mailbox::Mailbox;

/// Between looks at the console.
const PAUSE: Duration = Duration::from_millis(400);
/// Between looks after a while without a new line.
const IDLE: Duration = Duration::from_secs(1);
/// Lines taken at a time.
const NEW: usize = 20_000;

/// The thread that reads the watched run's console; dropped, it ends.
#[derive(Debug, Default)]
pub(super) struct Follower {
    questions: Option<Sender<(u64, Place, Filter)>>,
    /// Number of the last question; what was asked before is given up.
    last: Arc<AtomicU64>,
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.last.store(u64::MAX, Ordering::Relaxed);
    }
}

pub(super) fn carry_out(outside: &mut Outside, effect: Effect) {
    match effect {
        Effect::Follow(run) => {
            let (sender, receiver) = channel();
            outside.logs = Follower::default();
            let reader = Reader {
                path: run.join(layout::CONSOLE),
                run,
                console: None,
                end: 0,
                filter: Filter::default(),
                last: outside.logs.last.clone(),
                mailbox: outside.mailbox.clone(),
            };
            // Without a thread the console stays empty; the file has everything.
            let thread = thread::Builder::new().name("console".into());
            if thread.spawn(move || reader.work(&receiver)).is_ok() {
                outside.logs.questions = Some(sender);
            }
        }
        Effect::Read {
            question,
            place,
            filter,
        } => {
            outside.logs.last.store(question, Ordering::Relaxed);
            if let Some(questions) = &outside.logs.questions {
                let _ = questions.send((question, place, filter));
            }
        }
        Effect::Save {
            run,
            path,
            filter,
            query,
        } => outside.worker.run(move || {
            let saved = save(&run.join(layout::CONSOLE), &path, filter, &query);
            Some(match saved {
                Ok(lines) => Message::Say(
                    Tone::Good,
                    format!("saved {lines} lines to {}", path.display()),
                ),
                Err(error) => Message::Say(
                    Tone::Bad,
                    format!("cannot write {}: {error}", path.display()),
                ),
            })
        }),
    }
}

/// Writes the lines of a console that are let through and match; returns how many.
fn save(console: &Path, path: &Path, filter: Filter, query: &Query) -> io::Result<usize> {
    let console = Console::open(console)?;
    let mut out = BufWriter::new(File::create(path)?);
    let (mut at, mut count) = (0, 0);
    loop {
        let want = Want {
            filter,
            lines: NEW,
            is_void: &|| false,
        };
        let page = console.after(at, want)?;
        for line in page.lines.iter().filter(|l| query.is_match(&l.text)) {
            writeln!(out, "{}", line.text)?;
            count += 1;
        }
        if page.end == at {
            out.flush()?;
            return Ok(count);
        }
        at = page.end;
    }
}

/// What the thread holds: a place in the file, no line of it.
struct Reader {
    run: PathBuf,
    path: PathBuf,
    console: Option<Console>,
    /// Where the lines end that were told.
    end: u64,
    filter: Filter,
    last: Arc<AtomicU64>,
    mailbox: Mailbox,
}

impl Reader {
    fn work(mut self, questions: &Receiver<(u64, Place, Filter)>) {
        let mut quiet = 0;
        loop {
            let pause = if quiet > 20 { IDLE } else { PAUSE };
            let pause = if quiet == 0 { Duration::ZERO } else { pause };
            let goes_on = match questions.recv_timeout(pause) {
                Ok(question) => {
                    quiet = 1;
                    self.answer(question)
                }
                Err(RecvTimeoutError::Timeout) => {
                    quiet += 1;
                    self.look(&mut quiet)
                }
                Err(RecvTimeoutError::Disconnected) => return,
            };
            if !goes_on {
                return;
            }
        }
    }

    /// Looks for what the console gained; says whether anyone listens.
    fn look(&mut self, quiet: &mut u32) -> bool {
        let size = |console: &Console| console.size().unwrap_or(0);
        let is_other = self
            .console
            .as_ref()
            .is_some_and(|c| !c.is_at(&self.path) || size(c) < self.end);
        if is_other {
            self.console = None;
            self.end = 0;
            self.open();
            return self
                .mailbox
                .send(Message::Logs(Logs::Restarted(self.run.clone())));
        }
        if self.console.is_none() && !self.open() {
            return true;
        }
        let Some(console) = &self.console else {
            return true;
        };
        if size(console) <= self.end {
            return true;
        }
        let want = Want {
            filter: self.filter,
            lines: NEW,
            is_void: &|| false,
        };
        let page = console.after(self.end, want).unwrap_or_default();
        if page.end <= self.end {
            return true;
        }
        *quiet = 0;
        self.end = page.end;
        self.mailbox
            .send(Message::Logs(Logs::Lines(self.run.clone(), page)))
    }

    fn open(&mut self) -> bool {
        self.console = Console::open(&self.path).ok();
        self.console.is_some()
    }

    /// Reads what is asked for; says whether anyone listens.
    fn answer(&mut self, (question, place, filter): (u64, Place, Filter)) -> bool {
        let last = self.last.clone();
        let is_void = move || last.load(Ordering::Relaxed) != question;
        if is_void() {
            return true;
        }
        self.filter = filter;
        if self.console.is_none() {
            self.open();
        }
        let Some(console) = &self.console else {
            // The trainer has printed nothing yet.
            let answer = Logs::Read {
                run: self.run.clone(),
                question,
                place,
                page: Some(Page::default()),
                found: None,
                size: 0,
            };
            return self.mailbox.send(Message::Logs(answer));
        };
        // Where the lines end now; what comes later is told from there, or from where the page ends if that is later.
        let nothing = Want {
            filter,
            lines: 0,
            is_void: &is_void,
        };
        let until = console.last(nothing).map_or(0, |page| page.end);
        let want = Want {
            filter,
            lines: PAGE,
            is_void: &is_void,
        };
        // A console that cannot be read now has nothing to show.
        let (page, found) = read(console, &place, want).unwrap_or_default();
        let size = console.size().unwrap_or(0);
        if is_void() {
            return true;
        }
        self.end = page.as_ref().map_or(until, |page| page.end.max(until));
        let answer = Logs::Read {
            run: self.run.clone(),
            question,
            place,
            page,
            found,
            size,
        };
        self.mailbox.send(Message::Logs(answer))
    }
}

/// The lines at a place, and the one that was looked for.
fn read(console: &Console, place: &Place, want: Want) -> io::Result<(Option<Page>, Option<u64>)> {
    let around = |found: Option<u64>| -> io::Result<(Option<Page>, Option<u64>)> {
        match found {
            Some(at) => Ok((Some(console.around(at, want)?), Some(at))),
            None => Ok((None, None)),
        }
    };
    Ok(match place {
        Place::End => (Some(console.last(want)?), None),
        Place::Start => (Some(console.after(0, want)?), None),
        Place::Before(at) => (Some(console.before(*at, want)?), None),
        Place::After(at) => (Some(console.after(*at, want)?), None),
        Place::Around(at) => (Some(console.around(*at, want)?), None),
        Place::Step(step) => around(console.line_of_step(*step)?)?,
        Place::Match {
            from,
            is_forward,
            query,
        } => {
            let from = if *is_forward {
                *from
            } else {
                console.start_of_line((*from).min(console.size()?))?
            };
            let mut matches = |text: &str| query.is_match(text);
            around(console.find(from, *is_forward, want, &mut matches)?)?
        }
    })
}
