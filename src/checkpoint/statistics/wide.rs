//! Statistics of types of 32 and 64 bits: one reading for the moments, one for the histogram.

use rayon::prelude::*;

use super::blocks::{Block, Source};
use super::value::decode_all;
use super::{BINS, Bins, Detail, Moments, Statistics};
use crate::checkpoint::CheckpointError;

pub(super) fn read(source: &Source, detail: Detail) -> Result<Option<Statistics>, CheckpointError> {
    let blocks = source.blocks();
    let parts: Vec<Moments> = blocks
        .par_iter()
        .map_init(Scratch::default, |scratch, &block| {
            Ok(moments(load(source, block, scratch)?))
        })
        .collect::<Result<_, CheckpointError>>()?;
    // In the blocks' order, so that sums do not depend on who was first.
    let moments = parts.into_iter().fold(Moments::NONE, Moments::merge);
    let mut histogram = Vec::new();
    if detail == Detail::Histogram && moments.finite > 0 {
        let bins = Bins::of(&moments);
        let tables: Vec<Vec<u64>> = blocks
            .par_chunks(blocks.len().div_ceil(rayon::current_num_threads()).max(1))
            .map(|blocks| {
                let (mut table, mut scratch) = (vec![0_u64; BINS], Scratch::default());
                for &block in blocks {
                    let values = load(source, block, &mut scratch)?;
                    let finite = values.iter().filter(|v| v.is_finite());
                    finite.for_each(|&value| table[bins.bin(value)] += 1);
                }
                Ok(table)
            })
            .collect::<Result<_, CheckpointError>>()?;
        histogram = vec![0; BINS];
        for table in tables {
            histogram
                .iter_mut()
                .zip(table)
                .for_each(|(sum, n)| *sum += n);
        }
    }
    Ok((!source.is_cancelled()).then(|| moments.with(histogram)))
}

/// What a thread uses again for its next block.
#[derive(Default)]
struct Scratch {
    bytes: Vec<u8>,
    values: Vec<f64>,
}

/// The values of a block; none once the work is cancelled.
fn load<'s>(
    source: &Source,
    block: Block,
    scratch: &'s mut Scratch,
) -> Result<&'s [f64], CheckpointError> {
    let Scratch { bytes, values } = scratch;
    values.clear();
    if !source.is_cancelled() {
        source.read(block, bytes)?;
        decode_all(source.dtype(), bytes, values);
    }
    Ok(values)
}

fn moments(values: &[f64]) -> Moments {
    let mut moments = Moments::NONE;
    let mut sum = 0.0;
    for &value in values {
        if moments.count(value, 1) {
            sum += value * SCALE;
        }
    }
    moments.mean = sum / moments.finite.max(1) as f64 / SCALE;
    moments.squares = values
        .iter()
        .filter(|v| v.is_finite())
        .map(|v| (v - moments.mean).powi(2))
        .sum();
    moments
}

/// A power of two, at most one over a block's elements: the sum of a block's largest numbers stays finite.
const SCALE: f64 = 1.0 / (1 << 20) as f64;
