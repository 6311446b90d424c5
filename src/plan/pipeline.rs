//! How layers are spread over pipeline stages: evenly, with own counts at the ends, or as a string spells it.

mod error;
mod spelled;

use std::ops::Range;

pub use error::PipelineError;

use super::Stage;

/// What a user asks of the pipeline; the rest follows.
///
/// The three ways exclude each other: counts of the first and last stage, counting embedding and loss as layers, and a layout string.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pipeline {
    /// Stages.
    pub pp: usize,
    /// Virtual stages, that is chunks of layers, on each stage. With a layout string 1 leaves it to the string.
    pub vpp: usize,
    /// Layers of the first stage, if not as many as the others'.
    pub first: Option<usize>,
    /// Layers of the last stage, if not as many as the others'.
    pub last: Option<usize>,
    /// Whether the embedding counts as a layer when layers are shared out.
    pub account_for_embedding: bool,
    /// Whether the loss counts as a layer when layers are shared out.
    pub account_for_loss: bool,
    /// Every chunk spelled out as Megatron does: chunks between `|`, `E` embedding, `t` layer, `m` MTP depth, `L` loss, `*n` to repeat a letter or
    /// a group in brackets, commas and blanks for the eye. Chunk `i` is chunk `i / pp` of stage `i % pp`, and may be empty.
    pub layout: Option<String>,
}

impl Default for Pipeline {
    /// One stage.
    fn default() -> Self {
        Self {
            pp: 1,
            vpp: 1,
            first: None,
            last: None,
            account_for_embedding: false,
            account_for_loss: false,
            layout: None,
        }
    }
}

impl Pipeline {
    /// The stages of a model with `layers` decoder layers and `mtp` depths, whose head may be the embedding (`tied`).
    ///
    /// MTP is on the last stage unless the layout string says otherwise, with a copy of the embedding where that is not the first stage.
    /// Fails with the two numbers that do not go together.
    pub fn stages(
        &self,
        layers: usize,
        mtp: usize,
        tied: bool,
    ) -> Result<Vec<Stage>, PipelineError> {
        for (what, value) in [("pp", self.pp), ("vpp", self.vpp)] {
            if value == 0 {
                return Err(PipelineError::Zero { what });
            }
        }
        for (what, count) in [("first", self.first), ("last", self.last)] {
            if count == Some(0) {
                return Err(PipelineError::NoLayers { what });
            }
        }
        self.one_way()?;
        let (chunks, mtp_stage) = match &self.layout {
            Some(text) => spelled::chunks(text, self.pp, self.vpp, layers, mtp)?,
            None if self.first.is_some() || self.last.is_some() => {
                (self.own_ends(layers)?, self.pp - 1)
            }
            None => (self.even(layers)?, self.pp - 1),
        };
        let last = self.pp - 1;
        let stage = |(pp, chunks): (usize, Vec<Range<usize>>)| {
            let mtp = if pp == mtp_stage { mtp } else { 0 };
            Stage {
                pp,
                embedding: pp == 0 || mtp > 0,
                final_norm: chunks
                    .iter()
                    .any(|chunk| !chunk.is_empty() && chunk.end == layers),
                head: pp == last,
                tied_head: tied && pp == last && pp > 0,
                mtp,
                chunks,
            }
        };
        Ok(chunks.into_iter().enumerate().map(stage).collect())
    }

    /// Refuses two ways at once.
    fn one_way(&self) -> Result<(), PipelineError> {
        let ways = [
            ("a layout string", self.layout.is_some()),
            ("layers of the first stage", self.first.is_some()),
            ("layers of the last stage", self.last.is_some()),
            (
                "the embedding counted as a layer",
                self.account_for_embedding,
            ),
            ("the loss counted as a layer", self.account_for_loss),
        ];
        let given: Vec<usize> = (0..ways.len()).filter(|&way| ways[way].1).collect();
        let kind = |way: usize| way.div_ceil(2);
        match given[..] {
            [one, .., other] if kind(one) != kind(other) => Err(PipelineError::TwoWays {
                one: ways[one].0,
                other: ways[other].0,
            }),
            _ => Ok(()),
        }
    }

    /// Equal stages, embedding and loss counted as layers where asked for.
    ///
    /// Chunk `c` of stage `s` starts at position `c * n / vpp + s * n / (pp * vpp)`.
    fn even(&self, layers: usize) -> Result<Vec<Vec<Range<usize>>>, PipelineError> {
        let before = usize::from(self.account_for_embedding);
        let count = layers + before + usize::from(self.account_for_loss);
        let (pp, vpp) = (self.pp, self.vpp);
        if !count.is_multiple_of(pp) {
            return Err(PipelineError::LayersByStages {
                layers,
                counted: count,
                pp,
                vpp,
            });
        }
        self.divides(0, count / pp)?;
        let (chunk, round) = (count / (pp * vpp), count / vpp);
        // Positions of embedding and loss hold no layer.
        let layer = |position: usize| position.saturating_sub(before).min(layers);
        let stage = |s: usize| {
            (0..vpp)
                .map(|c| c * round + s * chunk)
                .map(|start| layer(start)..layer(start + chunk))
                .collect()
        };
        Ok((0..pp).map(stage).collect())
    }

    /// Own counts for the first stage, the last stage, or both; the stages between are equal.
    fn own_ends(&self, layers: usize) -> Result<Vec<Vec<Range<usize>>>, PipelineError> {
        let (pp, vpp) = (self.pp, self.vpp);
        let (first, last) = (self.first.unwrap_or(0), self.last.unwrap_or(0));
        let ends = usize::from(self.first.is_some()) + usize::from(self.last.is_some());
        if ends > pp {
            return Err(PipelineError::OneStageTwoEnds { first, last, pp });
        }
        let own = first.saturating_add(last);
        let middle = pp - ends;
        if own > layers || (middle == 0 && own != layers) || (middle > 0 && own == layers) {
            return Err(PipelineError::Ends {
                own,
                layers,
                middle,
                pp,
            });
        }
        let between = layers - own;
        if middle > 0 && !between.is_multiple_of(middle) {
            return Err(PipelineError::Middle {
                between,
                middle,
                layers,
                own,
                pp,
            });
        }
        let middle_layers = between.checked_div(middle).unwrap_or(0);
        let counts: Vec<usize> = (0..pp)
            .map(|s| match (s, self.first, self.last) {
                (0, Some(first), _) => first,
                (s, _, Some(last)) if s + 1 == pp => last,
                _ => middle_layers,
            })
            .collect();
        for (stage, &count) in counts.iter().enumerate() {
            self.divides(stage, count)?;
        }
        let round = layers / vpp;
        let mut before = 0;
        let mut stages = Vec::with_capacity(pp);
        for count in counts {
            let chunk = count / vpp;
            let start = |c: usize| c * round + before;
            stages.push((0..vpp).map(|c| start(c)..start(c) + chunk).collect());
            before += chunk;
        }
        Ok(stages)
    }

    fn divides(&self, stage: usize, count: usize) -> Result<(), PipelineError> {
        if count.is_multiple_of(self.vpp) {
            return Ok(());
        }
        Err(PipelineError::LayersByChunks {
            stage,
            count,
            vpp: self.vpp,
        })
    }
}
