//! Recording and launching work: what it computes, its marks, its memory, and what cannot be recorded.

use candle_core::{DType, Device, Result, Tensor};
use trestle::ops::graph::{self, Graph};
use trestle::ops::transfer::{self, Readback};
use trestle::ops::{self, Mark, add_assign, device, reduce};

use crate::gpu;

fn memory(gpu: &Device) -> Result<device::Memory> {
    gpu.synchronize()?;
    Ok(device::memory(gpu)?.expect("a GPU has figures"))
}

/// `y = 2 x + x`, with a tensor made and dropped inside.
fn work(x: &Tensor, y: &Tensor) -> Result<()> {
    let inside = ops::add(x, x)?;
    ops::fill_zero(y)?;
    add_assign(y, &inside)?;
    drop(inside);
    let again = ops::add(x, y)?;
    ops::fill_zero(y)?;
    add_assign(y, &again)
}

#[test]
fn a_launch_computes_from_what_its_tensors_hold_then() -> Result<()> {
    let gpu = gpu();
    let count = 100_003;
    let x = transfer::upload_f32(&vec![1.0; count], &gpu)?;
    let y = Tensor::zeros(count, DType::F32, &gpu)?;
    work(&x, &y)?; // loads kernels
    assert_eq!(y.to_vec1::<f32>()?, vec![3.0; count]);
    let (mut recorded, kept) = Graph::record(&gpu, || work(&x, &y).map(|()| 7))?;
    assert_eq!((kept, recorded.nodes() > 4), (7, true));
    assert_eq!(
        y.to_vec1::<f32>()?,
        vec![3.0; count],
        "recording does nothing"
    );
    for turn in 2..40u32 {
        // without waiting: uploads, launches and readbacks are one queue
        transfer::refill_f32(&x, &vec![turn as f32; count])?;
        assert!(recorded.launch()?.is_empty());
        if turn % 13 == 0 {
            assert_eq!(y.to_vec1::<f32>()?, vec![3.0 * turn as f32; count]);
        }
    }
    assert_eq!(y.to_vec1::<f32>()?, vec![117.0; count]);
    drop(recorded);
    work(&x, &y)?;
    assert_eq!(y.to_vec1::<f32>()?, vec![117.0; count]);
    Ok(())
}

#[test]
fn marks_of_two_launches_in_flight_have_their_own_times() -> Result<()> {
    let gpu = gpu();
    let x = Tensor::ones(1 << 26, DType::F32, &gpu)?;
    let squares = Tensor::zeros(1, DType::F64, &gpu)?;
    reduce::sum_of_squares_into(&x, &squares)?;
    let (mut recorded, ()) = Graph::record(&gpu, || -> Result<()> {
        graph::mark(&gpu)?;
        for _ in 0..8 {
            reduce::sum_of_squares_into(&x, &squares)?;
        }
        graph::mark(&gpu)?;
        reduce::sum_of_squares_into(&x, &squares)?;
        graph::mark(&gpu)
    })?;
    let begin = Mark::record(&gpu)?;
    let launches = (0..5)
        .map(|_| recorded.launch())
        .collect::<Result<Vec<_>>>()?;
    let end = Mark::record(&gpu)?;
    gpu.synchronize()?;
    let mut before = begin.seconds_since(&begin)?;
    for marks in &launches {
        assert_eq!(marks.len(), 3);
        let at: Vec<f64> = marks
            .iter()
            .map(|mark| mark.seconds_since(&begin))
            .collect::<Result<_>>()?;
        assert!(before <= at[0] && at[0] < at[1] && at[1] < at[2], "{at:?}");
        let (long, short) = (at[1] - at[0], at[2] - at[1]);
        println!(
            "speed graph: 8 sums {:.3} ms, 1 sum {:.3} ms",
            long * 1e3,
            short * 1e3
        );
        assert!(long > 3.0 * short, "{long} {short}");
        before = at[2];
    }
    assert!(end.seconds_since(&begin)? >= before);
    assert!(graph::mark(&gpu).is_err(), "outside of a recording");
    Ok(())
}

type Forbidden<'a> = &'a dyn Fn() -> Result<()>;

#[test]
fn what_waits_or_comes_from_the_host_is_a_clean_error() -> Result<()> {
    let gpu = gpu();
    let x = Tensor::ones(1000, DType::F32, &gpu)?;
    let y = Tensor::zeros(1000, DType::F32, &gpu)?;
    let numbers = Tensor::ones(4, DType::F64, &gpu)?;
    work(&x, &y)?;
    let forbidden: [(&str, Forbidden<'_>); 6] = [
        ("synchronize", &|| gpu.synchronize()),
        ("to_vec", &|| x.to_vec1::<f32>().map(drop)),
        ("upload", &|| transfer::upload_f32(&[1.0], &gpu).map(drop)),
        ("refill", &|| transfer::refill_f32(&x, &[2.0; 1000])),
        ("readback", &|| Readback::start(&numbers).map(drop)),
        ("mark", &|| Mark::record(&gpu).map(drop)),
    ];
    for (what, forbidden) in forbidden {
        let recorded = Graph::record(&gpu, || {
            let held = ops::add(&x, &x)?; // dropped after the capture has failed
            work(&x, &y)?;
            forbidden()?;
            work(&held, &y)
        });
        let error = recorded.expect_err(what);
        println!("error {what}: {error}");
        // Nothing was done, and everything goes on.
        work(&x, &y)?;
        assert_eq!(y.to_vec1::<f32>()?, vec![3.0; 1000], "{what}");
        let (mut again, ()) = Graph::record(&gpu, || work(&x, &y))?;
        ops::fill_zero(&y)?;
        again.launch()?;
        assert_eq!(y.to_vec1::<f32>()?, vec![3.0; 1000], "{what}");
    }
    let stopped = Graph::record(&gpu, || -> Result<()> {
        work(&x, &y)?;
        candle_core::bail!("of its own")
    });
    let error = stopped.expect_err("the work failed");
    assert!(error.to_string().contains("of its own"), "{error}");
    assert!(Graph::record(&gpu, || Ok::<_, candle_core::Error>(())).is_err());
    assert!(Graph::record(&Device::Cpu, || work(&x, &y)).is_err());
    work(&x, &y)?;
    assert_eq!(y.to_vec1::<f32>()?, vec![3.0; 1000]);
    Ok(())
}

#[test]
fn a_tensor_that_outlives_its_recording_is_refused() -> Result<()> {
    let gpu = gpu();
    let x = Tensor::ones(1000, DType::F32, &gpu)?;
    let _loads = ops::add(&x, &x)?;
    let mut outside = None;
    let recorded = Graph::record(&gpu, || -> Result<()> {
        outside = Some(ops::add(&x, &x)?);
        Ok(())
    });
    let error = recorded.expect_err("one tensor more than is dropped");
    println!("error outliving: {error}");
    std::mem::forget(outside); // its memory never was
    assert_eq!(ops::add(&x, &x)?.to_vec1::<f32>()?, vec![2.0; 1000]);
    Ok(())
}

#[test]
fn graphs_share_their_memory_and_give_it_back() -> Result<()> {
    let gpu = gpu();
    let count = 64 << 20; // 256 MB a tensor
    let x = Tensor::ones(count, DType::F32, &gpu)?;
    let y = Tensor::zeros(count, DType::F32, &gpu)?;
    work(&x, &y)?;
    device::trim(&gpu)?;
    graph::trim(&gpu)?;
    device::reset_peak(&gpu)?;
    let before = memory(&gpu)?;
    let record = || Graph::record(&gpu, || work(&x, &y)).map(|(graph, ())| graph);
    let mut graphs = [record()?, record()?, record()?];
    for graph in &mut graphs {
        graph.launch()?;
    }
    let after = memory(&gpu)?;
    println!("memory before {before:?}\nmemory after three graphs {after:?}");
    let grown = (before.free.0 - after.free.0) as f64 / (4 * count) as f64;
    assert!(
        grown < 1.5,
        "three graphs of one tensor each took {grown} tensors"
    );
    assert!(after.used_peak.0 >= before.used.0 + 4 * count as u64);
    assert!(after.reserved.0 >= before.reserved.0 + 4 * count as u64);
    graph::trim(&gpu)?;
    let trimmed = memory(&gpu)?;
    assert!(trimmed.free.0 + (16 << 20) >= before.free.0, "{trimmed:?}");
    graphs[1].launch()?;
    assert_eq!(y.narrow(0, count - 9, 9)?.to_vec1::<f32>()?, [3.0; 9]);
    drop(graphs);
    graph::trim(&gpu)?;
    assert!(memory(&gpu)?.free.0 + (16 << 20) >= before.free.0);
    Ok(())
}
