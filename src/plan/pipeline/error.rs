//! Why layers cannot be spread so.

use thiserror::Error;

/// Why layers cannot be spread so over pipeline stages.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PipelineError {
    /// A degree of 0.
    #[error("{what} = 0, but a degree is at least 1")]
    Zero {
        /// `pp` or `vpp`.
        what: &'static str,
    },
    /// An end stage without layers.
    #[error("the {what} stage is given 0 layers, but it needs at least 1")]
    NoLayers {
        /// `first` or `last`.
        what: &'static str,
    },
    /// Two ways to spread layers at once.
    #[error("{one} and {other} exclude each other")]
    TwoWays {
        /// One of them.
        one: &'static str,
        /// The other.
        other: &'static str,
    },
    /// Layers that do not divide into equal stages.
    #[error("num_hidden_layers = {layers}{} is not divisible by pp = {pp}", counted_note(*.layers, *.counted))]
    LayersByStages {
        /// Layers of the decoder.
        layers: usize,
        /// Layers, with the embedding and the loss where they count.
        counted: usize,
        /// Stages.
        pp: usize,
        /// Chunks of a stage.
        vpp: usize,
    },
    /// Layers of a stage that do not divide into chunks.
    #[error("stage {stage} has {count} layers, not divisible by vpp = {vpp}")]
    LayersByChunks {
        /// The first such stage.
        stage: usize,
        /// Its layers.
        count: usize,
        /// Chunks of a stage.
        vpp: usize,
    },
    /// Counts for both ends of one stage.
    #[error(
        "the first stage is given {first} layers and the last {last}, but pp = {pp} has one stage for both"
    )]
    OneStageTwoEnds {
        /// Layers of the first stage.
        first: usize,
        /// Layers of the last stage.
        last: usize,
        /// Stages.
        pp: usize,
    },
    /// Ends that leave too few or too many layers to the stages between them.
    #[error(
        "first and last stage are given {own} of num_hidden_layers = {layers}, but pp = {pp} leaves {middle} stages for the other {}",
        .layers.saturating_sub(*.own)
    )]
    Ends {
        /// Layers that were given to the ends.
        own: usize,
        /// Layers of the decoder.
        layers: usize,
        /// Stages without a count of their own.
        middle: usize,
        /// Stages.
        pp: usize,
    },
    /// Stages between the ends that cannot be equal.
    #[error(
        "first and last stage are given {own} of num_hidden_layers = {layers}; the other {between} are not divisible by the {middle} stages between"
    )]
    Middle {
        /// Layers for the stages between.
        between: usize,
        /// Stages between.
        middle: usize,
        /// Layers of the decoder.
        layers: usize,
        /// Layers that were given to the ends.
        own: usize,
        /// Stages.
        pp: usize,
    },
    /// A layout string that cannot be read.
    #[error("layout `{text}`, character {}: {problem}", .at + 1)]
    Text {
        /// The string.
        text: String,
        /// The character, from 0.
        at: usize,
        /// What is wrong there.
        problem: String,
    },
    /// Chunks of a layout string that do not divide into stages.
    #[error("the layout has {chunks} chunks, not divisible by pp = {pp}")]
    ChunksByStages {
        /// Chunks of the string.
        chunks: usize,
        /// Stages.
        pp: usize,
    },
    /// Virtual stages that are not those of the layout string.
    #[error(
        "vpp = {vpp}, but the layout has {chunks} chunks, which on pp = {pp} stages are {} each",
        .chunks / .pp
    )]
    OtherChunks {
        /// Virtual stages that were asked for.
        vpp: usize,
        /// Chunks of the string.
        chunks: usize,
        /// Stages.
        pp: usize,
    },
    /// A letter of the layout string that does not occur as often as the model has its part.
    #[error("the layout has {found} `{letter}`, but the model has {expected} {part}")]
    Count {
        /// The letter.
        letter: char,
        /// How often it occurs.
        found: usize,
        /// How often the model has the part.
        expected: usize,
        /// The part.
        part: &'static str,
    },
    /// A letter of the layout string in a place where it cannot be.
    #[error("`{letter}` is in chunk {chunk} of the layout, but {rule}")]
    Misplaced {
        /// The letter.
        letter: char,
        /// Its chunk, from 0.
        chunk: usize,
        /// Where it must be.
        rule: String,
    },
}

impl PipelineError {
    /// What the user can do.
    pub fn hint(&self) -> Option<String> {
        match *self {
            Self::LayersByStages {
                counted, pp, vpp, ..
            } => nearest("pp", pp, |n| counted.is_multiple_of(n * vpp), counted),
            Self::LayersByChunks { count, vpp, .. } => {
                nearest("vpp", vpp, |n| count.is_multiple_of(n), count)
            }
            Self::Ends {
                layers, middle: 0, ..
            } => Some(format!(
                "without stages between them, first and last must have all {layers}"
            )),
            Self::Middle {
                layers,
                own,
                middle,
                ..
            } => {
                let fits = |n: usize| n < layers && (layers - n).is_multiple_of(middle);
                nearest("first and last together", own, fits, layers)
            }
            Self::ChunksByStages { chunks, pp } => {
                nearest("pp", pp, |n| chunks.is_multiple_of(n), chunks)
            }
            _ => None,
        }
    }
}

fn counted_note(layers: usize, counted: usize) -> String {
    if counted == layers {
        return String::new();
    }
    format!(" (with embedding and loss counted {counted})")
}

/// The legal values on both sides of `current`, none above `most`.
fn nearest(
    what: &str,
    current: usize,
    is_legal: impl Fn(usize) -> bool,
    most: usize,
) -> Option<String> {
    let below = (1..current.min(most + 1)).rev().find(|&n| is_legal(n));
    let above = (current + 1..=most).find(|&n| is_legal(n));
    let found: Vec<String> = below
        .into_iter()
        .chain(above)
        .map(|n| n.to_string())
        .collect();
    (!found.is_empty()).then(|| format!("{what} may be {}", found.join(" or ")))
}
