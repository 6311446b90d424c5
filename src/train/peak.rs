//! How fast a device could be, which utilisation divides by.

use std::time::{Duration, Instant};

use candle_core::{DType, Device, Result, Tensor};

use crate::nn::Precision;
use crate::ops::{Mark, linear};

use super::machine::Machine;

/// The peak of a device and what it is.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Peak {
    /// Floating-point operations a second.
    pub(super) flops: f64,
    /// Device, type and source.
    pub(super) name: String,
}

/// A GPU in the vendor's datasheet: what its name holds, how it is called, dense TFLOP/s in bf16 with f32 sums and in f32.
struct Gpu(&'static str, &'static str, f64, f64);

/// The first whose text is in the driver's name counts, so that special cases come before their family.
const GPUS: &[Gpu] = &[
    Gpu("GH200", "GH200", 989.4, 66.9),
    Gpu("H200", "H200", 989.4, 66.9),
    Gpu("H100 PCIe", "H100 PCIe", 756.4, 51.2),
    Gpu("H100 NVL", "H100 NVL", 835.5, 60.0),
    Gpu("H100", "H100 SXM", 989.4, 66.9),
    Gpu("H800", "H800", 989.4, 66.9),
    Gpu("A100", "A100", 312.0, 19.5),
    Gpu("A800", "A800", 312.0, 19.5),
    Gpu("L40S", "L40S", 362.0, 91.6),
    Gpu("RTX 4090", "RTX 4090", 165.2, 82.6),
    Gpu("RTX 3090", "RTX 3090", 71.2, 35.6),
];

/// The peak of `machine` in its precision: by datasheet if the GPU is known, else measured.
pub(super) fn of(machine: &Machine) -> Result<Peak> {
    let Some(gpu) = &machine.gpu else {
        return measure(
            &machine.device,
            DType::F32,
            &CPU_SHAPES,
            Duration::from_millis(320),
        );
    };
    match GPUS.iter().find(|Gpu(part, ..)| gpu.name.contains(part)) {
        Some(Gpu(_, name, bf16, f32)) => {
            let (tera, word) = match machine.precision {
                Precision::Bf16 => (bf16, "bf16"),
                Precision::F32 => (f32, "f32"),
            };
            Ok(Peak {
                flops: tera * 1e12,
                name: format!("{name} {word} dense {tera} TFLOP/s by datasheet"),
            })
        }
        None => measure(
            &machine.device,
            machine.precision.dtype(),
            &GPU_SHAPES,
            Duration::from_millis(300),
        ),
    }
}

/// Rows, inner width and columns of the products that are tried.
type Shape = [usize; 3];

/// Some fit the caches, some are as tall as a batch: which is fastest depends on the processor.
const CPU_SHAPES: [Shape; 4] = [
    [768, 768, 768],
    [1024, 512, 1024],
    [2048, 256, 768],
    [512, 1024, 512],
];
const GPU_SHAPES: [Shape; 2] = [[8192, 4096, 4096], [8192, 8192, 8192]];

/// The best of all products that fit into `time`, at least two of each shape.
fn measure(device: &Device, dtype: DType, shapes: &[Shape], time: Duration) -> Result<Peak> {
    let mut best = (0.0f64, [0; 3]);
    for &[m, k, n] in shapes {
        let matrix = |rows: usize| -> Result<Tensor> {
            let values: Vec<f32> = (0..rows * k).map(|i| (i % 17) as f32 * 0.1).collect();
            Tensor::from_vec(values, (rows, k), device)?.to_dtype(dtype)
        };
        let (x, w) = (matrix(m)?, matrix(n)?);
        let operations = 2.0 * m as f64 * k as f64 * n as f64;
        let begin = Instant::now();
        let mut runs = 0;
        while runs < 2 || begin.elapsed() < time / shapes.len() as u32 {
            let start = Mark::record(device)?;
            linear::forward(&x, &w)?;
            let end = Mark::record(device)?;
            end.wait()?;
            let seconds = end.seconds_since(&start)?;
            let rate = operations / seconds;
            if rate > best.0 {
                best = (rate, [m, k, n]);
            }
            runs += 1;
        }
    }
    let (flops, [m, k, n]) = best;
    Ok(Peak {
        flops,
        name: format!("measured, the best of several products: {m} x {k} x {n}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::Bytes;
    use crate::ops::device::Properties;

    fn named(name: &str, precision: Precision) -> Peak {
        let machine = Machine {
            device: Device::Cpu,
            precision,
            gpu: Some(Properties {
                name: name.to_owned(),
                compute_capability: (9, 0),
                multiprocessors: 132,
                memory: Bytes(80 << 30),
            }),
            fallback: None,
        };
        of(&machine).expect("a known GPU is not measured")
    }

    #[test]
    fn a_known_gpu_has_the_peak_of_its_datasheet() {
        let sxm = named("NVIDIA H100 80GB HBM3", Precision::Bf16);
        assert_eq!(sxm.flops, 989.4e12);
        assert!(
            sxm.name.starts_with("H100 SXM bf16 dense 989.4"),
            "{}",
            sxm.name
        );
        assert_eq!(named("NVIDIA H100 PCIe", Precision::Bf16).flops, 756.4e12);
        assert_eq!(named("NVIDIA H200", Precision::F32).flops, 66.9 * 1e12);
        assert_eq!(
            named("NVIDIA A100-SXM4-80GB", Precision::Bf16).flops,
            312e12
        );
    }
}
