//! Which micro-batches would fit into the memory that is free.

use super::{Recompute, RecomputeModule, StepShape, step_plan};
use crate::base::Bytes;
use crate::spec::TextConfig;

/// What would fit into the memory that is free.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fit {
    /// What the backward computes again.
    pub recompute: Recompute,
    /// The largest micro-batch; none if not even one sequence fits.
    pub micro_batch_size: Option<usize>,
    /// What that micro-batch, or one sequence, takes.
    pub total: Bytes,
}

/// The largest micro-batch of `shape` that fits into `free` bytes, for each recompute mode: none, selective over both mixers, full.
pub fn fitting(config: &TextConfig, shape: &StepShape, free: Bytes) -> Vec<Fit> {
    const LARGEST: usize = 1 << 20;
    let modes = [
        Recompute::None,
        Recompute::Selective(vec![RecomputeModule::CoreAttn, RecomputeModule::GatedDelta]),
        Recompute::Full,
    ];
    let fit = |recompute: Recompute| {
        let total = |micro_batch_size| {
            let shape = StepShape {
                micro_batch_size,
                recompute: recompute.clone(),
                ..shape.clone()
            };
            step_plan(config, &shape).total
        };
        // More sequences never take less.
        let (mut fits, mut too_many) = (0, LARGEST);
        while too_many - fits > 1 {
            let middle = usize::midpoint(fits, too_many);
            if total(middle) <= free {
                fits = middle;
            } else {
                too_many = middle;
            }
        }
        Fit {
            micro_batch_size: (fits > 0).then_some(fits),
            total: total(fits.max(1)),
            recompute,
        }
    };
    modes.into_iter().map(fit).collect()
}
