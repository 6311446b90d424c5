//! The gates of the gated delta net: log decay `g = -exp(A_log) softplus(a + dt_bias)` and write strength `beta = sigmoid(b)`.
//!
//! `da = -dg exp(A_log) sigmoid(a + dt_bias)`, `dA_log += sum_n dg g`, `ddt_bias += sum_n da`, `db = dbeta beta (1 - beta)`.

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
    let heads = check(a, b, a_log, dt_bias)?;
    host::check("gdn_gates", "dg", dg, a.dims())?;
    host::check("gdn_gates", "dbeta", dbeta, a.dims())?;
    host::check("gdn_gates", "da_log", da_log, &[heads])?;
    host::check("gdn_gates", "ddt_bias", ddt_bias, &[heads])?;
    let (dg, dbeta) = (
        host::read("gdn_gates", dg)?,
        host::read("gdn_gates", dbeta)?,
    );
    let (a_values, b_values) = (host::read("gdn_gates", a)?, host::read("gdn_gates", b)?);
    let (a_log, dt_bias) = (
        host::read("gdn_gates", a_log)?,
        host::read("gdn_gates", dt_bias)?,
    );
    let gradients = reference::backward(&dg, &dbeta, &a_values, &b_values, &a_log, &dt_bias);
    host::update("gdn_gates", da_log, |sum| {
        host::add_partials(sum, &gradients.da_log);
    })?;
    host::update("gdn_gates", ddt_bias, |sum| {
        host::add_partials(sum, &gradients.ddt_bias);
    })?;
    Ok((
        host::tensor(gradients.da, a.shape())?,
        host::tensor(gradients.db, a.shape())?,
    ))
}

fn check(a: &Tensor, b: &Tensor, a_log: &Tensor, dt_bias: &Tensor) -> Result<usize> {
    let heads = a_log.dims1()?;
    host::rows("gdn_gates", "a", a, heads)?;
    host::check("gdn_gates", "b", b, a.dims())?;
    host::check("gdn_gates", "dt_bias", dt_bias, &[heads])?;
    Ok(heads)
}
