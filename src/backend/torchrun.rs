//! torchrun on this machine: a process group of its own, found again by whoever comes later.

use std::fs::{self, OpenOptions};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group, test_kill_process_group};

use super::record::{Entry, now_ms};
use super::{BackendError, local, script};
use crate::event::layout;

/// Where torchrun stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It runs.
    Running,
    /// It ended with this exit code.
    Ended(i32),
    /// It is gone and left no exit code.
    Gone,
}

/// Starts the script at `path` detached: in a session of its own, output appended to the run's console.
pub fn start(run: &Path, path: &Path) -> Result<Entry, BackendError> {
    let console = run.join(layout::CONSOLE);
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&console)
            .map_err(|source| BackendError::Console {
                path: console.clone(),
                source,
            })
    };
    let mut command = Command::new("bash");
    command
        .arg(path)
        .stdin(Stdio::null())
        .stdout(open()?)
        .stderr(open()?);
    local::detach(&mut command);
    let mut child = command.spawn().map_err(|source| BackendError::Spawn {
        program: "bash".into(),
        source,
    })?;
    let pid = child.id();
    let started = start_ticks(pid).unwrap_or(0);
    // Somebody has to take note of its end, or it stays as a zombie while this program lives.
    let waiter = thread::Builder::new().name(format!("wait-{pid}"));
    let _ = waiter.spawn(move || child.wait());
    Ok(Entry::Started {
        pid,
        started,
        host: host(),
        at_ms: now_ms(),
    })
}

/// The name of this machine.
pub fn host() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Field 22 of `/proc/PID/stat`: ticks from the machine's boot to the start of the process.
fn start_ticks(pid: u32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything.
    let (_, rest) = text.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    if fields.next()? == "Z" {
        return None;
    }
    fields.nth(18)?.parse().ok()
}

/// How the process that was started as `pid` at `started` fares.
pub fn state(run: &Path, pid: u32, started: u64) -> State {
    if start_ticks(pid) == Some(started) {
        return State::Running;
    }
    let text = fs::read_to_string(run.join(script::STATUS)).unwrap_or_default();
    let code = text.lines().rev().find_map(|line| {
        let mut words = line.split(' ');
        let (code, of) = (words.next()?, words.next()?);
        (of == pid.to_string()).then(|| code.parse().ok()).flatten()
    });
    code.map_or(State::Gone, State::Ended)
}

/// Asks torchrun and its processes to end, which writes a last checkpoint; ends them without asking after `patience`.
///
/// Returns whether they ended by themselves. A process that is not the one that was started is left alone.
pub fn stop(pid: u32, started: u64, patience: Duration) -> bool {
    if start_ticks(pid) != Some(started) {
        return true;
    }
    let Some(group) = Pid::from_raw(pid as i32) else {
        return true;
    };
    // The script passes a TERM on to torchrun, and torchrun to its processes.
    let _ = rustix::process::kill_process(group, Signal::TERM);
    let begin = Instant::now();
    while begin.elapsed() < patience {
        if start_ticks(pid) != Some(started) {
            break;
        }
        thread::sleep(Duration::from_millis(20));
    }
    let by_itself = start_ticks(pid) != Some(started);
    // Whoever of the group is left, also where torchrun itself has ended.
    if test_kill_process_group(group).is_ok() {
        let _ = kill_process_group(group, Signal::KILL);
    }
    by_itself
}
