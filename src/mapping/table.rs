//! Every Megatron tensor of a model.

use std::collections::HashMap;

use super::{Arithmetic, Axis, Entry, Permutation, Place, Shard, Source, key};
use crate::base::Shape;
use crate::spec::{ExpertLayout, ExpertStyle, LayerKind, ModelConfig};

/// Every Megatron tensor of a model, with its Hugging Face sources.
///
/// The order is Megatron's: embedding, layers, final norm, head, MTP, vision tower.
#[derive(Debug, Clone)]
pub struct Table {
    config: ModelConfig,
    style: ExpertStyle,
    entries: Vec<Entry>,
    by_key: HashMap<Box<str>, u32>,
}

impl Table {
    /// The table of a model whose Hugging Face files store experts in `style`; of dense models the style says nothing.
    pub fn new(config: &ModelConfig, style: ExpertStyle) -> Self {
        let mut list = Builder {
            config,
            megatron: match config.vision {
                None => "",
                Some(_) => "language_model.",
            },
            entries: Vec::new(),
        };
        list.text(style);
        if let Some(vision) = &config.vision {
            super::vision::entries(vision, &mut list.entries);
        }
        let entries = list.entries;
        let by_key = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (key(&entry.name).into(), index as u32))
            .collect();
        Self {
            config: config.clone(),
            style,
            entries,
            by_key,
        }
    }

    /// The model.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// How its Hugging Face files store experts.
    pub fn style(&self) -> ExpertStyle {
        self.style
    }

    /// The tensors.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// What stands before Megatron's names of the text model: nothing, or `language_model.`.
    pub fn megatron_prefix(&self) -> &'static str {
        match self.config.vision {
            None => "",
            Some(_) => "language_model.",
        }
    }

    /// The tensor of a Megatron name with global numbers, in any spelling that [`key`] knows.
    pub fn find(&self, megatron: &str) -> Option<usize> {
        self.by_key.get(&*key(megatron)).map(|&i| i as usize)
    }
}

struct Builder<'a> {
    config: &'a ModelConfig,
    megatron: &'static str,
    entries: Vec<Entry>,
}

/// A whole Hugging Face tensor as a source.
pub(super) fn whole<const N: usize>(name: String, shape: [usize; N]) -> Source {
    let shape = Shape::from(shape);
    let (rows, _) = shape.matrix();
    Source {
        name,
        shape,
        rows: 0..rows,
    }
}

/// Cut into equal runs of rows.
pub(super) fn column(rows: usize) -> Shard {
    Shard::Column {
        axis: Axis::Tp,
        sections: vec![rows],
    }
}

/// An entry of one source with the same shape and values.
pub(super) fn direct(name: String, source: Source, shard: Shard, place: Place) -> Entry {
    Entry {
        name,
        shape: source.shape.clone(),
        sources: vec![source],
        permutation: Permutation::Concat,
        shard,
        arithmetic: Arithmetic::Copy,
        place,
        expert: None,
        parts: &[],
    }
}

impl Builder<'_> {
    fn direct<const N: usize>(
        &mut self,
        megatron: &str,
        hf: String,
        shape: [usize; N],
        shard: Shard,
        place: Place,
    ) {
        let name = format!("{}{megatron}", self.megatron);
        self.entries
            .push(direct(name, whole(hf, shape), shard, place));
    }

    fn text(&mut self, style: ExpertStyle) {
        let text = &self.config.text;
        let prefix = self.config.text_prefix();
        let (h, vocab) = (text.hidden_size, text.vocab_size);
        self.direct(
            "embedding.word_embeddings.weight",
            format!("{prefix}embed_tokens.weight"),
            [vocab, h],
            column(vocab),
            Place::Embedding,
        );
        for (layer, &kind) in text.layer_types.iter().enumerate() {
            let megatron = format!("decoder.layers.{layer}.");
            let hf = format!("{prefix}layers.{layer}.");
            self.layer(&megatron, &hf, kind, Place::Layer(layer), style.decoder);
        }
        self.direct(
            "decoder.final_layernorm.weight",
            format!("{prefix}norm.weight"),
            [h],
            Shard::Replicated,
            Place::FinalNorm,
        );
        if !text.tie_word_embeddings {
            self.direct(
                "output_layer.weight",
                "lm_head.weight".into(),
                [vocab, h],
                column(vocab),
                Place::Head,
            );
        }
        for depth in 0..text.mtp_num_hidden_layers {
            self.mtp(depth, style.mtp);
        }
    }

    fn mtp(&mut self, depth: usize, experts: ExpertLayout) {
        let h = self.config.text.hidden_size;
        let place = Place::Mtp(depth);
        let own = match depth {
            0 => "mtp.".to_owned(),
            _ => format!("mtp.{depth}."),
        };
        let at = format!("mtp.layers.{depth}.");
        for (megatron, hf) in [
            ("enorm", "pre_fc_norm_embedding"),
            ("hnorm", "pre_fc_norm_hidden"),
        ] {
            self.direct(
                &format!("{at}{megatron}.weight"),
                format!("{own}{hf}.weight"),
                [h],
                Shard::Replicated,
                place,
            );
        }
        self.direct(
            &format!("{at}eh_proj.weight"),
            format!("{own}fc.weight"),
            [h, 2 * h],
            column(h),
            place,
        );
        let inner = format!("{at}mtp_model_layer.");
        self.layer(&inner, &at, LayerKind::FullAttention, place, experts);
        self.direct(
            &format!("{at}final_layernorm.weight"),
            format!("{own}norm.weight"),
            [h],
            Shard::Replicated,
            place,
        );
    }

    /// A transformer layer: `megatron` and `hf` are what its names start with.
    fn layer(
        &mut self,
        megatron: &str,
        hf: &str,
        kind: LayerKind,
        place: Place,
        experts: ExpertLayout,
    ) {
        match kind {
            LayerKind::FullAttention => self.full_attention(megatron, hf, place),
            LayerKind::LinearAttention => self.linear_attention(megatron, hf, place),
        }
        match self.config.text.moe {
            None => self.mlp(megatron, hf, place),
            Some(_) => self.moe(megatron, hf, place, experts),
        }
    }

    fn full_attention(&mut self, megatron: &str, hf: &str, place: Place) {
        let text = &self.config.text;
        let (h, d) = (text.hidden_size, text.head_dim);
        let (heads, kv_heads) = (text.num_attention_heads, text.num_key_value_heads);
        let (m, s) = (
            format!("{megatron}self_attention."),
            format!("{hf}self_attn."),
        );
        self.direct(
            &format!("{m}linear_qkv.layer_norm_weight"),
            format!("{hf}input_layernorm.weight"),
            [h],
            Shard::Replicated,
            place,
        );
        let rows = 2 * (heads + kv_heads) * d;
        self.entries.push(Entry {
            name: format!("{}{m}linear_qkv.weight", self.megatron),
            shape: [rows, h].into(),
            sources: vec![
                whole(format!("{s}q_proj.weight"), [2 * heads * d, h]),
                whole(format!("{s}k_proj.weight"), [kv_heads * d, h]),
                whole(format!("{s}v_proj.weight"), [kv_heads * d, h]),
            ],
            permutation: Permutation::GatedQkv {
                heads,
                kv_heads,
                head_dim: d,
            },
            shard: column(rows),
            arithmetic: Arithmetic::Copy,
            place,
            expert: None,
            parts: &[],
        });
        for x in ["q", "k"] {
            self.direct(
                &format!("{m}{x}_layernorm.weight"),
                format!("{s}{x}_norm.weight"),
                [d],
                Shard::Replicated,
                place,
            );
        }
        self.direct(
            &format!("{m}linear_proj.weight"),
            format!("{s}o_proj.weight"),
            [h, heads * d],
            Shard::Row { axis: Axis::Tp },
            place,
        );
    }

    fn linear_attention(&mut self, megatron: &str, hf: &str, place: Place) {
        let text = &self.config.text;
        let h = text.hidden_size;
        let (key, value) = (text.linear_key_dim(), text.linear_value_dim());
        let value_heads = text.linear_num_value_heads;
        let (channels, taps) = (text.linear_conv_dim(), text.linear_conv_kernel_dim);
        let value_head_dim = text.linear_value_head_dim;
        let (m, s) = (
            format!("{megatron}self_attention."),
            format!("{hf}linear_attn."),
        );
        self.direct(
            &format!("{m}in_proj.layer_norm_weight"),
            format!("{hf}input_layernorm.weight"),
            [h],
            Shard::Replicated,
            place,
        );
        let sections = vec![key, key, value, value, value_heads, value_heads];
        self.entries.push(Entry {
            name: format!("{}{m}in_proj.weight", self.megatron),
            shape: [sections.iter().sum(), h].into(),
            sources: vec![
                whole(format!("{s}in_proj_qkv.weight"), [channels, h]),
                whole(format!("{s}in_proj_z.weight"), [value, h]),
                whole(format!("{s}in_proj_b.weight"), [value_heads, h]),
                whole(format!("{s}in_proj_a.weight"), [value_heads, h]),
            ],
            permutation: Permutation::Concat,
            shard: Shard::Column {
                axis: Axis::Tp,
                sections,
            },
            arithmetic: Arithmetic::Copy,
            place,
            expert: None,
            parts: &["query", "key", "value", "z", "beta", "alpha"],
        });
        let conv = whole(format!("{s}conv1d.weight"), [channels, 1, taps]);
        self.entries.push(Entry {
            shard: Shard::Column {
                axis: Axis::Tp,
                sections: vec![key, key, value],
            },
            parts: &["query", "key", "value"],
            ..direct(
                format!("{}{m}conv1d.weight", self.megatron),
                conv,
                Shard::Replicated,
                place,
            )
        });
        for name in ["A_log", "dt_bias"] {
            self.direct(
                &format!("{m}{name}"),
                format!("{s}{name}"),
                [value_heads],
                column(value_heads),
                place,
            );
        }
        let norm = whole(format!("{s}norm.weight"), [value_head_dim]);
        self.entries.push(Entry {
            arithmetic: Arithmetic::ShiftByOne,
            ..direct(
                format!("{}{m}out_norm.weight", self.megatron),
                norm,
                Shard::Replicated,
                place,
            )
        });
        self.direct(
            &format!("{m}out_proj.weight"),
            format!("{s}out_proj.weight"),
            [h, value],
            Shard::Row { axis: Axis::Tp },
            place,
        );
    }

    fn mlp(&mut self, megatron: &str, hf: &str, place: Place) {
        let (h, f) = (
            self.config.text.hidden_size,
            self.config.text.intermediate_size,
        );
        self.direct(
            &format!("{megatron}mlp.linear_fc1.layer_norm_weight"),
            format!("{hf}post_attention_layernorm.weight"),
            [h],
            Shard::Replicated,
            place,
        );
        let name = format!("{}{megatron}mlp.linear_fc1.weight", self.megatron);
        let halves = ["gate", "up"].map(|x| whole(format!("{hf}mlp.{x}_proj.weight"), [f, h]));
        self.gated(name, halves.into(), [2 * f, h], Axis::Tp, place, None);
        self.direct(
            &format!("{megatron}mlp.linear_fc2.weight"),
            format!("{hf}mlp.down_proj.weight"),
            [h, f],
            Shard::Row { axis: Axis::Tp },
            place,
        );
    }

    fn moe(&mut self, megatron: &str, hf: &str, place: Place, layout: ExpertLayout) {
        let Some(moe) = self.config.text.moe else {
            return;
        };
        let h = self.config.text.hidden_size;
        let (m, s) = (format!("{megatron}mlp."), format!("{hf}mlp."));
        self.direct(
            &format!("{megatron}pre_mlp_layernorm.weight"),
            format!("{hf}post_attention_layernorm.weight"),
            [h],
            Shard::Replicated,
            place,
        );
        self.direct(
            &format!("{m}router.weight"),
            format!("{s}gate.weight"),
            [moe.num_experts, h],
            Shard::Replicated,
            place,
        );
        for expert in 0..moe.num_experts {
            self.expert(&m, &s, expert, place, layout);
        }
        let f = moe.shared_expert_intermediate_size;
        let name = format!("{}{m}shared_experts.linear_fc1.weight", self.megatron);
        let halves =
            ["gate", "up"].map(|x| whole(format!("{s}shared_expert.{x}_proj.weight"), [f, h]));
        self.gated(name, halves.into(), [2 * f, h], Axis::Tp, place, None);
        self.direct(
            &format!("{m}shared_experts.linear_fc2.weight"),
            format!("{s}shared_expert.down_proj.weight"),
            [h, f],
            Shard::Row { axis: Axis::Tp },
            place,
        );
        self.direct(
            &format!("{m}shared_experts.gate_weight"),
            format!("{s}shared_expert_gate.weight"),
            [1, h],
            Shard::Replicated,
            place,
        );
    }

    /// The two tensors of a routed expert.
    fn expert(&mut self, m: &str, s: &str, e: usize, place: Place, layout: ExpertLayout) {
        let Some(moe) = self.config.text.moe else {
            return;
        };
        let h = self.config.text.hidden_size;
        let (experts, f) = (moe.num_experts, moe.moe_intermediate_size);
        let slice = |name: &str, rows: usize, cols: usize| Source {
            name: format!("{s}experts.{name}"),
            shape: [experts, rows, cols].into(),
            rows: e * rows..(e + 1) * rows,
        };
        let (fc1, fc2) = match layout {
            ExpertLayout::Fused => (
                vec![slice("gate_up_proj", 2 * f, h)],
                slice("down_proj", h, f),
            ),
            ExpertLayout::PerExpert => (
                ["gate", "up"]
                    .map(|x| whole(format!("{s}experts.{e}.{x}_proj.weight"), [f, h]))
                    .into(),
                whole(format!("{s}experts.{e}.down_proj.weight"), [h, f]),
            ),
        };
        let name = format!("{}{m}experts.linear_fc1.weight{e}", self.megatron);
        self.gated(name, fc1, [2 * f, h], Axis::Etp, place, Some(e));
        self.entries.push(Entry {
            name: format!("{}{m}experts.linear_fc2.weight{e}", self.megatron),
            shape: [h, f].into(),
            sources: vec![fc2],
            permutation: Permutation::Concat,
            shard: Shard::Row { axis: Axis::Etp },
            arithmetic: Arithmetic::Copy,
            place,
            expert: Some(e),
            parts: &[],
        });
    }

    /// Gate and up of an MLP, one after another.
    fn gated(
        &mut self,
        name: String,
        sources: Vec<Source>,
        shape: [usize; 2],
        axis: Axis,
        place: Place,
        expert: Option<usize>,
    ) {
        self.entries.push(Entry {
            name,
            shape: shape.into(),
            sources,
            permutation: Permutation::Concat,
            shard: Shard::Column {
                axis,
                sections: vec![shape[0] / 2; 2],
            },
            arithmetic: Arithmetic::Copy,
            place,
            expert,
            parts: &[],
        });
    }
}
