//! The tree of layers and tensors as rows.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{Model, State};
use crate::spec::{LayerKind, LayerRef};

/// A line of the tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// How far it is indented.
    pub depth: usize,
    /// What names it while others open and close: `model/layers/0/mlp`.
    pub key: String,
    /// What it is called at its place.
    pub label: String,
    /// What it stands for.
    pub content: Content,
    /// Scalars in it.
    pub parameters: u64,
}

/// What a row stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// Other rows, shown below it while it is open.
    Group {
        /// Whether they are shown.
        open: bool,
        /// Tensors in it.
        tensors: usize,
    },
    /// A tensor of [`Model::tensors`].
    Tensor(usize),
    /// Layers or depths equal to the one above.
    Same {
        /// How many.
        count: usize,
        /// Which one they equal: `layer 0`.
        to: String,
        /// Which they are: `1-2, 4-6`.
        list: String,
    },
    /// The head that is the embedding.
    Tied,
}

/// The rows that the screen shows: the tree, or the matches of a search as a flat list of full names.
pub fn rows(model: &Model, state: &State) -> Vec<Row> {
    if state.query.is_empty() {
        return tree(model, &Open::These(&state.open), state.collapsed);
    }
    let mut matching: Vec<(u32, usize)> = (0..model.tensors.len())
        .filter_map(|index| Some((state.query.score(&model.tensors[index].name)?, index)))
        .collect();
    // The best match first; equal ones stay in the model's order.
    matching.sort_by_key(|&(score, _)| Reverse(score));
    matching
        .into_iter()
        .map(|(_, index)| {
            let tensor = &model.tensors[index];
            Row {
                depth: 0,
                key: tensor.name.clone(),
                label: tensor.name.clone(),
                content: Content::Tensor(index),
                parameters: tensor.shape.elements(),
            }
        })
        .collect()
}

/// The rows one level below the group of `key`, whether it is open or not.
pub(super) fn children(model: &Model, key: &str, collapsed: bool) -> Vec<Row> {
    let mut all = tree(model, &Open::All, collapsed).into_iter();
    let Some(group) = all.find(|row| row.key == key) else {
        return Vec::new();
    };
    all.take_while(|row| row.depth > group.depth)
        .filter(|row| row.depth == group.depth + 1)
        .collect()
}

/// Numbers as ranges: `0-2, 4-6, 8`.
pub(super) fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &n in numbers {
        match parts.last_mut() {
            Some((_, last)) if *last + 1 == n => *last = n,
            _ => parts.push((n, n)),
        }
    }
    let text = |(first, last): (usize, usize)| {
        if first == last {
            first.to_string()
        } else {
            format!("{first}-{last}")
        }
    };
    parts.into_iter().map(text).collect::<Vec<_>>().join(", ")
}

/// The kind of a layer for people.
pub(super) fn kind_name(kind: LayerKind) -> &'static str {
    match kind {
        LayerKind::LinearAttention => "gated delta net",
        LayerKind::FullAttention => "full attention",
    }
}

/// Which groups are open.
enum Open<'a> {
    All,
    These(&'a BTreeSet<String>),
}

fn tree(model: &Model, open: &Open, collapsed: bool) -> Vec<Row> {
    let mut tree = Tree {
        model,
        open,
        rows: Vec::new(),
    };
    let of = |wanted: &dyn Fn(Option<LayerRef>) -> bool| -> Vec<usize> {
        (0..model.tensors.len())
            .filter(|&index| wanted(model.tensors[index].layer))
            .collect()
    };
    let decoder = of(&|layer| !matches!(layer, Some(LayerRef::Mtp(_))));
    tree.group(0, "model", model.name, &decoder, &|tree| {
        let layers = of(&|layer| matches!(layer, Some(LayerRef::Decoder(_))));
        tree.tensor(1, "embed_tokens.weight", 0);
        tree.group(1, "model/layers", "layers", &layers, &|tree| {
            if collapsed {
                tree.layers_by_kind();
            } else {
                tree.every_layer();
            }
        });
        let rest = of(&|layer| layer.is_none());
        for &index in &rest[1..] {
            let name = &model.tensors[index].name;
            let label = name.strip_prefix("model.").unwrap_or(name).to_owned();
            tree.tensor(1, &label, index);
        }
        if model.config.tie_word_embeddings {
            tree.rows.push(Row {
                depth: 1,
                key: "model/head".into(),
                label: "lm_head.weight".into(),
                content: Content::Tied,
                parameters: 0,
            });
        }
    });
    let depths = model.config.mtp_num_hidden_layers;
    if depths > 0 {
        let mtp = of(&|layer| matches!(layer, Some(LayerRef::Mtp(_))));
        tree.group(0, "mtp", "mtp", &mtp, &|tree| tree.mtp(depths, collapsed));
    }
    tree.rows
}

struct Tree<'a> {
    model: &'a Model<'a>,
    open: &'a Open<'a>,
    rows: Vec<Row>,
}

impl Tree<'_> {
    fn parameters(&self, tensors: &[usize]) -> u64 {
        tensors
            .iter()
            .map(|&index| self.model.tensors[index].shape.elements())
            .sum()
    }

    fn tensor(&mut self, depth: usize, label: &str, index: usize) {
        self.rows.push(Row {
            depth,
            key: self.model.tensors[index].name.clone(),
            label: label.to_owned(),
            content: Content::Tensor(index),
            parameters: self.model.tensors[index].shape.elements(),
        });
    }

    fn group(
        &mut self,
        depth: usize,
        key: &str,
        label: &str,
        tensors: &[usize],
        inside: &dyn Fn(&mut Self),
    ) {
        let open = match self.open {
            Open::All => true,
            Open::These(keys) => keys.contains(key),
        };
        self.rows.push(Row {
            depth,
            key: key.to_owned(),
            label: label.to_owned(),
            content: Content::Group {
                open,
                tensors: tensors.len(),
            },
            parameters: self.parameters(tensors),
        });
        if open {
            inside(self);
        }
    }

    fn of_layer(&self, layer: LayerRef) -> Vec<usize> {
        (0..self.model.tensors.len())
            .filter(|&index| self.model.tensors[index].layer == Some(layer))
            .collect()
    }

    /// One group a kind: its first layer, and which others equal it.
    fn layers_by_kind(&mut self) {
        let kinds = &self.model.config.layer_types;
        for kind in [LayerKind::LinearAttention, LayerKind::FullAttention] {
            let layers: Vec<usize> = (0..kinds.len()).filter(|&i| kinds[i] == kind).collect();
            let Some((&first, others)) = layers.split_first() else {
                continue;
            };
            let tensors: Vec<usize> = layers
                .iter()
                .flat_map(|&layer| self.of_layer(LayerRef::Decoder(layer)))
                .collect();
            let name = kind_name(kind);
            let key = format!("model/layers/{name}");
            let label = format!("{name} x {}", layers.len());
            self.group(2, &key, &label, &tensors, &|tree| {
                tree.layer(3, first, &first.to_string());
                tree.same(
                    3,
                    others,
                    &format!("layer {first}"),
                    LayerRef::Decoder(first),
                );
            });
        }
    }

    fn every_layer(&mut self) {
        for (layer, &kind) in self.model.config.layer_types.iter().enumerate() {
            self.layer(2, layer, &format!("{layer} {}", kind_name(kind)));
        }
    }

    fn layer(&mut self, depth: usize, layer: usize, label: &str) {
        let tensors = self.of_layer(LayerRef::Decoder(layer));
        let prefix = format!("model.layers.{layer}.");
        let items = self.items(&tensors, |name| {
            name.strip_prefix(&prefix).unwrap_or(name).to_owned()
        });
        let key = format!("model/layers/{layer}");
        self.group(depth, &key, label, &tensors, &|tree| {
            tree.nested(depth + 1, &key, &items);
        });
    }

    /// A row for layers that equal the one above.
    fn same(&mut self, depth: usize, others: &[usize], to: &str, one: LayerRef) {
        let (Some(first), Some(last)) = (others.first(), others.last()) else {
            return;
        };
        let label = if first == last {
            first.to_string()
        } else {
            format!("{first} .. {last}")
        };
        let each = self.parameters(&self.of_layer(one));
        self.rows.push(Row {
            depth,
            key: format!("same/{to}"),
            label,
            content: Content::Same {
                count: others.len(),
                to: to.to_owned(),
                list: ranges(others),
            },
            parameters: others.len() as u64 * each,
        });
    }

    fn mtp(&mut self, depths: usize, collapsed: bool) {
        let shown = if collapsed { 1 } else { depths };
        for index in 0..shown {
            let tensors = self.of_layer(LayerRef::Mtp(index));
            let inner = format!("mtp.layers.{index}.");
            let own = format!("mtp.{index}.");
            let items = self.items(&tensors, |name| {
                if let Some(rest) = name.strip_prefix(&inner) {
                    return format!("{}.{rest}", kind_name(LayerKind::FullAttention));
                }
                let rest = name.strip_prefix(&own);
                rest.or(name.strip_prefix("mtp."))
                    .unwrap_or(name)
                    .to_owned()
            });
            let key = format!("mtp/{index}");
            let label = format!("depth {}", index + 1);
            self.group(1, &key, &label, &tensors, &|tree| {
                tree.nested(2, &key, &items);
            });
        }
        let others: Vec<usize> = (shown + 1..=depths).collect();
        self.same(1, &others, "depth 1", LayerRef::Mtp(0));
    }

    fn items(&self, tensors: &[usize], short: impl Fn(&str) -> String) -> Vec<(String, usize)> {
        tensors
            .iter()
            .map(|&index| (short(&self.model.tensors[index].name), index))
            .collect()
    }

    /// Names as a tree: what neighbours share up to a dot becomes a group.
    fn nested(&mut self, depth: usize, key: &str, items: &[(String, usize)]) {
        let head = |name: &str| match name.split_once('.') {
            Some((head, rest)) if rest != "weight" => Some(head.to_owned()),
            _ => None,
        };
        for run in items.chunk_by(|a, b| head(&a.0).is_some() && head(&a.0) == head(&b.0)) {
            let Some(name) = head(&run[0].0) else {
                self.tensor(depth, &run[0].0, run[0].1);
                continue;
            };
            let inner: Vec<(String, usize)> = run
                .iter()
                .map(|(item, index)| (item[name.len() + 1..].to_owned(), *index))
                .collect();
            let tensors: Vec<usize> = run.iter().map(|&(_, index)| index).collect();
            let key = format!("{key}/{name}");
            self.group(depth, &key, &name, &tensors, &|tree| {
                tree.nested(depth + 1, &key, &inner);
            });
        }
    }
}
