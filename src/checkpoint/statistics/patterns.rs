//! Statistics of types of at most 16 bits: count every bit pattern, then look at the patterns.

use rayon::prelude::*;

use super::blocks::{Block, Source};
use super::value::decode;
use super::{BINS, Bins, Detail, Moments, Statistics};
use crate::checkpoint::CheckpointError;

pub(super) fn read(source: &Source, detail: Detail) -> Result<Option<Statistics>, CheckpointError> {
    let blocks = source.blocks();
    let part = blocks.len().div_ceil(rayon::current_num_threads()).max(1);
    let tables: Vec<Vec<u64>> = blocks
        .par_chunks(part)
        .map(|blocks| count(source, blocks))
        .collect::<Result<_, _>>()?;
    if source.is_cancelled() {
        return Ok(None);
    }
    let mut times = vec![0_u64; patterns(source)];
    for table in tables {
        times.iter_mut().zip(table).for_each(|(sum, n)| *sum += n);
    }
    Ok(Some(look(source, &times, detail)))
}

fn patterns(source: &Source) -> usize {
    1 << (8 * source.dtype().size())
}

/// How often each pattern occurs in `blocks`.
fn count(source: &Source, blocks: &[Block]) -> Result<Vec<u64>, CheckpointError> {
    let mut times = vec![0_u64; patterns(source)];
    let mut buffer = Vec::new();
    for &block in blocks {
        if source.is_cancelled() {
            break;
        }
        source.read(block, &mut buffer)?;
        if source.dtype().size() == 1 {
            for &byte in &buffer {
                times[byte as usize] += 1;
            }
        } else {
            for pair in buffer.chunks_exact(2) {
                times[u16::from_le_bytes([pair[0], pair[1]]) as usize] += 1;
            }
        }
    }
    Ok(times)
}

fn look(source: &Source, times: &[u64], detail: Detail) -> Statistics {
    let dtype = source.dtype();
    let occurring: Vec<(f64, u64)> = times
        .iter()
        .enumerate()
        .filter(|(_, n)| **n > 0)
        .map(|(pattern, &n)| (decode(dtype, &(pattern as u16).to_le_bytes()), n))
        .collect();
    let mut moments = Moments::NONE;
    let mut finite = Vec::with_capacity(occurring.len());
    for (value, n) in occurring {
        if moments.count(value, n) {
            finite.push((value, n));
        }
    }
    let total = moments.finite.max(1) as f64;
    moments.mean = finite.iter().map(|(v, n)| v * (*n as f64 / total)).sum();
    moments.squares = finite
        .iter()
        .map(|(v, n)| (v - moments.mean).powi(2) * *n as f64)
        .sum();
    let mut histogram = Vec::new();
    if detail == Detail::Histogram && !finite.is_empty() {
        histogram = vec![0; BINS];
        let bins = Bins::of(&moments);
        for (value, n) in finite {
            histogram[bins.bin(value)] += n;
        }
    }
    moments.with(histogram)
}
