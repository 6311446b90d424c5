//! The whole model on a GPU: the goldens that the CPU is tested with, in f32 at the CPU's tolerances and in bf16.

#[path = "../suite/nn/golden.rs"]
#[allow(dead_code, reason = "the suite uses all of it")]
#[expect(clippy::unwrap_used, reason = "as in the suite, which it belongs to")]
mod golden;
mod graph;
mod inputs;

use candle_core::Result;
use trestle::nn::{Batch, LossScales, Model, Parameters, Part, Precision, Recompute};
use trestle::ops::CuSeqlens;

use golden::{Case, Comparison, values};

// What bf16 may cost is measured by what it costs transformers on the same case (tests/interop/bf16_errors.py, relative L2 errors against
// the f32 truth). The models are lively on purpose, with logits to 17, so that roundings show.

/// Times the peer's error, where many values are averaged: logits, the median over gradients.
const OF_AVERAGES: f64 = 1.25;
/// Times the peer's error, for the worst of some tensors, a few of them of 4 elements: two draws from a wide distribution.
const OF_WORST: f64 = 2.0;

/// The peer's errors of a case, by kind.
fn peers(folder: &str, name: &str) -> impl Fn(&str) -> f64 {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/bf16_errors.json");
    let text = std::fs::read_to_string(path).expect("the peer's errors");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let errors = all[format!("{folder}/{name}")].clone();
    move |kind| errors[kind].as_f64().expect("an error of the peer")
}

fn model(case: &Case, precision: Precision, recompute: &Recompute) -> Model {
    let config = case.config();
    let parameters = case.parameters_on(&config, &super::gpu(), precision);
    Model::new(config, parameters, recompute).expect("the case's model")
}

fn scales(case: &Case) -> LossScales {
    let lambda = case.json.get("lambda").and_then(serde_json::Value::as_f64);
    LossScales {
        mtp_lambda: lambda.unwrap_or(0.1) as f32,
        ..LossScales::default()
    }
}

/// Losses of all depths, from the case.
fn losses(case: &Case) -> Vec<f64> {
    match case.json.get("mtp").and_then(serde_json::Value::as_array) {
        None => vec![case.number("/loss")],
        Some(depths) => std::iter::once(case.number("/main/loss"))
            .chain(
                depths
                    .iter()
                    .map(|depth| depth["loss"].as_f64().expect("a loss")),
            )
            .collect(),
    }
}

fn check(folder: &str, name: &str, precision: Precision) {
    let case = Case::open(folder, name);
    let model = model(&case, precision, &Recompute::None);
    let batch = case.batch();
    let mut comparison = Comparison::new(format!("{folder}/{name} {precision:?}"));
    let exact = precision == Precision::F32;
    let peers = peers(folder, name);

    let hidden = model.hidden_states(&batch).expect("hidden states");
    for (k, state) in hidden.depths.iter().enumerate() {
        let stored = if case.tensors.contains_key("logits") {
            "logits".to_owned()
        } else {
            format!("logits.{k}")
        };
        let got = values(&model.logits(state).expect("logits"));
        let want = values(&case.tensors[&stored]);
        if exact {
            comparison.tensor(
                "logits",
                &stored,
                &got,
                &want,
                &case.json["tolerance"][&stored],
            );
        } else {
            comparison.at_most(
                "logits",
                &stored,
                golden::relative_l2(&got, &want),
                OF_AVERAGES * peers("logits"),
            );
        }
    }

    model.parameters().zero_grads().expect("zeros");
    let output = model
        .forward_backward(&batch, &scales(&case))
        .and_then(trestle::nn::Pending::read)
        .expect("a step");
    let got = std::iter::once(&output.main).chain(&output.mtp);
    for (k, (got, want)) in got.zip(losses(&case)).enumerate() {
        let tolerance = match (exact, case.tensors.contains_key("logits")) {
            (false, _) => OF_WORST * peers("loss"),
            (true, true) => case.number("/tolerance/loss/max_abs"),
            (true, false) => case.number(&format!("/tolerance/loss.{k}/max_abs")),
        };
        comparison.at_most(
            "loss",
            &format!("depth {k}"),
            (got.mean() - want).abs(),
            tolerance,
        );
    }
    if exact {
        comparison.gradients(&case, "grad.", &case.json, model.parameters());
    } else {
        let mut errors = Vec::new();
        for name in model.parameters().names() {
            let whole = values(&model.parameters().grad(name).expect("a gradient"));
            let got = golden::sampled(&whole, &case.json["grad_storage"]);
            let want = values(&case.tensors[&format!("grad.{name}")]);
            if want.iter().all(|&w| w == 0.0) {
                comparison.at_most(
                    "zero gradient",
                    name,
                    golden::max_abs_error(&got, &want),
                    0.0,
                );
                continue;
            }
            let error = golden::relative_l2(&got, &want);
            let kind = if name.ends_with("A_log") || name.ends_with("dt_bias") {
                "decay"
            } else {
                errors.push(error);
                if got.len() < whole.len() {
                    "sampled"
                } else {
                    "gradient"
                }
            };
            comparison.at_most(kind, name, error, OF_WORST * peers(kind));
        }
        errors.sort_by(f64::total_cmp);
        let median = errors[errors.len() / 2];
        comparison.at_most("median", "gradients", median, OF_AVERAGES * peers("median"));
    }
    comparison.finish();
}

const CASES: [(&str, &str); 8] = [
    ("forward/dense", "short"),
    ("forward/dense", "long"),
    ("forward/dense", "packed"),
    ("mtp/dense", "depth1"),
    ("mtp/dense", "depth1_lambda0"),
    ("mtp/dense", "depth2"),
    ("mtp/dense", "packed2"),
    ("mtp/dense_untied", "depth1"),
];

/// Every case, also after one that does not hold.
fn check_all(precision: Precision) {
    let holds = |&(folder, name): &(&str, &str)| {
        std::panic::catch_unwind(|| check(folder, name, precision)).is_ok()
    };
    let failed: Vec<_> = CASES.iter().filter(|case| !holds(case)).collect();
    assert!(failed.is_empty(), "{precision:?} does not hold: {failed:?}");
}

#[test]
fn goldens_hold_in_f32_at_the_cpus_tolerances() {
    check_all(Precision::F32);
}

#[test]
fn goldens_hold_in_bf16() {
    check_all(Precision::Bf16);
}

fn run(case: &Case, batch: &Batch, precision: Precision, recompute: &Recompute) -> (f64, Vec<u32>) {
    let model = model(case, precision, recompute);
    model.parameters().zero_grads().expect("zeros");
    let output = model
        .forward_backward(batch, &scales(case))
        .and_then(trestle::nn::Pending::read)
        .expect("a step");
    let grads = values(model.parameters().grads());
    (
        output.main.loss_sum,
        grads.iter().map(|g| g.to_bits()).collect(),
    )
}

#[test]
fn gradients_are_the_same_bits_from_run_to_run_and_whatever_is_recomputed() {
    let case = Case::open("mtp/dense", "packed2");
    let batch = case.batch();
    for precision in [Precision::F32, Precision::Bf16] {
        let want = run(&case, &batch, precision, &Recompute::None);
        assert!(
            want.1.iter().any(|&bits| bits != 0),
            "gradients are not all 0"
        );
        let parts = vec![Part::CoreAttn, Part::GatedDelta, Part::MlpAct, Part::Norm];
        for recompute in [
            Recompute::None,
            Recompute::Selective(parts),
            Recompute::Full,
        ] {
            let again = run(&case, &batch, precision, &recompute);
            assert!(again == want, "{precision:?} {recompute:?}");
        }
    }
}

/// Qwen3.5-0.8B with one MTP depth, two rows of 4096 tokens: one forward and backward after another, by kernel.
#[test]
fn the_published_size_trains_and_its_loss_begins_at_the_logarithm_of_the_vocabulary() -> Result<()>
{
    let gpu = super::gpu();
    trestle::ops::poison_outputs(false); // it is timed
    let entry = trestle::spec::find("Qwen/Qwen3.5-0.8B").expect("a published size");
    let config = entry.dense().expect("a dense model").clone();
    let parameters = Parameters::from_spec(&config, &gpu, Precision::Bf16).expect("room");
    let random = candle_core::Tensor::randn(0f32, 0.02, parameters.len(), &gpu)?;
    parameters.masters().slice_set(&random, 0, 0)?;
    drop(random);
    parameters.refresh().expect("rounded weights");
    let model = Model::new(config.clone(), parameters, &Recompute::None).expect("the model");
    let tokens = 2 * 4096;
    let ids: Vec<u32> = (0..tokens as u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 8) % config.vocab_size as u32)
        .collect();
    let labels = ids.iter().copied().skip(1).chain([0]).collect();
    let batch = Batch::text(ids, labels, vec![1.0; tokens], CuSeqlens::uniform(2, 4096));
    let mut seconds = Vec::new();
    for round in 0..6 {
        model.parameters().zero_grads().expect("zeros");
        gpu.synchronize()?;
        if round == 1 {
            trestle::ops::device::reset_peak(&gpu)?;
        }
        let begin = std::time::Instant::now();
        let pending = model
            .forward_backward(&batch, &LossScales::default())
            .expect("a step");
        let queued = begin.elapsed().as_secs_f64();
        let saved = pending.saved_bytes;
        let output = pending.read().expect("losses");
        gpu.synchronize()?;
        seconds.push((begin.elapsed().as_secs_f64(), queued));
        let floor = (config.vocab_size as f64).ln();
        println!(
            "loss {:.4} mtp {:.4} saved {:.2} GiB",
            output.main.mean(),
            output.mtp[0].mean(),
            saved as f64 / (1u64 << 30) as f64
        );
        assert!(
            (output.main.mean() - floor).abs() < 0.5,
            "{} is not near {floor}",
            output.main.mean()
        );
    }
    for (all, queued) in &seconds {
        println!(
            "speed step: {:.1} ms, {:.1} ms to queue it, {:.0} tokens/s",
            all * 1e3,
            queued * 1e3,
            tokens as f64 / all
        );
    }
    let memory = trestle::ops::device::memory(&gpu)?.expect("a GPU");
    println!("memory {memory:?}");
    let ((), times) = trestle::ops::kernel_times(&gpu, || {
        let pending = model.forward_backward(&batch, &LossScales::default());
        pending.map(drop).map_err(candle_core::Error::wrap)
    })?;
    let mut by_name: std::collections::BTreeMap<String, (f64, usize)> =
        std::collections::BTreeMap::new();
    for time in &times {
        let entry = by_name.entry(time.name.clone()).or_default();
        entry.0 += time.seconds;
        entry.1 += 1;
    }
    let total: f64 = times.iter().map(|time| time.seconds).sum();
    let mut rows: Vec<_> = by_name.into_iter().collect();
    rows.sort_by(|a, b| b.1.0.total_cmp(&a.1.0));
    for (name, (seconds, count)) in rows {
        println!(
            "speed {name:<44} {:8.3} ms {:5.1} % {count:5}",
            seconds * 1e3,
            100.0 * seconds / total
        );
    }
    println!("speed kernels together {:.1} ms", total * 1e3);
    Ok(())
}
