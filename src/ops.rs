//! Tensor operations, one room a kernel family.
//!
//! An op is a pair of plain functions, `forward` and `backward`; nothing is recorded to differentiate it. Activations are packed,
//! `[N, ...]` with `N` tokens, and [`CuSeqlens`] says where one sequence ends and the next begins: no op has a batch dimension. Weight
//! gradients are added into views of the gradient arena, everything else is returned. On the CPU all tensors are `f32`. Tensors are
//! contiguous, except where an op takes views: columns of a joint buffer, whose last dimension alone is contiguous.
//!
//! Each room has its door (`rms_norm.rs`: the math, the shapes, the choice of device) and its CPU form (`rms_norm/reference.rs`).
//! An op that has no kernel for a tensor's device says so in an error that names both.
//!
//! Results are equal from run to run, bit by bit: work is cut into blocks whose size does not depend on the number of threads, and
//! sums over blocks are taken in their order.

mod arithmetic;
mod buffer;
mod cu_seqlens;
#[cfg(feature = "cuda")]
mod cuda;
mod host;
mod mark;
mod matrix;
mod scalar;
mod snapshot;
mod wide;

pub mod adamw;
pub mod attention;
pub mod columns;
pub mod conv1d;
pub mod cross_entropy;
pub mod device;
pub mod embedding;
pub mod gated_delta;
pub mod gated_norm;
pub mod gdn_gates;
pub mod graph;
pub mod linear;
pub mod qk_norm_rope;
pub mod reduce;
pub mod rms_norm;
pub mod rope;
pub mod sigmoid_gate;
pub mod silu_mul;
pub mod transfer;

pub use arithmetic::{add, add_assign, fill_zero, scale};
pub use buffer::buffer;
pub use cu_seqlens::CuSeqlens;
#[cfg(feature = "cuda")]
pub use cuda::{KernelTime, kernel_times, poison_outputs};
pub use host::{retain_heap, update};
pub use mark::Mark;
pub use snapshot::Snapshot;
