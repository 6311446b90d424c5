//! What a step reads of a batch, derived from it on the host: ahead of the step, on any thread.

use crate::ops::{embedding, rope};

use super::NnError;
use super::batch::{Batch, Targets};

/// How batches are prepared for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Preparation {
    pub(super) vocab_size: usize,
    /// MTP depths.
    pub(super) depths: usize,
    /// A GPU needs tables that the CPU does without.
    pub(super) for_gpu: bool,
    /// Whether there will be a backward.
    pub(super) for_backward: bool,
}

/// A batch with the targets of every depth and, for a GPU, all that is uploaded of them.
#[derive(Debug, Clone)]
pub struct Prepared {
    batch: Batch,
    /// Depth 0 is the batch's own.
    depths: Vec<Targets>,
    tables: Option<Tables>,
}

/// What a GPU is sent.
#[derive(Debug, Clone)]
pub(super) struct Tables {
    /// The parts of [`Layout`].
    pub(super) words: Vec<u32>,
    /// Weights of the labels, `[depths, N]`.
    pub(super) weights: Vec<f32>,
    pub(super) layout: Layout,
}

/// Where in [`Tables::words`] what lies: ids, labels and with a backward the plan of the embedding's gradient of each depth; then positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub(super) tokens: usize,
    pub(super) depths: usize,
    pub(super) has_plan: bool,
}

/// The length of a part, and how far from the begin of its depth it lies.
pub(super) type Part = (usize, usize);

impl Layout {
    pub(super) fn ids(self) -> Part {
        (0, self.tokens)
    }

    pub(super) fn labels(self) -> Part {
        (self.tokens, self.tokens)
    }

    pub(super) fn order(self) -> Part {
        (2 * self.tokens, self.tokens)
    }

    pub(super) fn runs(self) -> Part {
        (3 * self.tokens, 3 * self.tokens)
    }

    pub(super) fn several(self) -> Part {
        let words = 3 * embedding::Plan::several(self.tokens);
        (6 * self.tokens, words)
    }

    /// Words of a depth.
    pub(super) fn depth(self) -> usize {
        let (start, words) = if self.has_plan {
            self.several()
        } else {
            self.labels()
        };
        start + words
    }

    /// Begin and length of the positions.
    pub(super) fn positions(self) -> Part {
        (self.depths * self.depth(), 3 * self.tokens)
    }
}

impl Preparation {
    /// Derives from `batch` what a model needs of it.
    ///
    /// # Errors
    /// When parts of the batch differ in length, a token is outside the vocabulary, or a position is not one that a GPU takes.
    pub fn prepare(&self, batch: Batch) -> Result<Prepared, NnError> {
        batch.check(self.vocab_size)?;
        let mut depths = vec![Targets::of(&batch)];
        for depth in 0..self.depths {
            depths.push(depths[depth].next(&batch.cu_seqlens));
        }
        let tables = if self.for_gpu {
            Some(self.tables(&batch, &depths)?)
        } else {
            None
        };
        Ok(Prepared {
            batch,
            depths,
            tables,
        })
    }

    fn tables(&self, batch: &Batch, depths: &[Targets]) -> Result<Tables, NnError> {
        let layout = Layout {
            tokens: batch.tokens(),
            depths: depths.len(),
            has_plan: self.for_backward,
        };
        let (start, words) = layout.positions();
        let mut words = Vec::with_capacity(start + words);
        for targets in depths {
            words.extend(&targets.input_ids);
            words.extend(&targets.labels);
            if layout.has_plan {
                let plan = embedding::Plan::new(&targets.input_ids, self.vocab_size);
                words.extend([plan.order, plan.runs, plan.several].concat());
            }
        }
        words.extend(rope::words(&batch.position_ids)?);
        let weights = depths.iter().flat_map(|targets| &targets.loss_mask);
        Ok(Tables {
            words,
            weights: weights.copied().collect(),
            layout,
        })
    }
}

impl Prepared {
    /// The batch.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// What every depth reads and predicts; depth 0 is the decoder.
    pub fn depths(&self) -> &[Targets] {
        &self.depths
    }

    pub(super) fn tables(&self) -> Option<&Tables> {
        self.tables.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::CuSeqlens;

    #[test]
    fn tables_lie_where_the_layout_says() {
        let tokens = 70u32;
        let ids: Vec<u32> = (0..tokens).map(|n| n / 40).collect();
        let labels: Vec<u32> = (0..tokens).map(|n| n + 100).collect();
        let cu_seqlens = CuSeqlens::new(vec![0, 60, 70]).expect("two sequences");
        let batch = Batch::text(ids, labels, vec![0.5; 70], cu_seqlens);
        for for_backward in [false, true] {
            let preparation = Preparation {
                vocab_size: 200,
                depths: 2,
                for_gpu: true,
                for_backward,
            };
            let prepared = preparation.prepare(batch.clone()).expect("a good batch");
            let tables = prepared.tables().expect("for a GPU");
            let layout = tables.layout;
            for (k, targets) in prepared.depths().iter().enumerate() {
                let part = |(start, words)| {
                    let start: usize = start;
                    &tables.words[k * layout.depth() + start..][..words]
                };
                assert_eq!(part(layout.ids()), targets.input_ids);
                assert_eq!(part(layout.labels()), targets.labels);
                if for_backward {
                    let plan = embedding::Plan::new(&targets.input_ids, 200);
                    assert_eq!(part(layout.order()), plan.order);
                    assert_eq!(part(layout.runs()), plan.runs);
                    assert_eq!(part(layout.several()), plan.several);
                }
                assert_eq!(tables.weights[k * 70..][..70], targets.loss_mask);
            }
            let (start, words) = layout.positions();
            assert_eq!(tables.words.len(), start + words);
            assert_eq!(tables.words[start + 58..][..4], [58, 59, 0, 1]);
        }
    }
}
