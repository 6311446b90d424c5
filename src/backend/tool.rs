//! Programs that answer a question: run with a time limit, output kept.

use std::io::{self, Read};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::BackendError;

/// What a program said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Whether it ended with 0.
    pub success: bool,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub error: String,
}

/// Runs `command` without standard input and waits at most `limit`; a program that takes longer is ended.
pub fn ask(mut command: Command, limit: Duration) -> Result<Answer, BackendError> {
    let program = Path::new(command.get_program()).to_owned();
    let failed = |source: io::Error| BackendError::Spawn {
        program: program.clone(),
        source,
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Read on threads, or a full pipe would stop the program.
    let out = child.stdout.take().map(|pipe| thread::spawn(|| read(pipe)));
    let error = child.stderr.take().map(|pipe| thread::spawn(|| read(pipe)));
    let begin = Instant::now();
    let mut pause = Duration::from_millis(2);
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if begin.elapsed() >= limit {
            let _ = child.kill();
            let _ = child.wait();
            return Err(BackendError::Slow {
                program,
                seconds: limit.as_secs_f64(),
            });
        }
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    };
    let text = |reader: Option<thread::JoinHandle<String>>| {
        reader.and_then(|r| r.join().ok()).unwrap_or_default()
    };
    Ok(Answer {
        success: status.success(),
        out: text(out),
        error: text(error),
    })
}

fn read(mut pipe: impl Read) -> String {
    let mut bytes = Vec::new();
    // What came before an error is still an answer.
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether `name` is a program on the `PATH`.
pub fn is_installed(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}
