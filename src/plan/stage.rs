//! Which layers each pipeline stage holds.

use std::ops::Range;

use super::Degrees;
use crate::spec::{LayerKind, TextConfig};

/// What a pipeline rank holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// Its place on the pipeline axis.
    pub pp: usize,
    /// Layers of each virtual chunk.
    pub chunks: Vec<Range<usize>>,
    /// Whether it embeds tokens: the first stage does, and the last one if it has MTP or a head tied to the embedding.
    pub embedding: bool,
    /// Whether it holds the final norm and the output head.
    pub head: bool,
    /// MTP depths on it: all on the last stage.
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

/// The stages of an even split; none if the layers do not divide into `pp * vpp` chunks.
///
/// With virtual stages, chunk `c` of stage `s` starts at layer `c * L / vpp + s * L / (pp * vpp)`, as in Megatron.
pub fn stages(config: &TextConfig, degrees: &Degrees) -> Option<Vec<Stage>> {
    let (layers, pp, vpp) = (config.num_hidden_layers, degrees.pp, degrees.vpp);
    if pp == 0 || vpp == 0 || !layers.is_multiple_of(pp * vpp) {
        return None;
    }
    let (chunk, round) = (layers / (pp * vpp), layers / vpp);
    let stage = |s: usize| {
        let last = s + 1 == pp;
        let mtp = if last {
            config.mtp_num_hidden_layers
        } else {
            0
        };
        Stage {
            pp: s,
            chunks: (0..vpp)
                .map(|c| c * round + s * chunk)
                .map(|start| start..start + chunk)
                .collect(),
            embedding: s == 0 || mtp > 0 || (last && config.tie_word_embeddings),
            head: last,
            mtp,
        }
    };
    Some((0..pp).map(stage).collect())
}
