//! The real program in a pseudo-terminal, with the screen that a user would see.

use std::fs;
use std::io::{Read, Write};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use portable_pty::{Child, CommandBuilder, ExitStatus, MasterPty, PtySize, native_pty_system};
use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for anything; a loaded machine is slow, and a test that fails has time.
const PATIENCE: Duration = Duration::from_mins(2);

/// What the reading thread and the test share.
struct Seen {
    parser: vt100::Parser,
    /// Bytes read so far.
    bytes: u64,
    /// The program's side of the terminal is closed.
    closed: bool,
}

/// A folder of its own with recipes, in which programs are started.
pub(crate) struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    /// A folder with these recipes.
    pub(crate) fn new(recipes: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place = Self { folder };
        for (name, text) in recipes {
            place.save(name, text);
        }
        place
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a recipe as editors do: a new file renamed over the old one.
    pub(crate) fn save(&self, name: &str, text: &str) {
        let path = self.path().join("recipes").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        let temporary = path.with_extension("tmp");
        fs::write(&temporary, text).unwrap();
        fs::rename(&temporary, &path).unwrap();
    }

    /// Run folders, by name.
    pub(crate) fn runs(&self) -> Vec<PathBuf> {
        let Ok(entries) = fs::read_dir(self.path().join("runs")) else {
            return Vec::new();
        };
        let mut runs: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
        runs.sort();
        runs
    }

    /// The process that holds the lock of a run, if it lives.
    pub(crate) fn trainer(run: &Path) -> Option<Pid> {
        let text = fs::read_to_string(run.join("lock")).ok()?;
        let pid: i32 = text.split_whitespace().next()?.parse().ok()?;
        let line = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
        String::from_utf8_lossy(&line)
            .contains("trainer")
            .then(|| Pid::from_raw(pid))?
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        for run in self.runs() {
            if let Some(pid) = Self::trainer(&run) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

/// A started program and its terminal.
pub(crate) struct Session {
    child: Box<dyn Child + Send + Sync>,
    master: Box<dyn MasterPty + Send>,
    writer: Box<dyn Write + Send>,
    seen: Arc<(Mutex<Seen>, Condvar)>,
    termios: String,
}

impl Session {
    /// Starts the workbench in `place` on a terminal of 120x36.
    pub(crate) fn start(place: &Place) -> Self {
        Self::start_with(place, &[], (120, 36))
    }

    /// The same with environment variables and a size.
    pub(crate) fn start_with(place: &Place, env: &[(&str, &str)], size: (u16, u16)) -> Self {
        let (cols, rows) = size;
        let pair = native_pty_system()
            .openpty(PtySize {
                rows,
                cols,
                pixel_width: 0,
                pixel_height: 0,
            })
            .unwrap();
        let termios = format!("{:?}", pair.master.get_termios());
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_trestle"));
        command.cwd(place.path());
        command.env_clear();
        for (name, value) in [
            ("TERM", "xterm-256color"),
            ("LANG", "C.UTF-8"),
            ("RUST_BACKTRACE", "0"),
        ] {
            command.env(name, value);
        }
        command.env("HOME", place.path());
        if let Some(path) = std::env::var_os("PATH") {
            command.env("PATH", path);
        }
        for (name, value) in env {
            command.env(name, value);
        }
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let seen = Arc::new((
            Mutex::new(Seen {
                parser: vt100::Parser::new(at_least_one(rows), at_least_one(cols), 0),
                bytes: 0,
                closed: false,
            }),
            Condvar::new(),
        ));
        let shared = seen.clone();
        thread::spawn(move || {
            let mut bytes = [0; 8192];
            loop {
                let read = reader.read(&mut bytes);
                let mut seen = shared.0.lock().unwrap();
                match read {
                    Ok(n) if n > 0 => {
                        seen.parser.process(&bytes[..n]);
                        seen.bytes += n as u64;
                    }
                    _ => seen.closed = true,
                }
                shared.1.notify_all();
                if seen.closed {
                    return;
                }
            }
        });
        let writer = pair.master.take_writer().unwrap();
        Self {
            child,
            master: pair.master,
            writer,
            seen,
            termios,
        }
    }

    /// Types text or control characters.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.writer.write_all(text.as_bytes()).unwrap();
        self.writer.flush().unwrap();
    }

    /// What is on the screen.
    pub(crate) fn text(&self) -> String {
        self.seen.0.lock().unwrap().parser.screen().contents()
    }

    /// Bytes that the program has written so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.seen.0.lock().unwrap().bytes
    }

    /// Waits until the screen fulfils `is_there`; a dump of the screen when it does not.
    pub(crate) fn wait_until(&self, what: &str, is_there: impl Fn(&str) -> bool) -> String {
        let until = Instant::now() + PATIENCE;
        let mut seen = self.seen.0.lock().unwrap();
        loop {
            let text = seen.parser.screen().contents();
            if is_there(&text) {
                return text;
            }
            let left = until.saturating_duration_since(Instant::now());
            assert!(
                !left.is_zero() && !seen.closed,
                "waited in vain for {what} (program ended: {}); the screen:\n{text}",
                seen.closed
            );
            // Waking now and then covers conditions that look at more than the screen.
            let step = left.min(Duration::from_millis(200));
            seen = self.seen.1.wait_timeout(seen, step).unwrap().0;
        }
    }

    /// Waits until the screen shows `text`.
    pub(crate) fn wait_for(&self, text: &str) -> String {
        self.wait_until(text, |screen| screen.contains(text))
    }

    /// Waits until the screen does not show `text`.
    pub(crate) fn wait_gone(&self, text: &str) -> String {
        self.wait_until(&format!("the end of {text}"), |screen| {
            !screen.contains(text)
        })
    }

    pub(crate) fn resize(&self, cols: u16, rows: u16) {
        {
            let mut seen = self.seen.0.lock().unwrap();
            seen.parser
                .screen_mut()
                .set_size(at_least_one(rows), at_least_one(cols));
        }
        self.master
            .resize(PtySize {
                rows,
                cols,
                pixel_width: 0,
                pixel_height: 0,
            })
            .unwrap();
    }

    pub(crate) fn pid(&self) -> Pid {
        Pid::from_raw(self.child.process_id().unwrap() as i32).unwrap()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).unwrap();
    }

    /// The letter of the process's state in `/proc`: `T` is stopped.
    pub(crate) fn process_state(&self) -> char {
        let pid = self.pid().as_raw_nonzero();
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
        stat[stat.rfind(')').unwrap() + 2..].chars().next().unwrap()
    }

    /// Whether the terminal is as it was before the program started: line mode, echo, main screen, cursor, no mouse.
    pub(crate) fn is_restored(&self) -> bool {
        let termios = format!("{:?}", self.master.get_termios());
        let seen = self.seen.0.lock().unwrap();
        let screen = seen.parser.screen();
        termios == self.termios
            && !screen.alternate_screen()
            && !screen.hide_cursor()
            && !screen.bracketed_paste()
            && screen.mouse_protocol_mode() == vt100::MouseProtocolMode::None
    }

    /// Waits for the program's end and checks that the terminal was given back.
    pub(crate) fn wait_end(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(
                Instant::now() < until,
                "still running; the screen:\n{}",
                self.text()
            );
            thread::sleep(Duration::from_millis(20));
        };
        // The last bytes may still be on their way through the terminal.
        while !self.is_restored() {
            assert!(
                Instant::now() < until,
                "the terminal was not given back: {:?}; the screen:\n{}",
                self.master.get_termios(),
                self.text()
            );
            thread::sleep(Duration::from_millis(20));
        }
        status
    }

    /// Leaves with `q`.
    pub(crate) fn quit(&mut self) {
        self.type_text("q");
        assert!(self.wait_end().success());
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
    }
}

/// A model of no size does not exist; the terminal itself may have none.
fn at_least_one(n: u16) -> NonZero<u16> {
    NonZero::new(n).unwrap_or(NonZero::<u16>::MIN)
}

/// Waits until `is_so`.
pub(crate) fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < until, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(20));
    }
}
