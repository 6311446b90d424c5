//! The phases of a forward and backward.

/// A part of the step that the model spends its time in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// Embedding, decoder and MTP layers, keeping what the backward needs.
    Forward,
    /// The vocabulary head: losses of all depths and the gradients of hidden states and head, in one.
    Loss,
    /// Decoder and MTP layers back to the embedding.
    Backward,
}

impl Phase {
    /// Its word in events.
    pub fn word(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Loss => "loss",
            Self::Backward => "backward",
        }
    }
}
