//! What moves between ranks in a step, over which link.
//!
//! Bytes are those that the fullest rank of a stage sends in one step, activations and weights in bf16.

use serde::{Serialize, Serializer};

use super::weights::trained_weights;
use crate::base::Bytes;
use crate::plan::{Group, Job, Machine, RankGrid, Stage};
use crate::spec::LayerKind;

/// What joins the ranks of a group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LinkKind {
    /// All ranks are in one `NVLink` domain.
    NvLink,
    /// They are not.
    Infiniband,
}

/// One kind of collective in a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traffic {
    /// What is done.
    pub name: &'static str,
    /// Among whom.
    #[serde(serialize_with = "group_name")]
    pub group: Group,
    /// Ranks of the group.
    pub ranks: usize,
    /// Over what.
    pub link: LinkKind,
    /// Bytes that a rank sends in a step.
    pub bytes: Bytes,
    /// Seconds, by bandwidth and latency alone.
    pub seconds: f64,
    /// How bytes are counted.
    pub formula: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn group_name<S: Serializer>(group: &Group, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(group.name())
}

/// The traffic of a stage's ranks in a step, collectives without bytes left out.
pub fn traffic(job: &Job, stage: &Stage, grid: &RankGrid, machine: &Machine) -> Vec<Traffic> {
    let mut list = Vec::new();
    let domain = machine.nvlink_domain.max(1);
    let first = grid.rank(crate::plan::Coordinates {
        tp: 0,
        cp: 0,
        dp: 0,
        pp: stage.pp,
        ep: 0,
        etp: 0,
    });
    let mut add = |name, group: Group, bytes: f64, messages: f64, formula: &dyn Fn() -> String| {
        let ranks = grid.size(group);
        if ranks < 2 || bytes < 1.0 {
            return;
        }
        let (least, most) = grid.extent(group, first);
        let (link, kind) = if least / domain == most / domain {
            (&machine.nvlink, LinkKind::NvLink)
        } else {
            (&machine.infiniband, LinkKind::Infiniband)
        };
        list.push(Traffic {
            name,
            group,
            ranks,
            link: kind,
            bytes: Bytes(bytes as u64),
            seconds: link.seconds(bytes, messages),
            formula: formula(),
        });
    };
    let text = &job.model.text;
    let d = &job.degrees;
    let (tp, cp, ep) = (d.tp as f64, d.cp as f64, d.ep as f64);
    let micro_batches = job.micro_batches().unwrap_or(1) as f64;
    let tokens = job.batch.seq_length as f64 * job.batch.micro_batch_size as f64 / cp;
    let h = text.hidden_size as f64;
    let full = (stage.count(text, LayerKind::FullAttention) + stage.mtp) as f64;
    let linear = stage.count(text, LayerKind::LinearAttention) as f64;
    let layers = full + linear;
    // Mixer and MLP, forward and backward: a gather and a scatter each, or an all-reduce of the same bytes; with the sequence cut, the
    // backward gathers the input once more.
    let passes = if d.sequence_parallel { 10.0 } else { 8.0 };
    let bytes = micro_batches * layers * passes * tokens * h * 2.0 * (tp - 1.0) / tp;
    add(
        "tensor parallel",
        Group::Tensor,
        bytes,
        micro_batches * layers * passes,
        &|| {
            format!(
                "{micro_batches} micro-batches * {layers} layers * {passes} * {tokens} tokens * 2h B * (tp - 1) / tp"
            )
        },
    );
    // Keys and values pass around the ring, once forward, twice backward with their gradients; a delta net turns its channels and back.
    let kv = 4.0 * (text.num_key_value_heads * text.head_dim) as f64 / tp;
    let channels = 2.0
        * (text.linear_conv_dim() + 2 * text.linear_value_dim() + 2 * text.linear_num_value_heads)
            as f64
        / tp;
    let bytes = micro_batches
        * tokens
        * (full * 3.0 * kv * (cp - 1.0) + linear * 2.0 * channels * (cp - 1.0) / cp);
    add(
        "context parallel",
        Group::Context,
        bytes,
        micro_batches * (full * 3.0 * (cp - 1.0) + linear * 4.0),
        &|| {
            format!(
                "{micro_batches} micro-batches * {tokens} tokens * ({full} layers * 3 * {kv} B * (cp - 1) + {linear} layers * 2 * {channels} B * (cp - 1) / cp)"
            )
        },
    );
    if let Some(moe) = &text.moe {
        let own = if d.sequence_parallel {
            tokens / tp
        } else {
            tokens
        };
        let each = moe.num_experts_per_tok as f64;
        let bytes = micro_batches * layers * 4.0 * own * each * 2.0 * h * (ep - 1.0) / ep;
        add(
            "expert dispatch and combine",
            Group::Expert,
            bytes,
            micro_batches * layers * 4.0,
            &|| {
                format!(
                    "{micro_batches} micro-batches * {layers} layers * 4 * {own} tokens * {each} experts * 2h B * (ep - 1) / ep"
                )
            },
        );
    }
    let sp = if d.sequence_parallel { tp } else { 1.0 };
    let ends = [stage.pp > 0, stage.pp + 1 < d.pp || d.vpp > 1];
    let neighbours = ends.iter().filter(|&&there| there).count() as f64;
    let chunks = stage.chunks.len().max(1) as f64;
    let bytes = micro_batches * neighbours * chunks * tokens * 2.0 * h / sp;
    add(
        "pipeline",
        Group::Pipeline,
        bytes,
        micro_batches * neighbours * chunks,
        &|| {
            format!(
                "{micro_batches} micro-batches * {neighbours} neighbours * {chunks} chunks * {tokens} tokens * 2h B / {sp}"
            )
        },
    );
    let (dense, experts) = trained_weights(job, stage).on_rank(d);
    let grad = if job.megatron.grad_reduce_in_fp32 {
        4.0
    } else {
        2.0
    };
    for (name, group, count) in [
        ("dense gradients and weights", Group::DataContext, dense),
        ("expert gradients and weights", Group::ExpertData, experts),
    ] {
        let ranks = grid.size(group) as f64;
        let bytes = count as f64 * (grad + 2.0) * (ranks - 1.0) / ranks;
        add(name, group, bytes, 2.0 * ranks.log2().ceil(), &|| {
            format!("{count} parameters * ({grad} B reduced + 2 B gathered) * (n - 1) / n")
        });
    }
    list
}
