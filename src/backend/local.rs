//! A trainer as a detached process on this machine.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use super::BackendError;
use crate::event::layout;
use crate::run::RunDirectory;

/// The hidden subcommand that trains the run directory it is given.
const TRAINER: &str = "trainer";

/// Starts the trainer of this program on `run` and returns its process id.
///
/// The trainer leads a session of its own, so neither the terminal's signals nor its end reach it; standard input is empty, output
/// and errors are appended to `console.log`. The environment is kept.
pub fn spawn(run: &RunDirectory) -> Result<u32, BackendError> {
    spawn_program(&this_program(), run)
}

/// The same with another build of the program.
pub fn spawn_program(program: &Path, run: &RunDirectory) -> Result<u32, BackendError> {
    let console_path = run.join(layout::CONSOLE);
    let open = || {
        OpenOptions::new()
            .append(true)
            .create(true)
            .open(&console_path)
    };
    let console = |result: io::Result<std::fs::File>| {
        result.map_err(|source| BackendError::Console {
            path: console_path.clone(),
            source,
        })
    };
    let mut command = Command::new(program);
    command
        .arg0("trestle")
        .arg(TRAINER)
        .arg(&run.path)
        .stdin(Stdio::null())
        .stdout(console(open())?)
        .stderr(console(open())?);
    detach(&mut command);
    let mut child = command.spawn().map_err(|source| BackendError::Spawn {
        program: program.to_owned(),
        source,
    })?;
    let pid = child.id();
    // Whoever started it may live longer: somebody has to take note of its end, or it stays as a zombie. Nobody waits for this thread.
    let waiter = thread::Builder::new().name(format!("wait-{pid}"));
    let _ = waiter.spawn(move || child.wait());
    Ok(pid)
}

/// The running program, even if its file was replaced by a new build in the meantime.
fn this_program() -> PathBuf {
    let by_kernel = PathBuf::from("/proc/self/exe");
    if by_kernel.exists() {
        return by_kernel;
    }
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("trestle"))
}

/// Makes the command start in a session of its own, which the end of this program and of its terminal does not reach.
pub(super) fn detach(command: &mut Command) {
    #[expect(
        unsafe_code,
        reason = "only `pre_exec` runs code in the child before its program starts"
    )]
    // SAFETY: the closure runs between fork and exec and makes one system call, which is safe there; it neither allocates nor locks.
    unsafe {
        command.pre_exec(|| {
            rustix::process::setsid()?;
            Ok(())
        });
    }
}
