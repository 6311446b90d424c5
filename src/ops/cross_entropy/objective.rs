//! What the head's loss is taken of: labels, their weights, the factor of the whole.

use candle_core::{DType, Device, Result, Tensor, bail};

use crate::ops::{host, transfer};

/// `scale sum_i weight_i ce_i` for the labels of a batch, and on a GPU what its kernels read of that.
#[derive(Debug, Clone)]
pub struct Objective {
    pub(super) labels: Vec<u32>,
    pub(super) weights: Vec<f32>,
    pub(super) scale: f32,
    pub(super) placed: Option<Placed>,
}

/// [`Objective`] on a GPU.
#[derive(Debug, Clone)]
pub struct Placed {
    /// `[N]` u32.
    pub labels: Tensor,
    /// `[N]` f32.
    pub weights: Tensor,
    /// `[1]` f32.
    pub scale: Tensor,
    /// `[2]` f64, where [`Output::sums`](super::Output::sums) are written.
    pub sums: Tensor,
}

impl Objective {
    /// An objective in the host's memory, which is all that the CPU needs.
    pub fn new(labels: Vec<u32>, weights: Vec<f32>, scale: f32) -> Self {
        Self {
            labels,
            weights,
            scale,
            placed: None,
        }
    }

    /// With what a GPU needs of it, made by the caller.
    #[must_use]
    pub fn placed(mut self, placed: Placed) -> Self {
        self.placed = Some(placed);
        self
    }

    /// With what `device` needs of it.
    pub(super) fn on(self, device: &Device) -> Result<Self> {
        if device.is_cpu() {
            return Ok(self);
        }
        let placed = Placed {
            labels: transfer::upload_u32(&self.labels, device)?,
            weights: transfer::upload_f32(&self.weights, device)?,
            scale: transfer::upload_f32(&[self.scale], device)?,
            sums: Tensor::zeros(2, DType::F64, device)?,
        };
        Ok(self.placed(placed))
    }

    /// Whether no token of `first .. first + rows` has weight, so that nothing is computed for them.
    pub fn is_weightless(&self, first: usize, rows: usize) -> bool {
        self.weights[first..first + rows].iter().all(|w| *w == 0.0)
    }

    /// Tokens of nonzero weight.
    pub fn total(&self) -> u64 {
        self.weights.iter().filter(|weight| **weight != 0.0).count() as u64
    }

    /// `sum_i weight_i`.
    pub fn weight_sum(&self) -> f64 {
        self.weights.iter().copied().map(f64::from).sum()
    }

    pub(super) fn check(&self, x: &Tensor, w: &Tensor, chunk: usize) -> Result<()> {
        let (n, hidden) = x.dims2()?;
        let vocabulary = w.dim(0)?;
        host::check("cross_entropy", "w", w, &[vocabulary, hidden])?;
        if self.labels.len() != n || self.weights.len() != n {
            bail!(
                "cross_entropy: {n} tokens, {} labels, {} weights",
                self.labels.len(),
                self.weights.len()
            );
        }
        if chunk == 0 {
            bail!("cross_entropy: chunks of 0 tokens");
        }
        for (label, weight) in self.labels.iter().zip(&self.weights) {
            if *weight != 0.0 && *label as usize >= vocabulary {
                bail!("cross_entropy: label {label}, but the vocabulary has {vocabulary}");
            }
        }
        Ok(())
    }
}
