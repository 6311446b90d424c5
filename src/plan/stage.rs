//! Which layers each pipeline stage holds.

use std::ops::Range;

use super::{Degrees, Pipeline};
use crate::spec::{LayerKind, TextConfig};

/// What a pipeline rank holds.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each tells of one thing that the stage has or has not"
)]
pub struct Stage {
    /// Its place on the pipeline axis.
    pub pp: usize,
    /// Layers of each virtual chunk.
    pub chunks: Vec<Range<usize>>,
    /// Whether it has the embedding under its own name: the first stage does, and the one of MTP.
    pub embedding: bool,
    /// Whether it has the final norm: the stage of the last decoder layer does.
    pub final_norm: bool,
    /// Whether it has the output head: the last stage does.
    pub head: bool,
    /// Whether it has the embedding's matrix under the name of the head: the last of several stages does, where the head is tied to it.
    pub tied_head: bool,
    /// MTP depths on it: all on one stage, which is the last unless a layout string says otherwise.
    pub mtp: usize,
}

impl Stage {
    /// Decoder layers in order.
    pub fn layers(&self) -> impl Iterator<Item = usize> + '_ {
        self.chunks.iter().cloned().flatten()
    }

    /// Layers of a kind, MTP not counted.
    pub fn count(&self, config: &TextConfig, kind: LayerKind) -> usize {
        self.layers()
            .filter(|&layer| config.layer_types.get(layer) == Some(&kind))
            .count()
    }
}

/// The stages of an even split; none if the layers do not divide into `pp * vpp` chunks. See [`Pipeline::stages`].
pub fn stages(config: &TextConfig, degrees: &Degrees) -> Option<Vec<Stage>> {
    let pipeline = Pipeline {
        pp: degrees.pp,
        vpp: degrees.vpp,
        ..Pipeline::default()
    };
    pipeline
        .stages(
            config.num_hidden_layers,
            config.mtp_num_hidden_layers,
            config.tie_word_embeddings,
        )
        .ok()
}
