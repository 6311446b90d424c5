//! The gates of the gated delta net: outputs and gradients on odd and real shapes, columns of a joint projection; then their speed.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::gdn_gates;

use crate::{
    check_untouched, compare, gpu, joint, place, speed, tolerance, tolerance_of_sum, values,
};

#[test]
fn gdn_gates_match_their_reference() -> Result<()> {
    let gpu = gpu();
    for (n, heads, width) in [
        (1, 1, 2),
        (3, 5, 11),
        (1025, 16, 8224),
        (130, 32, 64),
        (77, 48, 100),
    ] {
        let whole = (values(&[n, width], 1)? * 4.0)?;
        let [dg, dbeta] = [2, 3].map(|salt| values(&[n, heads], salt));
        let (dg, dbeta) = (dg?, dbeta?);
        let (a_log, dt_bias) = (values(&[heads], 4)?, values(&[heads], 5)?);
        let columns = |t: &Tensor| -> Result<(Tensor, Tensor)> {
            let b = t.narrow(1, width - 2 * heads, heads)?;
            Ok((t.narrow(1, width - heads, heads)?, b))
        };
        let (a, b) = columns(&whole)?;
        let (g, beta) = gdn_gates::forward(&a, &b, &a_log, &dt_bias)?;
        let ones = |device: &Device| Tensor::ones(heads, DType::F32, device);
        let (da_log, ddt_bias) = (ones(&Device::Cpu)?, ones(&Device::Cpu)?);
        let (da, db) =
            gdn_gates::backward(&dg, &dbeta, &a, &b, &a_log, &dt_bias, &da_log, &ddt_bias)?;
        for dtype in [DType::F32, DType::BF16] {
            let (ga, gb) = columns(&place(&whole, &gpu, dtype)?)?;
            let place = |t: &Tensor| t.to_device(&gpu);
            let (gdg, gdbeta) = (place(&dg)?, place(&dbeta)?);
            let (ga_log, gdt_bias) = (place(&a_log)?, place(&dt_bias)?);
            let (gda_log, gddt_bias) = (ones(&gpu)?, ones(&gpu)?);
            let (gg, gbeta) = gdn_gates::forward(&ga, &gb, &ga_log, &gdt_bias)?;
            let joint = joint(&gpu, dtype, n, width)?;
            let (gda, gdb) = columns(&joint)?;
            gdn_gates::backward_into(
                &gdg, &gdbeta, &ga, &gb, &ga_log, &gdt_bias, &gda_log, &gddt_bias, &gda, &gdb,
            )?;
            let what = |name| format!("gdn_gates [{n}, {heads}] {} {name}", dtype.as_str());
            let bound = tolerance(DType::F32); // g and beta are f32
            compare(&what("g"), &gg, &g, bound)?;
            compare(&what("beta"), &gbeta, &beta, bound)?;
            compare(&what("da"), &gda, &da, tolerance(dtype))?;
            compare(&what("db"), &gdb, &db, tolerance(dtype))?;
            compare(&what("da_log"), &gda_log, &da_log, tolerance_of_sum(n))?;
            compare(
                &what("ddt_bias"),
                &gddt_bias,
                &ddt_bias,
                tolerance_of_sum(n),
            )?;
            check_untouched(&what("da, db"), &joint, |column| {
                column >= width - 2 * heads
            })?;
        }
    }
    Ok(())
}

#[test]
fn gdn_gates_speed() -> Result<()> {
    let gpu = gpu();
    let (n, heads, width) = (8192, 16, 8224);
    let whole = place(&values(&[n, width], 1)?, &gpu, DType::BF16)?;
    let (b, a) = (whole.narrow(1, 8192, heads)?, whole.narrow(1, 8208, heads)?);
    let joint = joint(&gpu, DType::BF16, n, width)?;
    let (db, da) = (joint.narrow(1, 8192, heads)?, joint.narrow(1, 8208, heads)?);
    let parameter = |salt| values(&[heads], salt)?.to_device(&gpu);
    let (a_log, dt_bias, da_log, ddt_bias) =
        (parameter(2)?, parameter(3)?, parameter(4)?, parameter(5)?);
    let (g, beta) = gdn_gates::forward(&a, &b, &a_log, &dt_bias)?;
    speed(&gpu, "gdn_gates forward [8192, 16]", n * heads * 12, |_| {
        gdn_gates::forward(&a, &b, &a_log, &dt_bias).map(drop)
    })?;
    speed(
        &gpu,
        "gdn_gates backward [8192, 16]",
        n * heads * 16,
        |_| {
            gdn_gates::backward_into(
                &g, &beta, &a, &b, &a_log, &dt_bias, &da_log, &ddt_bias, &da, &db,
            )
        },
    )
}
