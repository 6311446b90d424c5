//! Whether an update may be done, and how much of the gradient it takes, decided where the numbers are.

use candle_core::{DType, Device, Result, Tensor, bail};

#[cfg(feature = "cuda")]
use super::cuda;
use crate::ops::host;

/// What a [`Guard`] has found.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Verdict {
    /// Norm of the gradient.
    pub norm: f64,
    /// What the gradient is multiplied with: `min(1, clip / (norm + 1e-6))`, as Megatron and PyTorch do; 1 without clipping.
    pub factor: f64,
    /// Whether the norm or a loss is not finite, so that nothing is updated.
    pub skip: bool,
}

impl Verdict {
    /// Reads the numbers of [`Guard::verdict`].
    ///
    /// # Errors
    /// When there are not three.
    pub fn of(numbers: &[f64]) -> Result<Self> {
        match *numbers {
            [norm, factor, skip] => Ok(Self {
                norm,
                factor,
                skip: skip != 0.0,
            }),
            _ => bail!("adamw: a verdict of {} numbers", numbers.len()),
        }
    }
}

/// The verdict on one step after the other, on the device of the arenas.
#[derive(Debug)]
pub struct Guard {
    verdict: Tensor,
}

impl Guard {
    /// A guard that has judged nothing and skips until it has.
    pub fn new(device: &Device) -> Result<Self> {
        Ok(Self {
            verdict: Tensor::new(&[0.0, 1.0, 1.0], device)?,
        })
    }

    /// Judges the step whose losses are the first numbers of `sums` and whose gradient has `squares` as the sum of its squares. A
    /// `clip` of 0 is no clipping.
    ///
    /// # Shapes
    /// `sums` any number of f64 tensors of at least one value, `squares [1]` f64; all on the guard's device, which nobody waits for
    pub fn judge(&mut self, sums: &[&Tensor], squares: &Tensor, clip: f64) -> Result<()> {
        host::check("adamw", "squares", squares, &[1])?;
        for tensor in sums.iter().chain([&squares]) {
            if tensor.dtype() != DType::F64 || tensor.elem_count() == 0 {
                bail!(
                    "adamw: a guard judges f64 sums, found {} of {}",
                    tensor.elem_count(),
                    tensor.dtype().as_str()
                );
            }
        }
        #[cfg(feature = "cuda")]
        if self.verdict.device().is_cuda() {
            return cuda::judge(&self.verdict, sums, squares, clip);
        }
        let first = |tensor: &Tensor| Ok(tensor.flatten_all()?.to_vec1::<f64>()?[0]);
        let norm = first(squares)?.sqrt();
        let losses = sums.iter().map(|sums| first(sums));
        let losses = losses.collect::<Result<Vec<_>>>()?;
        let finite = norm.is_finite() && losses.iter().all(|loss| loss.is_finite());
        let factor = if clip > 0.0 {
            (clip / (norm + 1e-6)).min(1.0)
        } else {
            1.0
        };
        let skip = if finite { 0.0 } else { 1.0 };
        self.verdict = Tensor::new(&[norm, factor, skip], self.verdict.device())?;
        Ok(())
    }

    /// The numbers of the [`Verdict`], `[3]` f64 on the guard's device.
    pub fn verdict(&self) -> &Tensor {
        &self.verdict
    }
}
