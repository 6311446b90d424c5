//! In what a model and the tensors of files differ as a whole.
//!
//! A config of another model makes every tensor wrong; one sentence on what differs says more than all of them.

use std::collections::BTreeSet;
use std::fmt;

use super::{Convention, Found, Table};

/// A difference that explains many tensors at once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// One is of the vision-language class, the other of the text-only one.
    Vision {
        /// Whether the files' is the vision-language one.
        found: bool,
        /// A tensor that tells.
        tensor: String,
    },
    /// One has routed experts, the other a dense MLP.
    Experts {
        /// Whether the files have experts.
        found: bool,
        /// A tensor that tells.
        tensor: String,
    },
    /// A size.
    Size {
        /// Its name in `config.json`.
        what: &'static str,
        /// As the config has it.
        expected: usize,
        /// As the files have it.
        found: usize,
    },
}

impl Difference {
    /// Whether the classes differ, so that no tensor can be expected to fit.
    pub fn is_of_class(&self) -> bool {
        !matches!(self, Self::Size { .. })
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (config, weights, tensor) = match self {
            Self::Vision {
                found: true,
                tensor,
            } => ("text-only", "a vision-language model", tensor),
            Self::Vision {
                found: false,
                tensor,
            } => ("vision-language", "a text-only model", tensor),
            Self::Experts {
                found: true,
                tensor,
            } => ("dense", "a mixture of experts", tensor),
            Self::Experts {
                found: false,
                tensor,
            } => ("mixture-of-experts", "a dense model", tensor),
            Self::Size {
                what,
                expected,
                found,
            } => {
                return write!(
                    f,
                    "{what} is {expected} in the config, but {found} in the weights"
                );
            }
        };
        write!(
            f,
            "the config is of a {config} model, but the weights are of {weights}: they have `{tensor}`"
        )
    }
}

/// The differences, the widest first; a difference of class hides the others. Empty where single tensors are wrong.
///
/// `is_whole` says whether shapes and layer numbers are the model's and not those of a rank.
pub fn differences(
    table: &Table,
    convention: Convention,
    found: &[Found],
    is_whole: bool,
) -> Vec<Difference> {
    let text = &table.config().text;
    let is_hf = convention == Convention::HuggingFace;
    let (decoder, wide, vision) = match convention {
        Convention::HuggingFace => (
            "model.layers.",
            "model.language_model.layers.",
            "model.visual.",
        ),
        Convention::Megatron => (
            "decoder.layers.",
            "language_model.decoder.layers.",
            "vision_model.",
        ),
    };
    let first = |test: &dyn Fn(&str) -> bool| found.iter().find(|tensor| test(tensor.name));
    let name = |tensor: &Found| tensor.name.to_owned();
    let plain = first(&|name| name.starts_with(decoder));
    let nested = first(&|name| name.starts_with(wide) || name.starts_with(vision));
    match (table.config().vision.is_some(), plain, nested) {
        (false, None, Some(tensor)) => {
            let tensor = name(tensor);
            return vec![Difference::Vision {
                found: true,
                tensor,
            }];
        }
        (true, Some(tensor), None) => {
            let tensor = name(tensor);
            return vec![Difference::Vision {
                found: false,
                tensor,
            }];
        }
        _ => {}
    }
    let expert = first(&|name| name.contains(".mlp.experts."));
    let dense = first(&|name| {
        let of_decoder = name.starts_with(decoder) || name.starts_with(wide);
        of_decoder
            && (name.ends_with(".mlp.down_proj.weight") || name.ends_with(".mlp.linear_fc2.weight"))
    });
    match (text.moe, expert, dense) {
        (None, Some(tensor), None) => {
            let tensor = name(tensor);
            return vec![Difference::Experts {
                found: true,
                tensor,
            }];
        }
        (Some(_), None, Some(tensor)) => {
            let tensor = name(tensor);
            return vec![Difference::Experts {
                found: false,
                tensor,
            }];
        }
        _ => {}
    }
    if !is_whole {
        return Vec::new();
    }
    let dim = |end: &str, dim: usize| {
        let tensor = first(&|name| name.ends_with(end))?;
        tensor.shape.0.get(dim).copied()
    };
    let (embedding, router) = if is_hf {
        ("embed_tokens.weight", ".mlp.gate.weight")
    } else {
        ("embedding.word_embeddings.weight", ".mlp.router.weight")
    };
    let stem = if table.config().vision.is_some() {
        wide
    } else {
        decoder
    };
    let mtp = if is_hf {
        "mtp.layers.".to_owned()
    } else {
        format!("{}mtp.layers.", table.megatron_prefix())
    };
    let sizes = [
        ("hidden_size", text.hidden_size, dim(embedding, 1)),
        (
            "num_hidden_layers",
            text.num_hidden_layers,
            count(found, stem).filter(|&n| n > 0),
        ),
        (
            "num_experts",
            text.moe.map_or(0, |moe| moe.num_experts),
            dim(router, 0),
        ),
        (
            "vocab_size",
            text.vocab_size,
            // Megatron's may be padded.
            dim(embedding, 0).filter(|&rows| is_hf || rows < text.vocab_size),
        ),
        (
            "mtp_num_hidden_layers",
            text.mtp_num_hidden_layers,
            count(found, &mtp),
        ),
    ];
    sizes
        .into_iter()
        .filter_map(|(what, expected, found)| match found {
            Some(found) if found != expected => Some(Difference::Size {
                what,
                expected,
                found,
            }),
            _ => None,
        })
        .collect()
}

/// How many numbers follow `start` in names; none if there is a gap.
fn count(found: &[Found], start: &str) -> Option<usize> {
    let numbers: BTreeSet<usize> = found
        .iter()
        .filter_map(|tensor| {
            let (number, _) = tensor.name.strip_prefix(start)?.split_once('.')?;
            number.parse().ok()
        })
        .collect();
    let end = numbers.last().map_or(0, |last| last.saturating_add(1));
    (numbers.len() == end).then_some(end)
}
