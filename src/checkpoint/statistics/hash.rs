//! BLAKE3 of a tensor's bytes, the same in whatever pieces a format keeps them.

use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

use super::blocks::{BLOCK, Block, Source, cut};
use crate::checkpoint::{CheckpointError, Extent, StoredTensor, matrix};

/// BLAKE3 (hex) of a tensor's scalars in row-major order, little-endian. Nothing if `cancel` became true meanwhile.
///
/// # Errors
/// When a file cannot be read, or has become shorter.
pub fn hash(
    files: &[PathBuf],
    tensor: &StoredTensor,
    cancel: &AtomicBool,
) -> Result<Option<String>, CheckpointError> {
    let source = Source::open(files, tensor, cancel)?;
    let mut hasher = blake3::Hasher::new();
    let (_, cols) = matrix(&tensor.shape);
    let mut bounds: Vec<usize> = tensor
        .extents
        .iter()
        .flat_map(|e| [e.rows.start, e.rows.end])
        .collect();
    bounds.sort_unstable();
    bounds.dedup();
    let mut waiting: Vec<&Extent> = tensor
        .extents
        .iter()
        .filter(|e| !e.rows.is_empty() && !e.cols.is_empty())
        .collect();
    waiting.sort_by_key(|e| std::cmp::Reverse(e.rows.start));
    let mut beside: Vec<&Extent> = Vec::new();
    let mut buffer = Vec::new();
    for band in bounds.windows(2) {
        let (first, end) = (band[0], band[1]);
        beside.retain(|e| e.rows.end > first);
        while let Some(extent) = waiting.pop_if(|e| e.rows.start <= first) {
            beside.push(extent);
        }
        beside.sort_by_key(|e| e.cols.start);
        if let [extent] = beside[..] {
            let row = cols as u64 * tensor.dtype.size();
            let start = extent.rows.start as u64;
            for block in cut(
                extent,
                (first as u64 - start) * row,
                (end as u64 - start) * row,
            ) {
                if source.is_cancelled() {
                    return Ok(None);
                }
                source.read(block, &mut buffer)?;
                hasher.update(&buffer);
            }
        } else if !join(&source, &beside, first, end, &mut hasher)? {
            return Ok(None);
        }
    }
    Ok(Some(hasher.finalize().to_hex().to_string()))
}

/// Hashes rows `first..end`, each of which lies in several extents. False once the work is cancelled.
fn join(
    source: &Source,
    beside: &[&Extent],
    first: usize,
    end: usize,
    hasher: &mut blake3::Hasher,
) -> Result<bool, CheckpointError> {
    let size = source.dtype().size();
    let widths: Vec<u64> = beside.iter().map(|e| e.cols.len() as u64 * size).collect();
    let width: u64 = widths.iter().sum();
    let rows_at_once = (BLOCK / width.max(1)).max(1) as usize;
    let mut pieces: Vec<Vec<u8>> = vec![Vec::new(); beside.len()];
    for row in (first..end).step_by(rows_at_once) {
        let rows = rows_at_once.min(end - row);
        for ((extent, width), piece) in beside.iter().zip(&widths).zip(&mut pieces) {
            if source.is_cancelled() {
                return Ok(false);
            }
            let block = Block {
                file: extent.file,
                offset: extent.offset + (row - extent.rows.start) as u64 * width,
                bytes: (rows as u64 * width) as usize,
            };
            source.read(block, piece)?;
        }
        for row in 0..rows {
            for (piece, &width) in pieces.iter().zip(&widths) {
                hasher.update(&piece[row * width as usize..][..width as usize]);
            }
        }
    }
    Ok(true)
}
