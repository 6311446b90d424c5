//! The device that trains: whether it is there, what it is called, how fast it could be.

use std::time::{Duration, Instant};

use candle_core::{Device, Result, Tensor};

use crate::ops::linear;
use crate::recipe::{DeviceChoice, Recipe};

use super::TrainError;

/// Refuses a recipe that this version's local trainer cannot train.
///
/// `auto` is the CPU in this version.
pub(super) fn check(recipe: &Recipe) -> std::result::Result<(), TrainError> {
    if recipe.train.device == DeviceChoice::Cuda {
        let reason = if !cfg!(feature = "cuda") {
            "train.device = \"cuda\", and this build of trestle has no CUDA".to_owned()
        } else if let Err(error) = Device::new_cuda(0) {
            format!("train.device = \"cuda\", and there is no usable GPU: {error}")
        } else {
            "train.device = \"cuda\", and the trainer of this version runs on the CPU only"
                .to_owned()
        };
        return Err(TrainError::Device {
            reason,
            hint: "use train.device = \"cpu\"".to_owned(),
        });
    }
    let world_size = recipe.parallel.world_size();
    if world_size != 1 {
        return Err(TrainError::Unsupported(format!(
            "the recipe is cut for {world_size} ranks, and the local trainer is 1 rank"
        )));
    }
    Ok(())
}

/// The host's name.
pub(super) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

/// Floating-point operations a second of the largest matrix product that fits the caches, measured for a fifth of a second: the peak that MFU divides by.
pub(super) fn measure_peak() -> Result<f64> {
    const SIDE: usize = 768;
    let values: Vec<f32> = (0..SIDE * SIDE).map(|i| (i % 17) as f32 * 0.1).collect();
    let x = Tensor::from_vec(values, (SIDE, SIDE), &Device::Cpu)?;
    let operations = 2.0 * (SIDE as f64).powi(3);
    let begin = Instant::now();
    let mut best: f64 = 0.0;
    while begin.elapsed() < Duration::from_millis(200) {
        let start = Instant::now();
        linear::forward(&x, &x)?;
        best = best.max(operations / start.elapsed().as_secs_f64());
    }
    Ok(best)
}
