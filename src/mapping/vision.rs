//! The vision tower's tensors.

use super::table::{column, direct, whole};
use super::{Axis, Entry, Permutation, Place, Shard};
use crate::spec::VisionConfig;

const MEGATRON: &str = "vision_model.";
const HF: &str = "model.visual.";

/// Appends every tensor of the tower and the merger. All but the position table have a bias.
pub(super) fn entries(vision: &VisionConfig, list: &mut Vec<Entry>) {
    let v = vision.hidden_size;
    let patch = [
        v,
        vision.in_channels,
        vision.temporal_patch_size,
        vision.patch_size,
        vision.patch_size,
    ];
    let mut add = |megatron: String, source, shard| {
        list.push(direct(
            format!("{MEGATRON}{megatron}"),
            source,
            shard,
            Place::Vision,
        ));
    };
    let hf = |name: &str| format!("{HF}{name}");
    add(
        "patch_embed.proj.weight".into(),
        whole(hf("patch_embed.proj.weight"), patch),
        Shard::Replicated,
    );
    add(
        "patch_embed.proj.bias".into(),
        whole(hf("patch_embed.proj.bias"), [v]),
        Shard::Replicated,
    );
    let positions = [vision.num_position_embeddings, v];
    add(
        "pos_embed.weight".into(),
        whole(hf("pos_embed.weight"), positions),
        Shard::Replicated,
    );
    for b in 0..vision.depth {
        let m = format!("decoder.layers.{b}.");
        let s = format!("{HF}blocks.{b}.");
        block(vision, &m, &s, &mut add);
    }
    let merged = v * vision.spatial_merge_size * vision.spatial_merge_size;
    for kind in ["weight", "bias"] {
        add(
            format!("merger.patch_norm.{kind}"),
            whole(format!("{HF}merger.norm.{kind}"), [v]),
            Shard::Replicated,
        );
    }
    linear(
        "merger.linear_fc1",
        &hf("merger.linear_fc1"),
        [merged, merged],
        Cut::Column,
        &mut add,
    );
    linear(
        "merger.linear_fc2",
        &hf("merger.linear_fc2"),
        [vision.out_hidden_size, merged],
        Cut::Row,
        &mut add,
    );
    interleave(vision, list);
}

/// How a linear layer is cut; the bias of a row-parallel one is whole everywhere.
enum Cut {
    Column,
    Row,
}

type Add<'a> = &'a mut dyn FnMut(String, super::Source, Shard);

fn linear(megatron: &str, hf: &str, shape: [usize; 2], cut: Cut, add: Add) {
    let (weight, bias) = match cut {
        Cut::Column => (column(shape[0]), column(shape[0])),
        Cut::Row => (Shard::Row { axis: Axis::Tp }, Shard::Replicated),
    };
    add(
        format!("{megatron}.weight"),
        whole(format!("{hf}.weight"), shape),
        weight,
    );
    add(
        format!("{megatron}.bias"),
        whole(format!("{hf}.bias"), [shape[0]]),
        bias,
    );
}

fn block(vision: &VisionConfig, m: &str, s: &str, add: Add) {
    let (v, f) = (vision.hidden_size, vision.intermediate_size);
    for (module, norm) in [
        ("self_attention.linear_qkv", "norm1"),
        ("mlp.linear_fc1", "norm2"),
    ] {
        for kind in ["weight", "bias"] {
            add(
                format!("{m}{module}.layer_norm_{kind}"),
                whole(format!("{s}{norm}.{kind}"), [v]),
                Shard::Replicated,
            );
        }
    }
    for (module, source, shape, cut) in [
        (
            "self_attention.linear_qkv",
            "attn.qkv",
            [3 * v, v],
            Cut::Column,
        ),
        ("self_attention.linear_proj", "attn.proj", [v, v], Cut::Row),
        ("mlp.linear_fc1", "mlp.linear_fc1", [f, v], Cut::Column),
        ("mlp.linear_fc2", "mlp.linear_fc2", [v, f], Cut::Row),
    ] {
        linear(
            &format!("{m}{module}"),
            &format!("{s}{source}"),
            shape,
            cut,
            add,
        );
    }
}

/// Gives the attention projections their order by head.
fn interleave(vision: &VisionConfig, list: &mut [Entry]) {
    for entry in list {
        let is_qkv = entry.name.starts_with(MEGATRON)
            && (entry.name.ends_with("linear_qkv.weight")
                || entry.name.ends_with("linear_qkv.bias"));
        if is_qkv {
            entry.permutation = Permutation::HeadQkv {
                heads: vision.num_heads,
                head_dim: vision.hidden_size / vision.num_heads,
            };
        }
    }
}
