//! What the backward computes again instead of keeping.

use candle_core::Tensor;

/// A part of a layer that selective recompute covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// Softmax attention with its gate: its output and log-sum-exp are not kept.
    CoreAttn,
    /// Convolution, delta rule and gated norm: only the projections' outputs are kept.
    GatedDelta,
    /// The MLP's inside: `gate` and `up`, whose product the backward gives again anyway.
    MlpAct,
    /// Outputs of norms, and of the rotary embedding that follows the norms of query and key. On a GPU they are never kept.
    Norm,
}

/// What the backward computes again; gradients do not depend on it, to the last bit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Recompute {
    /// Nothing.
    #[default]
    None,
    /// The named parts of every layer.
    Selective(Vec<Part>),
    /// Whole layers, of which only the input is kept; for MTP the embedding's and the previous depth's output.
    Full,
}

impl Recompute {
    /// Whether a layer's forward has to keep what belongs to `part`.
    pub(super) fn keeps(&self, part: Part) -> bool {
        match self {
            Self::None | Self::Full => true,
            Self::Selective(parts) => !parts.contains(&part),
        }
    }
}

/// Bytes of the tensors that a `Saved` holds.
pub(super) fn bytes<'a>(tensors: impl IntoIterator<Item = &'a Tensor>) -> usize {
    tensors
        .into_iter()
        .map(|tensor| tensor.elem_count() * tensor.dtype().size_in_bytes())
        .sum()
}
