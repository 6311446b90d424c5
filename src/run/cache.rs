//! The columns of a history in a file that is mapped, so that a long run opens without reading its events again.
//!
//! ```text
//! "TRSTHIS3"  length of the header (u64)  header (JSON, padded to 8)
//! for each table: step, tokens, time [rows] u64 each, then every column [its values] f32, padded to 8
//! ```
//! Little endian. The file is written beside and renamed, never changed in place; it may be deleted at any time.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytemuck::Pod;
use memmap2::Mmap;
use serde::{Deserialize, Serialize};

use super::History;
use super::history::Abandoned;
use super::series::{Table, Values};
use crate::event::{Record, layout};

const MAGIC: &[u8; 8] = b"TRSTHIS3";
/// Rows below which reading the events is as fast.
const FEW: usize = 5_000;
/// Bytes at either end of what was read that must be unchanged.
const SAMPLE: u64 = 4096;

/// What the file says about itself.
#[derive(Serialize, Deserialize)]
struct Header {
    inode: u64,
    offset: u64,
    fingerprint: u64,
    bad_lines: usize,
    segment: u32,
    /// Rows of training, evaluation, and each abandoned stretch, and how many values each column has.
    tables: Vec<(usize, Vec<usize>)>,
    /// Segment of each abandoned stretch.
    abandoned: Vec<u32>,
    /// All events but steps, a line each.
    events: String,
}

fn path(run: &Path) -> PathBuf {
    run.join(layout::CACHE).join("history")
}

/// Whether so much is new that the file should be written again.
pub(super) fn pays(history: &History) -> bool {
    let grown = history.train.grown();
    grown >= FEW && grown >= history.train.rows() / 8
}

/// Writes the file; says whether that worked. A folder that cannot be written just has no cache.
pub(super) fn store(run: &Path, events: &File, history: &History) -> bool {
    let path = path(run);
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    let _ = fs::create_dir(run.join(layout::CACHE));
    let done = write(&temporary, events, history).and_then(|()| fs::rename(&temporary, &path));
    if done.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    done.is_ok()
}

fn write(path: &Path, events: &File, history: &History) -> std::io::Result<()> {
    let abandoned = history.abandoned.iter().map(|a| &a.steps);
    let tables: Vec<&Table> = [&history.train, &history.eval]
        .into_iter()
        .chain(abandoned)
        .collect();
    let header = Header {
        inode: history.inode,
        offset: history.offset,
        fingerprint: fingerprint(events, history.offset)?,
        bad_lines: history.bad_lines,
        segment: history.segment,
        tables: tables
            .iter()
            .map(|t| (t.rows(), t.columns().map(Values::len).collect()))
            .collect(),
        abandoned: history.abandoned.iter().map(|a| a.segment).collect(),
        events: history.events.iter().map(Record::to_line).collect(),
    };
    let mut json = serde_json::to_vec(&header)?;
    json.resize(json.len().next_multiple_of(8), b' ');
    let mut out = BufWriter::with_capacity(1 << 20, File::create(path)?);
    out.write_all(MAGIC)?;
    out.write_all(&(json.len() as u64).to_le_bytes())?;
    out.write_all(&json)?;
    for table in tables {
        put(&mut out, &table.step)?;
        put(&mut out, &table.tokens)?;
        put(&mut out, &table.time_ms)?;
        for column in table.columns() {
            put(&mut out, column)?;
        }
    }
    out.flush()
}

fn put<T: Pod>(out: &mut impl Write, values: &Values<T>) -> std::io::Result<()> {
    let (mapped, grown) = values.parts();
    out.write_all(bytemuck::cast_slice(mapped))?;
    out.write_all(bytemuck::cast_slice(grown))?;
    let bytes = values.len() * size_of::<T>();
    out.write_all(&[0; 8][..bytes.next_multiple_of(8) - bytes])
}

/// A number that changes when the file's first `offset` bytes were replaced.
fn fingerprint(events: &File, offset: u64) -> std::io::Result<u64> {
    let mut sample = vec![0; offset.min(SAMPLE) as usize];
    events.read_exact_at(&mut sample, 0)?;
    let first = crc32c::crc32c(&sample);
    let last = offset - sample.len() as u64;
    events.read_exact_at(&mut sample, last)?;
    Ok(u64::from(first) << 32 | u64::from(crc32c::crc32c(&sample)))
}

/// The history of the file, if there is one that belongs to `events`.
pub(super) fn load(run: &Path, events: &File) -> Option<History> {
    let file = File::open(path(run)).ok()?;
    #[expect(unsafe_code, reason = "mapping a file is unsafe by nature")]
    // SAFETY: the file is made complete under another name and then renamed; nobody writes to it or shortens it afterwards.
    let map = Arc::new(unsafe { Mmap::map(&file) }.ok()?);
    if map.get(..8)? != MAGIC {
        return None;
    }
    let length = u64::from_le_bytes(map.get(8..16)?.try_into().ok()?) as usize;
    let json = map.get(16..length.checked_add(16)?)?;
    let header: Header = serde_json::from_slice(json).ok()?;
    let metadata = events.metadata().ok()?;
    let belongs = header.inode == metadata.ino()
        && header.offset <= metadata.len()
        && header.fingerprint == fingerprint(events, header.offset).ok()?;
    if !belongs || header.tables.len() != 2 + header.abandoned.len() {
        return None;
    }
    let mut at = 16 + length;
    let mut tables = Vec::with_capacity(header.tables.len());
    for (rows, columns) in &header.tables {
        let rows = *rows;
        let step = get(&map, &mut at, rows)?;
        let tokens = get(&map, &mut at, rows)?;
        let time_ms = get(&map, &mut at, rows)?;
        let columns: Option<Vec<_>> = columns.iter().map(|&c| get(&map, &mut at, c)).collect();
        tables.push(Table::of(step, tokens, time_ms, columns?)?);
    }
    let records: Result<Vec<Record>, _> = header
        .events
        .lines()
        .map(crate::event::parse_line)
        .collect();
    let mut tables = tables.into_iter();
    Some(History {
        train: tables.next()?,
        eval: tables.next()?,
        abandoned: header
            .abandoned
            .into_iter()
            .zip(tables)
            .map(|(segment, steps)| Abandoned { segment, steps })
            .collect(),
        events: records.ok()?,
        bad_lines: header.bad_lines,
        segment: header.segment,
        offset: header.offset,
        inode: header.inode,
    })
}

fn get<T: Pod>(map: &Arc<Mmap>, at: &mut usize, rows: usize) -> Option<Values<T>> {
    let values = Values::mapped(map, *at, rows)?;
    *at += (rows * size_of::<T>()).next_multiple_of(8);
    Some(values)
}
