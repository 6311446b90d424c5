//! Golden cases, compiled into the tests since only the tests travel to the machine with the GPU.

use std::collections::{BTreeMap, HashMap};

use candle_core::{Device, Result, Tensor};

/// The tensors of one case by their names without the case's.
pub(crate) type Case = HashMap<String, Tensor>;

/// The cases of a file of `tests/golden/kernels`.
pub(crate) fn cases(file: &[u8]) -> Result<BTreeMap<String, Case>> {
    let mut cases: BTreeMap<String, Case> = BTreeMap::new();
    for (name, tensor) in candle_core::safetensors::load_buffer(file, &Device::Cpu)? {
        let (case, name) = name.split_once('/').expect("tensors are named CASE/NAME");
        let case = cases.entry(case.to_owned()).or_default();
        case.insert(name.to_owned(), tensor);
    }
    assert!(!cases.is_empty(), "a golden file without cases");
    Ok(cases)
}

/// Fails unless the largest difference is at most `allowed` of the largest value of the truth.
pub(crate) fn compare(what: &str, found: &Tensor, truth: &Tensor, allowed: f64) -> Result<()> {
    let (found, truth) = (crate::numbers(found)?, crate::numbers(truth)?);
    assert_eq!(found.len(), truth.len(), "{what}");
    let size = truth.iter().fold(0f64, |size, t| size.max(t.abs()));
    let mut error = 0f64;
    for (f, t) in found.iter().zip(&truth) {
        let difference = (f - t).abs();
        error = if difference.is_nan() {
            f64::INFINITY
        } else {
            error.max(difference)
        };
    }
    if error > 0.0 {
        error /= size;
    }
    println!("error golden {what}: {error:.2e} of {allowed:.1e}");
    assert!(error <= allowed, "{what}: {error:e} above {allowed:e}");
    Ok(())
}
