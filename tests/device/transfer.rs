//! Opening a device, its memory figures, copies that do not wait, and the views that kernels take.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::transfer::{self, Readback};
use trestle::ops::{self, CuSeqlens, device};

use crate::gpu;

#[test]
fn uploads_arrive_whatever_their_length() -> Result<()> {
    let gpu = gpu();
    let mut sent = Vec::new();
    for count in [0, 1, 77, 4096, 4097, 1_000_003] {
        // many in flight at a time, so that buffers are handed on while the device still reads others
        for salt in 0..5u32 {
            let values: Vec<u32> = (0..count).map(|i| i * 7 + salt).collect();
            let floats: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            let pair = (
                transfer::upload_u32(&values, &gpu)?,
                transfer::upload_f32(&floats, &gpu)?,
            );
            sent.push((values, floats, pair));
        }
    }
    for (values, floats, (ints, reals)) in sent {
        assert_eq!(ints.to_vec1::<u32>()?, values);
        assert_eq!(reals.to_vec1::<f32>()?, floats);
    }
    Ok(())
}

#[test]
fn a_readback_has_the_numbers_of_its_time() -> Result<()> {
    let gpu = gpu();
    let values: Vec<f64> = (0..1000).map(|i| f64::from(i) / 3.0).collect();
    let x = Tensor::from_slice(&values, 1000, &gpu)?;
    let all: Vec<Readback> = (0..8).map(|_| Readback::start(&x)).collect::<Result<_>>()?;
    drop(x); // freed in the order of the queue, after the copies
    let _other = Tensor::full(7.0f64, 1000, &gpu)?;
    for readback in all {
        assert_eq!(readback.wait()?, values);
    }
    let ready = Readback::start(&Tensor::zeros(1, DType::F64, &gpu)?)?;
    gpu.synchronize()?;
    assert!(ready.is_ready()?);
    let here = Readback::start(&Tensor::from_slice(&values, 1000, &Device::Cpu)?)?;
    assert_eq!(here.wait()?, values);
    assert!(Readback::start(&Tensor::zeros(1, DType::F32, &gpu)?).is_err());
    Ok(())
}

#[test]
fn memory_figures_follow_the_tensors() -> Result<()> {
    let gpu = gpu();
    let read = || -> Result<device::Memory> {
        gpu.synchronize()?;
        Ok(device::memory(&gpu)?.expect("a GPU has figures"))
    };
    device::trim(&gpu)?;
    device::reset_peak(&gpu)?;
    let before = read()?;
    let x = Tensor::zeros(1 << 26, DType::F32, &gpu)?;
    let held = read()?;
    assert_eq!(held.used.0 - before.used.0, 1 << 28);
    drop(x);
    let after = read()?;
    assert_eq!(after.used, before.used);
    assert!(after.used_peak.0 >= before.used.0 + (1 << 28));
    assert_eq!(after.reserved, held.reserved); // kept, not given back
    device::reset_peak(&gpu)?;
    assert!(read()?.used_peak.0 < held.used.0);
    device::trim(&gpu)?;
    assert!(read()?.reserved.0 < held.reserved.0);
    let properties = device::properties(&gpu)?.expect("a GPU is something");
    println!("device {properties:?} {:?}", read()?);
    assert!(properties.multiprocessors > 0 && properties.compute_capability.0 >= 8);
    Ok(())
}

#[test]
fn tables_of_a_batch_are_copied_once() -> Result<()> {
    let gpu = gpu();
    let cu = CuSeqlens::new(vec![0, 3, 10])?;
    assert_eq!(cu.on(&gpu)?.to_vec1::<u32>()?, [0, 3, 10]);
    let table = cu.clone().resident(&gpu, "key", || vec![5])?;
    let again = cu.resident(&gpu, "key", || vec![6])?;
    assert_eq!((table.id(), again.to_vec1::<u32>()?), (again.id(), vec![5]));
    Ok(())
}

#[test]
fn a_kernel_without_views_refuses_them() -> Result<()> {
    let x = Tensor::zeros((4, 8), DType::F32, &gpu())?;
    let view = x.narrow(1, 2, 3)?;
    assert!(ops::scale(&view, 2.0).is_err());
    Ok(())
}

#[test]
fn a_snapshot_has_the_values_of_small_and_of_large_tensors() -> Result<()> {
    let gpu = gpu();
    // smaller than a page-locked buffer of 2^24 values, as large, and larger by a part
    for n in [1u32, 1000, 1 << 24, (1 << 25) + 77] {
        let x = Tensor::arange(0, n, &gpu)?.to_dtype(DType::F32)?;
        let y = (&x * -2.0)?;
        let copies = ops::Snapshot::take(&[&x, &y])?.copy()?;
        for (copy, tensor) in copies.iter().zip([&x, &y]) {
            assert!(*copy == tensor.to_vec1::<f32>()?, "{n} values");
        }
    }
    Ok(())
}
