//! Keeps the micro-batches of a skipped step, in the format that `trestle probe` reads.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use candle_core::{Device, Result, Tensor, safetensors};

use crate::event::layout;
use crate::nn::Batch;

/// Writes `bad/step-N.safetensors`, or `bad/step-N.K.safetensors` for each of several micro-batches; returns the files.
pub(super) fn save(run: &Path, step: u64, batches: &[(usize, &Batch)]) -> Result<Vec<PathBuf>> {
    let folder = run.join(layout::BAD_BATCHES);
    std::fs::create_dir_all(&folder)?;
    let mut paths = Vec::new();
    for &(index, batch) in batches {
        let name = if batches.len() == 1 {
            format!("step-{step}.safetensors")
        } else {
            format!("step-{step}.{index}.safetensors")
        };
        let path = folder.join(name);
        safetensors::save(&tensors(batch)?, &path)?;
        paths.push(path);
    }
    Ok(paths)
}

fn tensors(batch: &Batch) -> Result<HashMap<&'static str, Tensor>> {
    let n = batch.tokens();
    let integers = |values: Vec<i64>| {
        let count = values.len();
        Tensor::from_vec(values, count, &Device::Cpu)
    };
    let widen = |ids: &[u32]| integers(ids.iter().map(|&id| i64::from(id)).collect());
    let cu_seqlens = batch.cu_seqlens.boundaries().iter().map(|&b| b as i64);
    Ok(HashMap::from([
        ("input_ids", widen(&batch.input_ids)?.reshape((1, n))?),
        ("labels", widen(&batch.labels)?.reshape((1, n))?),
        (
            "loss_mask",
            Tensor::from_vec(batch.loss_mask.clone(), (1, n), &Device::Cpu)?,
        ),
        (
            "position_ids",
            integers(batch.position_ids.concat())?.reshape((3, 1, n))?,
        ),
        ("cu_seqlens", integers(cu_seqlens.collect())?),
    ]))
}
