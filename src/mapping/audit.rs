//! Whether the tensors that files have are those that the model has.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use super::{Convention, Place, Table, View, key};
use crate::base::{DType, Shape};
use crate::spec::{ExpertLayout, ExpertStyle};

/// A tensor that files have.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its extents.
    pub shape: &'a Shape,
    /// Type of its scalars.
    pub dtype: DType,
}

/// What an audit found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Audit {
    /// For each tensor of the view, the index of the one that the files have.
    pub partners: Vec<Option<usize>>,
    /// Tensors of the view that the files have with the last two dims swapped: fused experts of other writers.
    pub transposed: Vec<usize>,
    /// Tensors that repeat another one, and are not read: the head of a model whose embedding is the head.
    pub repeats: Vec<usize>,
    /// What is wrong; empty if each tensor is used exactly once.
    pub problems: Vec<Problem>,
}

/// Something wrong with a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What is wrong.
    pub kind: ProblemKind,
    /// The tensor, under the name that the files have or lack.
    pub tensor: String,
    /// The rule that uses it: Megatron's name and the kind of the rule; empty if none does.
    pub rule: String,
    /// The most similar name of the other side.
    pub nearest: Option<String>,
}

/// What is wrong with a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProblemKind {
    /// The files lack it.
    Missing,
    /// The files lack all tensors of a decoder layer.
    MissingLayer {
        /// The layer.
        layer: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// The model has no place for it.
    Extra,
    /// The files have it twice, under two spellings.
    Twice {
        /// The other spelling.
        other: String,
    },
    /// Its extents are wrong.
    Shape {
        /// In the files.
        found: Shape,
        /// In the model.
        expected: Shape,
    },
    /// Its scalars are no weights.
    DType(DType),
    /// The files have some experts in one tensor and some in their own.
    MixedExperts {
        /// A tensor of the other kind.
        other: String,
    },
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.tensor;
        match &self.kind {
            ProblemKind::Missing => write!(f, "`{name}` is missing")?,
            ProblemKind::MissingLayer { layer, layers } => write!(
                f,
                "decoder layer {layer} of {layers} is missing: no `{name}` nor any other tensor of it"
            )?,
            ProblemKind::Extra => write!(f, "`{name}` has no place in this model")?,
            ProblemKind::Twice { other } => {
                write!(f, "`{name}` and `{other}` are the same tensor")?;
            }
            ProblemKind::Shape { found, expected } => {
                write!(f, "`{name}` is {found}, but the model makes it {expected}")?;
            }
            ProblemKind::DType(dtype) => write!(
                f,
                "`{name}` has the type {dtype}; weights are f32, bf16 or f16"
            )?,
            ProblemKind::MixedExperts { other } => write!(
                f,
                "`{name}` and `{other}`: experts are either all fused or all one by one"
            )?,
        }
        if !self.rule.is_empty() {
            write!(f, "; used by {}", self.rule)?;
        }
        match &self.nearest {
            Some(nearest) => write!(f, "; the nearest name is `{nearest}`"),
            None => Ok(()),
        }
    }
}

/// Finds the style in which Hugging Face names store experts; of what has no experts, Qwen3.5's.
pub fn expert_style<'a>(
    names: impl IntoIterator<Item = &'a str>,
) -> Result<ExpertStyle, Box<Problem>> {
    let mut first: [[Option<&str>; 2]; 2] = [[None; 2]; 2];
    for name in names {
        let Some((_, tail)) = name.split_once(".mlp.experts.") else {
            continue;
        };
        let is_single = tail.starts_with(|c: char| c.is_ascii_digit());
        let part = usize::from(name.starts_with("mtp."));
        first[part][usize::from(is_single)].get_or_insert(name);
    }
    let layout = |part: usize, published: ExpertLayout| match first[part] {
        [Some(fused), Some(single)] => Err(Box::new(Problem {
            kind: ProblemKind::MixedExperts {
                other: single.to_owned(),
            },
            tensor: fused.to_owned(),
            rule: String::new(),
            nearest: None,
        })),
        [Some(_), None] => Ok(ExpertLayout::Fused),
        [None, Some(_)] => Ok(ExpertLayout::PerExpert),
        [None, None] => Ok(published),
    };
    Ok(ExpertStyle {
        decoder: layout(0, ExpertStyle::QWEN3_5.decoder)?,
        mtp: layout(1, ExpertStyle::QWEN3_5.mtp)?,
    })
}

/// Compares the tensors that files have with those of a view.
pub fn audit(table: &Table, view: &View, found: &[Found]) -> Audit {
    // Of a view by rank the same name occurs once a rank, so callers audit one rank at a time.
    let spelled = |name: &str| match view.convention {
        Convention::HuggingFace => name.to_owned(),
        Convention::Megatron => key(name).into_owned(),
    };
    let mut by_name: HashMap<String, usize> = HashMap::with_capacity(found.len());
    let mut result = Audit::default();
    for (index, tensor) in found.iter().enumerate() {
        if let Some(other) = by_name.insert(spelled(tensor.name), index) {
            result.problems.push(Problem {
                kind: ProblemKind::Twice {
                    other: found[other].name.to_owned(),
                },
                tensor: tensor.name.to_owned(),
                rule: String::new(),
                nearest: None,
            });
        }
    }
    let mut used: HashSet<usize> = HashSet::with_capacity(found.len());
    let mut missing: Vec<usize> = Vec::new();
    for (index, tensor) in view.tensors.iter().enumerate() {
        let partner = by_name.get(&spelled(&tensor.name)).copied();
        result.partners.push(partner);
        let Some(partner) = partner else {
            missing.push(index);
            continue;
        };
        used.insert(partner);
        let have = &found[partner];
        if !have.dtype.is_weight() {
            result.problems.push(Problem {
                kind: ProblemKind::DType(have.dtype),
                tensor: have.name.to_owned(),
                rule: rule(table, view, index),
                nearest: None,
            });
        }
        if *have.shape == tensor.shape {
            continue;
        }
        match (have.shape.0.as_slice(), tensor.shape.0.as_slice()) {
            ([e, a, b], [n, c, d]) if (e, a, b) == (n, d, c) && is_experts(&tensor.name) => {
                result.transposed.push(index);
            }
            _ => result.problems.push(Problem {
                kind: ProblemKind::Shape {
                    found: have.shape.clone(),
                    expected: tensor.shape.clone(),
                },
                tensor: have.name.to_owned(),
                rule: rule(table, view, index),
                nearest: None,
            }),
        }
    }
    let tied = table.config().text.tie_word_embeddings;
    let head = match view.convention {
        Convention::HuggingFace => "lm_head.weight".to_owned(),
        Convention::Megatron => format!("{}output_layer.weight", table.megatron_prefix()),
    };
    let mut extra = Vec::new();
    for (index, tensor) in found.iter().enumerate() {
        if used.contains(&index) || by_name.get(&spelled(tensor.name)) != Some(&index) {
            continue;
        }
        if tied && spelled(tensor.name) == head {
            result.repeats.push(index);
        } else {
            extra.push(index);
        }
    }
    report(table, view, found, &missing, &extra, &mut result.problems);
    result
}

fn is_experts(name: &str) -> bool {
    name.ends_with(".mlp.experts.gate_up_proj") || name.ends_with(".mlp.experts.down_proj")
}

/// Megatron's name and the kind of the rule that a tensor of a view belongs to.
fn rule(table: &Table, view: &View, tensor: usize) -> String {
    let Some(piece) = view.tensors[tensor].pieces.first() else {
        return String::new();
    };
    let entry = &table.entries()[piece.entry as usize];
    match view.convention {
        Convention::HuggingFace => format!("`{}` ({})", entry.name, entry.kind().label()),
        Convention::Megatron => format!(
            "`{}` ({})",
            entry.source_names().join("`, `"),
            entry.kind().label()
        ),
    }
}

/// Most problems that the nearest name is looked for: it costs a look at all names.
const SUGGESTED: usize = 20;

fn report(
    table: &Table,
    view: &View,
    found: &[Found],
    missing: &[usize],
    extra: &[usize],
    problems: &mut Vec<Problem>,
) {
    let layer_of = |tensor: usize| match view.tensors[tensor].pieces.first() {
        Some(piece) => match table.entries()[piece.entry as usize].place {
            Place::Layer(layer) => Some(layer),
            _ => None,
        },
        None => None,
    };
    let mut tensors: BTreeMap<usize, usize> = BTreeMap::new();
    for layer in (0..view.tensors.len()).filter_map(layer_of) {
        *tensors.entry(layer).or_default() += 1;
    }
    let mut gone: BTreeMap<usize, usize> = BTreeMap::new();
    for layer in missing.iter().filter_map(|&t| layer_of(t)) {
        *gone.entry(layer).or_default() += 1;
    }
    let mut told: HashSet<usize> = HashSet::new();
    for &tensor in missing {
        let name = &view.tensors[tensor].name;
        let whole = layer_of(tensor).filter(|layer| gone.get(layer) == tensors.get(layer));
        let kind = match whole {
            Some(layer) if !told.insert(layer) => continue,
            Some(layer) => ProblemKind::MissingLayer {
                layer,
                layers: table.config().text.num_hidden_layers,
            },
            None => ProblemKind::Missing,
        };
        let names = extra.iter().map(|&i| found[i].name);
        problems.push(Problem {
            kind,
            tensor: name.clone(),
            rule: rule(table, view, tensor),
            nearest: nearest(name, names)
                .filter(|_| problems.len() < SUGGESTED)
                .map(str::to_owned),
        });
    }
    for &tensor in extra {
        let name = found[tensor].name;
        let known = view.tensors.iter().map(|t| t.name.as_str());
        problems.push(Problem {
            kind: ProblemKind::Extra,
            tensor: name.to_owned(),
            rule: String::new(),
            nearest: (problems.len() < SUGGESTED)
                .then(|| nearest(name, known))
                .flatten()
                .map(str::to_owned),
        });
    }
}

/// The name that shares most of its start and end with `name`; none if that is less than two thirds of it.
pub(super) fn nearest<'a>(name: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let shared = |other: &str| {
        let equal = |(a, b): &(u8, u8)| a == b;
        let start = name.bytes().zip(other.bytes()).take_while(equal).count();
        let end = name
            .bytes()
            .rev()
            .zip(other.bytes().rev())
            .take_while(equal);
        let shorter = name.len().min(other.len());
        let both = (start + end.count()).min(shorter);
        (both, usize::MAX - other.len())
    };
    let best = names.into_iter().max_by_key(|other| shared(other))?;
    (shared(best).0 * 3 >= name.len() * 2).then_some(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_shares_start_and_end() {
        let names = ["model.layers.1.mlp.up_proj.weight", "model.norm.weight"];
        assert_eq!(
            nearest("model.layers.1.mlp.upproj.weight", names),
            Some(names[0])
        );
        assert_eq!(nearest("transformer.wte", names), None);
    }

    #[test]
    fn mixed_experts_are_named() {
        let fused = "model.layers.0.mlp.experts.gate_up_proj";
        let single = "model.layers.1.mlp.experts.3.up_proj.weight";
        let problem = expert_style([fused, single]).expect_err("mixed");
        assert!(problem.to_string().contains(fused) && problem.to_string().contains(single));
        let style = expert_style([fused, "mtp.layers.0.mlp.experts.0.up_proj.weight"]);
        assert_eq!(style, Ok(ExpertStyle::QWEN3_5));
    }
}
