//! Chunks of tokens: logits by one product, `kernels/cross_entropy.cu` on their rows, and two products for the gradients.

use candle_core::cuda_backend::cudarc::driver::LaunchConfig;
use candle_core::{DType, Result, Tensor, bail};

use super::{Objective, Output};
use crate::ops::cuda::Argument::{Absent, Int, Typed, Values, View};
use crate::ops::cuda::{Factor, compute_capability, launch, output, product, zero};

/// Blocks of a row that a cluster takes.
const CLUSTER: usize = 8;
/// Bytes of an access; rows of logits begin at multiples of them.
const VECTOR: usize = 16;
/// Most bytes of a row in the shared memory of one block.
const PART: usize = 208 << 10;
/// Narrowest row that is worth a cluster.
const NARROW: usize = 16_384;

/// The head and what is wanted of it.
pub(super) struct Head<'a> {
    pub(super) x: &'a Tensor,
    pub(super) w: &'a Tensor,
    pub(super) objective: &'a Objective,
    pub(super) chunk: usize,
}

/// The loss and, with the gradient of the weights to add to, the gradient of `x`.
pub(super) fn run(head: &Head<'_>, gradient: Option<&Tensor>) -> Result<(Output, Option<Tensor>)> {
    let Head {
        x, w, objective, ..
    } = head;
    let (n, vocabulary) = (x.dim(0)?, w.dim(0)?);
    let Some(placed) = &objective.placed else {
        bail!("cross_entropy: the labels are not on the device");
    };
    let (ce, lse) = (output(x, DType::F32, n)?, output(x, DType::F32, n)?);
    let argmax = output(x, DType::U32, n)?;
    let dx = match gradient {
        Some(_) => Some(output(x, x.dtype(), x.shape())?),
        None => None,
    };
    let width = VECTOR / x.dtype().size_in_bytes();
    let stride = vocabulary.next_multiple_of(width);
    let logits = output(x, x.dtype(), (head.chunk.min(n), stride))?;
    for first in (0..n).step_by(head.chunk) {
        let rows = head.chunk.min(n - first);
        let part = |tensor: &Tensor| tensor.narrow(0, first, rows);
        let (ce, lse, argmax) = (part(&ce)?, part(&lse)?, part(&argmax)?);
        if objective.is_weightless(first, rows) {
            for tensor in [&ce, &lse, &argmax] {
                zero(tensor)?;
            }
            if let Some(dx) = &dx {
                zero(&part(dx)?)?;
            }
            continue;
        }
        let logits = logits.narrow(0, 0, rows)?.narrow(1, 0, vocabulary)?;
        let x = part(x)?;
        product(
            "cross_entropy_logits",
            Factor::new(&x),
            Factor::new(w).t(),
            None,
            &logits,
        )?;
        let (name, config) = launch_of(&logits, rows, vocabulary.div_ceil(width))?;
        launch(
            "cross_entropy",
            name,
            &logits,
            config,
            &[
                View(&logits),
                Typed(DType::U32, &part(&placed.labels)?),
                Typed(DType::F32, &part(&placed.weights)?),
                Typed(DType::F32, &ce),
                Typed(DType::F32, &lse),
                Typed(DType::U32, &argmax),
                Int(vocabulary),
                Int(stride),
                gradient.map_or(Absent, |_| Typed(DType::F32, &placed.scale)),
            ],
        )?;
        if let (Some(dx), Some(dw)) = (&dx, gradient) {
            let dlogits = Factor::new(&logits);
            let dx = part(dx)?;
            product("cross_entropy_dx", dlogits, Factor::new(w), None, &dx)?;
            let x = Factor::new(&x);
            product("cross_entropy_dw", dlogits.t(), x, Some(dw), dw)?;
        }
    }
    launch(
        "cross_entropy",
        "cross_entropy_sums",
        &ce,
        one_block(1),
        &[
            Values(&ce),
            Typed(DType::U32, &argmax),
            Typed(DType::U32, &placed.labels),
            Values(&placed.weights),
            Typed(DType::F64, &placed.sums),
            Int(n),
        ],
    )?;
    let output = Output::new(placed.sums.clone(), ce, lse, argmax, objective);
    Ok((output, dx))
}

/// The kernel for `rows` rows of `vectors` vectors and how it is launched.
fn launch_of(logits: &Tensor, rows: usize, vectors: usize) -> Result<(&'static str, LaunchConfig)> {
    let part = vectors.div_ceil(CLUSTER) * VECTOR;
    let clusters = compute_capability(logits)? == (9, 0);
    if clusters && part <= PART && vectors * VECTOR >= NARROW {
        let config = LaunchConfig {
            grid_dim: ((rows * CLUSTER) as u32, 1, 1),
            block_dim: (512, 1, 1),
            shared_mem_bytes: part as u32,
        };
        return Ok(("cross_entropy_cluster", config));
    }
    Ok(("cross_entropy_block", one_block(rows)))
}

/// A block of 1024 for each of `rows`.
fn one_block(rows: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (rows as u32, 1, 1),
        block_dim: (1024, 1, 1),
        shared_mem_bytes: 0,
    }
}
