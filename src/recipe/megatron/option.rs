//! Which key of ours is which option of Bridge's configuration.

use super::super::key::{self, KEYS};

/// Keys that our trainer has too, with the options they set. The first option is the one that is read back.
const SHARED: &[(&str, &[&str])] = &[
    ("parallel.tp", &["model.tensor_model_parallel_size"]),
    ("parallel.pp", &["model.pipeline_model_parallel_size"]),
    (
        "parallel.vpp",
        &["model.virtual_pipeline_model_parallel_size"],
    ),
    ("parallel.cp", &["model.context_parallel_size"]),
    ("parallel.ep", &["model.expert_model_parallel_size"]),
    ("parallel.etp", &["model.expert_tensor_parallel_size"]),
    ("parallel.sequence_parallel", &["model.sequence_parallel"]),
    ("model.mtp_num_hidden_layers", &["model.mtp_num_layers"]),
    ("mtp.loss_scale", &["model.mtp_loss_scaling_factor"]),
    ("train.steps", &["train.train_iters"]),
    ("train.micro_batch_size", &["train.micro_batch_size"]),
    ("train.global_batch_size", &["train.global_batch_size"]),
    // Bridge copies the model's from the data's at the end; both are set so that a dump says the same.
    (
        "train.seq_length",
        &["dataset.seq_length", "model.seq_length"],
    ),
    ("train.per_token_loss", &["model.calculate_per_token_loss"]),
    ("train.eval_interval", &["validation.eval_interval"]),
    ("train.seed", &["rng.seed"]),
    ("optimizer.lr", &["optimizer.lr"]),
    ("optimizer.beta1", &["optimizer.adam_beta1"]),
    ("optimizer.beta2", &["optimizer.adam_beta2"]),
    ("optimizer.eps", &["optimizer.adam_eps"]),
    // The scheduler's value is the one that counts.
    (
        "optimizer.weight_decay",
        &["scheduler.start_weight_decay", "scheduler.end_weight_decay"],
    ),
    ("optimizer.clip_grad", &["optimizer.clip_grad"]),
    ("schedule.kind", &["scheduler.lr_decay_style"]),
    ("schedule.warmup_steps", &["scheduler.lr_warmup_iters"]),
    ("schedule.decay_steps", &["scheduler.lr_decay_iters"]),
    ("schedule.min_lr", &["optimizer.min_lr"]),
    ("checkpoint.interval", &["checkpoint.save_interval"]),
    ("logging.interval", &["logger.log_interval"]),
];

/// The options that a key sets, as dotted paths; none for keys about the job, the model's geometry, or our trainer alone.
pub fn options(key: &str) -> Vec<&'static str> {
    if let Some((_, options)) = SHARED.iter().find(|(known, _)| *known == key) {
        return options.to_vec();
    }
    let below = key::find(key).and_then(|key| key.path.strip_prefix("megatron."));
    match below {
        Some("mixed_precision.grad_reduce_in_fp32") => {
            vec![
                "mixed_precision.grad_reduce_in_fp32",
                "ddp.grad_reduce_in_fp32",
            ]
        }
        Some(path) if path.contains('.') => vec![path],
        _ => Vec::new(),
    }
}

/// The key that sets an option, if there is one.
pub fn key_of(option: &str) -> Option<&'static str> {
    if let Some((key, _)) = SHARED.iter().find(|(_, options)| options.contains(&option)) {
        return Some(key);
    }
    if option == "ddp.grad_reduce_in_fp32" {
        return Some("megatron.mixed_precision.grad_reduce_in_fp32");
    }
    KEYS.iter()
        .map(|key| key.path)
        .find(|path| path.strip_prefix("megatron.") == Some(option) && option.contains('.'))
}

/// Whether a recipe for Megatron-Bridge can have the key.
pub(super) fn is_used(key: &str) -> bool {
    key.starts_with("megatron.")
        || key.starts_with("model.")
        || !options(key).is_empty()
        || matches!(key, "parallel.dp")
}
