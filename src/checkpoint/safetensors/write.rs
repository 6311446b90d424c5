//! Writes a file of f32 tensors that are in memory.

use std::io::Write;
use std::path::Path;

use super::Plan;
use crate::base::{DType, Shape};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::files::write;

/// Writes f32 tensors whose values are given as slices, in this order; nothing is copied. The bytes written.
pub(in crate::checkpoint) fn write_floats(
    path: &Path,
    tensors: &[(&str, &[usize], &[f32])],
) -> Result<u64, CheckpointError> {
    let planned: Vec<(&str, Shape, DType)> = tensors
        .iter()
        .map(|(name, shape, _)| (*name, Shape(shape.to_vec()), DType::F32))
        .collect();
    let plan = Plan::new(&planned, None);
    write(path, |file| {
        file.write_all(&plan.files[0].header)?;
        tensors
            .iter()
            .try_for_each(|(_, _, values)| write_values(file, values))
    })
}

/// Writes values in little-endian order.
fn write_values(file: &mut dyn Write, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 16);
    for part in values.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|v| v.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}
