//! Operations of a step by module, as Megatron-Bridge counts them for its TFLOP/s.
//!
//! Forward and backward, a multiply-add being two; recompute and frozen weights change nothing.

use serde::Serialize;

use crate::base::Flops;
use crate::plan::Job;
use crate::spec::{VisionConfig, flops_terms};

/// Operations of one module over a step of all ranks.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModuleFlops {
    /// The module.
    pub name: &'static str,
    /// Operations of a step.
    pub flops: Flops,
    /// How they are counted.
    pub formula: &'static str,
}

/// Operations for the images of one sequence: `patches` in all, `per_image` in each.
///
/// `3 * (depth * ((8 vh^2 + 4 vh vi) Np + 4 vh sum(Np_img^2)) + Np / 4 * (2 (4 vh)^2 + 8 vh h))`.
pub fn vision_flops(config: &VisionConfig, patches: usize, per_image: usize) -> Flops {
    let (vh, vi) = (config.hidden_size as f64, config.intermediate_size as f64);
    let h = config.out_hidden_size as f64;
    let np = patches as f64;
    let squares = np * per_image.max(1) as f64;
    let blocks = config.depth as f64 * ((8.0 * vh * vh + 4.0 * vh * vi) * np + 4.0 * vh * squares);
    let merger = np / 4.0 * (2.0 * (4.0 * vh).powi(2) + 8.0 * vh * h);
    Flops(3.0 * (blocks + merger))
}

/// Operations of a step by module, the tower last.
pub fn job_flops(job: &Job) -> Vec<ModuleFlops> {
    let seq = job.batch.seq_length as f64;
    let sequences = job.batch.global_batch_size as f64;
    let mut list: Vec<ModuleFlops> = flops_terms(&job.model.text, seq)
        .into_iter()
        .map(|term| ModuleFlops {
            name: term.name,
            flops: Flops(term.flops.0 * seq * sequences),
            formula: term.formula,
        })
        .collect();
    let (patches, per_image) = (job.megatron.patches, job.megatron.patches_per_image);
    if let (Some(vision), true) = (&job.model.vision, patches > 0) {
        list.push(ModuleFlops {
            name: "vision",
            flops: Flops(vision_flops(vision, patches, per_image).0 * sequences),
            formula: "3 * (depth*((8*vh^2 + 4*vh*vi)*Np + 4*vh*sum(Np_img^2)) + Np/4*(2*(4*vh)^2 + 8*vh*h))",
        });
    }
    list
}

/// TFLOP/s a GPU of a step that takes `seconds`, as Megatron-Bridge prints it.
pub fn tflops_per_gpu(job: &Job, seconds: f64) -> f64 {
    let all: f64 = job_flops(job).iter().map(|module| module.flops.0).sum();
    all / (seconds * job.gpus as f64 * 1e12)
}
