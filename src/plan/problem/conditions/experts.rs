//! Conditions on experts and the dispatch of tokens to them.

use super::{Fix, Problem, error, problem};
use crate::base::Severity;
use crate::plan::{Degrees, Dispatcher, Job, MegatronRecompute};

/// Dispatch of tokens to experts.
pub(super) fn add(job: &Job, list: &mut Vec<Problem>) {
    let Degrees {
        tp, ep, pp, vpp, ..
    } = job.degrees;
    let megatron = &job.megatron;
    let flex = matches!(
        megatron.dispatcher,
        Dispatcher::DeepEp | Dispatcher::HybridEp
    );
    let overlap = megatron.overlap_expert_communication;
    let Some(moe) = &job.model.text.moe else {
        if overlap {
            list.push(error(
                "overlap-without-experts",
                "overlap_moe_expert_parallel_comm = true, but a dense model has 0 experts".into(),
                [("overlap_moe_expert_parallel_comm", 1), ("num_experts", 0)],
                vec![Fix::new("megatron.overlap_moe_expert_parallel_comm", false)],
            ));
        }
        return;
    };
    if flex && tp * ep == 1 {
        list.push(error(
            "flex-on-one-rank",
            "the flex dispatcher moves tokens between ranks, but tp * ep = 1".into(),
            [("tp * ep", 1), ("least", 2)],
            vec![
                Fix::new("megatron.moe_token_dispatcher_type", "alltoall"),
                Fix::new("parallel.ep", 2),
            ],
        ));
    }
    if megatron.shared_expert_overlap && megatron.dispatcher == Dispatcher::AllGather {
        list.push(error(
            "shared-expert-overlap",
            "moe_shared_expert_overlap = true hides the shared expert behind an all-to-all, but the dispatcher is allgather".into(),
            [("moe_shared_expert_overlap", 1), ("ep", ep)],
            vec![
                Fix::new("megatron.moe_token_dispatcher_type", "alltoall"),
                Fix::new("megatron.moe_shared_expert_overlap", false),
            ],
        ));
    }
    if megatron.force_load_balancing {
        list.push(problem(
            "forced-balance",
            Severity::Warning,
            format!(
                "tokens go to the {} experts at random whatever the router says: the run measures speed and learns nothing of use",
                moe.num_experts
            ),
            [
                ("num_experts", moe.num_experts),
                ("moe_router_force_load_balancing", 1),
            ],
            vec![Fix::new("megatron.moe_router_force_load_balancing", false)],
        ));
    }
    if !overlap {
        return;
    }
    let off = Fix::new("megatron.overlap_moe_expert_parallel_comm", false);
    let mut refuse = |code, message: String, numbers, fix: Option<Fix>| {
        list.push(error(
            code,
            format!("overlap_moe_expert_parallel_comm = true, but {message}"),
            numbers,
            fix.into_iter().chain([off.clone()]).collect(),
        ));
    };
    if ep == 1 {
        refuse(
            "overlap-needs-ep",
            "ep = 1: there is no dispatch to hide".into(),
            [("ep", ep), ("least", 2)],
            None,
        );
    }
    if megatron.dispatcher == Dispatcher::AllGather {
        refuse(
            "overlap-dispatcher",
            "the dispatcher is allgather".into(),
            [("overlap_moe_expert_parallel_comm", 1), ("ep", ep)],
            Some(Fix::new("megatron.moe_token_dispatcher_type", "alltoall")),
        );
    }
    if pp > 1 && vpp == 1 {
        refuse(
            "overlap-needs-vpp",
            format!(
                "pp = {pp} without virtual stages: two micro-batches meet only in the interleaved schedule"
            ),
            [("pp", pp), ("vpp", vpp)],
            Some(Fix::new("parallel.vpp", 2)),
        );
    }
    if let MegatronRecompute::Full { num_layers, .. } = megatron.recompute {
        refuse(
            "overlap-full-recompute",
            "full recompute runs whole layers again".into(),
            [
                ("overlap_moe_expert_parallel_comm", 1),
                ("recompute_num_layers", num_layers),
            ],
            Some(Fix::new("megatron.recompute_granularity", "selective")),
        );
    }
    if megatron.shared_expert_overlap {
        refuse(
            "overlap-shared-expert",
            "moe_shared_expert_overlap = true hides the same dispatch".into(),
            [
                ("overlap_moe_expert_parallel_comm", 1),
                ("moe_shared_expert_overlap", 1),
            ],
            Some(Fix::new("megatron.moe_shared_expert_overlap", false)),
        );
    }
    let depths = job.model.text.mtp_num_hidden_layers;
    if depths > 1 {
        refuse(
            "overlap-mtp",
            format!("mtp_num_layers = {depths}, and at most 1 depth is scheduled so"),
            [("mtp_num_layers", depths), ("most", 1)],
            Some(Fix::new("model.mtp_num_hidden_layers", 1)),
        );
    }
}
