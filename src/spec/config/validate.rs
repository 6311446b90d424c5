//! Whether the numbers of a geometry go together.

use super::keys::{disagree, impossible, in_range};
use super::{MoeConfig, TextConfig, VisionConfig};
use crate::spec::SpecError;

impl TextConfig {
    /// Checks that the numbers go together, whatever they were read from.
    pub fn validate(&self) -> Result<(), SpecError> {
        let counts = [
            ("vocab_size", self.vocab_size),
            ("hidden_size", self.hidden_size),
            ("num_hidden_layers", self.num_hidden_layers),
            ("num_attention_heads", self.num_attention_heads),
            ("num_key_value_heads", self.num_key_value_heads),
            ("head_dim", self.head_dim),
            ("linear_num_key_heads", self.linear_num_key_heads),
            ("linear_num_value_heads", self.linear_num_value_heads),
            ("linear_key_head_dim", self.linear_key_head_dim),
            ("linear_value_head_dim", self.linear_value_head_dim),
            ("linear_conv_kernel_dim", self.linear_conv_kernel_dim),
            ("full_attention_interval", self.full_attention_interval),
            ("max_position_embeddings", self.max_position_embeddings),
        ];
        for (key, value) in counts {
            in_range(key, key, value)?;
        }
        in_range(
            "mtp_num_hidden_layers",
            "mtp_num_hidden_layers",
            self.mtp_num_hidden_layers.max(1),
        )?;
        match &self.moe {
            None => in_range(
                "intermediate_size",
                "intermediate_size",
                self.intermediate_size,
            )?,
            Some(moe) => moe.validate(self.num_hidden_layers + self.mtp_num_hidden_layers)?,
        }
        for (key, heads, width) in [
            (
                "num_attention_heads * head_dim",
                self.num_attention_heads,
                self.head_dim,
            ),
            (
                "linear_num_key_heads * linear_key_head_dim",
                self.linear_num_key_heads,
                self.linear_key_head_dim,
            ),
            (
                "linear_num_value_heads * linear_value_head_dim",
                self.linear_num_value_heads,
                self.linear_value_head_dim,
            ),
        ] {
            in_range(key, "", heads * width)?;
        }
        if self.layer_types.len() != self.num_hidden_layers {
            return Err(disagree(
                ("num_hidden_layers", self.num_hidden_layers),
                ("entries of layer_types", self.layer_types.len()),
                "there must be one entry a layer",
            ));
        }
        if !self
            .num_attention_heads
            .is_multiple_of(self.num_key_value_heads)
        {
            return Err(disagree(
                ("num_attention_heads", self.num_attention_heads),
                ("num_key_value_heads", self.num_key_value_heads),
                "the first must be a multiple of the second",
            ));
        }
        if !self
            .linear_num_value_heads
            .is_multiple_of(self.linear_num_key_heads)
        {
            return Err(disagree(
                ("linear_num_value_heads", self.linear_num_value_heads),
                ("linear_num_key_heads", self.linear_num_key_heads),
                "the first must be a multiple of the second",
            ));
        }
        if self.partial_rotary_factor > 1.0 {
            return Err(impossible(
                "partial_rotary_factor",
                self.partial_rotary_factor,
                "above 0 and at most 1",
            ));
        }
        let rotary = self.rotary_dim();
        if rotary == 0 || !rotary.is_multiple_of(2) {
            return Err(disagree(
                ("head_dim", self.head_dim),
                ("partial_rotary_factor", self.partial_rotary_factor),
                "their product, the rotary width, must be even and above 0",
            ));
        }
        let sections = self.mrope_section.iter().sum::<usize>();
        if sections != rotary / 2 {
            return Err(disagree(
                ("sum of mrope_section", sections),
                ("half of the rotary width", rotary / 2),
                "they must be equal",
            ));
        }
        for (key, value) in [
            ("rope_theta", self.rope_theta),
            ("partial_rotary_factor", self.partial_rotary_factor),
            ("rms_norm_eps", self.rms_norm_eps),
            ("initializer_range", self.initializer_range),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(impossible(key, value, "above 0"));
            }
        }
        Ok(())
    }
}

impl MoeConfig {
    /// Checks the experts of a model with so many layers, MTP's included.
    fn validate(&self, layers: usize) -> Result<(), SpecError> {
        for (key, value) in [
            ("num_experts", self.num_experts),
            ("num_experts_per_tok", self.num_experts_per_tok),
            ("moe_intermediate_size", self.moe_intermediate_size),
            (
                "shared_expert_intermediate_size",
                self.shared_expert_intermediate_size,
            ),
        ] {
            in_range(key, key, value)?;
        }
        in_range(
            "num_experts * moe_intermediate_size",
            "",
            self.num_experts * self.moe_intermediate_size,
        )?;
        in_range(
            "num_experts * (num_hidden_layers + mtp_num_hidden_layers)",
            "experts of all layers",
            self.num_experts * layers,
        )?;
        if self.num_experts_per_tok > self.num_experts {
            return Err(disagree(
                ("num_experts_per_tok", self.num_experts_per_tok),
                ("num_experts", self.num_experts),
                "a token cannot go through more experts than there are",
            ));
        }
        Ok(())
    }
}

impl VisionConfig {
    /// Checks that the tower's numbers go together, and that it ends in `hidden_size` of the text model.
    pub(super) fn validate(&self, text: &TextConfig) -> Result<(), SpecError> {
        for (key, value) in [
            ("depth", self.depth),
            ("hidden_size", self.hidden_size),
            ("intermediate_size", self.intermediate_size),
            ("num_heads", self.num_heads),
            ("patch_size", self.patch_size),
            ("temporal_patch_size", self.temporal_patch_size),
            ("in_channels", self.in_channels),
            ("spatial_merge_size", self.spatial_merge_size),
            ("num_position_embeddings", self.num_position_embeddings),
            ("out_hidden_size", self.out_hidden_size),
        ] {
            in_range(&format!("vision_config.{key}"), key, value)?;
        }
        in_range(
            "vision_config.hidden_size * spatial_merge_size^2",
            "",
            self.merged_size(),
        )?;
        if !self.hidden_size.is_multiple_of(self.num_heads) {
            return Err(disagree(
                ("vision_config.hidden_size", self.hidden_size),
                ("vision_config.num_heads", self.num_heads),
                "the first must be a multiple of the second",
            ));
        }
        if self.out_hidden_size != text.hidden_size {
            return Err(disagree(
                ("vision_config.out_hidden_size", self.out_hidden_size),
                ("hidden_size of the text model", text.hidden_size),
                "they must be equal",
            ));
        }
        Ok(())
    }
}
