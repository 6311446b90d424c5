//! Whether another program still writes what a watched run repeats.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::directory;
use crate::event::{Event, Record, Watched, layout, parse_line};

/// Files that were silent for so long have nobody who writes to them.
const SILENT: Duration = Duration::from_mins(20);
/// Silences between two steps that are waited for.
const PATIENCE: u32 = 3;
/// At most this is waited.
const LONGEST: Duration = Duration::from_hours(24);
/// Files that moved later than what was made of them have something new.
const LATER: Duration = Duration::from_secs(2);
/// Bytes at the end of the events that are looked at.
const END: u64 = 64 << 10;

/// How long the files of a run may be silent that tells a step every `gap` milliseconds, before it counts as stale.
pub fn patience(gap_ms: i64) -> Duration {
    let gap = Duration::from_millis(gap_ms.max(0) as u64);
    gap.saturating_mul(PATIENCE).clamp(SILENT, LONGEST)
}

/// What a run is watched at; `None` for a run that trains here.
pub fn watched(run: &Path) -> Option<Watched> {
    if !run.join(layout::MIRROR).exists() {
        return None;
    }
    directory::open(run).ok()?.info.watched
}

/// Whether the files of a watched run say more than was read of them, which someone may then follow.
pub fn has_news(run: &Path, watched: &Watched) -> bool {
    let of_events = modified(&run.join(layout::EVENTS));
    newest(watched)
        .zip(of_events)
        .is_some_and(|(files, events)| files > events + LATER)
}

/// Whether a watched run seems to live: its files moved lately, and what was read of them does not end with an end.
pub(super) fn moves(run: &Path, watched: &Watched) -> bool {
    let Some(newest) = newest(watched) else {
        return false;
    };
    let silence = SystemTime::now().duration_since(newest).unwrap_or_default();
    if silence <= SILENT && has_news(run, watched) {
        return true;
    }
    let records = last_records(run);
    let is_over = records
        .iter()
        .rev()
        .find_map(|record| match record.event {
            Event::Finished { .. } | Event::Failed { .. } => Some(true),
            Event::Started { .. } | Event::Step(_) => Some(false),
            _ => None,
        })
        .unwrap_or(false);
    let mut times = records
        .iter()
        .rev()
        .filter(|record| matches!(record.event, Event::Step(_)))
        .map(|record| record.time_ms);
    let gap = times.next().zip(times.next()).map_or(0, |(b, a)| b - a);
    !is_over && silence <= patience(gap)
}

/// When any of the files was last written to.
fn newest(watched: &Watched) -> Option<SystemTime> {
    watched.files.iter().filter_map(|f| modified(f)).max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}

/// The records at the end of the events, oldest first.
fn last_records(run: &Path) -> Vec<Record> {
    let read = || {
        let file = File::open(run.join(layout::EVENTS)).ok()?;
        let length = file.metadata().ok()?.len();
        let mut bytes = vec![0; length.min(END) as usize];
        let from = length - bytes.len() as u64;
        file.read_exact_at(&mut bytes, from).ok()?;
        Some(bytes)
    };
    let bytes = read().unwrap_or_default();
    // The first line may be cut; the end of the last one has not come if it has no newline.
    String::from_utf8_lossy(&bytes)
        .lines()
        .filter_map(|line| parse_line(line).ok())
        .collect()
}
