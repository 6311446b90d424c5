//! What is launched: a recipe of Megatron-Bridge with its sizes, options and folders, as plain values.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::recipe::Parallel;

/// Where a job reads and writes. All are absolute, since Bridge changes its working directory.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Folders {
    /// The run directory.
    pub run: PathBuf,
    /// Checkpoints are written here.
    pub save: PathBuf,
    /// Checkpoints are resumed from here; the same as `save` unless another run is continued.
    pub load: PathBuf,
    /// `TensorBoard` files.
    pub tensorboard: PathBuf,
    /// Weights to start from: a folder of Megatron checkpoints or of Hugging Face weights.
    pub pretrained: Option<PathBuf>,
}

/// Sizes and rates that a recipe of ours sets; what is `None` stays as upstream has it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sizes {
    /// Optimizer steps.
    pub steps: Option<u64>,
    /// Tokens of a sequence.
    pub seq_length: Option<usize>,
    /// Sequences of a micro-batch.
    pub micro_batch_size: Option<usize>,
    /// Sequences of a step over all data-parallel ranks.
    pub global_batch_size: Option<usize>,
    /// Peak learning rate.
    pub lr: Option<f64>,
    /// Lowest learning rate.
    pub min_lr: Option<f64>,
    /// Steps of warm-up.
    pub warmup_steps: Option<u64>,
    /// Steps until the lowest rate.
    pub decay_steps: Option<u64>,
    /// Steps between checkpoints.
    pub save_interval: Option<u64>,
}

/// A run of Megatron-Bridge.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// What the queue calls it.
    pub name: String,
    /// Upstream's name of the recipe, which `run_recipe.py` looks up.
    pub recipe: String,
    /// `pretrain`, `sft` or `lora`, where the recipe's name does not say it.
    pub mode: Option<String>,
    /// The model, for people.
    pub model: String,
    /// Degrees of each axis, `dp` included.
    pub parallel: Parallel,
    /// GPUs in all where the recipe says so; else as many as the degrees take.
    pub ranks: Option<usize>,
    /// Layers of Multi-Token Prediction.
    pub mtp_depth: usize,
    /// Sizes and rates.
    pub sizes: Sizes,
    /// Further options of Bridge's configuration by dotted path, as Hydra spells them.
    pub overrides: Vec<(String, String)>,
    /// Defaults of environment variables; one that is set already wins.
    pub environment: BTreeMap<String, String>,
    /// Bridge's name of the data, where it is not that of upstream's recipe.
    pub dataset: Option<String>,
    /// Whether checkpoints are written; benchmarks write none and resume from none.
    pub saves: bool,
    /// Where it reads and writes.
    pub folders: Folders,
    /// Problems that the plan found and the user accepted by name.
    pub accepted: Vec<String>,
}

impl Job {
    /// GPUs in all.
    pub fn gpus(&self) -> usize {
        self.ranks.unwrap_or_else(|| self.parallel.world_size())
    }

    /// Whether experts are cut, so that their degrees are said.
    fn cuts_experts(&self) -> bool {
        self.parallel.ep > 1 || self.parallel.etp > 1
    }

    /// Whether [`arguments`](Self::arguments) say the option of this path themselves, so that an override is not needed.
    pub fn says(&self, option: &str) -> bool {
        let sizes = &self.sizes;
        match option {
            "model.tensor_model_parallel_size"
            | "model.pipeline_model_parallel_size"
            | "model.context_parallel_size"
            | "model.sequence_parallel"
            | "logger.tensorboard_dir"
            | "checkpoint.save"
            | "checkpoint.load"
            | "train.exit_signal_handler" => true,
            "model.virtual_pipeline_model_parallel_size" => self.parallel.vpp > 1,
            "model.expert_model_parallel_size" | "model.expert_tensor_parallel_size" => {
                self.cuts_experts()
            }
            "train.train_iters" => sizes.steps.is_some(),
            "train.global_batch_size" => sizes.global_batch_size.is_some(),
            "train.micro_batch_size" => sizes.micro_batch_size.is_some(),
            "dataset.seq_length" | "model.seq_length" => sizes.seq_length.is_some(),
            "optimizer.lr" => sizes.lr.is_some(),
            "optimizer.min_lr" => sizes.min_lr.is_some(),
            "scheduler.lr_warmup_iters" => sizes.warmup_steps.is_some(),
            "scheduler.lr_decay_iters" => sizes.decay_steps.is_some(),
            "checkpoint.save_interval" => !self.saves || sizes.save_interval.is_some(),
            "checkpoint.pretrained_checkpoint" => self.folders.pretrained.is_some(),
            _ => false,
        }
    }

    /// Nodes of `gpus_per_node` GPUs, and the GPUs of each; `None` if the nodes would be unlike.
    ///
    /// A job that is smaller than a node takes a part of one.
    pub fn nodes(&self, gpus_per_node: usize) -> Option<(usize, usize)> {
        let gpus = self.gpus();
        if gpus == 0 || gpus_per_node == 0 {
            return None;
        }
        if gpus <= gpus_per_node {
            return Some((1, gpus));
        }
        gpus.is_multiple_of(gpus_per_node)
            .then(|| (gpus / gpus_per_node, gpus_per_node))
    }

    /// Arguments of `run_recipe.py`: options first, then overrides in Hydra's grammar, of which the last wins.
    pub fn arguments(&self) -> Vec<String> {
        let mut words = vec!["--recipe".to_owned(), self.recipe.clone()];
        let mut option = |name: &str, value: Option<String>| {
            if let Some(value) = value {
                words.extend([name.to_owned(), value]);
            }
        };
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        let (sizes, parallel, folders) = (&self.sizes, &self.parallel, &self.folders);
        option("--mode", self.mode.clone());
        option("--dataset", self.dataset.clone());
        option("-tp", Some(parallel.tp.to_string()));
        option("-pp", Some(parallel.pp.to_string()));
        let interleaved = (parallel.vpp > 1).then(|| parallel.vpp.to_string());
        option("-vp", interleaved);
        option("-cp", Some(parallel.cp.to_string()));
        let experts = self.cuts_experts();
        option("-ep", experts.then(|| parallel.ep.to_string()));
        option("-etp", experts.then(|| parallel.etp.to_string()));
        option("-ms", sizes.steps.map(|n| n.to_string()));
        option("-gb", sizes.global_batch_size.map(|n| n.to_string()));
        option("-mb", sizes.micro_batch_size.map(|n| n.to_string()));
        option("-sl", sizes.seq_length.map(|n| n.to_string()));
        option("--lr", sizes.lr.map(float));
        option("--min_lr", sizes.min_lr.map(float));
        option("--warmup_iters", sizes.warmup_steps.map(|n| n.to_string()));
        option(
            "--pretrained_checkpoint",
            folders.pretrained.as_ref().map(text),
        );
        if self.saves {
            option("--save_dir", Some(text(&folders.save)));
            option("--load_dir", Some(text(&folders.load)));
            option(
                "--save_interval",
                sizes.save_interval.map(|n| n.to_string()),
            );
        }
        let mut set = |key: &str, value: String| words.push(format!("{key}={value}"));
        set(
            "model.sequence_parallel",
            parallel.sequence_parallel.to_string(),
        );
        if let Some(steps) = sizes.decay_steps {
            set("scheduler.lr_decay_iters", steps.to_string());
        }
        set(
            "logger.tensorboard_dir",
            hydra_text(&text(&folders.tensorboard)),
        );
        if !self.saves {
            // Upstream's folder for both is one for all recipes.
            set("checkpoint.save", "null".to_owned());
            set("checkpoint.load", "null".to_owned());
        }
        // The signal before the time limit ends in a checkpoint only if somebody listens.
        set("train.exit_signal_handler", "true".to_owned());
        for (key, value) in &self.overrides {
            set(key, value.clone());
        }
        words
    }

    /// What the ranks do, a line each, for the head of a script.
    pub fn description(&self, gpus_per_node: usize) -> Vec<String> {
        let p = &self.parallel;
        let mut lines = vec![format!("{}: {}", self.recipe, self.model)];
        let shape = self.nodes(gpus_per_node).map_or(String::new(), |(n, g)| {
            format!(", {g} a node on {n} node{}", if n == 1 { "" } else { "s" })
        });
        lines.push(format!(
            "ranks     {} = tp {} x cp {} x dp {} x pp {}{shape}",
            self.gpus(),
            p.tp,
            p.cp,
            p.dp,
            p.pp
        ));
        if p.vpp > 1 {
            lines.push(format!(
                "pipeline  {} stages, each in {} virtual ones",
                p.pp, p.vpp
            ));
        }
        if p.ep > 1 || p.etp > 1 {
            let cut = p.ep.saturating_mul(p.etp).saturating_mul(p.pp);
            let copies = self.gpus().checked_div(cut).unwrap_or(0);
            lines.push(format!(
                "experts   ep {} x etp {}, each held by {copies} ranks of expert data parallel",
                p.ep, p.etp
            ));
        }
        if p.sequence_parallel {
            lines.push(format!("sequence  parallel over the {} ranks of tp", p.tp));
        }
        if let (Some(global), Some(micro)) =
            (self.sizes.global_batch_size, self.sizes.micro_batch_size)
        {
            let accumulated = global
                .checked_div(micro.saturating_mul(p.dp))
                .unwrap_or_default();
            let tokens = self
                .sizes
                .seq_length
                .map_or(String::new(), |n| format!(" of {n} tokens"));
            lines.push(format!(
                "batch     {global} sequences{tokens} = {micro} x dp {} x {accumulated} micro-batches",
                p.dp
            ));
        }
        if self.mtp_depth > 0 {
            let is_free = self.overrides.iter().any(|(key, value)| {
                key == "model.pipeline_model_parallel_layout" && value != "null"
            });
            let place = if is_free || p.pp < 2 {
                ""
            } else {
                ", on the last stage"
            };
            lines.push(format!("mtp       depth {}{place}", self.mtp_depth));
        }
        if !self.saves {
            lines.push("files     no checkpoints are written".to_owned());
        }
        for code in &self.accepted {
            lines.push(format!("accepted  the plan's problem {code}"));
        }
        lines
    }
}

/// A number as Python and TOML read it: `1e-5`, `0.0003`.
fn float(value: f64) -> String {
    let text = format!("{value:?}");
    if text.contains("e-") || value == 0.0 || value.abs() >= 1e-3 {
        text
    } else {
        format!("{value:e}")
    }
}

/// A string in Hydra's grammar: as it is where that is safe, else in quotes of its own.
pub fn hydra_text(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:@%+".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\\', r"\\").replace('\'', r"\'"))
}
