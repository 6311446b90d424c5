//! Golden cases, and the comparison that all tests of ops share.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use candle_core::{DType, Device, Tensor};
use serde_json::Value;
use trestle::ops::CuSeqlens;

/// One golden case.
pub(super) struct Case {
    pub(super) name: String,
    pub(super) settings: Value,
    tensors: HashMap<String, Tensor>,
}

impl Case {
    pub(super) fn number(&self, key: &str) -> usize {
        self.settings[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{}: no setting {key}", self.name)) as usize
    }

    pub(super) fn real(&self, key: &str) -> f64 {
        self.settings[key]
            .as_f64()
            .unwrap_or_else(|| panic!("{}: no setting {key}", self.name))
    }

    pub(super) fn sections(&self) -> [usize; 3] {
        serde_json::from_value(self.settings["sections"].clone()).unwrap()
    }

    /// The packed documents, or the batch.
    pub(super) fn cu_seqlens(&self) -> CuSeqlens {
        match self.settings["docs"].as_array() {
            None => CuSeqlens::uniform(self.number("B"), self.number("T")),
            Some(docs) => {
                let mut boundaries = vec![0];
                boundaries.extend(docs.iter().scan(0, |end, len| {
                    *end += len.as_u64().unwrap() as usize;
                    Some(*end)
                }));
                CuSeqlens::new(boundaries).unwrap()
            }
        }
    }

    pub(super) fn find(&self, key: &str) -> Option<&Tensor> {
        self.tensors.get(key)
    }

    pub(super) fn get(&self, key: &str) -> &Tensor {
        self.find(key)
            .unwrap_or_else(|| panic!("{}: no tensor {key}", self.name))
    }

    /// `[B, T, ...]` as `[B T, ...]`.
    pub(super) fn packed(&self, key: &str) -> Tensor {
        pack(self.get(key))
    }

    /// `[B, H, T, ...]` as `[B T, H, ...]`.
    pub(super) fn packed_heads(&self, key: &str) -> Tensor {
        pack(&self.get(key).transpose(1, 2).unwrap().contiguous().unwrap())
    }

    /// The three rows of positions.
    pub(super) fn positions(&self) -> [Vec<i64>; 3] {
        self.get("in.pos")
            .to_vec2::<i64>()
            .unwrap()
            .try_into()
            .unwrap()
    }
}

fn pack(tensor: &Tensor) -> Tensor {
    let dims = tensor.dims();
    tensor
        .reshape([&[dims[0] * dims[1]], &dims[2..]].concat())
        .unwrap()
}

static INDEX: OnceLock<Value> = OnceLock::new();

/// All cases of an op.
pub(super) fn cases(op: &str) -> Vec<Case> {
    let folder = Path::new("tests/golden/kernels");
    let index = INDEX.get_or_init(|| {
        serde_json::from_str(&std::fs::read_to_string(folder.join("index.json")).unwrap()).unwrap()
    });
    let mut files: HashMap<String, HashMap<String, Tensor>> = HashMap::new();
    let mut cases = Vec::new();
    for (name, entry) in index["cases"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, entry)| entry["op"] == op)
    {
        let file = entry["file"].as_str().unwrap();
        let all = files.entry(file.to_owned()).or_insert_with(|| {
            candle_core::safetensors::load(folder.join(file), &Device::Cpu).unwrap()
        });
        let prefix = format!("{name}/");
        let own = all.iter().filter_map(|(key, value)| {
            Some((key.strip_prefix(&prefix)?.to_owned(), value.clone()))
        });
        cases.push(Case {
            name: name.clone(),
            settings: entry["settings"].clone(),
            tensors: own.collect(),
        });
    }
    assert!(!cases.is_empty(), "no golden of {op}");
    cases
}

/// Collects the worst error of an op; prints it when it goes out of scope.
pub(super) struct Report {
    title: String,
    tolerance: f64,
    worst: f64,
    worst_at: String,
    compared: usize,
}

impl Report {
    pub(super) fn new(title: &str, tolerance: f64) -> Self {
        Self {
            title: title.to_owned(),
            tolerance,
            worst: 0.0,
            worst_at: String::new(),
            compared: 0,
        }
    }

    /// Compares by `max |error| / max |truth|`; against a truth that is 0 everywhere, by `max |error|`.
    pub(super) fn compare(&mut self, what: &str, found: &Tensor, truth: &Tensor) {
        self.compare_within(what, found, truth, self.tolerance);
    }

    pub(super) fn compare_within(
        &mut self,
        what: &str,
        found: &Tensor,
        truth: &Tensor,
        tolerance: f64,
    ) {
        assert_eq!(found.dims(), truth.dims(), "{what}: shape");
        let error = max_rel(&values(found), &values(truth));
        assert!(
            error <= tolerance,
            "{} {what}: error {error:.2e}, allowed {tolerance:.0e}",
            self.title
        );
        self.compared += 1;
        if error > self.worst {
            self.worst = error;
            what.clone_into(&mut self.worst_at);
        }
    }
}

#[expect(clippy::print_stdout, reason = "the table that `--nocapture` shows")]
impl Drop for Report {
    fn drop(&mut self) {
        let Self {
            title,
            worst,
            tolerance,
            compared,
            worst_at,
        } = self;
        println!(
            "{title:<34} worst {worst:.1e} of {tolerance:.0e} in {compared:>3} tensors, at {worst_at}"
        );
    }
}

pub(super) fn values(tensor: &Tensor) -> Vec<f64> {
    tensor
        .to_dtype(DType::F64)
        .unwrap()
        .flatten_all()
        .unwrap()
        .to_vec1()
        .unwrap()
}

pub(super) fn max_rel(found: &[f64], truth: &[f64]) -> f64 {
    let scale = truth
        .iter()
        .fold(0f64, |scale, value| scale.max(value.abs()));
    let error = found.iter().zip(truth).fold(0f64, |worst, (found, truth)| {
        let error = (found - truth).abs();
        if error.is_nan() {
            f64::INFINITY
        } else {
            worst.max(error)
        }
    });
    if scale == 0.0 { error } else { error / scale }
}

/// Zeros that gradients are added to.
pub(super) fn zeros_like(tensor: &Tensor) -> Tensor {
    Tensor::zeros(tensor.shape(), DType::F32, &Device::Cpu).unwrap()
}
