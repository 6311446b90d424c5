//! Header of a safetensors file. The input is taken as a whole file, and as a header in front of as many bytes as it asks for.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trestle::base::{DType, Shape};
use trestle::checkpoint::safetensors::{Header, Plan, SafetensorsError};
use trestle_fuzz::bounded;

const MOST: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let limit = |bytes: usize| (64 << 10) + 64 * bytes;
    if let Ok(header) = bounded(limit(data.len()), || Header::parse(data)) {
        check(&header, data.len());
    }
    let mut file = (data.len() as u64).to_le_bytes().to_vec();
    file.extend_from_slice(data);
    let mut parsed = bounded(limit(file.len()), || Header::parse(&file));
    if let Err(SafetensorsError::Truncated { needed, .. }) = parsed
        && needed <= MOST
    {
        file.resize(needed as usize, 0);
        parsed = bounded(limit(file.len()), || Header::parse(&file));
        assert!(!matches!(parsed, Err(SafetensorsError::Truncated { .. })));
    }
    match parsed {
        Ok(header) => check(&header, file.len()),
        Err(error) => drop((error.to_string(), error.hint())),
    }
});

/// Tensors are one after the other up to the file's end, and a plan of them reads back.
fn check(header: &Header, bytes: usize) {
    let mut end = header.data_start;
    for tensor in &header.tensors {
        assert_eq!(tensor.extents.len(), 1);
        let extent = &tensor.extents[0];
        assert_eq!(extent.offset, end);
        let scalars = extent.rows.len() as u64 * extent.cols.len() as u64;
        assert_eq!(scalars, tensor.shape.elements());
        end += tensor.bytes();
    }
    assert_eq!(end, bytes as u64);
    let tensors: Vec<(&str, Shape, DType)> = header
        .tensors
        .iter()
        .map(|t| (t.name.as_str(), t.shape.clone(), t.dtype))
        .collect();
    let plan = Plan::new(&tensors, None);
    let mut file = plan.files[0].header.clone();
    file.resize(plan.files[0].bytes as usize, 0);
    let again = Header::parse(&file).expect("a planned header reads back");
    assert_eq!(again.tensors.len(), header.tensors.len());
}
