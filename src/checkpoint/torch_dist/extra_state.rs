//! The engine's extra state, which a checkpoint must have to be loaded by default.
//!
//! Transformer Engine gives each of its modules a state beside the weights: calibration of 8-bit training, empty otherwise. Megatron asks for it by
//! key, and a key that is not there is an error unless `dist_ckpt_strictness` is changed. So an empty state is named for every module that can be
//! the engine's; keys that nobody asks for are ignored. All of them share one item.

use std::collections::HashSet;

use crate::base::Shape;

/// Modules that are never the engine's, by the last part of their name.
const OTHERS: [&str; 5] = [
    "word_embeddings",
    "position_embeddings",
    "conv1d",
    "router",
    "output_layer",
];

/// Keys of extra states for the modules of these tensors, in their order, each once: `decoder.layers.0.mlp.linear_fc1._extra_state/shard_0_1`, and one
/// for every expert of a tensor of experts.
pub(super) fn keys<'a>(tensors: impl Iterator<Item = (&'a str, &'a Shape)>) -> Vec<String> {
    let mut seen = HashSet::new();
    let mut keys = Vec::new();
    for (key, shape) in tensors {
        let Some(module) = module(key) else { continue };
        if !seen.insert(module) {
            continue;
        }
        let count = match shape.0.first() {
            Some(&experts) if module.contains(".experts.experts.") => experts,
            _ => 1,
        };
        keys.extend((0..count).map(|i| format!("{module}._extra_state/shard_{i}_{count}")));
        if let Some(attention) = module.strip_suffix(".linear_qkv") {
            keys.push(format!("{attention}.core_attention._extra_state/shard_0_1"));
        }
    }
    keys
}

/// The module of a weight: `...in_proj` of `...in_proj.weight.query` and of `...in_proj.layer_norm_weight`.
fn module(key: &str) -> Option<&str> {
    let (module, _) = key
        .rsplit_once(".layer_norm_")
        .or_else(|| key.split_once(".weight"))?;
    let last = module.rsplit('.').next()?;
    (!OTHERS.contains(&last)).then_some(module)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_module_has_one_state_and_each_expert_its_own() {
        let one = Shape(vec![4, 4]);
        let experts = Shape(vec![2, 4, 4]);
        let tensors = [
            ("embedding.word_embeddings.weight", &one),
            (
                "decoder.layers.0.self_attention.in_proj.layer_norm_weight",
                &one,
            ),
            ("decoder.layers.0.self_attention.in_proj.weight.query", &one),
            ("decoder.layers.0.self_attention.in_proj.weight.key", &one),
            ("decoder.layers.0.self_attention.conv1d.weight.key", &one),
            ("decoder.layers.0.self_attention.A_log", &one),
            ("decoder.layers.3.self_attention.linear_qkv.weight", &one),
            ("decoder.layers.3.mlp.router.weight", &one),
            ("decoder.layers.3.mlp.shared_experts.gate_weight", &one),
            (
                "decoder.layers.3.mlp.experts.experts.linear_fc1.weight",
                &experts,
            ),
        ];
        let expected = [
            "decoder.layers.0.self_attention.in_proj._extra_state/shard_0_1",
            "decoder.layers.3.self_attention.linear_qkv._extra_state/shard_0_1",
            "decoder.layers.3.self_attention.core_attention._extra_state/shard_0_1",
            "decoder.layers.3.mlp.experts.experts.linear_fc1._extra_state/shard_0_2",
            "decoder.layers.3.mlp.experts.experts.linear_fc1._extra_state/shard_1_2",
        ];
        assert_eq!(keys(tensors.into_iter()), expected);
    }
}
