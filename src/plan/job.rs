//! What is asked of a cluster: a model, degrees, a batch, GPUs, and Megatron's options.

use super::{BatchShape, Degrees};
use crate::spec::ModelConfig;

mod options;

pub use options::{
    CrossEntropy, CudaGraphs, Dispatcher, Frozen, Fsdp, MathPrecision, MegatronOptions,
    MegatronRecompute, OptimizerOptions, RecomputeMethod, RecomputePart, SequencePacking, Tuning,
};

/// A run on a cluster, as far as a plan depends on it.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// The model; MTP's depth is `text.mtp_num_hidden_layers`, a tower without `vision` is no tower.
    pub model: ModelConfig,
    /// How it is spread. Megatron's "no interleaving" is `vpp` 1. [`with_gpus`](Self::with_gpus) derives `dp`.
    pub degrees: Degrees,
    /// Sizes of the batch.
    pub batch: BatchShape,
    /// GPUs in all; a job can start if they are `tp * cp * dp * pp`.
    pub gpus: usize,
    /// The rest.
    pub megatron: MegatronOptions,
}

impl Job {
    /// A job on exactly the GPUs that its degrees take, with Megatron's own defaults.
    pub fn new(model: ModelConfig, degrees: Degrees, batch: BatchShape) -> Self {
        let gpus = [degrees.tp, degrees.cp, degrees.dp, degrees.pp]
            .into_iter()
            .fold(1usize, usize::saturating_mul);
        Self {
            model,
            degrees,
            batch,
            gpus,
            megatron: MegatronOptions::default(),
        }
    }

    /// The job on `gpus`, with data parallelism over what the other degrees leave: `gpus / (tp * cp * pp)`, at least 1.
    ///
    /// Where that does not divide, [`problems`](super::problems) says so.
    #[must_use]
    pub fn with_gpus(mut self, gpus: usize) -> Self {
        let Degrees { tp, cp, pp, .. } = self.degrees;
        let taken = tp.saturating_mul(cp).saturating_mul(pp);
        self.gpus = gpus;
        self.degrees.dp = gpus.checked_div(taken).unwrap_or(1).max(1);
        self
    }

    /// Micro-batches of a step on one data-parallel rank; none if they do not divide.
    pub fn micro_batches(&self) -> Option<usize> {
        let step = self.batch.micro_batch_size.checked_mul(self.degrees.dp)?;
        let batch = self.batch.global_batch_size;
        (step > 0 && batch > 0 && batch.is_multiple_of(step)).then(|| batch / step)
    }
}
