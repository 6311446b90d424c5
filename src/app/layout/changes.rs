//! What would be written into the recipe's file.

use super::subject::{Source, Subject};
use crate::plan::{
    CudaGraphs, Dispatcher, Job, MegatronRecompute, RecomputeMethod, recompute_name,
};
use crate::recipe::{Megatron, Value};

/// Keys with their new values; none takes a key out of the file.
pub type Changes = Vec<(String, Option<Value>)>;

/// What writing a layout does to the recipe.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Writing {
    /// Keys and values.
    pub changes: Changes,
    /// What the recipe has no key for.
    pub unsaid: Vec<&'static str>,
}

/// The keys of `job` that differ from `base`.
pub fn writing(subject: &Subject, base: &Job, job: &Job) -> Writing {
    let mut writing = Writing::default();
    let (was, is) = (&base.degrees, &job.degrees);
    for (key, was, is) in [
        ("parallel.tp", was.tp, is.tp),
        ("parallel.pp", was.pp, is.pp),
        ("parallel.vpp", was.vpp, is.vpp),
        ("parallel.cp", was.cp, is.cp),
        ("parallel.ep", was.ep, is.ep),
        ("parallel.etp", was.etp, is.etp),
        (
            "train.micro_batch_size",
            base.batch.micro_batch_size,
            job.batch.micro_batch_size,
        ),
        (
            "train.global_batch_size",
            base.batch.global_batch_size,
            job.batch.global_batch_size,
        ),
        (
            "train.seq_length",
            base.batch.seq_length,
            job.batch.seq_length,
        ),
    ] {
        if was != is {
            writing.set(key, count(is));
        }
    }
    if was.sequence_parallel != is.sequence_parallel {
        let on = Value::Boolean(is.sequence_parallel);
        writing.set("parallel.sequence_parallel", on);
    }
    if base.megatron.per_token_loss != job.megatron.per_token_loss {
        let on = Value::Boolean(job.megatron.per_token_loss);
        writing.set("train.per_token_loss", on);
    }
    if base.megatron.rank_order != job.megatron.rank_order {
        writing.unsaid.push("rank order");
    }
    match &subject.source {
        Source::Own(_) => own(base, job, &mut writing),
        Source::Bridge(bridge) => upstream(bridge, base, job, &mut writing),
    }
    writing
}

fn count(n: usize) -> Value {
    Value::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

fn text(words: &str) -> Value {
    Value::String(words.to_owned())
}

impl Writing {
    fn set(&mut self, key: &str, value: Value) {
        self.changes.push((key.to_owned(), Some(value)));
    }

    fn remove(&mut self, key: &str) {
        self.changes.push((key.to_owned(), None));
    }

    /// The changes in words: `parallel.tp = 4, parallel.pp = 2`.
    pub fn words(&self) -> String {
        let words: Vec<String> = self
            .changes
            .iter()
            .map(|(key, value)| match value {
                Some(value) => format!("{key} = {value}"),
                None => format!("no {key}"),
            })
            .collect();
        words.join(", ")
    }
}

fn own(base: &Job, job: &Job, writing: &mut Writing) {
    if base.degrees.dp != job.degrees.dp {
        writing.set("parallel.dp", count(job.degrees.dp));
    }
    let (was, is) = (&base.megatron.recompute, &job.megatron.recompute);
    if was != is {
        writing.set("recompute.mode", text(recompute_name(is)));
        if matches!(was, MegatronRecompute::Selective(_)) {
            writing.remove("recompute.modules");
        }
    }
    if base.megatron.pipeline_layout != job.megatron.pipeline_layout {
        writing.unsaid.push("pipeline layout");
    }
}

fn upstream(bridge: &Megatron, base: &Job, job: &Job, writing: &mut Writing) {
    if base.gpus != job.gpus {
        writing.set("megatron.gpus", count(job.gpus));
    }
    let mut unset = Unset::of(bridge);
    let (was, is) = (&base.megatron, &job.megatron);
    if was.recompute != is.recompute {
        let granularity = text(recompute_name(&is.recompute));
        writing.set("megatron.model.recompute_granularity", granularity);
        unset.clear("model.recompute_granularity");
        let (method, layers, modules) = match &is.recompute {
            MegatronRecompute::None => (None, None, None),
            MegatronRecompute::Selective(parts) => {
                let names = parts.iter().map(|part| text(part.name()));
                (None, None, Some(Value::List(names.collect())))
            }
            MegatronRecompute::Full { method, num_layers } => {
                let method = match method {
                    RecomputeMethod::Uniform => "uniform",
                    RecomputeMethod::Block => "block",
                };
                (Some(text(method)), Some(count(*num_layers)), None)
            }
        };
        for (option, value) in [
            ("model.recompute_method", method),
            ("model.recompute_num_layers", layers),
            ("model.recompute_modules", modules),
        ] {
            unset.option(bridge, option, value, writing);
        }
    }
    if was.pipeline_layout != is.pipeline_layout {
        let layout = is.pipeline_layout.as_deref().map(text);
        let option = "model.pipeline_model_parallel_layout";
        unset.option(bridge, option, layout, writing);
    }
    for (option, was, is) in [
        (
            "model.num_layers_in_first_pipeline_stage",
            was.first_stage_layers,
            is.first_stage_layers,
        ),
        (
            "model.num_layers_in_last_pipeline_stage",
            was.last_stage_layers,
            is.last_stage_layers,
        ),
    ] {
        if was != is {
            unset.option(bridge, option, is.map(count), writing);
        }
    }
    for (key, was, is) in [
        (
            "megatron.ddp.average_in_collective",
            was.average_in_collective,
            is.average_in_collective,
        ),
        (
            "megatron.model.moe_shared_expert_overlap",
            was.shared_expert_overlap,
            is.shared_expert_overlap,
        ),
        (
            "megatron.comm_overlap.overlap_moe_expert_parallel_comm",
            was.overlap_expert_communication,
            is.overlap_expert_communication,
        ),
        (
            "megatron.ddp.overlap_grad_reduce",
            was.overlap_grad_reduce,
            is.overlap_grad_reduce,
        ),
        (
            "megatron.ddp.overlap_param_gather",
            was.overlap_param_gather,
            is.overlap_param_gather,
        ),
        (
            "megatron.ddp.use_distributed_optimizer",
            was.optimizer.distributed,
            is.optimizer.distributed,
        ),
    ] {
        if was != is {
            writing.set(key, Value::Boolean(is));
        }
    }
    if was.cuda_graphs != is.cuda_graphs && is.cuda_graphs == CudaGraphs::None {
        writing.set("megatron.model.cuda_graph_impl", text("none"));
    }
    if was.dispatcher != is.dispatcher && is.dispatcher == Dispatcher::AllToAll {
        writing.set("megatron.model.moe_token_dispatcher_type", text("alltoall"));
    }
    if was.checkpoint_format != is.checkpoint_format {
        writing.set(
            "megatron.checkpoint.ckpt_format",
            text(&is.checkpoint_format),
        );
    }
    unset.write(writing);
}

/// The list of options that a recipe takes back.
struct Unset {
    before: Vec<String>,
    now: Vec<String>,
}

impl Unset {
    fn of(bridge: &Megatron) -> Self {
        let before: Vec<String> = match bridge.get("megatron.unset") {
            Some(Value::List(items)) => items
                .iter()
                .filter_map(Value::as_str)
                .map(Into::into)
                .collect(),
            _ => Vec::new(),
        };
        Self {
            now: before.clone(),
            before,
        }
    }

    fn clear(&mut self, option: &str) {
        self.now.retain(|other| other != option);
    }

    /// Sets an option of Bridge's under its key, or takes it back: out of this file, and by name where a base may say it.
    fn option(
        &mut self,
        bridge: &Megatron,
        option: &str,
        value: Option<Value>,
        writing: &mut Writing,
    ) {
        let key = format!("megatron.{option}");
        self.clear(option);
        match value {
            Some(value) => writing.set(&key, value),
            None if bridge.get(&key).is_some() => {
                writing.remove(&key);
                self.now.push(option.to_owned());
            }
            None => {}
        }
    }

    fn write(self, writing: &mut Writing) {
        if self.now == self.before {
            return;
        }
        let list = self.now.iter().map(|option| text(option)).collect();
        writing.set("megatron.unset", Value::List(list));
    }
}
