//! Changes of a layout that are tried out and written nowhere.

use std::path::PathBuf;

use crate::plan::{Job, Machine};

/// A layout that was changed on the screen.
#[derive(Debug, Clone, PartialEq)]
pub struct Scratch {
    /// The recipe it belongs to.
    pub recipe: PathBuf,
    /// The recipe's job when the first change was made.
    pub base: Job,
    /// The changed job.
    pub job: Job,
    /// The machine, where it is not the recipe's.
    pub machine: Option<&'static Machine>,
}

impl Scratch {
    /// The changes on top of what the recipe says now, which may no longer be what it said at the first change.
    pub fn on(&self, now: &Job) -> Job {
        if self.base == *now {
            return self.job.clone();
        }
        let mut job = now.clone();
        macro_rules! carry {
            ($($($field:ident).+),* $(,)?) => { $(
                if self.job.$($field).+ != self.base.$($field).+ {
                    job.$($field).+ = self.job.$($field).+.clone();
                }
            )* };
        }
        carry!(
            degrees.tp,
            degrees.cp,
            degrees.ep,
            degrees.etp,
            degrees.dp,
            degrees.pp,
            degrees.vpp,
            degrees.sequence_parallel,
            gpus,
            batch.micro_batch_size,
            batch.global_batch_size,
            batch.seq_length,
            megatron.recompute,
            megatron.rank_order,
            megatron.pipeline_layout,
            megatron.first_stage_layers,
            megatron.last_stage_layers,
            megatron.cuda_graphs,
            megatron.dispatcher,
            megatron.per_token_loss,
            megatron.average_in_collective,
            megatron.shared_expert_overlap,
            megatron.overlap_expert_communication,
            megatron.overlap_grad_reduce,
            megatron.overlap_param_gather,
            megatron.optimizer,
            megatron.checkpoint_format,
        );
        job
    }
}
