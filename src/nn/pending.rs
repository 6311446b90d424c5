//! Losses that the device has yet to compute.

use candle_core::Tensor;

use crate::ops::transfer::Readback;

use super::NnError;
use super::loss::{DepthLoss, StepOutput};

/// The loss of one depth, its numbers still on the device.
#[derive(Debug, Clone)]
pub(super) struct DepthPending {
    /// `[2]` f64: the weighted sum of cross entropies, the number of counted positions whose likeliest token is the label.
    pub(super) sums: Tensor,
    pub(super) weight_sum: f64,
    pub(super) total: u64,
}

impl DepthPending {
    fn loss(&self, sums: &[f64]) -> DepthLoss {
        DepthLoss {
            loss_sum: sums.first().copied().unwrap_or(f64::NAN),
            weight_sum: self.weight_sum,
            correct: sums.get(1).copied().unwrap_or(0.0) as u64,
            total: self.total,
        }
    }
}

/// What a micro-batch gives, its losses still on the device: reading them is the only thing that waits for it.
#[derive(Debug, Clone)]
pub struct Pending {
    pub(super) main: DepthPending,
    pub(super) mtp: Vec<DepthPending>,
    /// Most bytes of activations kept for the backward; 0 without one.
    pub saved_bytes: usize,
}

impl Pending {
    /// Waits for the device and reads the losses.
    pub fn read(self) -> Result<StepOutput, NnError> {
        self.start()?.wait()
    }

    /// Queues a copy of the losses to the host, behind the work that computes them.
    pub fn start(self) -> Result<Reading, NnError> {
        let sums = self.sums().into_iter().map(Readback::start);
        let sums = sums.collect::<candle_core::Result<_>>()?;
        Ok(Reading {
            pending: self,
            sums,
        })
    }

    /// With copies of the numbers, so that inputs can be run again. On the CPU nothing is shared, and nothing copied.
    pub fn detached(mut self) -> Result<Self, NnError> {
        for depth in std::iter::once(&mut self.main).chain(&mut self.mtp) {
            if depth.sums.device().is_cuda() {
                depth.sums = depth.sums.copy()?;
            }
        }
        Ok(self)
    }

    /// `[2]` f64 for the decoder and then each MTP depth, on the device: loss sum and correct predictions.
    pub fn sums(&self) -> Vec<&Tensor> {
        let depths = std::iter::once(&self.main).chain(&self.mtp);
        depths.map(|depth| &depth.sums).collect()
    }
}

/// Losses on their way to the host.
#[derive(Debug)]
pub struct Reading {
    pending: Pending,
    /// As [`Pending::sums`].
    sums: Vec<Readback>,
}

impl Reading {
    /// The losses, as soon as they are there.
    pub fn wait(self) -> Result<StepOutput, NnError> {
        let Pending {
            main,
            mtp,
            saved_bytes,
        } = self.pending;
        let losses = std::iter::once(main).chain(mtp).zip(self.sums);
        let mut losses = losses.map(|(depth, sums)| Ok(depth.loss(&sums.wait()?)));
        let main = losses.next().transpose()?.unwrap_or_default();
        Ok(StepOutput {
            main,
            mtp: losses.collect::<Result<_, NnError>>()?,
            saved_bytes,
        })
    }
}
