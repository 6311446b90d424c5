//! What the machine is doing: memory, processors, GPUs.

mod gpu;
mod sampler;

pub use gpu::Gpu;
pub use sampler::{Host, Process, Sample, Sampler, resident_bytes};
