//! From a recipe to what the planner asks.

use super::super::value::Value;
use super::Megatron;
use crate::base::DType;
use crate::plan::{
    CrossEntropy, CudaGraphs, Dispatcher, Frozen, Fsdp, Job, MathPrecision, MegatronOptions,
    MegatronRecompute, OptimizerOptions, RecomputeMethod, RecomputePart, SequencePacking, Tuning,
};

impl Megatron {
    /// The job that the planner checks and costs. What the recipe leaves to upstream is as the converter has it.
    pub fn job(&self) -> Job {
        let flag = |key: &str, default: bool| match self.get(key) {
            Some(Value::Boolean(on)) => *on,
            _ => default,
        };
        let usual = MegatronOptions::default();
        let mut job = Job::new(self.model.clone(), self.degrees, self.batch);
        job.gpus = self.gpus;
        job.megatron = MegatronOptions {
            tuning: self.tuning(),
            first_stage_layers: self.count("megatron.model.num_layers_in_first_pipeline_stage"),
            last_stage_layers: self.count("megatron.model.num_layers_in_last_pipeline_stage"),
            account_for_embedding: self
                .is_on("megatron.model.account_for_embedding_in_pipeline_split"),
            account_for_loss: self.is_on("megatron.model.account_for_loss_in_pipeline_split"),
            pipeline_layout: self
                .text("megatron.model.pipeline_model_parallel_layout")
                .map(Into::into),
            precision: match self.text("megatron.precision").unwrap_or_default() {
                "bf16_with_fp8_current_scaling_mixed" => MathPrecision::Fp8CurrentScaling,
                "bf16_with_fp8_delayed_scaling_mixed" => MathPrecision::Fp8Delayed,
                "bf16_with_fp8_subchannel_scaling_mixed" => MathPrecision::Fp8Blockwise,
                "bf16_with_mxfp8_mixed" => MathPrecision::Mxfp8,
                _ => MathPrecision::Bf16,
            },
            grad_reduce_in_fp32: flag("megatron.mixed_precision.grad_reduce_in_fp32", true),
            optimizer: self.optimizer(),
            fsdp: self.fsdp(),
            checkpoint_format: self
                .text("megatron.checkpoint.ckpt_format")
                .map_or(usual.checkpoint_format, Into::into),
            overlap_grad_reduce: self.is_on("megatron.ddp.overlap_grad_reduce"),
            overlap_param_gather: self.is_on("megatron.ddp.overlap_param_gather"),
            average_in_collective: flag("megatron.ddp.average_in_collective", true),
            per_token_loss: self.is_on("train.per_token_loss"),
            recompute: self.recompute(),
            cross_entropy: match (
                flag("megatron.model.cross_entropy_loss_fusion", true),
                self.text("megatron.model.cross_entropy_fusion_impl"),
            ) {
                (false, _) => CrossEntropy::Unfused,
                (true, Some("te")) => CrossEntropy::TransformerEngine,
                (true, _) => CrossEntropy::Native,
            },
            tp_comm_overlap: self.is_on("megatron.comm_overlap.tp_comm_overlap"),
            dispatcher: match (
                self.text("megatron.model.moe_token_dispatcher_type"),
                self.text("megatron.model.moe_flex_dispatcher_backend"),
            ) {
                (Some("allgather"), _) => Dispatcher::AllGather,
                (Some("flex"), Some("hybridep")) => Dispatcher::HybridEp,
                (Some("flex"), _) => Dispatcher::DeepEp,
                _ => Dispatcher::AllToAll,
            },
            grouped_gemm: flag("megatron.model.moe_grouped_gemm", true),
            shared_expert_overlap: self.is_on("megatron.model.moe_shared_expert_overlap"),
            overlap_expert_communication: self
                .is_on("megatron.comm_overlap.overlap_moe_expert_parallel_comm"),
            force_load_balancing: self.is_on("megatron.model.moe_router_force_load_balancing"),
            mtp_loss_scaling: self
                .get("mtp.loss_scale")
                .and_then(Value::as_f64)
                .unwrap_or(usual.mtp_loss_scaling),
            packing: if self.is_on("megatron.dataset.enable_in_batch_packing") {
                SequencePacking::InBatch {
                    pad_to_multiple_of: self
                        .count("megatron.dataset.in_batch_packing_pad_to_multiple_of")
                        .unwrap_or(1),
                }
            } else {
                SequencePacking::None
            },
            cuda_graphs: match self.text("megatron.model.cuda_graph_impl") {
                Some("transformer_engine") => CudaGraphs::TransformerEngine,
                Some("local" | "full_iteration") => CudaGraphs::Local,
                _ => CudaGraphs::None,
            },
            cuda_graph_parts: self.words("megatron.model.cuda_graph_modules"),
            ..usual
        };
        job
    }

    fn count(&self, key: &str) -> Option<usize> {
        usize::try_from(self.get(key)?.as_i64()?).ok()
    }

    fn words(&self, key: &str) -> Vec<String> {
        match self.get(key) {
            Some(Value::List(words)) => words
                .iter()
                .filter_map(Value::as_str)
                .map(Into::into)
                .collect(),
            _ => Vec::new(),
        }
    }

    fn tuning(&self) -> Tuning {
        if self.text("megatron.mode") == Some("peft") {
            return Tuning::Lora {
                dim: self.count("megatron.peft.dim").unwrap_or(32),
                targets: self.words("megatron.peft.target_modules"),
            };
        }
        Tuning::Full(Frozen {
            language_model: self.is_on("megatron.model.freeze_language_model"),
            vision_model: self.is_on("megatron.model.freeze_vision_model"),
            vision_projection: self.is_on("megatron.model.freeze_vision_projection"),
        })
    }

    fn optimizer(&self) -> OptimizerOptions {
        let dtype = |name: &str| match self.text(&format!("megatron.optimizer.{name}")) {
            Some("bfloat16") => DType::BF16,
            Some("float16") => DType::F16,
            _ => DType::F32,
        };
        OptimizerOptions {
            distributed: !matches!(
                self.get("megatron.ddp.use_distributed_optimizer"),
                Some(Value::Boolean(false))
            ),
            instances: self
                .count("megatron.ddp.num_distributed_optimizer_instances")
                .unwrap_or(1),
            precision_aware: self.is_on("megatron.optimizer.use_precision_aware_optimizer"),
            main_params: dtype("main_params_dtype"),
            main_grads: dtype("main_grads_dtype"),
            exp_avg: dtype("exp_avg_dtype"),
            exp_avg_sq: dtype("exp_avg_sq_dtype"),
        }
    }

    fn fsdp(&self) -> Option<Fsdp> {
        if !self.is_on("megatron.ddp.use_megatron_fsdp") {
            return None;
        }
        match self.text("megatron.ddp.data_parallel_sharding_strategy") {
            Some("optim") => Some(Fsdp::Optim),
            Some("optim_grads") => Some(Fsdp::OptimGrads),
            Some("no_shard") => None,
            _ => Some(Fsdp::OptimGradsParams),
        }
    }

    fn recompute(&self) -> MegatronRecompute {
        match self.text("megatron.model.recompute_granularity") {
            Some("full") => MegatronRecompute::Full {
                method: match self.text("megatron.model.recompute_method") {
                    Some("block") => RecomputeMethod::Block,
                    _ => RecomputeMethod::Uniform,
                },
                num_layers: self
                    .count("megatron.model.recompute_num_layers")
                    .unwrap_or(1),
            },
            Some("selective") => {
                let words = self.words("megatron.model.recompute_modules");
                let parts = words
                    .iter()
                    .filter_map(|word| RecomputePart::from_name(word));
                MegatronRecompute::Selective(parts.collect())
            }
            _ => MegatronRecompute::None,
        }
    }
}
