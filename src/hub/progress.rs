//! How far a download is.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::plan::Plan;
use crate::base::Bytes;

/// Speed is that of the last seconds.
const WINDOW: Duration = Duration::from_secs(5);

/// What is happening to a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// Its turn has not come.
    Waiting,
    /// Another process downloads it.
    Locked,
    /// What is there of it is read and summed.
    Checking,
    /// Its bytes come in.
    Downloading,
    /// The connection failed, and is tried again after a wait.
    Pausing(String),
    /// It is whole and has its name.
    Done,
}

/// How far one file is.
#[derive(Debug, Clone)]
pub struct FileProgress {
    /// Its path in the repository.
    pub name: String,
    /// Its size.
    pub size: Bytes,
    /// How much of it is on disk.
    pub done: Bytes,
    /// How much of it came over the wire, more than `size` if something had to be repeated.
    pub received: Bytes,
    /// What is happening to it.
    pub stage: Stage,
    /// Its speed, over the last seconds.
    pub bytes_per_second: f64,
}

/// How far all files are.
#[derive(Debug, Clone)]
pub struct Progress {
    /// The files, in the plan's order.
    pub files: Vec<FileProgress>,
    /// The size of all files.
    pub total: Bytes,
    /// How much of them is on disk.
    pub done: Bytes,
    /// How much came over the wire.
    pub received: Bytes,
    /// The speed of all, over the last seconds.
    pub bytes_per_second: f64,
}

impl FileProgress {
    /// The time that its rest will take at this speed.
    pub fn left(&self) -> Option<Duration> {
        left(
            self.size.0 - self.done.0.min(self.size.0),
            self.bytes_per_second,
        )
    }
}

impl Progress {
    /// The time that the rest will take at this speed.
    pub fn left(&self) -> Option<Duration> {
        left(
            self.total.0 - self.done.0.min(self.total.0),
            self.bytes_per_second,
        )
    }
}

fn left(bytes: u64, bytes_per_second: f64) -> Option<Duration> {
    let seconds = bytes as f64 / bytes_per_second;
    (bytes_per_second > 0.0 && seconds < 1e9).then(|| Duration::from_secs_f64(seconds))
}

/// What the threads say about their files.
#[derive(Debug)]
pub(super) struct Board(Vec<Cell>);

/// What a thread says about its file.
#[derive(Debug)]
pub(super) struct Cell(Mutex<FileProgress>);

impl Cell {
    fn lock(&self) -> MutexGuard<'_, FileProgress> {
        // Numbers for people: a thread that panicked left them usable.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn stage(&self, stage: Stage) {
        self.lock().stage = stage;
    }

    /// So much is on disk.
    pub(super) fn done(&self, bytes: u64) {
        self.lock().done = Bytes(bytes);
    }

    /// So much is on disk, of which the last `more` came just now.
    pub(super) fn received(&self, bytes: u64, more: u64) {
        let mut file = self.lock();
        file.done = Bytes(bytes);
        file.received.0 += more;
        file.stage = Stage::Downloading;
    }

    pub(super) fn finish(&self) {
        let mut file = self.lock();
        file.done = file.size;
        file.stage = Stage::Done;
    }
}

impl Board {
    pub(super) fn new(plan: &Plan) -> Self {
        let cells = plan.files.iter().map(|file| {
            Cell(Mutex::new(FileProgress {
                name: file.name.clone(),
                size: file.size,
                done: file.present,
                received: Bytes(0),
                stage: Stage::Waiting,
                bytes_per_second: 0.0,
            }))
        });
        Self(cells.collect())
    }

    pub(super) fn cell(&self, index: usize) -> &Cell {
        &self.0[index]
    }
}

/// Makes [`Progress`] of what the threads say, with speeds.
#[derive(Debug)]
pub(super) struct Meter {
    /// When, and how much each file had received then.
    samples: VecDeque<(Instant, Vec<u64>)>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self {
            samples: VecDeque::new(),
        }
    }

    pub(super) fn read(&mut self, board: &Board, now: Instant) -> Progress {
        let mut files: Vec<FileProgress> = board.0.iter().map(|cell| cell.lock().clone()).collect();
        let received: Vec<u64> = files.iter().map(|file| file.received.0).collect();
        while let Some((at, _)) = self.samples.front()
            && now.duration_since(*at) > WINDOW
        {
            self.samples.pop_front();
        }
        if let Some((at, before)) = self.samples.front() {
            let seconds = now.duration_since(*at).as_secs_f64().max(1e-3);
            for (file, before) in files.iter_mut().zip(before) {
                file.bytes_per_second = (file.received.0 - before) as f64 / seconds;
            }
        }
        self.samples.push_back((now, received));
        Progress {
            total: files.iter().map(|file| file.size).sum(),
            done: files.iter().map(|file| file.done).sum(),
            received: files.iter().map(|file| file.received).sum(),
            bytes_per_second: files.iter().map(|file| file.bytes_per_second).sum(),
            files,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hub::{Checksum, PlannedFile};

    #[test]
    fn speed_is_that_of_the_last_seconds() {
        let file = |name: &str, present| PlannedFile {
            name: name.to_owned(),
            size: Bytes(1000),
            checksum: Checksum::Unknown(name.to_owned()),
            present: Bytes(present),
            is_whole: false,
        };
        let plan = Plan {
            id: "a/b".parse().expect("an id"),
            commit: String::new(),
            snapshot: "s".into(),
            files: vec![file("a", 400), file("b", 0)],
        };
        assert_eq!((plan.total(), plan.needed()), (Bytes(2000), Bytes(1600)));
        let board = Board::new(&plan);
        let mut meter = Meter::new();
        let start = Instant::now();
        let first = meter.read(&board, start);
        assert_eq!((first.done, first.left()), (Bytes(400), None));
        board.cell(0).received(600, 200);
        let second = meter.read(&board, start + Duration::from_secs(2));
        assert_eq!(second.files[0].bytes_per_second, 100.0);
        assert_eq!(second.files[0].left(), Some(Duration::from_secs(4)));
        assert_eq!(second.left(), Some(Duration::from_secs(14)));
        assert_eq!(second.files[0].stage, Stage::Downloading);
        // Six seconds of silence, and the speed is gone.
        meter.read(&board, start + Duration::from_secs(6));
        let late = meter.read(&board, start + Duration::from_secs(12));
        assert_eq!((late.bytes_per_second, late.left()), (0.0, None));
        board.cell(1).finish();
        let last = meter.read(&board, start + Duration::from_secs(13));
        assert_eq!(last.done, Bytes(1600));
    }
}
