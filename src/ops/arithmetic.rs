//! Sums and multiples of whole tensors.

#[cfg(feature = "cuda")]
mod cuda;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::host;

const BLOCK: usize = 16 * 1024;

/// `a + b`, equal shapes.
pub fn add(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    host::check("add", "b", b, a.dims())?;
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        return cuda::add(a, b);
    }
    let (a_values, b_values) = (host::read("add", a)?, host::read("add", b)?);
    let mut sum = vec![0f32; a_values.len()];
    sum.par_chunks_mut(BLOCK)
        .zip(a_values.par_chunks(BLOCK))
        .zip(b_values.par_chunks(BLOCK))
        .for_each(|((sum, a), b)| {
            for ((sum, a), b) in sum.iter_mut().zip(a).zip(b) {
                *sum = a + b;
            }
        });
    host::tensor(sum, a.shape())
}

/// `a += b` in place, equal shapes; the two must not share storage.
pub fn add_assign(a: &Tensor, b: &Tensor) -> Result<()> {
    host::check("add_assign", "b", b, a.dims())?;
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        return cuda::add_assign(a, b);
    }
    let b = host::read("add_assign", b)?;
    let b: &[f32] = &b;
    host::update("add_assign", a, |a| {
        a.par_chunks_mut(BLOCK)
            .zip(b.par_chunks(BLOCK))
            .for_each(|(a, b)| {
                for (a, b) in a.iter_mut().zip(b) {
                    *a += b;
                }
            });
    })
}

/// `a *= factor` in place.
pub fn scale(a: &Tensor, factor: f32) -> Result<()> {
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        return cuda::scale(a, factor);
    }
    host::update("scale", a, |a| {
        a.par_chunks_mut(BLOCK)
            .for_each(|a| a.iter_mut().for_each(|a| *a *= factor));
    })
}

/// `a = 0` in place.
pub fn fill_zero(a: &Tensor) -> Result<()> {
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        return cuda::fill_zero(a);
    }
    host::update("fill_zero", a, |a| {
        a.par_chunks_mut(BLOCK).for_each(|a| a.fill(0.0));
    })
}
