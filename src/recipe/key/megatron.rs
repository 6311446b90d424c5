//! The keys of recipes for Megatron-Bridge, beyond those that our own trainer has too.
//!
//! A key `megatron.SECTION.NAME` is the option `SECTION.NAME` of Bridge's configuration, under Bridge's own name; one directly in
//! `[megatron]` is about the job and not an option. Every default is upstream's, so none is given here.

use super::{Fallback, Key, Kind, UNBOUNDED};

const fn key(path: &'static str, kind: Kind, doc: &'static str) -> Key {
    Key {
        path,
        kind,
        default: Fallback::Absent,
        unit: "",
        live: false,
        doc,
    }
}

const fn text(path: &'static str, doc: &'static str) -> Key {
    key(path, Kind::Text, doc)
}

const fn flag(path: &'static str, doc: &'static str) -> Key {
    key(path, Kind::Boolean, doc)
}

const fn count(path: &'static str, min: i64, unit: &'static str, doc: &'static str) -> Key {
    let kind = Kind::Integer {
        min,
        max: UNBOUNDED,
    };
    let mut key = key(path, kind, doc);
    key.unit = unit;
    key
}

const fn float(path: &'static str, doc: &'static str) -> Key {
    let kind = Kind::Float {
        min: 0.0,
        max: f64::MAX,
        open: false,
    };
    key(path, kind, doc)
}

const fn choice(path: &'static str, words: &'static [&'static str], doc: &'static str) -> Key {
    key(path, Kind::Choice(words), doc)
}

const fn words(path: &'static str, words: &'static [&'static str], doc: &'static str) -> Key {
    key(path, Kind::Choices(words), doc)
}

const DTYPES: &[&str] = &["float32", "bfloat16", "float16", "uint8"];
const GRAPHS: &[&str] = &["none", "local", "transformer_engine", "full_iteration"];
const GRAPH_MODULES: &[&str] = &[
    "attn",
    "mlp",
    "mamba",
    "moe",
    "moe_router",
    "moe_preprocess",
];
const RECOMPUTED: &[&str] = &[
    "core_attn",
    "moe_act",
    "layernorm",
    "mla_up_proj",
    "mlp",
    "moe",
    "shared_experts",
    "gdn_norm_out",
];
const PRECISIONS: &[&str] = &[
    "bf16_mixed",
    "fp16_mixed",
    "bf16_with_fp8_delayed_scaling_mixed",
    "bf16_with_fp8_current_scaling_mixed",
    "bf16_with_fp8_subchannel_scaling_mixed",
    "bf16_with_mxfp8_mixed",
    "bf16_with_nvfp4_mixed",
];

/// The keys below `megatron`, in the order of sections that documents have.
#[rustfmt::skip]
pub(super) const MEGATRON: &[Key] = &[
    // the job
    text("megatron.recipe", "Upstream's name of the recipe, which run_recipe.py looks up"),
    key("megatron.aliases", Kind::Texts, "Older names of the same recipe"),
    choice("megatron.mode", &["pretrain", "sft", "peft"], "What is trained: all from scratch, all from weights, adapters"),
    text("megatron.variant", "Which of several recipes of a size and mode it is"),
    text("megatron.hardware", "The machine the recipe is for, such as H100"),
    count("megatron.gpus", 1, "ranks", "GPUs of the job"),
    count("megatron.gpus_per_node", 1, "ranks", "GPUs of a node"),
    text("megatron.architecture", "Class that selects the converter where config.json does not say it"),
    choice("megatron.mtp_depth", &["model", "recipe"], "Who sets the MTP depth upstream; here it is always the model"),
    choice("megatron.precision", PRECISIONS, "Mixed precision by upstream's name"),
    choice("megatron.peft_scheme", &["lora", "dora"], "Kind of the adapters"),
    choice("megatron.data", &["mock-vlm-sft", "hf-conversation", "mock-gpt", "megatron-indexed", "energon", "local-jsonl", "local-vlm"], "Kind of the data"),
    flag("megatron.checkpoints", "Whether checkpoints are written"),
    key("megatron.env", Kind::Environment, "Environment defaults; a variable that the process has wins"),
    key("megatron.unset", Kind::Texts, "Options that are set to null, by dotted path"),
    key("megatron.overrides", Kind::Overrides, "Further options by dotted path; a + before the path adds one that is not there"),
    // model
    text("megatron.model.hf_model_id", "Model on the Hugging Face hub that gives configuration and processor"),
    count("megatron.model.num_layers_in_first_pipeline_stage", 0, "layers", "Decoder layers of the first pipeline stage"),
    count("megatron.model.num_layers_in_last_pipeline_stage", 0, "layers", "Decoder layers of the last pipeline stage"),
    flag("megatron.model.account_for_embedding_in_pipeline_split", "Count the embedding as a layer when layers are cut into stages"),
    flag("megatron.model.account_for_loss_in_pipeline_split", "Count the loss as a layer when layers are cut into stages"),
    text("megatron.model.pipeline_model_parallel_layout", "Every pipeline stage spelled out: E embedding, t layer, m MTP, L loss, | between stages"),
    flag("megatron.model.batch_p2p_sync", "Synchronise after batched sends between stages"),
    choice("megatron.model.params_dtype", DTYPES, "Type of the weights"),
    float("megatron.model.init_method_std", "Standard deviation of random initialisation"),
    choice("megatron.model.transformer_impl", &["transformer_engine", "local", "inference_optimized"], "Which layers are built"),
    choice("megatron.model.attention_backend", &["auto", "flash", "fused", "unfused", "local"], "Which attention kernels are used"),
    flag("megatron.model.apply_rope_fusion", "Rotate in a fused kernel"),
    flag("megatron.model.bias_activation_fusion", "Fuse bias and activation"),
    flag("megatron.model.gradient_accumulation_fusion", "Accumulate weight gradients inside the matrix product"),
    flag("megatron.model.cross_entropy_loss_fusion", "Fuse the cross entropy"),
    choice("megatron.model.cross_entropy_fusion_impl", &["native", "te", "linear"], "Which fused cross entropy"),
    choice("megatron.model.recompute_granularity", &["none", "selective", "full"], "What the backward computes again"),
    choice("megatron.model.recompute_method", &["uniform", "block"], "How layers are grouped for full recompute"),
    count("megatron.model.recompute_num_layers", 1, "layers", "Layers of a recompute group"),
    words("megatron.model.recompute_modules", RECOMPUTED, "Parts that selective recompute covers"),
    flag("megatron.model.freeze_language_model", "Do not train the language model"),
    flag("megatron.model.freeze_vision_model", "Do not train the vision tower"),
    flag("megatron.model.freeze_vision_projection", "Do not train the projection from vision to language"),
    choice("megatron.model.cuda_graph_impl", GRAPHS, "How CUDA graphs are captured"),
    words("megatron.model.cuda_graph_modules", GRAPH_MODULES, "Parts that CUDA graphs cover"),
    count("megatron.model.cuda_graph_warmup_steps", 0, "steps", "Steps before graphs are captured"),
    choice("megatron.model.vision_cuda_graph_impl", GRAPHS, "How CUDA graphs of the vision tower are captured"),
    words("megatron.model.vision_cuda_graph_scope", GRAPH_MODULES, "Parts of the vision tower that CUDA graphs cover"),
    count("megatron.model.max_vision_cuda_graph_seq_length", 1, "patches", "Longest vision sequence that is captured"),
    flag("megatron.model.use_te_rng_tracker", "Random states that CUDA graphs can capture"),
    choice("megatron.model.moe_token_dispatcher_type", &["allgather", "alltoall", "flex"], "How tokens reach their experts"),
    choice("megatron.model.moe_flex_dispatcher_backend", &["deepep", "hybridep", "ncclep"], "Library of the flex dispatcher"),
    count("megatron.model.moe_flex_dispatcher_num_sms", 0, "SMs", "Multiprocessors that the flex dispatcher takes"),
    count("megatron.model.moe_hybridep_num_sms_preprocessing", 0, "SMs", "Multiprocessors of HybridEP's preprocessing"),
    flag("megatron.model.moe_grouped_gemm", "One grouped product for all experts of a rank"),
    flag("megatron.model.moe_permute_fusion", "Fuse the permutation of tokens"),
    flag("megatron.model.moe_permute_fusion_into_hybridep", "Let HybridEP permute the tokens"),
    flag("megatron.model.moe_router_fusion", "Fuse the router"),
    choice("megatron.model.moe_router_dtype", &["fp32", "fp64"], "Type of the router's arithmetic"),
    choice("megatron.model.moe_router_load_balancing_type", &["aux_loss", "seq_aux_loss", "global_aux_loss", "sinkhorn", "none"], "How experts are balanced"),
    float("megatron.model.moe_aux_loss_coeff", "Weight of the balancing loss"),
    flag("megatron.model.moe_router_force_load_balancing", "Route at random and evenly, for benchmarks"),
    flag("megatron.model.moe_shared_expert_overlap", "Run the shared expert beside the dispatch"),
    flag("megatron.model.overlap_dispatch_backward_with_experts_wgrad", "Run the dispatch's backward beside the experts' weight gradients"),
    flag("megatron.model.high_priority_a2a_comm_stream", "Dispatch on a stream of high priority"),
    // train
    flag("megatron.train.manual_gc", "Collect Python's garbage at fixed steps"),
    count("megatron.train.manual_gc_interval", 0, "steps", "Steps between collections"),
    count("megatron.train.manual_gc_eval", 0, "steps", "Collect around evaluations"),
    key("megatron.train.empty_unused_memory_level", Kind::Integer { min: 0, max: 2 }, "When PyTorch's cached memory is given back: 0 never, 1 after a step, 2 twice a step"),
    count("megatron.validation.eval_iters", 0, "steps", "Steps of an evaluation"),
    // optimizer
    choice("megatron.optimizer.optimizer", &["adam", "muon", "sgd"], "Update rule"),
    float("megatron.optimizer.weight_decay", "Field that the scheduler overwrites at each step; optimizer.weight_decay is what counts"),
    flag("megatron.optimizer.use_precision_aware_optimizer", "Hold moments and master weights in the types below"),
    choice("megatron.optimizer.main_params_dtype", DTYPES, "Type of the master weights"),
    choice("megatron.optimizer.main_grads_dtype", DTYPES, "Type of the gradients the update reads"),
    choice("megatron.optimizer.exp_avg_dtype", DTYPES, "Type of the first moment"),
    choice("megatron.optimizer.exp_avg_sq_dtype", DTYPES, "Type of the second moment"),
    choice("megatron.scheduler.weight_decay_incr_style", &["constant", "linear", "cosine"], "How weight decay goes from start to end"),
    float("megatron.scheduler.lr_warmup_init", "Learning rate at the start of the warm-up"),
    flag("megatron.scheduler.override_opt_param_scheduler", "Take the schedule from here and not from a checkpoint"),
    // precision, ddp, communication
    flag("megatron.mixed_precision.grad_reduce_in_fp32", "Sum gradients over ranks in f32"),
    flag("megatron.ddp.overlap_grad_reduce", "Reduce gradients beside the backward"),
    flag("megatron.ddp.overlap_param_gather", "Gather weights beside the forward"),
    flag("megatron.ddp.average_in_collective", "Average inside the collective; not with a loss normalised by tokens"),
    flag("megatron.ddp.use_distributed_optimizer", "Cut the optimizer over data-parallel ranks"),
    flag("megatron.ddp.check_for_nan_in_grad", "Stop at a gradient that is not finite"),
    flag("megatron.ddp.check_for_large_grads", "Stop at a gradient that is far too large"),
    choice("megatron.ddp.data_parallel_sharding_strategy", &["no_shard", "optim", "optim_grads", "optim_grads_params"], "What Megatron-FSDP cuts"),
    flag("megatron.ddp.use_megatron_fsdp", "Cut weights, gradients and optimizer with Megatron-FSDP"),
    flag("megatron.ddp.fsdp_double_buffer", "Two fixed buffers for gathered weights"),
    flag("megatron.ddp.megatron_fsdp_max_pool_double_buffer", "Size the two buffers by the largest unit"),
    flag("megatron.ddp.fsdp_db_use_persist_buf_on_alloc_fail", "Fall back to a lasting buffer"),
    flag("megatron.ddp.nccl_ub", "Register buffers with NCCL"),
    count("megatron.ddp.num_distributed_optimizer_instances", 1, "", "Copies of the distributed optimizer"),
    flag("megatron.comm_overlap.tp_comm_overlap", "Overlap tensor-parallel communication with products"),
    flag("megatron.comm_overlap.overlap_moe_expert_parallel_comm", "Overlap the dispatch of one micro-batch with the work of another"),
    // data
    text("megatron.dataset.prompt", "Prompt of mock samples"),
    text("megatron.dataset.hf_processor_path", "Model whose processor tokenises"),
    text("megatron.dataset.source.dataset_name", "Data set by upstream's name"),
    choice("megatron.dataset.dataloader_type", &["single", "cyclic", "batch", "external"], "Order of samples"),
    count("megatron.dataset.num_workers", 0, "processes", "Loader processes of a rank"),
    flag("megatron.dataset.data_sharding", "Each rank shuffles a part of its own"),
    flag("megatron.dataset.pin_memory", "Copy from pinned memory"),
    flag("megatron.dataset.persistent_workers", "Keep loader processes between epochs"),
    flag("megatron.dataset.pad_to_max_length", "Fill every row to seq_length"),
    flag("megatron.dataset.enable_in_batch_packing", "Pack the samples of a micro-batch into one row"),
    flag("megatron.dataset.defer_in_batch_packing_to_step", "Pack in the step and not in the loader"),
    count("megatron.dataset.in_batch_packing_pad_to_multiple_of", 1, "tokens", "Fill each packed sample to a multiple"),
    flag("megatron.dataset.do_validation", "Whether there is data for evaluations"),
    choice("megatron.tokenizer.tokenizer_type", &["HuggingFaceTokenizer", "NullTokenizer", "SentencePieceTokenizer", "GPT2BPETokenizer"], "Tokenizer"),
    count("megatron.tokenizer.vocab_size", 1, "tokens", "Vocabulary of a NullTokenizer; the model keeps its own"),
    flag("megatron.tokenizer.use_tokenizer_vocab_size", "Let the tokenizer decide the rows of the embedding"),
    // peft
    words("megatron.peft.target_modules", &["linear_qkv", "linear_proj", "linear_fc1", "linear_fc2", "in_proj", "out_proj", "eh_proj"], "Modules that get adapters, by their own name"),
    count("megatron.peft.dim", 1, "", "Rank of the adapters"),
    float("megatron.peft.alpha", "Scale of the adapters times their rank"),
    float("megatron.peft.dropout", "Share of the adapters' input that is dropped"),
    choice("megatron.peft.dropout_position", &["pre", "post"], "Before or after the adapters"),
    choice("megatron.peft.lora_A_init_method", &["xavier", "normal", "kaiming", "zero"], "Start of the first factor"),
    choice("megatron.peft.lora_B_init_method", &["zero", "xavier", "normal"], "Start of the second factor"),
    flag("megatron.peft.share_expert_adapters", "One adapter for all experts of a rank"),
    // checkpoint, logger, others
    text("megatron.checkpoint.pretrained_checkpoint", "Weights to start from"),
    text("megatron.checkpoint.save", "Where checkpoints are written"),
    text("megatron.checkpoint.load", "Where a run resumes from"),
    choice("megatron.checkpoint.ckpt_format", &["torch_dist", "fsdp_dtensor", "zarr", "torch", "hf"], "Format of checkpoints"),
    flag("megatron.checkpoint.fully_parallel_save", "Every rank writes a part"),
    text("megatron.logger.tensorboard_dir", "Where TensorBoard files are written"),
    flag("megatron.logger.log_timers_to_tensorboard", "Write timers to TensorBoard"),
    flag("megatron.logger.log_throughput", "Write FLOP/s to the log"),
    count("megatron.dist.distributed_timeout_minutes", 1, "minutes", "How long a collective may wait"),
];
