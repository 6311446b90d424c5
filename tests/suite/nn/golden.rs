//! Goldens: one folder with a model, its cases, and the tolerances that the cases carry.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use trestle::nn::{Batch, Model, Parameters, Precision, Recompute};
use trestle::ops::CuSeqlens;
use trestle::spec::TextConfig;

/// `tests/golden`.
pub(super) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// One case of a golden folder.
pub(super) struct Case {
    pub(super) folder: PathBuf,
    pub(super) json: Value,
    pub(super) tensors: HashMap<String, Tensor>,
}

pub(super) fn values(tensor: &Tensor) -> Vec<f32> {
    tensor
        .to_dtype(DType::F32)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

pub(super) fn integers(tensor: &Tensor) -> Vec<i64> {
    tensor
        .to_dtype(DType::I64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

impl Case {
    pub(super) fn open(folder: impl AsRef<Path>, name: &str) -> Self {
        let folder = root().join(folder);
        let json = std::fs::read_to_string(folder.join(format!("{name}.json"))).unwrap();
        let json: Value = serde_json::from_str(&json).unwrap();
        let file = folder.join(json["file"].as_str().unwrap());
        let tensors = candle_core::safetensors::load(file, &Device::Cpu).unwrap();
        Self {
            folder,
            json,
            tensors,
        }
    }

    pub(super) fn config(&self) -> TextConfig {
        let path = self.folder.join(self.json["config"].as_str().unwrap());
        let json = std::fs::read_to_string(path).unwrap();
        TextConfig::from_json(&serde_json::from_str(&json).unwrap()).unwrap()
    }

    /// The weights of `config`, each found once in the case's files.
    pub(super) fn parameters_for(&self, config: &TextConfig) -> Parameters {
        self.parameters_on(config, &Device::Cpu, Precision::F32)
    }

    /// The same on another device.
    pub(super) fn parameters_on(
        &self,
        config: &TextConfig,
        device: &Device,
        precision: Precision,
    ) -> Parameters {
        let parameters = Parameters::from_spec(config, device, precision).unwrap();
        let mut found = HashMap::new();
        for file in self.json["weights"].as_array().unwrap() {
            let path = self.folder.join(file.as_str().unwrap());
            found.extend(candle_core::safetensors::load(path, &Device::Cpu).unwrap());
        }
        for entry in parameters.entries() {
            parameters.set(&entry.name, &found[&entry.name]).unwrap();
        }
        parameters
    }

    pub(super) fn model(&self, recompute: &Recompute) -> Model {
        let config = self.config();
        let parameters = self.parameters_for(&config);
        Model::new(config, parameters, recompute).unwrap()
    }

    /// All rows of the case as one packed batch.
    pub(super) fn batch(&self) -> Batch {
        let dims = self.tensors["input_ids"].dims();
        let cu_seqlens = match self.tensors.get("cu_seqlens") {
            Some(cu) => CuSeqlens::new(integers(cu).iter().map(|&i| i as usize).collect()).unwrap(),
            None => CuSeqlens::uniform(dims[0], dims[1]),
        };
        self.batch_of(0..dims[0] * dims[1], cu_seqlens)
    }

    /// Row `row` alone.
    pub(super) fn row(&self, row: usize) -> Batch {
        let s = self.tensors["input_ids"].dims()[1];
        self.batch_of(row * s..(row + 1) * s, CuSeqlens::uniform(1, s))
    }

    fn batch_of(&self, range: std::ops::Range<usize>, cu_seqlens: CuSeqlens) -> Batch {
        let ids = |name: &str| -> Vec<u32> {
            integers(&self.tensors[name])[range.clone()]
                .iter()
                .map(|&id| u32::try_from(id).unwrap())
                .collect()
        };
        let mask = values(&self.tensors["loss_mask"])[range.clone()].to_vec();
        Batch::text(ids("input_ids"), ids("labels"), mask, cu_seqlens)
    }

    /// A number of the JSON by its path, such as `/main/loss`.
    pub(super) fn number(&self, pointer: &str) -> f64 {
        self.json
            .pointer(pointer)
            .and_then(Value::as_f64)
            .unwrap_or_else(|| panic!("{pointer} is no number"))
    }
}

/// Compares what we got with what is right, and remembers the worst of each kind.
pub(super) struct Comparison {
    title: String,
    worst: Vec<(String, f64, f64)>,
    failures: Vec<String>,
}

impl Comparison {
    pub(super) fn new(title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            worst: Vec::new(),
            failures: Vec::new(),
        }
    }

    /// `error` of `what` may be at most `tolerance`; the worst ratio of a `kind` is printed in the end.
    pub(super) fn at_most(&mut self, kind: &str, what: &str, error: f64, tolerance: f64) {
        if error.is_nan() || error > tolerance {
            self.failures
                .push(format!("{kind} {what}: {error:.3e} > {tolerance:.3e}"));
        }
        match self.worst.iter_mut().find(|worst| worst.0 == kind) {
            Some(worst) if error / tolerance > worst.1 / worst.2 => {
                (worst.1, worst.2) = (error, tolerance);
            }
            Some(_) => {}
            None => self.worst.push((kind.to_owned(), error, tolerance)),
        }
    }

    /// Absolute and relative error of a tensor under the `tolerance` object of a case.
    pub(super) fn tensor(
        &mut self,
        kind: &str,
        what: &str,
        got: &[f32],
        want: &[f32],
        tolerance: &Value,
    ) {
        assert_eq!(got.len(), want.len(), "{}: {what}", self.title);
        let max_abs = tolerance["max_abs"].as_f64().unwrap();
        let rel_l2 = tolerance["rel_l2"].as_f64().unwrap();
        self.at_most(
            &format!("{kind} max abs"),
            what,
            max_abs_error(got, want),
            max_abs,
        );
        self.at_most(
            &format!("{kind} rel l2"),
            what,
            relative_l2(got, want),
            rel_l2,
        );
    }

    /// Every gradient of `parameters` against `prefix` + name in the case, by `spec` (storage, norms, tolerances).
    pub(super) fn gradients(
        &mut self,
        case: &Case,
        prefix: &str,
        spec: &Value,
        parameters: &Parameters,
    ) {
        let l2 = spec["grad_l2"].as_object().unwrap();
        let names: Vec<&str> = parameters.names().collect();
        for name in l2.keys() {
            assert!(names.contains(&name.as_str()), "{name} is not ours");
        }
        for name in names {
            let got = values(&parameters.grad(name).unwrap());
            let want = values(&case.tensors[&format!("{prefix}{name}")]);
            let tolerance = spec["grad_tolerance_rel_l2"][name].as_f64().unwrap();
            let norm = got
                .iter()
                .map(|&g| f64::from(g).powi(2))
                .sum::<f64>()
                .sqrt();
            let want_norm = l2[name].as_f64().unwrap();
            if want_norm == 0.0 {
                self.at_most("gradient that is zero", name, norm, 0.0);
                continue;
            }
            let error = (norm - want_norm).abs() / want_norm;
            self.at_most("gradient norm", name, error, tolerance);
            let got = sampled(&got, &spec["grad_storage"]);
            self.at_most("gradient rel l2", name, relative_l2(&got, &want), tolerance);
        }
    }

    /// Prints the worst of each kind and fails if anything was out of tolerance.
    #[expect(
        clippy::print_stdout,
        reason = "the table of errors is for --nocapture"
    )]
    pub(super) fn finish(self) {
        let mut table = String::new();
        for (kind, error, tolerance) in &self.worst {
            let title = &self.title;
            writeln!(
                table,
                "golden {title:<28} {kind:<28} {error:>10.2e} of {tolerance:.0e}"
            )
            .unwrap();
        }
        print!("{table}");
        assert!(
            self.failures.is_empty(),
            "{}:\n{}",
            self.title,
            self.failures.join("\n")
        );
    }
}

/// A tensor as the case stores it: whole, or entry `i` is element `i * stride mod n`.
pub(super) fn sampled(whole: &[f32], storage: &Value) -> Vec<f32> {
    let count = storage["count"].as_u64().unwrap_or(u64::MAX) as usize;
    if storage["mode"] == "full" || whole.len() <= count {
        return whole.to_vec();
    }
    let stride = storage["stride"].as_u64().unwrap() as usize;
    (0..count)
        .map(|i| whole[i * stride % whole.len()])
        .collect()
}

pub(super) fn max_abs_error(got: &[f32], want: &[f32]) -> f64 {
    let errors = got.iter().zip(want).map(|(a, b)| f64::from((a - b).abs()));
    errors.fold(
        0.0,
        |worst, e| if e > worst || e.is_nan() { e } else { worst },
    )
}

pub(super) fn relative_l2(got: &[f32], want: &[f32]) -> f64 {
    let (mut error, mut norm) = (0.0, 0.0);
    for (&a, &b) in got.iter().zip(want) {
        error += (f64::from(a) - f64::from(b)).powi(2);
        norm += f64::from(b).powi(2);
    }
    (error / norm.max(f64::MIN_POSITIVE)).sqrt()
}
