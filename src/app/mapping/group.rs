//! What the screen says about a group, and about the model as a whole.

use super::detail::{Bar, Detail, FactTone, Facts, bytes, share};
use super::{Model, Row, Side};
use crate::app::preview::{count, grouped};
use crate::spec::LayerKind;

/// What there is to say about a group; about one at the top, the model's geometry too.
pub(super) fn group(model: &Model, side: Side, row: &Row, node: u32) -> Detail {
    let tree = model.tree(side);
    let here = tree.node(node);
    let mut facts = Facts::default();
    facts.add("tensors", grouped(u64::from(here.tensors)));
    facts.add("parameters", share(model, here.parameters));
    facts.add("bytes", bytes(here.parameters, model.dtype()));
    if here.problems > 0 {
        facts.say("problems", format!("✗ {}", here.problems), FactTone::Bad);
    }
    if row.depth == 0 {
        geometry(model, &mut facts);
    }
    // Parts of the same name but for a number are told together.
    let mut bars: Vec<(String, usize, u64)> = Vec::new();
    for child in tree.children(node) {
        let label = tree.label(child);
        let parameters = tree.node(child).parameters;
        let stem = super::rows::numbered(label).map_or(label, |(stem, _)| stem);
        match bars.last_mut() {
            Some((last, count, sum)) if last == stem && stem != label => {
                *count += 1;
                *sum += parameters;
            }
            _ => bars.push((stem.to_owned(), 1, parameters)),
        }
    }
    let bars = bars.into_iter().map(|(stem, n, parameters)| Bar {
        label: match (n, stem.as_str()) {
            (1, "") => "1 of them".into(),
            (1, _) => stem,
            (n, "") => format!("{n} of them"),
            (n, _) => format!("{n} {stem}*"),
        },
        share: parameters as f64 / here.parameters.max(1) as f64,
        text: count(parameters),
    });
    Detail {
        title: row.label.clone(),
        facts: facts.0,
        order: Vec::new(),
        bars_title: "parameters by part".into(),
        bars: bars.collect(),
    }
}

/// The model in its own numbers.
fn geometry(model: &Model, facts: &mut Facts) {
    let whole = model.table.config();
    let config = &whole.text;
    let full = config
        .layer_types
        .iter()
        .filter(|&&kind| kind == LayerKind::FullAttention)
        .count();
    let linear = config.num_hidden_layers - full;
    facts.add(
        "layers",
        format!("{linear} gated delta net, {full} full attention"),
    );
    let mlp = match &config.moe {
        None => format!("mlp {}", config.intermediate_size),
        Some(moe) => format!(
            "{} experts of {}, {} a token, shared {}",
            moe.num_experts,
            moe.moe_intermediate_size,
            moe.num_experts_per_tok,
            moe.shared_expert_intermediate_size
        ),
    };
    facts.add(
        "width",
        format!(
            "hidden {}, {mlp}, vocabulary {}",
            config.hidden_size, config.vocab_size
        ),
    );
    facts.add(
        "attention",
        format!(
            "{} heads of {}, {} key-value heads",
            config.num_attention_heads, config.head_dim, config.num_key_value_heads
        ),
    );
    facts.add(
        "delta net",
        format!(
            "{} key heads of {}, {} value heads of {}, {} taps",
            config.linear_num_key_heads,
            config.linear_key_head_dim,
            config.linear_num_value_heads,
            config.linear_value_head_dim,
            config.linear_conv_kernel_dim
        ),
    );
    if config.mtp_num_hidden_layers > 0 {
        facts.add(
            "mtp",
            format!(
                "{} tokens beyond the next one",
                config.mtp_num_hidden_layers
            ),
        );
    }
    if let Some(vision) = &whole.vision {
        facts.add(
            "vision",
            format!(
                "{} blocks of {}, {} heads, patches of {}",
                vision.depth, vision.hidden_size, vision.num_heads, vision.patch_size
            ),
        );
    }
}
