//! Every published recipe of upstream against the table of what upstream's functions set, both ways.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use toml::Value as Toml;
use trestle::base::Severity;
use trestle::plan;
use trestle::recipe::{Megatron, Value, change, load};

/// A field of the table and the key that holds it here. Short forms of tables and presets are at the end.
#[rustfmt::skip]
const FIELDS: &[(&str, &str)] = &[
    ("name", "megatron.recipe"),
    ("aliases", "megatron.aliases"),
    ("model", "model.size"),
    ("hf_id", "megatron.model.hf_model_id"),
    ("kind", "megatron.mode"),
    ("variant", "megatron.variant"),
    ("hardware", "megatron.hardware"),
    ("gpus", "megatron.gpus"),
    ("gpus_per_node", "megatron.gpus_per_node"),
    ("seq_length", "train.seq_length"),
    ("train_iters", "train.steps"),
    ("calculate_per_token_loss", "train.per_token_loss"),
    ("empty_unused_memory_level", "megatron.train.empty_unused_memory_level"),
    ("architecture_override", "megatron.architecture"),
    ("parallel.tp", "parallel.tp"),
    ("parallel.pp", "parallel.pp"),
    ("parallel.vpp", "parallel.vpp"),
    ("parallel.cp", "parallel.cp"),
    ("parallel.ep", "parallel.ep"),
    ("parallel.etp", "parallel.etp"),
    ("parallel.sequence_parallel", "parallel.sequence_parallel"),
    ("parallel.num_layers_first_stage", "megatron.model.num_layers_in_first_pipeline_stage"),
    ("parallel.num_layers_last_stage", "megatron.model.num_layers_in_last_pipeline_stage"),
    ("parallel.batch_p2p_sync", "megatron.model.batch_p2p_sync"),
    ("batch.global_batch_size", "train.global_batch_size"),
    ("batch.micro_batch_size", "train.micro_batch_size"),
    ("optim.lr", "optimizer.lr"),
    ("optim.min_lr", "schedule.min_lr"),
    ("optim.warmup_iters", "schedule.warmup_steps"),
    ("optim.decay_iters", "schedule.decay_steps"),
    ("optim.decay_style", "schedule.kind"),
    ("optim.weight_decay", "optimizer.weight_decay"),
    ("optim.beta1", "optimizer.beta1"),
    ("optim.beta2", "optimizer.beta2"),
    ("optim.eps", "optimizer.eps"),
    ("optim.clip_grad", "optimizer.clip_grad"),
    ("optim.precision_aware_optimizer", "megatron.optimizer.use_precision_aware_optimizer"),
    ("optim.main_params_dtype", "megatron.optimizer.main_params_dtype"),
    ("optim.main_grads_dtype", "megatron.optimizer.main_grads_dtype"),
    ("optim.exp_avg_dtype", "megatron.optimizer.exp_avg_dtype"),
    ("optim.exp_avg_sq_dtype", "megatron.optimizer.exp_avg_sq_dtype"),
    ("precision.name", "megatron.precision"),
    ("precision.params_dtype", "megatron.model.params_dtype"),
    ("precision.grad_reduce_in_fp32", "megatron.mixed_precision.grad_reduce_in_fp32"),
    ("precision.cross_entropy_fusion", "megatron.model.cross_entropy_loss_fusion"),
    ("precision.cross_entropy_impl", "megatron.model.cross_entropy_fusion_impl"),
    ("precision.attention_backend", "megatron.model.attention_backend"),
    ("recompute.granularity", "megatron.model.recompute_granularity"),
    ("recompute.method", "megatron.model.recompute_method"),
    ("recompute.num_layers", "megatron.model.recompute_num_layers"),
    ("recompute.modules", "megatron.model.recompute_modules"),
    ("freeze.language_model", "megatron.model.freeze_language_model"),
    ("freeze.vision_model", "megatron.model.freeze_vision_model"),
    ("freeze.vision_projection", "megatron.model.freeze_vision_projection"),
    ("mtp.loss_scaling_factor", "mtp.loss_scale"),
    ("mtp.source", "megatron.mtp_depth"),
    ("moe.token_dispatcher", "megatron.model.moe_token_dispatcher_type"),
    ("moe.flex_backend", "megatron.model.moe_flex_dispatcher_backend"),
    ("moe.dispatcher_num_sms", "megatron.model.moe_flex_dispatcher_num_sms"),
    ("moe.preprocessing_num_sms", "megatron.model.moe_hybridep_num_sms_preprocessing"),
    ("moe.grouped_gemm", "megatron.model.moe_grouped_gemm"),
    ("moe.permute_fusion", "megatron.model.moe_permute_fusion"),
    ("moe.permute_fusion_into_hybridep", "megatron.model.moe_permute_fusion_into_hybridep"),
    ("moe.shared_expert_overlap", "megatron.model.moe_shared_expert_overlap"),
    ("moe.force_load_balancing", "megatron.model.moe_router_force_load_balancing"),
    ("moe.overlap_dispatch_backward_with_experts_wgrad", "megatron.model.overlap_dispatch_backward_with_experts_wgrad"),
    ("moe.aux_loss_coeff", "megatron.model.moe_aux_loss_coeff"),
    ("moe.load_balancing", "megatron.model.moe_router_load_balancing_type"),
    ("moe.router_fusion", "megatron.model.moe_router_fusion"),
    ("moe.router_dtype", "megatron.model.moe_router_dtype"),
    ("moe.high_priority_a2a_comm_stream", "megatron.model.high_priority_a2a_comm_stream"),
    ("dataset.kind", "megatron.data"),
    ("dataset.prompt", "megatron.dataset.prompt"),
    ("dataset.seq_length", "train.seq_length"),
    ("dataset.hf_processor", "megatron.dataset.hf_processor_path"),
    ("dataset.dataset_name", "megatron.dataset.source.dataset_name"),
    ("dataset.in_batch_packing", "megatron.dataset.enable_in_batch_packing"),
    ("dataset.dataloader_type", "megatron.dataset.dataloader_type"),
    ("dataset.num_workers", "megatron.dataset.num_workers"),
    ("dataset.pad_to_max_length", "megatron.dataset.pad_to_max_length"),
    ("dataset.defer_in_batch_packing_to_step", "megatron.dataset.defer_in_batch_packing_to_step"),
    ("dataset.in_batch_packing_pad_to_multiple_of", "megatron.dataset.in_batch_packing_pad_to_multiple_of"),
    ("dataset.do_validation", "megatron.dataset.do_validation"),
    ("dataset.tokenizer_type", "megatron.tokenizer.tokenizer_type"),
    ("dataset.use_tokenizer_vocab_size", "megatron.tokenizer.use_tokenizer_vocab_size"),
    ("ddp.overlap_grad_reduce", "megatron.ddp.overlap_grad_reduce"),
    ("ddp.overlap_param_gather", "megatron.ddp.overlap_param_gather"),
    ("ddp.average_in_collective", "megatron.ddp.average_in_collective"),
    ("ddp.use_distributed_optimizer", "megatron.ddp.use_distributed_optimizer"),
    ("ddp.check_for_nan_in_grad", "megatron.ddp.check_for_nan_in_grad"),
    ("ddp.data_parallel_sharding_strategy", "megatron.ddp.data_parallel_sharding_strategy"),
    ("ddp.use_megatron_fsdp", "megatron.ddp.use_megatron_fsdp"),
    ("ddp.fsdp_double_buffer", "megatron.ddp.fsdp_double_buffer"),
    ("ddp.megatron_fsdp_max_pool_double_buffer", "megatron.ddp.megatron_fsdp_max_pool_double_buffer"),
    ("ddp.fsdp_db_use_persist_buf_on_alloc_fail", "megatron.ddp.fsdp_db_use_persist_buf_on_alloc_fail"),
    ("ddp.nccl_ub", "megatron.ddp.nccl_ub"),
    ("ddp.num_distributed_optimizer_instances", "megatron.ddp.num_distributed_optimizer_instances"),
    ("ddp.check_for_large_grads", "megatron.ddp.check_for_large_grads"),
    ("runtime.log_interval", "logging.interval"),
    ("runtime.eval_interval", "train.eval_interval"),
    ("runtime.eval_iters", "megatron.validation.eval_iters"),
    ("runtime.checkpoint_enabled", "megatron.checkpoints"),
    ("runtime.save_interval", "checkpoint.interval"),
    ("runtime.ckpt_format", "megatron.checkpoint.ckpt_format"),
    ("runtime.log_throughput", "megatron.logger.log_throughput"),
    ("runtime.distributed_timeout_minutes", "megatron.dist.distributed_timeout_minutes"),
    ("runtime.cuda_graph_impl", "megatron.model.cuda_graph_impl"),
    ("runtime.cuda_graph_modules", "megatron.model.cuda_graph_modules"),
    ("runtime.cuda_graph_warmup_steps", "megatron.model.cuda_graph_warmup_steps"),
    ("runtime.vision_cuda_graph_impl", "megatron.model.vision_cuda_graph_impl"),
    ("runtime.vision_cuda_graph_scope", "megatron.model.vision_cuda_graph_scope"),
    ("runtime.use_te_rng_tracker", "megatron.model.use_te_rng_tracker"),
    ("runtime.apply_rope_fusion", "megatron.model.apply_rope_fusion"),
    ("runtime.transformer_impl", "megatron.model.transformer_impl"),
    ("runtime.gradient_accumulation_fusion", "megatron.model.gradient_accumulation_fusion"),
    ("runtime.max_vision_cuda_graph_seq_length", "megatron.model.max_vision_cuda_graph_seq_length"),
    ("runtime.bias_activation_fusion", "megatron.model.bias_activation_fusion"),
    ("peft.scheme", "megatron.peft_scheme"),
    ("peft.lora_A_init", "megatron.peft.lora_A_init_method"),
    ("peft.lora_B_init", "megatron.peft.lora_B_init_method"),
    ("peft.dim", "megatron.peft.dim"),
    ("peft.alpha", "megatron.peft.alpha"),
    ("peft.dropout", "megatron.peft.dropout"),
    ("peft.dropout_position", "megatron.peft.dropout_position"),
    ("peft.target_modules", "megatron.peft.target_modules"),
    ("peft.share_expert_adapters", "megatron.peft.share_expert_adapters"),
    ("tp", "parallel.tp"),
    ("pp", "parallel.pp"),
    ("vpp", "parallel.vpp"),
    ("cp", "parallel.cp"),
    ("ep", "parallel.ep"),
    ("etp", "parallel.etp"),
    ("sequence_parallel", "parallel.sequence_parallel"),
    ("global_batch_size", "train.global_batch_size"),
    ("micro_batch_size", "train.micro_batch_size"),
    ("lr", "optimizer.lr"),
    ("min_lr", "schedule.min_lr"),
    ("warmup_iters", "schedule.warmup_steps"),
    ("weight_decay", "optimizer.weight_decay"),
    ("beta1", "optimizer.beta1"),
    ("beta2", "optimizer.beta2"),
    ("eps", "optimizer.eps"),
    ("clip_grad", "optimizer.clip_grad"),
    ("init_method_std", "megatron.model.init_method_std"),
    ("recompute", "megatron.model.recompute_granularity"),
    ("apply_rope_fusion", "megatron.model.apply_rope_fusion"),
    ("cross_entropy_fusion", "megatron.model.cross_entropy_loss_fusion"),
    ("cross_entropy_impl", "megatron.model.cross_entropy_fusion_impl"),
    ("cuda_graph_impl", "megatron.model.cuda_graph_impl"),
    ("cuda_graph_modules", "megatron.model.cuda_graph_modules"),
    ("cuda_graph_warmup_steps", "megatron.model.cuda_graph_warmup_steps"),
    ("precision", "megatron.precision"),
    ("grad_reduce_in_fp32", "megatron.mixed_precision.grad_reduce_in_fp32"),
    ("overlap_grad_reduce", "megatron.ddp.overlap_grad_reduce"),
    ("overlap_param_gather", "megatron.ddp.overlap_param_gather"),
    ("tp_comm_overlap", "megatron.comm_overlap.tp_comm_overlap"),
    ("overlap_moe_expert_parallel_comm", "megatron.comm_overlap.overlap_moe_expert_parallel_comm"),
    ("token_dispatcher", "megatron.model.moe_token_dispatcher_type"),
    ("flex_backend", "megatron.model.moe_flex_dispatcher_backend"),
    ("router_dtype", "megatron.model.moe_router_dtype"),
    ("router_fusion", "megatron.model.moe_router_fusion"),
    ("grouped_gemm", "megatron.model.moe_grouped_gemm"),
    ("permute_fusion", "megatron.model.moe_permute_fusion"),
    ("force_load_balancing", "megatron.model.moe_router_force_load_balancing"),
    ("mtp_loss_scaling_factor", "mtp.loss_scale"),
    ("num_layers_first_stage", "megatron.model.num_layers_in_first_pipeline_stage"),
    ("num_layers_last_stage", "megatron.model.num_layers_in_last_pipeline_stage"),
];

/// What upstream's common code sets in library and text recipes.
#[rustfmt::skip]
const COMMON: &[(&str, &str)] = &[
    ("weight_decay_optimizer_field", "megatron.optimizer.weight_decay"),
    ("weight_decay_incr_style", "megatron.scheduler.weight_decay_incr_style"),
    ("lr_warmup_init", "megatron.scheduler.lr_warmup_init"),
    ("override_opt_param_scheduler", "megatron.scheduler.override_opt_param_scheduler"),
    ("seed", "train.seed"),
    ("fully_parallel_save", "megatron.checkpoint.fully_parallel_save"),
    ("manual_gc", "megatron.train.manual_gc"),
    ("manual_gc_interval", "megatron.train.manual_gc_interval"),
    ("manual_gc_eval", "megatron.train.manual_gc_eval"),
    ("checkpoint_save", "megatron.checkpoint.save"),
    ("checkpoint_load", "megatron.checkpoint.load"),
    ("tensorboard_dir", "megatron.logger.tensorboard_dir"),
    ("log_timers_to_tensorboard", "megatron.logger.log_timers_to_tensorboard"),
];

/// Fields that the model says, by its size.
const MODEL: [&str; 3] = ["arch", "mtp.num_layers", "mtp_num_layers"];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/megatron")
}

/// All recipes of the folder, by upstream's name.
pub(crate) fn published() -> BTreeMap<String, Megatron> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(root()).expect("the folder is part of the package") {
        let path = entry.expect("readable").path();
        if path.extension().is_some_and(|e| e == "toml") {
            let loaded = load(&path, &[], &|path: &Path| std::fs::read_to_string(path));
            let recipe = loaded
                .megatron
                .unwrap_or_else(|| panic!("{}: {:?}", path.display(), loaded.diagnostics));
            let stem = path.file_stem().expect("a name").to_string_lossy();
            assert_eq!(recipe.recipe, format!("{stem}_config"));
            assert!(found.insert(recipe.recipe.clone(), recipe).is_none());
        }
    }
    found
}

pub(crate) fn table() -> toml::Table {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/recipes/published.toml");
    let text = std::fs::read_to_string(path).expect("the table is part of the package");
    text.parse().expect("the table is TOML")
}

/// The sections of recipes with their entries.
pub(crate) fn entries(table: &toml::Table) -> impl Iterator<Item = (&'static str, &toml::Table)> {
    ["recipe", "text_recipe", "perf_recipe"]
        .into_iter()
        .flat_map(|section| {
            let list = table[section].as_array().expect("a list of recipes");
            list.iter()
                .map(move |entry| (section, entry.as_table().expect("a recipe is a table")))
        })
}

fn flatten(prefix: &str, table: &toml::Table, flat: &mut BTreeMap<String, Toml>) {
    for (name, value) in table {
        let path = format!("{prefix}{name}");
        match value {
            Toml::Table(inner) => flatten(&format!("{path}."), inner, flat),
            value => {
                flat.insert(path, value.clone());
            }
        }
    }
}

fn value(toml: &Toml) -> Value {
    match toml {
        Toml::String(s) => Value::String(s.clone()),
        Toml::Integer(n) => Value::Integer(*n),
        Toml::Float(x) => Value::Float(*x),
        Toml::Boolean(b) => Value::Boolean(*b),
        Toml::Array(items) => Value::List(items.iter().map(value).collect()),
        other => panic!("{other}"),
    }
}

/// The value as our recipes spell it.
fn ours(key: &str, toml: &Toml) -> Value {
    match (key, toml) {
        // 0 is upstream's "no interleaving", 1 is ours.
        ("parallel.vpp", Toml::Integer(0)) => Value::Integer(1),
        ("megatron.peft.alpha", Toml::Integer(n)) => Value::Float(*n as f64),
        ("megatron.mtp_depth", Toml::String(words)) => {
            let by_recipe = words.starts_with("hard-coded");
            Value::String(if by_recipe { "recipe" } else { "model" }.into())
        }
        ("megatron.precision", Toml::String(name)) => Value::String(match name.as_str() {
            "bf16" => "bf16_mixed".into(),
            "fp8 current scaling" => "bf16_with_fp8_current_scaling_mixed".into(),
            name => name.into(),
        }),
        (_, toml) => value(toml),
    }
}

/// What the table says about a recipe, under our keys.
fn expected(section: &str, entry: &toml::Table, table: &toml::Table) -> BTreeMap<String, Value> {
    let mut entry = entry.clone();
    entry.remove("derived");
    let mut environment = BTreeMap::new();
    let mut put = |variables: &toml::Table| {
        for (name, value) in variables {
            environment.insert(name.clone(), ours("", value));
        }
    };
    let mut flat = BTreeMap::new();
    let mut values = BTreeMap::new();
    if section != "perf_recipe" {
        let defaults = table["defaults"].as_table().expect("a table");
        put(defaults["env"].as_table().expect("a table"));
        let common = defaults["common"].as_table().expect("a table");
        assert_eq!(common.len(), COMMON.len());
        for (field, key) in COMMON {
            values.insert((*key).to_string(), ours(key, &common[*field]));
        }
    }
    if let Some(Toml::Table(own)) = entry.remove("env") {
        put(&own);
    }
    if !environment.is_empty() {
        let table = Value::Table(environment.into_iter().collect());
        values.insert("megatron.env".into(), table);
    }
    flatten("", &entry, &mut flat);
    for (field, toml) in &flat {
        if MODEL.contains(&field.as_str()) {
            continue;
        }
        let key = FIELDS.iter().find(|(known, _)| known == field);
        let (_, key) = key.unwrap_or_else(|| panic!("no key for {field}"));
        values.insert((*key).to_string(), ours(key, toml));
    }
    if values.get("megatron.checkpoints") == Some(&Value::Boolean(false)) {
        values.remove("megatron.checkpoint.save");
    }
    values
}

#[test]
fn every_published_value_is_in_our_recipe_and_nothing_else() {
    let table = table();
    let published = published();
    let mut seen = BTreeSet::new();
    for (section, entry) in entries(&table) {
        let name = entry["name"].as_str().expect("a name");
        let recipe = &published[name];
        let said: BTreeMap<String, Value> = recipe
            .said()
            .map(|(key, value)| (key.path.to_string(), value.clone()))
            .collect();
        assert_eq!(said, expected(section, entry, &table), "{name}");
        assert_eq!(recipe.model.text.mtp_num_hidden_layers, 1, "{name}");
        if let Some(arch) = entry.get("arch").and_then(Toml::as_str) {
            assert_eq!(recipe.model.text.moe.is_some(), arch == "moe", "{name}");
        }
        assert_eq!(
            recipe.model.vision.is_none(),
            section == "text_recipe",
            "{name}"
        );
        seen.insert(name.to_string());
    }
    assert_eq!(seen, published.keys().cloned().collect());
    assert_eq!(seen.len(), 36);
}

#[test]
fn data_parallel_ranks_and_micro_batches_are_those_of_the_table() {
    let table = table();
    let published = published();
    for (_, entry) in entries(&table) {
        let Some(derived) = entry.get("derived") else {
            continue;
        };
        let recipe = &published[entry["name"].as_str().expect("a name")];
        let dp = recipe.degrees.dp;
        assert_eq!(Some(dp as i64), derived["dp"].as_integer());
        let step = recipe.batch.micro_batch_size * dp;
        let batch = recipe.batch.global_batch_size;
        let accumulated = batch.is_multiple_of(step).then_some((batch / step) as i64);
        let known = derived.get("grad_accum").and_then(Toml::as_integer);
        assert_eq!(accumulated, known, "{}", recipe.recipe);
    }
}

/// Published recipes that cannot start: code, and the smallest change.
const STUCK: [(&str, &str, &str); 10] = [
    (
        "qwen35_vl_122b_a10b_peft_8gpu_h100_bf16_config",
        "global-batch",
        "train.global_batch_size = 32",
    ),
    (
        "qwen35_vl_122b_a10b_sft_48gpu_h100_bf16_config",
        "global-batch",
        "train.global_batch_size = 32",
    ),
    (
        "qwen35_vl_397b_a17b_peft_32gpu_h100_bf16_config",
        "global-batch",
        "train.global_batch_size = 64",
    ),
    (
        "qwen35_vl_397b_a17b_sft_128gpu_h100_bf16_config",
        "global-batch",
        "train.global_batch_size = 64",
    ),
    // 60 layers over 8 or 16 stages.
    (
        "qwen35_vl_397b_a17b_pretrain_256gpu_h100_bf16_config",
        "layers-by-pp",
        "megatron.model.num_layers_in_first_pipeline_stage = 8 and megatron.model.num_layers_in_last_pipeline_stage = 4",
    ),
    (
        "qwen35_vl_397b_a17b_pretrain_256gpu_h100_fp8cs_config",
        "layers-by-pp",
        "megatron.model.num_layers_in_first_pipeline_stage = 8 and megatron.model.num_layers_in_last_pipeline_stage = 4",
    ),
    (
        "qwen35_vl_397b_a17b_pretrain_512gpu_h100_bf16_mock_config",
        "layers-by-pp",
        "megatron.model.pipeline_model_parallel_layout = Et*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*4|t*3|t*3|t*2mL",
    ),
    // 20 layers a stage in 12 chunks.
    (
        "qwen35_vl_35b_a3b_pretrain_16gpu_h100_fp8cs_config",
        "layers-by-vpp",
        "parallel.vpp = 10",
    ),
    (
        "qwen35_vl_35b_a3b_sft_2gpu_h100_bf16_fsdp_config",
        "fsdp-checkpoint",
        "megatron.checkpoint.ckpt_format = fsdp_dtensor",
    ),
    // 17 and 23 layers for the two ends of one stage.
    (
        "qwen35_vl_35b_a3b_sft_8gpu_gb200_bf16_functional_config",
        "one-stage-two-ends",
        "\"model.num_layers_in_first_pipeline_stage\" in megatron.unset and \"model.num_layers_in_last_pipeline_stage\" in megatron.unset",
    ),
];

#[test]
fn ten_published_recipes_cannot_start_and_each_has_a_smallest_change_with_which_it_does() {
    let mut stuck = BTreeMap::new();
    for (name, recipe) in published() {
        let job = recipe.job();
        let problems = plan::problems(&job);
        let errors: Vec<_> = problems
            .iter()
            .filter(|problem| problem.severity == Severity::Error)
            .collect();
        if let [problem] = errors[..] {
            let fix = problem.fixes.first().expect("there is a change");
            let mended = plan::mended(&job, fix).expect("the change is known");
            let left = plan::problems(&mended);
            assert!(
                left.iter().all(|p| p.severity != Severity::Error),
                "{name} after {fix:?}: {left:#?}"
            );
            stuck.insert(name, (problem.code, change(fix)));
        } else {
            assert!(errors.is_empty(), "{name}: {errors:#?}");
        }
    }
    let expected: BTreeMap<_, _> = STUCK
        .iter()
        .map(|(name, code, fix)| ((*name).to_string(), (*code, (*fix).to_string())))
        .collect();
    assert_eq!(stuck, expected);
}

#[test]
fn an_accumulation_that_does_not_divide_is_exactly_what_stops_at_the_global_batch() {
    let table = table();
    let missing: BTreeSet<&str> = entries(&table)
        .filter(|(_, entry)| {
            entry
                .get("derived")
                .is_some_and(|d| d.get("grad_accum").is_none())
        })
        .map(|(_, entry)| entry["name"].as_str().expect("a name"))
        .collect();
    let stopped: BTreeSet<&str> = STUCK
        .iter()
        .filter(|(_, code, _)| *code == "global-batch")
        .map(|(name, _, _)| *name)
        .collect();
    assert_eq!(missing, stopped);
}
