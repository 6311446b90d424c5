//! What a model is run on: packed rows of tokens.

use crate::ops::CuSeqlens;

use super::NnError;
use super::shift::shift;

/// `N` tokens in one or more sequences.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Tokens.
    pub input_ids: Vec<u32>,
    /// The token after each token; where the mask is 0 it may be anything inside the vocabulary.
    pub labels: Vec<u32>,
    /// Weight of each label in the loss.
    pub loss_mask: Vec<f32>,
    /// Time, height and width of each token; equal rows for text.
    pub position_ids: [Vec<i64>; 3],
    /// Borders of the sequences; nothing passes them.
    pub cu_seqlens: CuSeqlens,
}

impl Batch {
    /// Text: positions count from 0 in each sequence.
    pub fn text(
        input_ids: Vec<u32>,
        labels: Vec<u32>,
        loss_mask: Vec<f32>,
        cu_seqlens: CuSeqlens,
    ) -> Self {
        let positions: Vec<i64> = cu_seqlens
            .segments()
            .flat_map(|segment| 0..segment.len() as i64)
            .collect();
        Self {
            input_ids,
            labels,
            loss_mask,
            position_ids: [positions.clone(), positions.clone(), positions],
            cu_seqlens,
        }
    }

    /// Tokens, `N`.
    pub fn tokens(&self) -> usize {
        self.cu_seqlens.tokens()
    }

    /// Whether all parts are of one length and every input token is in the vocabulary. Labels are looked at by the loss.
    pub fn check(&self, vocab_size: usize) -> Result<(), NnError> {
        let tokens = self.tokens();
        let [time, height, width] = &self.position_ids;
        for (part, found) in [
            ("input_ids", self.input_ids.len()),
            ("labels", self.labels.len()),
            ("loss_mask", self.loss_mask.len()),
            ("position_ids", time.len()),
            ("position_ids", height.len()),
            ("position_ids", width.len()),
        ] {
            if found != tokens {
                return Err(NnError::BatchLength {
                    part,
                    tokens,
                    found,
                });
            }
        }
        match self
            .input_ids
            .iter()
            .position(|&id| id as usize >= vocab_size)
        {
            None => Ok(()),
            Some(index) => Err(NnError::TokenOutOfRange {
                index,
                id: self.input_ids[index],
                vocab_size,
            }),
        }
    }
}

/// What one depth reads and predicts; depth 0 is the decoder itself.
#[derive(Debug, Clone, PartialEq)]
pub struct Targets {
    /// Tokens, shifted once a depth.
    pub input_ids: Vec<u32>,
    /// Labels, shifted once a depth.
    pub labels: Vec<u32>,
    /// Weights of the labels, shifted once a depth.
    pub loss_mask: Vec<f32>,
}

impl Targets {
    /// Depth 0: the batch as it is.
    pub fn of(batch: &Batch) -> Self {
        Self {
            input_ids: batch.input_ids.clone(),
            labels: batch.labels.clone(),
            loss_mask: batch.loss_mask.clone(),
        }
    }

    /// The next depth, one token further ahead.
    #[must_use]
    pub fn next(&self, cu_seqlens: &CuSeqlens) -> Self {
        Self {
            input_ids: shift(&self.input_ids, cu_seqlens),
            labels: shift(&self.labels, cu_seqlens),
            loss_mask: shift(&self.loss_mask, cu_seqlens),
        }
    }

    /// The sum of the weights.
    pub fn weight_sum(&self) -> f64 {
        self.loss_mask.iter().map(|&m| f64::from(m)).sum()
    }
}
