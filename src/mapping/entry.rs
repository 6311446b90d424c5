//! One Megatron tensor with all that is known about it.

use std::ops::Range;

use super::{Axis, Block, Permutation, Shard};
use crate::base::Shape;

/// A Megatron tensor and what it is made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Megatron's name in memory, with global layer and expert numbers, grouped experts, MTP spelled `mtp_model_layer`.
    pub name: String,
    /// Extents of the whole tensor on one rank, vocabulary not padded.
    pub shape: Shape,
    /// The Hugging Face tensors, in the order that the converter names them.
    pub sources: Vec<Source>,
    /// Order of the rows.
    pub permutation: Permutation,
    /// How ranks cut it.
    pub shard: Shard,
    /// What happens to the values.
    pub arithmetic: Arithmetic,
    /// Where in the model it is.
    pub place: Place,
    /// The routed expert it belongs to.
    pub expert: Option<usize>,
    /// Names of the sections as `torch_dist` stores them apart; empty where the tensor is stored whole.
    pub parts: &'static [&'static str],
}

/// A part of a Hugging Face tensor, whole rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its name.
    pub name: String,
    /// Extents of the whole tensor.
    pub shape: Shape,
    /// Rows of it that belong to the entry; an expert of a fused tensor has some, others have all.
    pub rows: Range<usize>,
}

/// What happens to values from Hugging Face to Megatron; the way back is the inverse.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arithmetic {
    /// Nothing.
    Copy,
    /// 1 is subtracted: Megatron's norms multiply by `1 + w`, the gated delta net's own norm by `w`. The subtraction is in the source's type,
    /// the addition on the way back in Megatron's.
    ShiftByOne,
}

/// Where in the model a tensor is; decides its pipeline stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Place {
    /// Token embedding.
    Embedding,
    /// Decoder layer, from 0.
    Layer(usize),
    /// Norm after the last decoder layer.
    FinalNorm,
    /// Output head.
    Head,
    /// MTP depth, from 0.
    Mtp(usize),
    /// Vision tower and merger.
    Vision,
}

/// The kind of a rule, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// One tensor, the same values.
    Direct,
    /// Query with gate, key and value grouped by key-value head.
    GatedQkv,
    /// Query, key and value of the vision tower, head by head.
    HeadQkv,
    /// The gated delta net's input projection out of four.
    GdnFuse,
    /// Its convolution, whose channels are cut in three sections.
    GdnConv,
    /// Gate and up one after another.
    GatedConcat,
    /// Gate and up of one expert out of a tensor of all.
    ExpertGatedSlice,
    /// One expert out of a tensor of all.
    ExpertSlice,
    /// A gain that Megatron stores less 1.
    NormShift,
}

impl Kind {
    /// A word or two.
    pub fn label(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::GatedQkv => "gated qkv",
            Self::HeadQkv => "qkv by head",
            Self::GdnFuse => "gdn fuse",
            Self::GdnConv => "gdn conv",
            Self::GatedConcat => "gate + up",
            Self::ExpertGatedSlice => "expert gate + up",
            Self::ExpertSlice => "expert",
            Self::NormShift => "norm - 1",
        }
    }

    /// What it does, in a sentence.
    pub fn explanation(self) -> &'static str {
        match self {
            Self::Direct => "the same values in the same order",
            Self::GatedQkv => {
                "for each key-value head: the queries of its heads, their gates, its key, its value"
            }
            Self::HeadQkv => "for each head: its query, its key, its value",
            Self::GdnFuse => {
                "query, key, value, output gate, write strength and decay; each is cut over the ranks by itself"
            }
            Self::GdnConv => {
                "channels of query, key and value; each is cut over the ranks by itself"
            }
            Self::GatedConcat => "gate, then up; each is cut over the ranks by itself",
            Self::ExpertGatedSlice => "gate and up of one expert, out of the tensor of all experts",
            Self::ExpertSlice => "one expert out of the tensor of all experts",
            Self::NormShift => "w - 1: Megatron multiplies by 1 + w",
        }
    }
}

impl Entry {
    /// The kind of its rule.
    pub fn kind(&self) -> Kind {
        let slice = self.sources.iter().any(|s| s.shape.0.len() == 3) && self.expert.is_some();
        let sections = match &self.shard {
            Shard::Column { sections, .. } => sections.len(),
            _ => 1,
        };
        match (self.permutation, self.arithmetic) {
            (_, Arithmetic::ShiftByOne) => Kind::NormShift,
            (Permutation::GatedQkv { .. }, _) => Kind::GatedQkv,
            (Permutation::HeadQkv { .. }, _) => Kind::HeadQkv,
            _ if slice && sections == 2 => Kind::ExpertGatedSlice,
            _ if slice => Kind::ExpertSlice,
            _ if sections == 6 => Kind::GdnFuse,
            _ if sections == 3 => Kind::GdnConv,
            _ if sections == 2 => Kind::GatedConcat,
            _ => Kind::Direct,
        }
    }

    /// Rows and columns of the whole tensor.
    pub fn matrix(&self) -> (usize, usize) {
        self.shape.matrix()
    }

    /// Where its rows come from.
    pub fn blocks(&self) -> Vec<Block> {
        self.permutation.blocks(&self.sources)
    }

    /// Whether its experts' axis cuts it.
    pub fn is_expert(&self) -> bool {
        self.expert.is_some()
    }

    /// The axis whose rank decides what a rank holds of it.
    pub fn axis(&self) -> Axis {
        if self.is_expert() {
            Axis::Etp
        } else {
            Axis::Tp
        }
    }

    /// The Hugging Face names, joined the way that people write them: `q_proj.weight`'s common start and end once.
    pub fn source_names(&self) -> Vec<&str> {
        self.sources.iter().map(|s| s.name.as_str()).collect()
    }
}
