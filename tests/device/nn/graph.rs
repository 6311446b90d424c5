//! Micro-batches as graphs: the bits of the eager ones, whatever batch, and in no more memory.

use std::collections::BTreeMap;

use trestle::nn::{Batch, LossScales, Model, Parameters, Pending, Phase, Prepared, Runner};
use trestle::nn::{Precision, Recompute};
use trestle::ops::{CuSeqlens, Mark, device};

use super::inputs::{PRECISIONS, bits, model, others, scales};

fn prepare(model: &Model, batch: &Batch) -> Prepared {
    let preparation = model.preparation();
    preparation.prepare(batch.clone()).expect("a good batch")
}

/// One micro-batch, its phases counted and their times read.
fn run(runner: &mut Runner, model: &Model, batch: &Prepared, scales: &LossScales) -> Pending {
    let gpu = crate::gpu();
    let mut marks = vec![Mark::record(&gpu).expect("a mark")];
    let mut phases: BTreeMap<&str, usize> = BTreeMap::new();
    let pending = runner.run(model, batch, scales, &mut |phase: Phase, mark| {
        *phases.entry(phase.word()).or_default() += 1;
        marks.push(mark);
    });
    let pending = pending.expect("a micro-batch");
    gpu.synchronize().expect("no error on the device");
    for pair in marks.windows(2) {
        let seconds = pair[1].seconds_since(&pair[0]).expect("both are past");
        assert!(seconds >= 0.0, "{seconds}");
    }
    let depths = 1 + model.config().mtp_num_hidden_layers;
    if scales.mtp_lambda != 0.0 {
        assert_eq!(phases["loss"], depths);
        assert_eq!(phases["backward"], depths);
    }
    assert_eq!(phases["forward"], 1);
    pending
}

#[test]
fn graphs_give_the_bits_of_eager_micro_batches() {
    for name in ["packed2", "depth1"] {
        for precision in PRECISIONS {
            let (model, first) = model(name, precision);
            let mut graphs = Runner::new(&crate::gpu(), true);
            let mut eager = Runner::new(&crate::gpu(), false);
            let batches = others(&first, model.config().vocab_size);
            for (salt, batch) in [&first].into_iter().chain(&batches).enumerate() {
                let batch = prepare(&model, batch);
                let want = bits(&model, || run(&mut eager, &model, &batch, &scales(salt)));
                let got = bits(&model, || run(&mut graphs, &model, &batch, &scales(salt)));
                assert_eq!(graphs.take_failure(), None);
                assert!(got == want, "{name} {precision:?} {salt}");
            }
            assert_eq!(graphs.launches(), batches.len() as u64, "all but the first");
            assert_eq!(eager.launches(), 0);
        }
    }
}

#[test]
fn losses_of_earlier_launches_stay_what_they_were() {
    let (model, first) = model("depth1", Precision::Bf16);
    let mut graphs = Runner::new(&crate::gpu(), true);
    let batches = others(&first, model.config().vocab_size);
    let mut pending = Vec::new();
    let mut want = Vec::new();
    for (salt, batch) in batches.iter().enumerate() {
        let prepared = prepare(&model, batch);
        let eager = model.forward_backward(batch, &scales(salt));
        want.push(eager.and_then(Pending::read).expect("losses"));
        let mut ended = |_: Phase, _: Mark| {};
        // not read before all are queued
        let one = graphs.run(&model, &prepared, &scales(salt), &mut ended);
        pending.push(one.expect("a micro-batch"));
    }
    assert_eq!(graphs.launches(), batches.len() as u64 - 1);
    for (pending, want) in pending.into_iter().zip(want) {
        assert_eq!(pending.read().expect("losses"), want);
    }
}

#[test]
fn other_shapes_weights_and_scales_are_other_graphs_or_eager() {
    let (model, first) = model("depth1", Precision::Bf16);
    let n = first.tokens();
    let model = model.with_loss_chunk(n / 2);
    let mut graphs = Runner::new(&crate::gpu(), true);
    let mut eager = Runner::new(&crate::gpu(), false);
    let mut check = |batch: &Batch, scales: &LossScales| -> u64 {
        let batch = prepare(&model, batch);
        let want = bits(&model, || run(&mut eager, &model, &batch, scales));
        let before = graphs.launches();
        let got = bits(&model, || run(&mut graphs, &model, &batch, scales));
        assert_eq!(graphs.take_failure(), None);
        assert!(got == want);
        graphs.launches() - before
    };
    let plain = scales(0);
    let unweighted = {
        let mut batch = first.clone();
        batch.loss_mask[n / 2..].fill(0.0);
        batch
    };
    let without_mtp = LossScales {
        mtp_lambda: 0.0,
        ..plain
    };
    let cases = [(&first, plain), (&unweighted, plain), (&first, without_mtp)];
    for _ in 0..5 {
        for (batch, scales) in &cases {
            check(batch, scales);
        }
    }
    for (batch, scales) in &cases {
        assert_eq!(check(batch, scales), 1, "known by now");
    }
    // Packed text: every batch with borders of its own. None is recorded, and graphs go.
    for border in 1..n.min(24) {
        let mut packed = first.clone();
        packed.cu_seqlens = CuSeqlens::new(vec![0, border, n]).expect("two sequences");
        assert_eq!(check(&packed, &plain), 0);
    }
    assert_eq!(check(&first, &plain), 0, "new shapes are far ahead");
}

/// Qwen3.5-0.8B with one MTP depth, two rows of 4096 tokens: time and memory of eager micro-batches and of graphs.
#[test]
fn graphs_of_the_published_size_take_no_more_memory() -> candle_core::Result<()> {
    let gpu = crate::gpu();
    let entry = trestle::spec::find("Qwen/Qwen3.5-0.8B").expect("a published size");
    let config = entry.dense().expect("a dense model").clone();
    let parameters = Parameters::from_spec(&config, &gpu, Precision::Bf16).expect("room");
    let random = candle_core::Tensor::randn(0f32, 0.02, parameters.len(), &gpu)?;
    parameters.masters().slice_set(&random, 0, 0)?;
    drop(random);
    parameters.refresh().expect("rounded weights");
    let model = Model::new(config.clone(), parameters, &Recompute::None)
        .expect("the model")
        .with_loss_chunk(2048);
    let tokens = 2 * 4096;
    let batch = |salt: u32| {
        let ids: Vec<u32> = (0..tokens as u32)
            .map(|i| (i.wrapping_mul(2_654_435_761).wrapping_add(salt) >> 8) % 248_000)
            .collect();
        let labels = ids.iter().copied().skip(1).chain([0]).collect();
        let cu_seqlens = CuSeqlens::uniform(2, 4096);
        prepare(
            &model,
            &Batch::text(ids, labels, vec![1.0; tokens], cu_seqlens),
        )
    };
    let batches: Vec<Prepared> = (0..3).map(batch).collect();
    let scales = LossScales::default();
    let mut measured = Vec::new();
    for wants_graphs in [false, true] {
        device::trim(&gpu)?;
        let mut runner = Runner::new(&gpu, wants_graphs);
        let mut want = Vec::new();
        let mut seconds = Vec::new();
        for turn in 0..9 {
            if turn == 2 {
                gpu.synchronize()?;
                device::reset_peak(&gpu)?;
            }
            model.parameters().zero_grads().expect("zeros");
            gpu.synchronize()?;
            let begin = std::time::Instant::now();
            let pending = runner
                .run(&model, &batches[turn % 3], &scales, &mut |_, _| {})
                .expect("a micro-batch");
            let queued = begin.elapsed().as_secs_f64();
            want.push(pending.read().expect("losses"));
            gpu.synchronize()?;
            seconds.push((begin.elapsed().as_secs_f64(), queued));
        }
        assert_eq!(runner.take_failure(), None);
        assert_eq!(runner.launches(), if wants_graphs { 8 } else { 0 });
        let memory = device::memory(&gpu)?.expect("a GPU");
        for (all, queued) in &seconds {
            println!(
                "speed micro-batch graphs {wants_graphs}: {:.1} ms, {:.2} ms to queue it",
                all * 1e3,
                queued * 1e3
            );
        }
        println!("memory graphs {wants_graphs}: {memory:?}");
        measured.push((want, memory));
    }
    let [(eager, eager_memory), (graphs, graph_memory)] = &measured[..] else {
        panic!("two ways");
    };
    assert_eq!(eager, graphs);
    let ratio = |of: fn(&device::Memory) -> u64| of(graph_memory) as f64 / of(eager_memory) as f64;
    let (used, taken) = (
        ratio(|memory| memory.used_peak.0),
        ratio(|memory| memory.total.0 - memory.free.0),
    );
    println!("memory of graphs over eager: peak {used:.3}, taken of the device {taken:.3}");
    assert!(used < 1.1 && taken < 1.15, "peak {used}, taken {taken}");
    Ok(())
}
