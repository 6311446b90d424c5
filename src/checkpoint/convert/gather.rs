//! Rows of a tensor to be made, out of the files that have them.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use super::cast::{cast, is_copy};
use crate::base::DType;
use crate::checkpoint::files::{expect_open, failed};
use crate::checkpoint::{CheckpointError, Extent, StoredTensor};
use crate::mapping::Move;

/// The input's files, open, and the tensors in them.
#[derive(Debug)]
pub(in crate::checkpoint) struct Files {
    paths: Vec<PathBuf>,
    files: Vec<File>,
}

impl Files {
    /// Opens the files for reading.
    pub(in crate::checkpoint) fn open(paths: &[PathBuf]) -> Result<Self, CheckpointError> {
        expect_open(paths.len());
        let files = paths
            .iter()
            .map(|path| File::open(path).map_err(failed("read", path)))
            .collect::<Result<_, _>>()?;
        Ok(Self {
            paths: paths.to_vec(),
            files,
        })
    }

    fn read(&self, file: usize, offset: u64, out: &mut [u8]) -> Result<(), CheckpointError> {
        self.files[file]
            .read_exact_at(out, offset)
            .map_err(failed("read", &self.paths[file]))
    }
}

/// A tensor of the input, ready for reading parts of it.
#[derive(Debug)]
pub(in crate::checkpoint) struct Input {
    dtype: DType,
    /// By first row.
    extents: Vec<Extent>,
    /// The largest last row of the extents up to each.
    ends: Vec<usize>,
}

impl Input {
    pub(in crate::checkpoint) fn new(tensor: &StoredTensor) -> Self {
        let mut extents = tensor.extents.clone();
        extents.sort_by_key(|extent| (extent.rows.start, extent.cols.start));
        let ends = extents
            .iter()
            .scan(0, |end, extent| {
                *end = extent.rows.end.max(*end);
                Some(*end)
            })
            .collect();
        Self {
            dtype: tensor.dtype,
            extents,
            ends,
        }
    }

    /// Reads a rectangle into rows of `pitch` bytes, the first one at the start of `out`.
    pub(in crate::checkpoint) fn read(
        &self,
        files: &Files,
        rows: Range<usize>,
        cols: Range<usize>,
        out: &mut [u8],
        pitch: usize,
    ) -> Result<(), CheckpointError> {
        let size = self.dtype.size() as usize;
        let first = self.ends.partition_point(|&end| end <= rows.start);
        for extent in &self.extents[first..] {
            if extent.rows.start >= rows.end {
                break;
            }
            let r = extent.rows.start.max(rows.start)..extent.rows.end.min(rows.end);
            let c = extent.cols.start.max(cols.start)..extent.cols.end.min(cols.end);
            if r.is_empty() || c.is_empty() {
                continue;
            }
            let width = extent.cols.len() * size;
            let at = |row: usize, col: usize| {
                let skipped = (row - extent.rows.start) * width;
                extent.offset + (skipped + (col - extent.cols.start) * size) as u64
            };
            let to = (r.start - rows.start) * pitch + (c.start - cols.start) * size;
            let bytes = c.len() * size;
            if bytes == width && bytes == pitch {
                let target = &mut out[to..to + r.len() * bytes];
                files.read(extent.file, at(r.start, c.start), target)?;
            } else if bytes >= NARROW || r.len() == 1 {
                for (i, row) in r.enumerate() {
                    let target = &mut out[to + i * pitch..to + i * pitch + bytes];
                    files.read(extent.file, at(row, c.start), target)?;
                }
            } else {
                // Many short pieces cost more as calls than as bytes.
                let per_turn = (BAND / width.max(1)).max(1);
                let skip = (c.start - extent.cols.start) * size;
                let mut band = vec![0; per_turn.min(r.len()) * width];
                let mut row = r.start;
                while row < r.end {
                    let count = per_turn.min(r.end - row);
                    let band = &mut band[..count * width];
                    files.read(extent.file, at(row, extent.cols.start), band)?;
                    for (i, line) in band.chunks_exact(width).enumerate() {
                        let to = to + (row - r.start + i) * pitch;
                        out[to..to + bytes].copy_from_slice(&line[skip..skip + bytes]);
                    }
                    row += count;
                }
            }
        }
        Ok(())
    }
}

/// Rows of fewer bytes than this are read with what lies between them.
const NARROW: usize = 1 << 10;
/// Bytes of such a read.
const BAND: usize = 1 << 20;

/// Writes rows `rows` of a tensor of `cols` columns, made by `moves`, to `out`; what no move makes is zero.
///
/// The moves are in the order of their first row.
pub(in crate::checkpoint) fn gather(
    files: &Files,
    inputs: &[Option<Input>],
    moves: &[Move],
    rows: &Range<usize>,
    (cols, dtype): (usize, DType),
    out: &mut [u8],
) -> Result<(), CheckpointError> {
    let size = dtype.size() as usize;
    let pitch = cols * size;
    if !is_filled(moves, rows, cols) {
        out.fill(0);
    }
    let mut scratch = Vec::new();
    for part in moves {
        let (height, width) = part.size;
        let r = part.to.0.max(rows.start)..(part.to.0 + height).min(rows.end);
        if part.to.0 >= rows.end {
            break;
        }
        if r.is_empty() {
            continue;
        }
        let Some(input) = &inputs[part.input as usize] else {
            continue;
        };
        let down = r.start - part.to.0;
        let to = (r.start - rows.start) * pitch + part.to.1 * size;
        if !part.transposed && is_copy(input.dtype, dtype, part.shift) {
            let from = part.from.0 + down..part.from.0 + down + r.len();
            let columns = part.from.1..part.from.1 + width;
            input.read(files, from, columns, &mut out[to..], pitch)?;
            continue;
        }
        let from_size = input.dtype.size() as usize;
        scratch.clear();
        scratch.resize(r.len() * width * from_size, 0);
        if part.transposed {
            // Column `down` onward of the input are rows of the output.
            let mut mirror = vec![0; scratch.len()];
            let from = part.from.0..part.from.0 + width;
            let columns = part.from.1 + down..part.from.1 + down + r.len();
            input.read(files, from, columns, &mut mirror, r.len() * from_size)?;
            for i in 0..r.len() {
                for j in 0..width {
                    let (a, b) = ((j * r.len() + i) * from_size, (i * width + j) * from_size);
                    scratch[b..b + from_size].copy_from_slice(&mirror[a..a + from_size]);
                }
            }
        } else {
            let from = part.from.0 + down..part.from.0 + down + r.len();
            let columns = part.from.1..part.from.1 + width;
            input.read(files, from, columns, &mut scratch, width * from_size)?;
        }
        for (i, line) in scratch.chunks_exact(width * from_size).enumerate() {
            let target = &mut out[to + i * pitch..to + i * pitch + width * size];
            cast(input.dtype, line, dtype, target, part.shift);
        }
    }
    Ok(())
}

/// Whether the moves write every scalar of the rows.
fn is_filled(moves: &[Move], rows: &Range<usize>, cols: usize) -> bool {
    let area: usize = moves
        .iter()
        .map(|part| {
            let end = (part.to.0 + part.size.0).min(rows.end);
            end.saturating_sub(part.to.0.max(rows.start)) * part.size.1
        })
        .sum();
    area == rows.len() * cols
}
