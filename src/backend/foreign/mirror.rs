//! A run directory in the user's cache that says what a foreign run says.
//!
//! `events.jsonl` is made anew each time the run is opened and grows while it is followed; deleting the folder loses nothing. One process at a
//! time writes to it: others read. `lock` is held while the foreign run seems to live, so that lists show it as running.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;

use super::merge::merge;
use super::source::{Kind, Sources};
use super::translate::{Options, Translator};
use super::{ForeignError, Line};
use crate::event::{Event, Record, RunInfo, StepRecord, Watched, layout};
use crate::run;
use crate::{plan, recipe};

/// After so long without a word, what was said last counts as the end.
const QUIET: Duration = Duration::from_secs(5);
/// Between looks for new files.
const LOOK: Duration = Duration::from_secs(2);
/// Records that one thread writes at a time.
const CHUNK: usize = 4096;
/// Lines whose events are written at once.
const STRETCH: usize = 16 * CHUNK;
/// Files that `run.json` names; of more those written to last.
const NAMED: usize = 16;
/// A log whose steps take so many times as long as before is said to be stalled, if it is silent for at least so long.
const STALL: (i64, Duration) = (5, Duration::from_mins(2));

/// A foreign run and the run directory made of it.
#[derive(Debug)]
pub struct Mirror {
    folder: PathBuf,
    sources: Sources,
    translator: Translator,
    /// The events; `None` where another process writes them.
    events: Option<File>,
    /// Held while this writes.
    _writer: Option<File>,
    /// Held while the run seems to live.
    live: Option<File>,
    heard: Instant,
    looked: Instant,
    /// That the log stalled was said and nothing came since.
    is_stalled: bool,
}

/// What a look at the sources brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct News {
    /// Events that were added.
    pub records: usize,
    /// Bytes that were read.
    pub bytes: u64,
}

impl Mirror {
    /// Opens the run at `path` and makes its directory in `cache`.
    pub fn open(path: &Path, cache: &Path, options: Options) -> Result<Self, ForeignError> {
        let root = fs::canonicalize(path).map_err(io("read", path))?;
        let folder = cache.join(id(&root));
        Self::begin(path, folder, options, Some(&root))
    }

    /// Opens a run that was launched from here: what its console says becomes its own `events.jsonl`. What the console does not say, its recipe does.
    pub fn of_run(run: &Path) -> Result<Self, ForeignError> {
        let path = run.join(layout::RECIPE);
        let loaded = recipe::load(&path, &[], &|path| fs::read_to_string(path));
        let of_bridge = loaded.megatron.as_ref();
        let seq_length = of_bridge
            .map(|recipe| recipe.batch.seq_length)
            .or_else(|| loaded.recipe.as_ref().map(|own| own.train.seq_length));
        let machine = of_bridge.and_then(|recipe| recipe.text("megatron.hardware"));
        let options = Options {
            seq_length: seq_length.map(|length| length as u64),
            peak_tflops: machine
                .and_then(plan::machine::machine)
                .map(|machine| machine.peak_bf16_tflops),
            ..Options::default()
        };
        Self::begin(&run.join(layout::CONSOLE), run.to_owned(), options, None)
    }

    /// Reads the source at `path` into `folder`, which is described as a run made of `root` unless it is one already.
    fn begin(
        path: &Path,
        folder: PathBuf,
        options: Options,
        root: Option<&Path>,
    ) -> Result<Self, ForeignError> {
        let sources = Sources::find(path)?;
        fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        let writer = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(folder.join(layout::MIRROR))
            .map_err(io("open", &folder))?;
        let is_ours = !matches!(writer.try_lock(), Err(TryLockError::WouldBlock));
        let kept = options.clone();
        let options = match sources.kind() {
            Kind::Log => options,
            // Event files hold absolute times.
            Kind::TensorBoard => Options {
                utc_offset_minutes: 0,
                ..options
            },
        };
        let mut mirror = Self {
            folder,
            sources,
            translator: Translator::new(options),
            events: None,
            _writer: is_ours.then_some(writer),
            live: None,
            heard: Instant::now(),
            looked: Instant::now(),
            is_stalled: false,
        };
        if is_ours {
            if let Some(root) = root {
                mirror.describe(root, &kept)?;
            }
            mirror.build()?;
        }
        Ok(mirror)
    }

    /// Opens a run that was watched before, from what its directory in `cache` says of it.
    pub fn reopen(watched: &Watched, cache: &Path) -> Result<Self, ForeignError> {
        let options = Options {
            seq_length: watched.seq_length,
            utc_offset_minutes: watched.utc_offset_minutes,
            peak_tflops: watched.peak_gflops.map(|peak| peak as f64 / 1000.0),
            ..Options::default()
        };
        Self::open(&watched.path, cache, options)
    }

    /// The run directory.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The files that are read.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Whether this process writes the directory; else another one does.
    pub fn is_writer(&self) -> bool {
        self.events.is_some()
    }

    /// Whether the run said that it ended, or nobody writes to it any more.
    pub fn is_over(&self) -> bool {
        self.translator.is_over() || self.is_silent()
    }

    fn is_silent(&self) -> bool {
        let age = self
            .sources
            .modified()
            .and_then(|m| SystemTime::now().duration_since(m).ok());
        age.is_some_and(|age| age > run::patience(self.translator.gap_ms()))
    }

    /// Says once that a log which told a step every few seconds has told none for many times as long.
    fn watch_for_a_stall(&mut self) -> bool {
        let gap = self.translator.gap_ms();
        let usual = Duration::from_millis(gap.max(0) as u64);
        let limit = usual.saturating_mul(STALL.0 as u32).max(STALL.1);
        let silence = self.heard.elapsed();
        if self.is_stalled || gap <= 0 || self.translator.is_over() || silence < limit {
            return false;
        }
        self.is_stalled = true;
        let seconds = silence.as_secs();
        let usual = usual.as_secs_f64();
        self.translator.note(
            "stalled",
            format!("nothing was said for {seconds} s, where a step was told every {usual:.0} s"),
        );
        true
    }

    /// Reads all there is and writes the directory.
    fn build(&mut self) -> Result<(), ForeignError> {
        let temporary = self.folder.join("events.jsonl.new");
        self.events = Some(File::create(&temporary).map_err(io("create", &temporary))?);
        if self.sources.paths().count() == 1 {
            loop {
                let found = self.sources.poll();
                let more = found.more;
                self.add(found.lines, found.notes)?;
                if !more {
                    break;
                }
            }
        } else {
            // Times tell the order of files only when all of each is there.
            let (mut lines, mut notes) = (Vec::<Vec<Line>>::new(), vec![]);
            loop {
                let found = self.sources.poll();
                notes.extend(found.notes);
                lines.resize_with(found.lines.len(), Vec::new);
                for (all, new) in lines.iter_mut().zip(found.lines) {
                    all.extend(new);
                }
                if !found.more {
                    break;
                }
            }
            // A file that another one follows has no open step.
            let ends = self.sources.settle_all_but_last();
            for (all, end) in lines.iter_mut().zip(ends) {
                all.extend(end);
            }
            self.add(lines, notes)?;
        }
        let quiet = self
            .sources
            .modified()
            .and_then(|m| SystemTime::now().duration_since(m).ok());
        if quiet.is_some_and(|q| q > QUIET) {
            let limit = run::patience(self.translator.gap_ms());
            self.settle(quiet.is_some_and(|q| q > limit))?;
        }
        let events = self.folder.join(layout::EVENTS);
        fs::rename(&temporary, &events).map_err(io("rename", &temporary))?;
        self.hold();
        Ok(())
    }

    /// Takes lines and writes what they mean.
    fn add(
        &mut self,
        mut files: Vec<Vec<Line>>,
        notes: Vec<(&'static str, String)>,
    ) -> Result<usize, ForeignError> {
        for (code, message) in notes {
            self.translator.note(code, message);
        }
        if files.len() == 1 {
            return self.tell(files.remove(0).into_iter());
        }
        let names = self
            .sources
            .paths()
            .map(|p| p.to_string_lossy().into_owned());
        let files = names.zip(files).collect();
        self.tell(merge(files))
    }

    /// Writes what lines mean, a stretch at a time, so that events of a long run are never held all at once.
    fn tell(&mut self, mut lines: impl Iterator<Item = Line>) -> Result<usize, ForeignError> {
        let mut count = 0;
        loop {
            let mut taken = 0;
            for line in lines.by_ref().take(STRETCH) {
                self.translator.take(line);
                taken += 1;
            }
            count += self.write()?;
            if taken < STRETCH {
                return Ok(count);
            }
        }
    }

    fn write(&mut self) -> Result<usize, ForeignError> {
        let records = self.translator.drain();
        let Some(events) = &mut self.events else {
            return Ok(0);
        };
        let texts: Vec<Vec<u8>> = records.par_chunks(CHUNK).map(text).collect();
        for text in texts {
            events.write_all(&text).map_err(io("write", &self.folder))?;
        }
        Ok(records.len())
    }

    /// Looks for something new.
    pub fn poll(&mut self) -> Result<News, ForeignError> {
        if self.events.is_none() {
            return Ok(News::default());
        }
        if self.looked.elapsed() > LOOK {
            self.looked = Instant::now();
            if self.sources.look() {
                self.name_files();
            }
        }
        let mut news = News::default();
        loop {
            let found = self.sources.poll();
            news.bytes += found.bytes;
            let more = found.more;
            news.records += self.add(found.lines, found.notes)?;
            if !more {
                break;
            }
        }
        if news.bytes > 0 {
            self.heard = Instant::now();
            self.is_stalled = false;
        } else if self.heard.elapsed() > QUIET {
            news.records += self.settle(false)?;
            if self.watch_for_a_stall() {
                news.records += self.write()?;
            }
        }
        self.hold();
        Ok(news)
    }

    /// Nothing follows for now, or at all: tells what waited and the end if there was one.
    pub fn settle(&mut self, nothing_follows: bool) -> Result<usize, ForeignError> {
        let lines = self.sources.settle(nothing_follows);
        let count = self.add(lines, vec![])?;
        self.translator.settle();
        Ok(count + self.write()?)
    }

    /// Holds the lock exactly while the run seems to live.
    fn hold(&mut self) {
        let lives = !self.is_over();
        if lives && self.live.is_none() {
            let path = self.folder.join(layout::LOCK);
            let file = OpenOptions::new()
                .create(true)
                .truncate(false)
                .write(true)
                .open(path);
            self.live = file.ok().filter(|f| f.try_lock().is_ok());
        } else if !lives {
            self.live = None;
        }
    }

    /// Writes which files are read into `run.json`; a reader without them takes the run for stale too early.
    fn name_files(&self) {
        if let Ok(mut run) = run::open(&self.folder)
            && let Some(watched) = &mut run.info.watched
        {
            watched.files = self.sources.latest(NAMED);
            if let Ok(json) = serde_json::to_string_pretty(&run.info) {
                let _ = fs::write(self.folder.join(layout::RUN), json + "\n");
            }
        }
    }

    /// The tags that the user gave the run, or the first one.
    fn tags(&self) -> Vec<String> {
        let before = run::open(&self.folder).map(|run| run.info.tags);
        before.unwrap_or_else(|_| vec!["watched".to_owned()])
    }

    /// Writes what makes the folder a run.
    fn describe(&self, root: &Path, options: &Options) -> Result<(), ForeignError> {
        let created = self
            .sources
            .modified()
            .and_then(|m| m.duration_since(UNIX_EPOCH).ok());
        let info = RunInfo {
            id: id(root),
            name: root.display().to_string(),
            created_ms: created.map_or(0, |d| d.as_millis() as i64),
            tags: self.tags(),
            program: format!("trestle {}", env!("CARGO_PKG_VERSION")),
            watched: Some(Watched {
                path: root.to_owned(),
                files: self.sources.latest(NAMED),
                seq_length: options.seq_length,
                utc_offset_minutes: options.utc_offset_minutes,
                peak_gflops: options.peak_tflops.map(|peak| (peak * 1000.0) as u64),
            }),
            ..RunInfo::default()
        };
        let json = serde_json::to_string_pretty(&info)
            .map_err(std::io::Error::from)
            .map_err(io("describe", &self.folder))?
            + "\n";
        let about = format!(
            "# Watched from {}; its recipe is not known.\n",
            root.display()
        );
        for (name, text) in [
            (layout::RECIPE, about.as_str()),
            (layout::CONTROL, ""),
            (layout::RUN, json.as_str()),
        ] {
            let path = self.folder.join(name);
            fs::write(&path, text).map_err(io("write", &path))?;
        }
        // The log itself is the console; of several files the longest.
        if self.sources.kind() == Kind::Log {
            let longest = self
                .sources
                .paths()
                .max_by_key(|p| fs::metadata(p).map_or(0, |m| m.len()));
            let console = self.folder.join(layout::CONSOLE);
            let _ = fs::remove_file(&console);
            if let Some(longest) = longest {
                // Without it the Logs screen shows events only.
                let _ = std::os::unix::fs::symlink(longest, console);
            }
        }
        Ok(())
    }
}

/// Name of the run directory of the source at `root`: the same for the same path.
fn id(root: &Path) -> String {
    let name = root.file_name().unwrap_or_default().to_string_lossy();
    let plain: String = name
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
                c
            } else {
                '-'
            }
        })
        .take(40)
        .collect();
    let hash = blake3::hash(root.as_os_str().as_encoded_bytes()).to_hex();
    let plain = plain.trim_matches(['-', '.']);
    format!(
        "{}-{}",
        if plain.is_empty() { "run" } else { plain },
        &hash[..6]
    )
}

fn io<'a>(action: &'static str, path: &'a Path) -> impl Fn(std::io::Error) -> ForeignError + 'a {
    move |source| ForeignError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}

/// Records as lines.
fn text(records: &[Record]) -> Vec<u8> {
    let mut out = Vec::with_capacity(records.len() * 256);
    for record in records {
        match &record.event {
            Event::Step(step) if step.parts.is_empty() && step.memory.is_none() => {
                plain_step(&mut out, record, step);
            }
            _ => out.extend_from_slice(record.to_line().as_bytes()),
        }
    }
    out
}

/// A step line without the fields that a log never has.
fn plain_step(out: &mut Vec<u8>, record: &Record, step: &StepRecord) {
    let head = (record.v, record.seq, record.time_ms, step.step, step.tokens);
    let _ = write!(
        out,
        r#"{{"v":{},"seq":{},"time_ms":{},"type":"step","step":{},"tokens":{},"loss":"#,
        head.0, head.1, head.2, head.3, head.4
    );
    number(out, step.loss);
    out.extend_from_slice(b",\"mtp\":[");
    for (i, depth) in step.mtp.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        out.extend_from_slice(b"{\"loss\":");
        number(out, depth.loss);
        let _ = write!(
            out,
            r#","correct":{},"total":{}}}"#,
            depth.correct, depth.total
        );
    }
    out.push(b']');
    for (name, value) in [
        (",\"grad_norm\":", step.grad_norm),
        (",\"lr\":", step.lr),
        (",\"step_seconds\":", step.step_seconds),
        (",\"tokens_per_second\":", step.tokens_per_second),
    ] {
        out.extend_from_slice(name.as_bytes());
        number(out, value);
    }
    if step.mfu != 0.0 {
        out.extend_from_slice(b",\"mfu\":");
        number(out, step.mfu);
    }
    if step.peak > 0 || step.allocated > 0 {
        let _ = write!(
            out,
            r#","allocated":{},"peak":{}"#,
            step.allocated, step.peak
        );
    }
    if !step.extra.is_empty() {
        out.extend_from_slice(b",\"extra\":{");
        for (i, (name, &value)) in step.extra.iter().enumerate() {
            if i > 0 {
                out.push(b',');
            }
            // Names come from a log and may hold what JSON escapes.
            let _ = serde_json::to_writer(&mut *out, name);
            out.push(b':');
            number(out, value);
        }
        out.push(b'}');
    }
    if step.skipped {
        out.extend_from_slice(b",\"skipped\":true");
    }
    out.extend_from_slice(b"}\n");
}

/// A number as JSON; one that is not finite is `null`.
fn number(out: &mut Vec<u8>, value: f64) {
    if !value.is_finite() || serde_json::to_writer(&mut *out, &value).is_err() {
        out.extend_from_slice(b"null");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{DepthStep, parse_line};

    #[test]
    fn a_plain_step_reads_as_what_it_was() {
        let step = StepRecord {
            step: 10,
            tokens: 1 << 40,
            loss: 2.5,
            mtp: vec![
                DepthStep {
                    loss: f64::INFINITY,
                    ..DepthStep::default()
                },
                DepthStep {
                    loss: 3.25,
                    ..DepthStep::default()
                },
            ],
            grad_norm: f64::NAN,
            lr: 1e-7,
            step_seconds: 2.0,
            tokens_per_second: f64::NAN,
            mfu: 0.4,
            peak: 5,
            skipped: true,
            extra: [("z_loss", 0.5), ("a \"task\"\u{7}", f64::NAN)]
                .map(|(name, value)| (name.to_owned(), value))
                .into(),
            ..StepRecord::default()
        };
        let record = Record {
            v: 1,
            seq: 3,
            time_ms: -5,
            event: Event::Step(Box::new(step)),
        };
        let line = String::from_utf8(text(std::slice::from_ref(&record))).expect("ASCII");
        let read = parse_line(&line).expect("a record");
        // NaN differs from itself, so the lines are compared.
        assert_eq!(read.to_line(), record.to_line());
    }
}
