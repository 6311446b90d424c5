//! What the machine is doing: memory, processors, GPUs.
//!
//! A number that a driver does not give is an ordinary state with a reason, [`Refusal`]; nothing here fails.

mod driver;
mod gpu;
mod nvml;
mod sampler;

pub use driver::{Driver, Holder, Memory, Reading, Refusal, Throttle};
pub use gpu::{Gpu, Gpus, ask};
pub use sampler::{Host, Process, Sample, Sampler, resident_bytes};
