//! The files of a foreign run: which ones, and what is new in them.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::line::Line;
use super::scalars::Steps;
use super::{ForeignError, Parser};
use crate::event::tensorboard;

/// The most bytes taken of a file in one look.
const TAKE: u64 = 16 << 20;
/// Bytes at the start of a file by which it is known again.
const HEAD: usize = 512;
/// Folders within folders that are looked into.
const DEPTH: usize = 6;
/// Files that are read; a larger job joins its tasks' output.
const FILES: usize = 4096;

/// What the files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Console output.
    Log,
    /// TensorBoard event files.
    TensorBoard,
}

/// The files of a foreign run and how far each was read.
#[derive(Debug)]
pub struct Sources {
    root: PathBuf,
    kind: Kind,
    files: Vec<Source>,
}

#[derive(Debug)]
struct Source {
    path: PathBuf,
    file: Option<File>,
    inode: u64,
    offset: u64,
    head: Vec<u8>,
    /// Nothing has its name any more.
    is_gone: bool,
    reader: Reader,
}

#[derive(Debug)]
enum Reader {
    Log(Box<Parser>),
    TensorBoard {
        steps: Box<Steps>,
        /// A checksum did not fit; nothing behind it can be read.
        is_broken: bool,
    },
}

/// What is new.
#[derive(Debug, Default)]
pub struct Found {
    /// Lines by file, in the order of [`Sources::paths`].
    pub lines: Vec<Vec<Line>>,
    /// Bytes taken.
    pub bytes: u64,
    /// More lies ready.
    pub more: bool,
    /// What happened to the files themselves: a stable code and a sentence.
    pub notes: Vec<(&'static str, String)>,
}

impl Sources {
    /// Finds what to read at `path`: a log, an event file, or a folder with either, such as Slurm's outputs, torchrun's log folder, or the
    /// folder of an experiment. Logs are taken before event files, which say less.
    pub fn find(path: &Path) -> Result<Self, ForeignError> {
        let at = |source| ForeignError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        };
        let root = fs::canonicalize(path).map_err(at)?;
        let (logs, boards) = walk(&root).map_err(at)?;
        // An experiment's folder may hold other text; it is a log if it says something.
        let logs: Vec<PathBuf> = if boards.is_empty() {
            logs
        } else {
            logs.into_iter().filter(|p| speaks(p)).collect()
        };
        let (kind, paths) = if logs.is_empty() {
            (Kind::TensorBoard, boards)
        } else {
            (Kind::Log, logs)
        };
        if paths.is_empty() {
            return Err(ForeignError::NothingThere { path: root });
        }
        let files = paths.into_iter().map(|p| Source::new(p, kind)).collect();
        Ok(Self { root, kind, files })
    }

    /// What the files are.
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The files.
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        self.files.iter().map(|f| f.path.as_path())
    }

    /// When the last of them was written to.
    pub fn modified(&self) -> Option<SystemTime> {
        let times = self
            .files
            .iter()
            .filter_map(|f| fs::metadata(&f.path).ok()?.modified().ok());
        times.max()
    }

    /// The `most` files that were written to last, the last one at the end.
    pub fn latest(&self, most: usize) -> Vec<PathBuf> {
        let modified = |path: &Path| fs::metadata(path).and_then(|m| m.modified()).ok();
        let mut files: Vec<(Option<SystemTime>, &Path)> =
            self.paths().map(|p| (modified(p), p)).collect();
        files.sort();
        let from = files.len().saturating_sub(most);
        files[from..].iter().map(|(_, p)| p.to_path_buf()).collect()
    }

    /// Looks for files that were not there before, those of a restart; says whether there are some.
    pub fn look(&mut self) -> bool {
        let before = self.files.len();
        if !self.root.is_dir() {
            return false;
        }
        let (logs, boards) = walk(&self.root).unwrap_or_default();
        let paths = if self.kind == Kind::Log { logs } else { boards };
        for path in paths {
            if self.files.len() < FILES && !self.files.iter().any(|f| f.path == path) {
                self.files.push(Source::new(path, self.kind));
            }
        }
        self.files.len() > before
    }

    /// Reads what is new. A file that cannot be read now is tried again the next time.
    pub fn poll(&mut self) -> Found {
        let mut found = Found::default();
        for file in &mut self.files {
            let mut lines = vec![];
            if let Err(error) = file.poll(&mut lines, &mut found)
                && error.kind() != io::ErrorKind::NotFound
            {
                found.notes.push((
                    "log_unreadable",
                    format!("{}: {error}", file.path.display()),
                ));
            }
            found.lines.push(lines);
        }
        found
    }

    /// Takes what waits for more: the last step of an event file, and a last line without newline if nothing will follow.
    pub fn settle(&mut self, nothing_follows: bool) -> Vec<Vec<Line>> {
        let files = self.files.iter_mut();
        files.map(|file| file.settle(nothing_follows)).collect()
    }

    /// The same of all files but the last, which alone is still written to.
    pub(super) fn settle_all_but_last(&mut self) -> Vec<Vec<Line>> {
        let files = self.files.iter_mut().rev().skip(1).rev();
        files.map(|file| file.settle(false)).collect()
    }
}

impl Source {
    fn new(path: PathBuf, kind: Kind) -> Self {
        let reader = match kind {
            Kind::Log => Reader::Log(Box::default()),
            Kind::TensorBoard => Reader::TensorBoard {
                steps: Box::default(),
                is_broken: false,
            },
        };
        Self {
            path,
            file: None,
            inode: 0,
            offset: 0,
            head: vec![],
            is_gone: false,
            reader,
        }
    }

    fn settle(&mut self, nothing_follows: bool) -> Vec<Line> {
        let mut lines = vec![];
        match &mut self.reader {
            Reader::Log(parser) if nothing_follows => parser.finish(&mut |l| lines.push(l)),
            Reader::Log(_) => {}
            Reader::TensorBoard { steps, .. } => steps.flush(&mut |l| lines.push(l)),
        }
        lines
    }

    fn poll(&mut self, lines: &mut Vec<Line>, found: &mut Found) -> io::Result<()> {
        let metadata = match fs::metadata(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.file.is_some() => {
                // Whoever has it open may still write to it, as we still read it.
                if !std::mem::replace(&mut self.is_gone, true) {
                    found.notes.push((
                        "log_gone",
                        format!("{} was deleted; what it said stays", self.path.display()),
                    ));
                }
                found.more |= self.read(lines, found)?;
                return Ok(());
            }
            metadata => metadata?,
        };
        self.is_gone = false;
        if self.file.is_some() && metadata.ino() != self.inode {
            // The rest of the file that was moved away, then the new one.
            while self.read(lines, found)? {}
            let file = File::open(&self.path)?;
            let is_same = self.knows(&file) && file.metadata()?.len() >= self.offset;
            self.inode = file.metadata()?.ino();
            self.file = Some(file);
            if !is_same {
                self.begin(lines);
                found.notes.push((
                    "log_rotated",
                    format!(
                        "{} was replaced; what it said before stays",
                        self.path.display()
                    ),
                ));
            }
        } else if self.file.is_none() {
            let file = File::open(&self.path)?;
            self.inode = file.metadata()?.ino();
            self.file = Some(file);
        }
        if let Some(file) = &self.file
            && (metadata.len() < self.offset || (metadata.len() > self.offset && !self.knows(file)))
        {
            self.begin(lines);
            found.notes.push((
                "log_truncated",
                format!("{} was cut; what it said before stays", self.path.display()),
            ));
        }
        found.more |= self.read(lines, found)?;
        Ok(())
    }

    /// Starts at the beginning of another file.
    fn begin(&mut self, lines: &mut Vec<Line>) {
        if let Reader::Log(parser) = &mut self.reader {
            parser.finish(&mut |l| lines.push(l));
        }
        self.offset = 0;
        self.head.clear();
    }

    /// Whether a file begins as the one that was read.
    fn knows(&self, file: &File) -> bool {
        let mut head = vec![0; self.head.len()];
        file.read_exact_at(&mut head, 0).is_ok() && head == self.head
    }

    /// Reads a piece; says whether more lies ready.
    fn read(&mut self, lines: &mut Vec<Line>, found: &mut Found) -> io::Result<bool> {
        let Some(file) = &self.file else {
            return Ok(false);
        };
        let length = file.metadata()?.len();
        let mut bytes = vec![0; length.saturating_sub(self.offset).min(TAKE) as usize];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], self.offset + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        if self.head.len() < HEAD && self.offset == self.head.len() as u64 {
            let more = (HEAD - self.head.len()).min(filled);
            self.head.extend_from_slice(&bytes[..more]);
        }
        let used = match &mut self.reader {
            Reader::Log(parser) => {
                parser.feed(&bytes, &mut |line| lines.push(line));
                filled
            }
            Reader::TensorBoard {
                is_broken: true, ..
            } => filled,
            // An image or a histogram that is larger than what is read at a time: it holds no scalar that would be drawn.
            Reader::TensorBoard { .. } if filled as u64 == TAKE && frame(&bytes) > TAKE => {
                let skipped = frame(&bytes);
                if skipped > length - self.offset {
                    return Ok(false);
                }
                self.offset += skipped;
                found.bytes += skipped;
                return Ok(self.offset < length);
            }
            Reader::TensorBoard { steps, is_broken } => match tensorboard::decode(&bytes) {
                Ok((scalars, used)) => {
                    for scalar in &scalars {
                        steps.take(scalar, &mut |line| lines.push(line));
                    }
                    used
                }
                Err(error) => {
                    *is_broken = true;
                    let note = format!(
                        "{} is read no further: {error}, counted from byte {}",
                        self.path.display(),
                        self.offset
                    );
                    found.notes.push(("event_file_broken", note));
                    filled
                }
            },
        };
        self.offset += used as u64;
        found.bytes += used as u64;
        Ok(used > 0 && self.offset < length)
    }
}

/// Bytes of the frame that begins here.
fn frame(bytes: &[u8]) -> u64 {
    tensorboard::frame_bytes(bytes).unwrap_or(0)
}

/// Logs and event files at a path, each by name.
fn walk(root: &Path) -> io::Result<(Vec<PathBuf>, Vec<PathBuf>)> {
    let is_board = |path: &Path| name(path).contains("tfevents");
    if !fs::metadata(root)?.is_dir() {
        let one = vec![root.to_owned()];
        return Ok(if is_board(root) {
            (vec![], one)
        } else {
            (one, vec![])
        });
    }
    let (mut logs, mut boards) = (vec![], vec![]);
    let mut folders = vec![(root.to_owned(), 0)];
    while let Some((folder, depth)) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if depth == 0 => return Err(error),
            Err(_) => continue,
        };
        for path in entries.filter_map(|e| Some(e.ok()?.path())) {
            let name = name(&path);
            if name.starts_with('.') {
                continue;
            }
            if path.is_dir() {
                // Checkpoints hold no logs and very many files.
                if depth < DEPTH && !name.starts_with("iter_") {
                    folders.push((path, depth + 1));
                }
            } else if is_board(&path) {
                boards.push(path);
            } else if is_log(&name) {
                logs.push(path);
            }
        }
    }
    logs.sort();
    boards.sort();
    logs.truncate(FILES);
    boards.truncate(FILES);
    Ok((logs, boards))
}

fn name(path: &Path) -> String {
    path.file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}

fn is_log(name: &str) -> bool {
    let lower = name.to_lowercase();
    let end = lower.rsplit('.').next().unwrap_or_default();
    matches!(end, "out" | "err" | "log" | "txt" | "stdout" | "stderr")
        && ![
            "progress.txt",
            "latest_checkpointed_iteration.txt",
            "requirements.txt",
        ]
        .contains(&lower.as_str())
        || lower.starts_with("slurm-")
}

/// Whether the beginning of a file says something about a run.
fn speaks(path: &Path) -> bool {
    let mut bytes = vec![0; 1 << 20];
    let count = File::open(path)
        .and_then(|f| f.read_at(&mut bytes, 0))
        .unwrap_or(0);
    let mut any = false;
    Parser::default().feed(&bytes[..count], &mut |_| any = true);
    any
}
