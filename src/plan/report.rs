//! A plan as JSON, for other programs.

use serde_json::{Map, Value, json};

use super::{Degrees, Group, Job, Machine, MegatronRecompute, Plan};

fn degrees(d: &Degrees) -> Value {
    json!({
        "tp": d.tp, "cp": d.cp, "ep": d.ep, "etp": d.etp, "dp": d.dp, "pp": d.pp, "vpp": d.vpp,
        "sequence_parallel": d.sequence_parallel,
    })
}

/// A recompute mode's word: `none`, `selective`, `full`.
pub fn recompute_name(recompute: &MegatronRecompute) -> &'static str {
    match recompute {
        MegatronRecompute::None => "none",
        MegatronRecompute::Selective(_) => "selective",
        MegatronRecompute::Full { .. } => "full",
    }
}

/// A plan as one object: machine, degrees, batch, problems, memory by stage and term, operations, time with traffic by stage, and the groups
/// of `rank` where one is asked for.
pub fn report(job: &Job, plan: &Plan, machine: &Machine, rank: Option<usize>) -> Value {
    let memory: Vec<Value> = plan
        .memory
        .iter()
        .enumerate()
        .map(|(at, stage)| {
            let terms: Vec<Value> = stage
                .terms
                .iter()
                .map(|t| json!({ "name": t.name, "bytes": t.bytes, "formula": t.formula }))
                .collect();
            json!({
                "stage": stage.stage, "total": stage.total,
                "worst_routing": plan.worst.get(at), "terms": terms,
            })
        })
        .collect();
    let rank = rank
        .filter(|&rank| rank < plan.grid.world_size())
        .map(|rank| {
            let groups: Map<String, Value> = Group::ALL
                .into_iter()
                .map(|group| {
                    (
                        group.name().to_owned(),
                        json!(plan.grid.members(group, rank)),
                    )
                })
                .collect();
            json!({ "rank": rank, "stage": plan.grid.coordinates(rank).pp, "groups": groups })
        });
    json!({
        "machine": machine, "gpus": job.gpus, "degrees": degrees(&job.degrees),
        "rank_order": job.megatron.rank_order.to_string(),
        "seq_length": job.batch.seq_length, "micro_batch_size": job.batch.micro_batch_size,
        "global_batch_size": job.batch.global_batch_size,
        "recompute": recompute_name(&job.megatron.recompute),
        "pipeline_layout": job.megatron.pipeline_layout,
        "problems": plan.problems, "memory": memory, "flops": plan.flops,
        "time": plan.time, "rank": rank,
    })
}
