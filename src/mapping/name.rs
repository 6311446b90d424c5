//! Spellings of Megatron's names that mean the same tensor.

use std::borrow::Cow;

/// The name under which a Megatron tensor is looked up, whatever way it was spelled.
///
/// These mean the same: `mtp_model_layer` and `transformer_layer`; `local_experts.{e}.linear_fc1.weight` and `linear_fc1.weight{e}`; a norm that
/// is fused into the linear layer after it (`linear_qkv.layer_norm_weight`, `in_proj.layer_norm_weight`, `linear_fc1.layer_norm_weight`) and one
/// that is a module of its own (`input_layernorm.weight`, `pre_mlp_layernorm.weight`); a name with and without `model.` or `module.` in front.
pub fn key(name: &str) -> Cow<'_, str> {
    let mut name = Cow::Borrowed(name);
    for prefix in ["module.", "model."] {
        if let Some(rest) = name.strip_prefix(prefix) {
            name = Cow::Owned(rest.to_owned());
        }
    }
    if name.starts_with("vision_model.") {
        return name;
    }
    if let Some(at) = name.find(".transformer_layer.")
        && name[..at].contains("mtp.layers.")
    {
        name = Cow::Owned(name.replacen(".transformer_layer.", ".mtp_model_layer.", 1));
    }
    for (fused, own) in [
        (
            "self_attention.linear_qkv.layer_norm_weight",
            "input_layernorm.weight",
        ),
        (
            "self_attention.in_proj.layer_norm_weight",
            "input_layernorm.weight",
        ),
        (
            "mlp.linear_fc1.layer_norm_weight",
            "pre_mlp_layernorm.weight",
        ),
    ] {
        if let Some(stem) = name.strip_suffix(fused) {
            return Cow::Owned(format!("{stem}{own}"));
        }
    }
    if let Some((stem, rest)) = name.split_once(".local_experts.")
        && let Some((expert, linear)) = rest.split_once('.')
    {
        return Cow::Owned(format!("{stem}.{linear}{expert}"));
    }
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_of_one_tensor_have_one_key() {
        for (one, other) in [
            (
                "mtp.layers.0.mtp_model_layer.mlp.router.weight",
                "mtp.layers.0.transformer_layer.mlp.router.weight",
            ),
            (
                "decoder.layers.3.self_attention.linear_qkv.layer_norm_weight",
                "decoder.layers.3.input_layernorm.weight",
            ),
            (
                "decoder.layers.2.self_attention.in_proj.layer_norm_weight",
                "model.decoder.layers.2.input_layernorm.weight",
            ),
            (
                "language_model.decoder.layers.2.mlp.linear_fc1.layer_norm_weight",
                "language_model.decoder.layers.2.pre_mlp_layernorm.weight",
            ),
            (
                "decoder.layers.0.mlp.experts.linear_fc2.weight7",
                "decoder.layers.0.mlp.experts.local_experts.7.linear_fc2.weight",
            ),
        ] {
            assert_eq!(key(one), key(other));
        }
    }

    #[test]
    fn the_vision_tower_keeps_its_norms() {
        let name = "vision_model.decoder.layers.0.self_attention.linear_qkv.layer_norm_weight";
        assert_eq!(key(name), name);
    }
}
