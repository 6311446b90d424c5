//! One trainer a run: the `lock` file, held with `flock` as long as the process lives.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

use crate::event::layout;

use super::TrainError;

/// The held lock; the system releases it when the file is closed, also by `kill -9`.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

impl Lock {
    /// Takes the lock and writes the own process id into it.
    pub(super) fn take(run: &Path) -> Result<Self, TrainError> {
        let path = run.join(layout::LOCK);
        let write = |source| TrainError::write(&path, source);
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&path)
            .map_err(write)?;
        // Whoever asks whether the run is live holds the lock for an instant; only a trainer holds it for long.
        let mut result = flock(&file, FlockOperation::NonBlockingLockExclusive);
        for _ in 0..25 {
            if result != Err(rustix::io::Errno::WOULDBLOCK) {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
            result = flock(&file, FlockOperation::NonBlockingLockExclusive);
        }
        match result {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                let mut pid = String::new();
                // The other one may be between locking and writing its id; then we cannot name it.
                let _ = file.read_to_string(&mut pid);
                return Err(TrainError::Locked {
                    run: run.to_owned(),
                    pid: pid.trim().parse().ok(),
                });
            }
            Err(error) => return Err(write(error.into())),
        }
        file.set_len(0).map_err(write)?;
        file.rewind().map_err(write)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
            .map_err(write)?;
        Ok(Self { _file: file })
    }
}
