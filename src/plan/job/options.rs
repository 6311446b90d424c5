//! Megatron's options that validity, memory or speed depend on.
//!
//! A field is named as Megatron's where that is plain, and says Megatron's name where it is not. [`Default`] is what the converter of
//! Megatron-Bridge gives a Qwen3.5 model before a recipe changes it.

use crate::base::DType;
use crate::plan::RankOrder;

/// What of the model is trained.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tuning {
    /// Every weight that is not frozen.
    Full(Frozen),
    /// Adapters alone (`peft`): matrices of `dim` columns and rows beside the modules of these names, matched by a module's own name anywhere in
    /// the tree; the experts of a rank share one.
    Lora {
        /// Rank of an adapter.
        dim: usize,
        /// Names of modules: `linear_qkv`.
        targets: Vec<String>,
    },
}

/// Parts whose weights stay as they are (`freeze_language_model` and its kin); MTP freezes with the language model.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Frozen {
    /// Embedding, decoder, head, MTP.
    pub language_model: bool,
    /// The blocks of the vision tower.
    pub vision_model: bool,
    /// Its merger.
    pub vision_projection: bool,
}

/// What matrix products are computed in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum MathPrecision {
    /// `bf16_mixed`.
    #[default]
    Bf16,
    /// fp8 with scales of the tensor at hand.
    Fp8CurrentScaling,
    /// fp8 with scales from tensors before.
    Fp8Delayed,
    /// fp8 with a scale for every 128 values of a row, as DeepSeek-V3 has them; Hopper.
    Fp8Blockwise,
    /// fp8 with a scale for every 32 values; Blackwell.
    Mxfp8,
}

impl MathPrecision {
    /// Whether products are of 8-bit floats.
    pub fn is_fp8(self) -> bool {
        self != Self::Bf16
    }
}

/// A part that selective recompute names (`recompute_modules`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecomputePart {
    /// `core_attn`: softmax attention.
    CoreAttention,
    /// `mlp`: the dense MLP or the shared expert as a whole.
    Mlp,
    /// `moe`: the whole mixture of experts, dispatch included.
    Moe,
    /// `moe_act`: the activation of the experts.
    MoeActivation,
    /// `layernorm`: the norms before mixer and MLP.
    LayerNorm,
    /// `shared_experts`: the shared expert.
    SharedExperts,
    /// `gdn_norm_out`: the gated norm that follows the delta rule.
    GatedDeltaNorm,
}

impl RecomputePart {
    /// Every part.
    pub const ALL: [Self; 7] = [
        Self::CoreAttention,
        Self::Mlp,
        Self::Moe,
        Self::MoeActivation,
        Self::LayerNorm,
        Self::SharedExperts,
        Self::GatedDeltaNorm,
    ];

    /// Megatron's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::CoreAttention => "core_attn",
            Self::Mlp => "mlp",
            Self::Moe => "moe",
            Self::MoeActivation => "moe_act",
            Self::LayerNorm => "layernorm",
            Self::SharedExperts => "shared_experts",
            Self::GatedDeltaNorm => "gdn_norm_out",
        }
    }

    /// The inverse of [`name`](Self::name).
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }
}

/// `recompute_method` of full recompute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RecomputeMethod {
    /// Every run of `num_layers` layers keeps its input alone.
    #[default]
    Uniform,
    /// The first `num_layers` layers of a chunk keep their input alone, the others everything.
    Block,
}

/// What the backward computes again (`recompute_granularity`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum MegatronRecompute {
    /// Nothing.
    #[default]
    None,
    /// The named parts of every layer.
    Selective(Vec<RecomputePart>),
    /// Whole layers.
    Full {
        /// Which layers.
        method: RecomputeMethod,
        /// `recompute_num_layers`.
        num_layers: usize,
    },
}

/// How tokens reach their experts (`moe_token_dispatcher_type`, `moe_flex_dispatcher_backend`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Dispatcher {
    /// Every rank gets every token.
    AllGather,
    /// NCCL's all-to-all.
    #[default]
    AllToAll,
    /// `flex` over `DeepEP`.
    DeepEp,
    /// `flex` over `HybridEP`.
    HybridEp,
}

/// Who computes the loss over the vocabulary (`cross_entropy_loss_fusion`, `cross_entropy_fusion_impl`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CrossEntropy {
    /// Plain operations on f32 logits; Megatron's default.
    #[default]
    Unfused,
    /// Megatron's fused one: logits in the activations' type and an f32 copy.
    Native,
    /// Transformer Engine's, which works in place of the logits.
    TransformerEngine,
}

/// Which CUDA graphs are captured (`cuda_graph_impl`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum CudaGraphs {
    /// None.
    #[default]
    None,
    /// Megatron's own.
    Local,
    /// Transformer Engine's.
    TransformerEngine,
}

/// How samples are packed into rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SequencePacking {
    /// A row is a sample.
    #[default]
    None,
    /// The samples of a micro-batch become one row (`enable_in_batch_packing`).
    InBatch {
        /// What every sample's length is padded to a multiple of.
        pad_to_multiple_of: usize,
    },
    /// Rows were packed before.
    Offline {
        /// What every sample's length is padded to a multiple of.
        pad_to_multiple_of: usize,
    },
}

/// The distributed optimizer and its types.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OptimizerOptions {
    /// Whether masters and moments are cut over data parallel (`use_distributed_optimizer`).
    pub distributed: bool,
    /// Copies of the cut state (`num_distributed_optimizer_instances`).
    pub instances: usize,
    /// `use_precision_aware_optimizer`: without it the types below are f32 whatever they say.
    pub precision_aware: bool,
    /// Type of the masters.
    pub main_params: DType,
    /// Type of the gradients that the optimizer reads.
    pub main_grads: DType,
    /// Type of the first moment.
    pub exp_avg: DType,
    /// Type of the second moment.
    pub exp_avg_sq: DType,
}

impl Default for OptimizerOptions {
    /// Adam, cut over data parallel, all in f32.
    fn default() -> Self {
        Self {
            distributed: true,
            instances: 1,
            precision_aware: false,
            main_params: DType::F32,
            main_grads: DType::F32,
            exp_avg: DType::F32,
            exp_avg_sq: DType::F32,
        }
    }
}

/// What Megatron-FSDP cuts over data parallel (`data_parallel_sharding_strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fsdp {
    /// Optimizer state.
    Optim,
    /// Gradients too.
    OptimGrads,
    /// Weights too.
    OptimGradsParams,
}

/// Megatron's options that validity, memory or speed depend on.
#[derive(Debug, Clone, PartialEq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each is one of Megatron's switches, and they are independent"
)]
pub struct MegatronOptions {
    /// What of the model is trained.
    pub tuning: Tuning,
    /// Order of the axes over ranks.
    pub rank_order: RankOrder,
    /// `num_layers_in_first_pipeline_stage`.
    pub first_stage_layers: Option<usize>,
    /// `num_layers_in_last_pipeline_stage`.
    pub last_stage_layers: Option<usize>,
    /// `account_for_embedding_in_pipeline_split`.
    pub account_for_embedding: bool,
    /// `account_for_loss_in_pipeline_split`.
    pub account_for_loss: bool,
    /// `pipeline_model_parallel_layout`: every chunk spelled out, see [`Pipeline`](crate::plan::Pipeline).
    pub pipeline_layout: Option<String>,
    /// What matrix products are computed in.
    pub precision: MathPrecision,
    /// Whether gradients are added up and reduced in f32, else in bf16.
    pub grad_reduce_in_fp32: bool,
    /// The optimizer.
    pub optimizer: OptimizerOptions,
    /// Megatron-FSDP instead of the plain data-parallel wrapper (`use_megatron_fsdp`).
    pub fsdp: Option<Fsdp>,
    /// `ckpt_format`: `torch_dist` or `fsdp_dtensor`.
    pub checkpoint_format: String,
    /// Gradients are reduced while the backward runs.
    pub overlap_grad_reduce: bool,
    /// Weights are gathered while the forward runs.
    pub overlap_param_gather: bool,
    /// `average_in_collective`.
    pub average_in_collective: bool,
    /// `calculate_per_token_loss`.
    pub per_token_loss: bool,
    /// What the backward computes again.
    pub recompute: MegatronRecompute,
    /// Who computes the loss.
    pub cross_entropy: CrossEntropy,
    /// `tp_comm_overlap`.
    pub tp_comm_overlap: bool,
    /// How tokens reach their experts.
    pub dispatcher: Dispatcher,
    /// `moe_grouped_gemm`.
    pub grouped_gemm: bool,
    /// `moe_shared_expert_overlap`.
    pub shared_expert_overlap: bool,
    /// `overlap_moe_expert_parallel_comm`: dispatch of one micro-batch behind another's products.
    pub overlap_expert_communication: bool,
    /// `moe_router_force_load_balancing`: benchmarks only, tokens go to experts at random.
    pub force_load_balancing: bool,
    /// `mtp_loss_scaling_factor`.
    pub mtp_loss_scaling: f64,
    /// What the vocabulary is padded to a multiple of, together with `tp`; none for no padding (`should_pad_vocab = false`).
    pub vocab_multiple: Option<usize>,
    /// How samples are packed.
    pub packing: SequencePacking,
    /// Deterministic mode: slow reference of the delta rule, no fused loss.
    pub deterministic: bool,
    /// Which CUDA graphs are captured.
    pub cuda_graphs: CudaGraphs,
    /// Parts in the graphs (`cuda_graph_modules`); none for whole layers.
    pub cuda_graph_parts: Vec<String>,
    /// Image patches of a sequence before the merger; 0 for text.
    pub patches: usize,
    /// Patches of one image, which is what the tower's attention sees at once.
    pub patches_per_image: usize,
}

impl Default for MegatronOptions {
    fn default() -> Self {
        Self {
            tuning: Tuning::Full(Frozen::default()),
            rank_order: RankOrder::default(),
            first_stage_layers: None,
            last_stage_layers: None,
            account_for_embedding: false,
            account_for_loss: false,
            pipeline_layout: None,
            precision: MathPrecision::Bf16,
            grad_reduce_in_fp32: true,
            optimizer: OptimizerOptions::default(),
            fsdp: None,
            checkpoint_format: "torch_dist".into(),
            overlap_grad_reduce: false,
            overlap_param_gather: false,
            average_in_collective: true,
            per_token_loss: false,
            recompute: MegatronRecompute::None,
            cross_entropy: CrossEntropy::Unfused,
            tp_comm_overlap: false,
            dispatcher: Dispatcher::AllToAll,
            grouped_gemm: true,
            shared_expert_overlap: false,
            overlap_expert_communication: false,
            force_load_balancing: false,
            mtp_loss_scaling: 0.1,
            vocab_multiple: None,
            packing: SequencePacking::None,
            deterministic: false,
            cuda_graphs: CudaGraphs::None,
            cuda_graph_parts: Vec::new(),
            patches: 0,
            patches_per_image: 0,
        }
    }
}
