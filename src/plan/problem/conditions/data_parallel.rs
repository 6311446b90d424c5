//! Conditions on the optimizer and what is cut over data parallel.

use super::{Fix, Problem, error};
use crate::base::DType;
use crate::plan::{Job, Tuning};

/// The optimizer and what it cuts over data parallel.
pub(super) fn add(job: &Job, list: &mut Vec<Problem>) {
    let megatron = &job.megatron;
    let optimizer = &megatron.optimizer;
    let distributed = Fix::new("megatron.use_distributed_optimizer", true);
    if optimizer.precision_aware && !optimizer.distributed {
        list.push(error(
            "precision-aware-distributed",
            "use_precision_aware_optimizer = true, but use_distributed_optimizer = false".into(),
            [
                ("use_precision_aware_optimizer", 1),
                ("use_distributed_optimizer", 0),
            ],
            vec![
                distributed.clone(),
                Fix::new("megatron.use_precision_aware_optimizer", false),
            ],
        ));
    }
    let types = [
        ("main_params_dtype", optimizer.main_params),
        ("main_grads_dtype", optimizer.main_grads),
        ("exp_avg_dtype", optimizer.exp_avg),
        ("exp_avg_sq_dtype", optimizer.exp_avg_sq),
    ];
    for (key, dtype) in types {
        if dtype != DType::F32 && !optimizer.precision_aware {
            list.push(error(
                "optimizer-type",
                format!(
                    "{key} = {} needs the precision-aware optimizer; without it there is f32 alone",
                    dtype.name()
                ),
                [
                    (key, dtype.size() as usize),
                    ("use_precision_aware_optimizer", 0),
                ],
                vec![
                    Fix::new("megatron.use_precision_aware_optimizer", true),
                    Fix::new(&format!("megatron.{key}"), "float32"),
                ],
            ));
        }
    }
    let cut = job.degrees.dp * job.degrees.cp;
    if optimizer.instances > 1 && !cut.is_multiple_of(optimizer.instances) {
        list.push(error(
            "optimizer-instances",
            format!(
                "dp * cp = {cut} is not divisible by num_distributed_optimizer_instances = {}",
                optimizer.instances
            ),
            [
                ("dp * cp", cut),
                ("num_distributed_optimizer_instances", optimizer.instances),
            ],
            vec![Fix::new("megatron.num_distributed_optimizer_instances", 1)],
        ));
    }
    if megatron.overlap_param_gather && !optimizer.distributed {
        list.push(error(
            "gather-without-distributed",
            "overlap_param_gather = true, but use_distributed_optimizer = false leaves nothing to gather".into(),
            [("overlap_param_gather", 1), ("use_distributed_optimizer", 0)],
            vec![distributed, Fix::new("megatron.overlap_param_gather", false)],
        ));
    }
    if megatron.overlap_param_gather && !megatron.overlap_grad_reduce {
        list.push(error(
            "gather-without-reduce",
            "overlap_param_gather = true needs overlap_grad_reduce = true".into(),
            [("overlap_param_gather", 1), ("overlap_grad_reduce", 0)],
            vec![
                Fix::new("megatron.overlap_grad_reduce", true),
                Fix::new("megatron.overlap_param_gather", false),
            ],
        ));
    }
    if megatron.fsdp.is_some() && megatron.checkpoint_format != "fsdp_dtensor" {
        list.push(error(
            "fsdp-checkpoint",
            format!(
                "use_megatron_fsdp = true, but ckpt_format = {}: weights cut so are written as fsdp_dtensor alone",
                megatron.checkpoint_format
            ),
            [("use_megatron_fsdp", 1), ("fsdp_dtensor", 0)],
            vec![Fix::new("megatron.ckpt_format", "fsdp_dtensor")],
        ));
    }
    if let Tuning::Lora { dim: 0, .. } = megatron.tuning {
        list.push(error(
            "lora-dim",
            "peft.dim = 0, but an adapter has rank 1 or more".into(),
            [("peft.dim", 0), ("least", 1)],
            vec![Fix::new("megatron.peft.dim", 1)],
        ));
    }
}
