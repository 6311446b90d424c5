//! Why a model cannot be laid out, or a name not followed.

use thiserror::Error;

/// Why a model cannot be laid out, or a name not followed.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum MappingError {
    /// A size that a degree does not divide.
    #[error("{what} = {size} is not divisible by {by} = {degree}")]
    Indivisible {
        /// What would be cut: `linear_num_key_heads`.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The degree: `tp`.
        by: &'static str,
        /// Its value.
        degree: usize,
    },
    /// More tensor-parallel ranks than key-value heads, and they do not share evenly.
    #[error(
        "tp = {tp} and num_key_value_heads = {kv_heads} with {heads} query heads a group: above the key-value heads, tp must be a multiple of them, and tp / num_key_value_heads must divide the query heads of a group"
    )]
    KvHeads {
        /// Tensor-parallel degree.
        tp: usize,
        /// Key-value heads.
        kv_heads: usize,
        /// Query heads of a group.
        heads: usize,
    },
    /// Expert parallelism of a model without experts.
    #[error("{by} = {degree}, but the model has no experts")]
    NoExperts {
        /// `ep` or `etp`.
        by: &'static str,
        /// Its value.
        degree: usize,
    },
    /// A degree of 0.
    #[error("{by} = 0, but a degree is at least 1")]
    Zero {
        /// The degree.
        by: &'static str,
    },
    /// A world that the degrees do not fill.
    #[error("world = {world} is not a multiple of {unit} = {formula}")]
    World {
        /// Ranks asked for.
        world: usize,
        /// The smallest world that holds the layout.
        unit: usize,
        /// How that comes about: `pp 2 * lcm(tp 2, ep 4 * etp 1)`.
        formula: String,
    },
    /// A name that neither side has.
    #[error("`{name}` is no tensor of this model{}", nearest.as_ref().map(|n| format!("; the nearest is `{n}`")).unwrap_or_default())]
    UnknownTensor {
        /// The name.
        name: String,
        /// The most similar name.
        nearest: Option<String>,
    },
    /// An index outside its tensor.
    #[error("`{name}` is {shape}, so there is no element [{}]", index.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))]
    OutOfRange {
        /// The tensor.
        name: String,
        /// Its extents.
        shape: crate::base::Shape,
        /// The index.
        index: Vec<usize>,
    },
    /// Two views that do not hold the same.
    #[error("`{output}` needs rows {rows:?} of `{entry}`, which the input does not hold")]
    NotHeld {
        /// The tensor to be made.
        output: String,
        /// Megatron's name of what is missing.
        entry: String,
        /// Its missing rows.
        rows: std::ops::Range<usize>,
    },
}

impl MappingError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::Indivisible {
                what,
                size,
                by,
                degree,
            } => {
                let legal: Vec<String> = (1..=*size.min(&(4 * degree)))
                    .filter(|d| size.is_multiple_of(*d))
                    .map(|d| d.to_string())
                    .collect();
                let pad = match *what {
                    "vocab_size" => "; or pad the vocabulary with --pad-vocab",
                    _ => "",
                };
                Some(format!("{by} may be {}{pad}", legal.join(", ")))
            }
            Self::KvHeads {
                kv_heads, heads, ..
            } => {
                let legal: Vec<String> = (1..=kv_heads * heads)
                    .filter(|&tp| kv_heads_allow(tp, *kv_heads, *heads))
                    .map(|tp| tp.to_string())
                    .collect();
                Some(format!("tp may be {}", legal.join(", ")))
            }
            Self::World { world, unit, .. } => {
                let below = world / unit * unit;
                let list: Vec<String> = [below, below + unit]
                    .iter()
                    .filter(|&&n| n > 0)
                    .map(ToString::to_string)
                    .collect();
                Some(format!("the nearest worlds are {}", list.join(" and ")))
            }
            _ => None,
        }
    }
}

/// Whether `tp` ranks can share `kv_heads` groups of `heads` query heads.
pub(super) fn kv_heads_allow(tp: usize, kv_heads: usize, heads: usize) -> bool {
    if tp <= kv_heads {
        kv_heads.is_multiple_of(tp)
    } else {
        tp.is_multiple_of(kv_heads) && heads.is_multiple_of(tp / kv_heads)
    }
}
