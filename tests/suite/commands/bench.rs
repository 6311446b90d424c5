//! bench, at sizes that take no time.

use serde_json::Value;

use super::trestle;

fn bench(arguments: &[&str]) -> Value {
    let arguments: Vec<&str> = ["bench", "--device", "cpu", "--repeat", "2", "--json"]
        .into_iter()
        .chain(arguments.iter().copied())
        .collect();
    let output = trestle(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

fn positive(value: &Value) -> f64 {
    let number = value.as_f64().unwrap_or_default();
    assert!(number > 0.0 && number.is_finite(), "{value}");
    number
}

#[test]
fn every_kernel_family_has_its_times_on_the_cpu() {
    let result = bench(&["--micro-batch", "1", "--sequence", "32"]);
    positive(&result["peaks"]["bytes_per_second"]);
    positive(&result["peaks"]["flops_per_second"]);
    assert_eq!(result["dtype"], "f32");
    let ops = result["ops"].as_array().expect("a list");
    for op in ops {
        assert!(op.get("error").is_none(), "{op}");
        let seconds = &op["seconds"];
        let median = positive(&seconds["median"]);
        assert!(seconds["min"].as_f64() <= Some(median) && Some(median) <= seconds["max"].as_f64());
        assert_eq!(seconds["runs"], 2);
        positive(&op["work"]["bytes"]);
        positive(&op["share_of_peak"]);
    }
    for family in trestle::bench::FAMILIES {
        let passes = ops.iter().filter(|op| op["op"] == family).count();
        assert!(passes > 0, "{family}");
    }
}

#[test]
fn one_family_alone_can_be_asked_for() {
    let result = bench(&["--op", "sigmoid", "--micro-batch", "1", "--sequence", "8"]);
    let ops = result["ops"].as_array().expect("a list");
    assert_eq!(ops.len(), 2, "{ops:?}");
    assert!(ops.iter().all(|op| op["op"] == "sigmoid_gate"));
    let output = trestle(&["bench", "--op", "softmax"]);
    assert_eq!(output.status.code(), Some(2));
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        text.contains("softmax") && text.contains("sigmoid_gate"),
        "{text}"
    );
}

#[test]
fn a_step_has_its_phases_and_adds_up() {
    let result = bench(&["--step", "recipes/tiny-smoke.toml", "--warm-up", "1"]);
    let tokens = positive(&result["tokens"]);
    assert_eq!(tokens, 4.0 * 64.0);
    let median = positive(&result["step"]["median"]);
    let speed = positive(&result["tokens_per_second"]);
    assert!((speed * median - tokens).abs() < 1e-6 * tokens);
    let phases = result["phases"].as_array().expect("a list");
    let names: Vec<&str> = phases
        .iter()
        .filter_map(|phase| phase["name"].as_str())
        .collect();
    assert_eq!(names, ["forward", "loss", "backward", "optimizer"]);
    let longest: f64 = phases
        .iter()
        .map(|phase| positive(&phase["seconds"]["max"]))
        .sum();
    assert!(longest >= median, "{longest} {median}");
    positive(&result["loss"]);
    positive(&result["saved"]);
    assert!(result["plan"].is_null());
}

#[test]
fn a_trainer_can_be_measured_and_leaves_nothing_behind() {
    let result = bench(&[
        "--step",
        "recipes/tiny-smoke.toml",
        "--trainer",
        "--warm-up",
        "1",
    ]);
    positive(&result["tokens_per_second"]);
    assert_eq!(result["step"]["runs"], 2);
    positive(&result["last_loss"]);
    positive(&result["peak"]);
    assert_eq!(result["started"]["type"], "started");
    assert!(!result["parts"].as_object().expect("parts").is_empty());
}
