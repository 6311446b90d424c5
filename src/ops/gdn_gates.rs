//! The gates of the gated delta net: log decay `g = -exp(A_log) softplus(a + dt_bias)` and write strength `beta = sigmoid(b)`.
//!
//! `da = -dg exp(A_log) sigmoid(a + dt_bias)`, `dA_log += sum_n dg g`, `ddt_bias += sum_n da`, `db = dbeta beta (1 - beta)`.
//! `a`, `b` and their gradients may be columns of a joint projection. On a GPU they are of the activations' type, all else is f32.

#[cfg(feature = "cuda")]
mod cuda;
mod reference;

use candle_core::{Result, Tensor};

use super::host;

/// The gates `(g, beta)`.
///
/// # Shapes
/// `a`, `b`, `g`, `beta` `[N, Hv]`, `a_log`, `dt_bias` `[Hv]`
pub fn forward(
    a: &Tensor,
    b: &Tensor,
    a_log: &Tensor,
    dt_bias: &Tensor,
) -> Result<(Tensor, Tensor)> {
    check(a, b, a_log, dt_bias)?;
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        return cuda::forward(a, b, a_log, dt_bias);
    }
    let (a_values, b_values) = (host::read("gdn_gates", a)?, host::read("gdn_gates", b)?);
    let (a_log, dt_bias) = (
        host::read("gdn_gates", a_log)?,
        host::read("gdn_gates", dt_bias)?,
    );
    let (g, beta) = reference::forward(&a_values, &b_values, &a_log, &dt_bias);
    Ok((host::tensor(g, a.shape())?, host::tensor(beta, a.shape())?))
}

/// The gradients `(da, db)`; adds those of the parameters to `da_log` and `ddt_bias`.
///
/// # Shapes
/// `dg`, `dbeta`, `a`, `b`, `da`, `db` `[N, Hv]`, the others `[Hv]`
pub fn backward(
    dg: &Tensor,
    dbeta: &Tensor,
    a: &Tensor,
    b: &Tensor,
    a_log: &Tensor,
    dt_bias: &Tensor,
    da_log: &Tensor,
    ddt_bias: &Tensor,
) -> Result<(Tensor, Tensor)> {
    check_backward(dg, dbeta, a, b, a_log, dt_bias, da_log, ddt_bias)?;
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        let da = crate::ops::cuda::output(a, a.dtype(), a.shape())?;
        let db = crate::ops::cuda::output(a, a.dtype(), a.shape())?;
        cuda::backward(dg, dbeta, a, b, a_log, dt_bias, da_log, ddt_bias, &da, &db)?;
        return Ok((da, db));
    }
    let (da, db) = reference_backward(dg, dbeta, a, b, a_log, dt_bias, da_log, ddt_bias)?;
    Ok((host::tensor(da, a.shape())?, host::tensor(db, a.shape())?))
}

/// As [`backward`], with the gradients of `a` and `b` written into `da` and `db`.
///
/// # Shapes
/// `da`, `db` `[N, Hv]`, their last dimension contiguous
pub fn backward_into(
    dg: &Tensor,
    dbeta: &Tensor,
    a: &Tensor,
    b: &Tensor,
    a_log: &Tensor,
    dt_bias: &Tensor,
    da_log: &Tensor,
    ddt_bias: &Tensor,
    da: &Tensor,
    db: &Tensor,
) -> Result<()> {
    check_backward(dg, dbeta, a, b, a_log, dt_bias, da_log, ddt_bias)?;
    host::check("gdn_gates", "da", da, a.dims())?;
    host::check("gdn_gates", "db", db, a.dims())?;
    #[cfg(feature = "cuda")]
    if a.device().is_cuda() {
        return cuda::backward(dg, dbeta, a, b, a_log, dt_bias, da_log, ddt_bias, da, db);
    }
    let (da_values, db_values) =
        reference_backward(dg, dbeta, a, b, a_log, dt_bias, da_log, ddt_bias)?;
    host::write_view("gdn_gates", da, &da_values)?;
    host::write_view("gdn_gates", db, &db_values)
}

fn reference_backward(
    dg: &Tensor,
    dbeta: &Tensor,
    a: &Tensor,
    b: &Tensor,
    a_log: &Tensor,
    dt_bias: &Tensor,
    da_log: &Tensor,
    ddt_bias: &Tensor,
) -> Result<(Vec<f32>, Vec<f32>)> {
    let (dg, dbeta) = (
        host::read("gdn_gates", dg)?,
        host::read("gdn_gates", dbeta)?,
    );
    let (a, b) = (host::read("gdn_gates", a)?, host::read("gdn_gates", b)?);
    let (a_log, dt_bias) = (
        host::read("gdn_gates", a_log)?,
        host::read("gdn_gates", dt_bias)?,
    );
    let gradients = reference::backward(&dg, &dbeta, &a, &b, &a_log, &dt_bias);
    host::update("gdn_gates", da_log, |sum| {
        host::add_partials(sum, &gradients.da_log);
    })?;
    host::update("gdn_gates", ddt_bias, |sum| {
        host::add_partials(sum, &gradients.ddt_bias);
    })?;
    Ok((gradients.da, gradients.db))
}

fn check_backward(
    dg: &Tensor,
    dbeta: &Tensor,
    a: &Tensor,
    b: &Tensor,
    a_log: &Tensor,
    dt_bias: &Tensor,
    da_log: &Tensor,
    ddt_bias: &Tensor,
) -> Result<()> {
    let heads = check(a, b, a_log, dt_bias)?;
    host::check("gdn_gates", "dg", dg, a.dims())?;
    host::check("gdn_gates", "dbeta", dbeta, a.dims())?;
    host::check("gdn_gates", "da_log", da_log, &[heads])?;
    host::check("gdn_gates", "ddt_bias", ddt_bias, &[heads])
}

fn check(a: &Tensor, b: &Tensor, a_log: &Tensor, dt_bias: &Tensor) -> Result<usize> {
    let heads = a_log.dims1()?;
    host::rows("gdn_gates", "a", a, heads)?;
    host::check("gdn_gates", "b", b, a.dims())?;
    host::check("gdn_gates", "dt_bias", dt_bias, &[heads])?;
    Ok(heads)
}
