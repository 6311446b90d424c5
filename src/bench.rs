//! How fast the tensor operations of a model are on a device, against what the device can do.
//!
//! [`Bench`] runs every kernel family at the sizes of a model, forward and backward. A time is the median over several runs after
//! warm-up: on a GPU between two events of the device around one call, after a write over more than its cache, so that inputs come from
//! memory and the launch is queued ahead; on the CPU by its clock. Bytes are the fewest that the operation can move (each input read
//! once, each output written once), operations those of its matrix products; the share of the peak is the larger of the two shares. The
//! peaks are measured on the device itself: a copy and a matrix product. [`profile`] does the same for a whole forward and backward of
//! the model, by phase and by kernel.

mod clock;
mod elementwise;
mod head;
mod mixers;
mod peaks;
mod profile;
mod projections;
mod sizes;

use candle_core::{DType, Device, Result, Tensor};
use serde::Serialize;

use crate::ops::device;
use clock::Clock;
pub use peaks::Peaks;
pub use profile::{KernelShare, PhaseTime, Profile, StepOptions, profile};
pub use sizes::Sizes;

/// Where to compute.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first GPU if build and machine have one, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The first GPU.
    Cuda,
}

/// The device of a place.
///
/// # Errors
/// When a GPU is asked for and there is none, or this build has no CUDA.
pub fn open(place: Place) -> Result<Device> {
    match place {
        Place::Cpu => Ok(Device::Cpu),
        Place::Cuda => device::open(0),
        Place::Auto if device::count() > 0 => device::open(0),
        Place::Auto => Ok(Device::Cpu),
    }
}

/// The device's name.
pub fn name(device: &Device) -> Result<String> {
    Ok(match device::properties(device)? {
        Some(properties) => properties.name,
        None => format!("cpu ({} threads)", rayon::current_num_threads()),
    })
}

/// What an operation does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct Work {
    /// Bytes that it reads and writes at least.
    pub bytes: f64,
    /// Operations of its matrix products, a multiply-add being two; 0 where it has none.
    pub flops: f64,
}

impl Work {
    /// An operation without matrix products.
    fn bytes(bytes: usize) -> Self {
        Self {
            bytes: bytes as f64,
            flops: 0.0,
        }
    }

    /// One with them.
    fn flops(flops: f64, bytes: usize) -> Self {
        Self {
            bytes: bytes as f64,
            flops,
        }
    }
}

/// Times of several runs.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// Seconds; the middle one.
    pub median: f64,
    /// The shortest.
    pub min: f64,
    /// The longest.
    pub max: f64,
    /// How many.
    pub runs: usize,
}

impl Spread {
    /// Of seconds; of none it is 0.
    pub fn of(mut seconds: Vec<f64>) -> Self {
        seconds.sort_by(f64::total_cmp);
        let at = |index: usize| seconds.get(index).copied().unwrap_or(0.0);
        let last = seconds.len().saturating_sub(1);
        Self {
            median: f64::midpoint(at(last / 2), at(last.div_ceil(2))),
            min: at(0),
            max: at(last),
            runs: seconds.len(),
        }
    }
}

/// One operation in one direction.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Measured {
    /// The family: `rms_norm`.
    pub op: &'static str,
    /// The function: `forward`, `add_backward`.
    pub pass: &'static str,
    /// Of its largest tensors.
    pub shape: String,
    /// Seconds of a call; none if it failed.
    pub seconds: Option<Spread>,
    /// What it does.
    pub work: Work,
    /// The larger of its shares of the peaks, 0 to 1.
    pub share_of_peak: f64,
    /// Which peak that is: `bandwidth` or `matrix`.
    pub bound: &'static str,
    /// Why it could not run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Measures operations one after another.
#[derive(Debug)]
pub struct Bench {
    device: Device,
    dtype: DType,
    clock: Clock,
    peaks: Peaks,
    sizes: Sizes,
    filter: Option<String>,
    results: Vec<Measured>,
}

/// The families in their order; a filter is a part of such a name.
pub const FAMILIES: [&str; 15] = [
    "linear",
    "rms_norm",
    "gated_norm",
    "qk_norm_rope",
    "sigmoid_gate",
    "silu_mul",
    "gdn_gates",
    "conv1d",
    "gated_delta",
    "attention",
    "embedding",
    "cross_entropy",
    "adamw",
    "reduce",
    "arithmetic",
];

impl Bench {
    /// A bench of the families whose name contains `filter`, on a GPU in `bf16` and on the CPU in `f32`, with `repeat` timed runs each.
    ///
    /// Measures the device's peaks first.
    pub fn new(device: &Device, sizes: Sizes, filter: Option<&str>, repeat: usize) -> Result<Self> {
        let dtype = if device.is_cuda() {
            DType::BF16
        } else {
            DType::F32
        };
        let clock = Clock::new(device, repeat)?;
        Ok(Self {
            peaks: Peaks::measure(device, dtype, &clock)?,
            device: device.clone(),
            dtype,
            clock,
            sizes,
            filter: filter.map(str::to_owned),
            results: Vec::new(),
        })
    }

    /// What the device can do.
    pub fn peaks(&self) -> &Peaks {
        &self.peaks
    }

    /// Measures every wanted family; an operation that fails is part of the answer.
    pub fn run(mut self) -> Result<(Peaks, Vec<Measured>)> {
        projections::run(&mut self)?;
        elementwise::run(&mut self)?;
        mixers::run(&mut self)?;
        head::run(&mut self)?;
        Ok((self.peaks, self.results))
    }

    fn wants(&self, family: &str) -> bool {
        self.filter
            .as_ref()
            .is_none_or(|filter| family.contains(filter.as_str()))
    }

    fn measure<T>(
        &mut self,
        op: &'static str,
        pass: &'static str,
        shape: &str,
        work: Work,
        run: impl FnMut() -> Result<T>,
    ) {
        let (seconds, error) = match self.clock.time(run) {
            Ok(spread) => (Some(spread), None),
            Err(error) => (None, Some(error.to_string())),
        };
        let share = |amount: f64, peak: f64| match seconds {
            Some(spread) if spread.median > 0.0 && peak > 0.0 => amount / spread.median / peak,
            _ => 0.0,
        };
        let of_bandwidth = share(work.bytes, self.peaks.bytes_per_second);
        let of_matrix = share(work.flops, self.peaks.flops_per_second);
        self.results.push(Measured {
            op,
            pass,
            shape: shape.to_owned(),
            seconds,
            work,
            share_of_peak: of_bandwidth.max(of_matrix),
            bound: if of_matrix > of_bandwidth {
                "matrix"
            } else {
                "bandwidth"
            },
            error,
        });
    }

    /// Bytes of an activation.
    fn size(&self) -> usize {
        self.dtype.size_in_bytes()
    }

    /// Activations between -1 and 1.
    fn random(&self, shape: &[usize]) -> Result<Tensor> {
        self.random_f32(shape)?.to_dtype(self.dtype)
    }

    fn random_f32(&self, shape: &[usize]) -> Result<Tensor> {
        Tensor::rand(-1f32, 1f32, shape, &self.device)
    }

    fn zeros_f32(&self, shape: &[usize]) -> Result<Tensor> {
        Tensor::zeros(shape, DType::F32, &self.device)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_of_its_times() {
        let odd = Spread::of(vec![3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.min, odd.max, odd.runs), (2.0, 1.0, 3.0, 3));
        assert_eq!(Spread::of(vec![4.0, 1.0, 2.0, 3.0]).median, 2.5);
        assert_eq!(Spread::of(vec![]).median, 0.0);
    }
}
