//! Header of a safetensors file. The input is taken as a whole file, and as a header in front of as many bytes as it asks for. What is read
//! is compared with the reference implementation.
#![no_main]

use libfuzzer_sys::fuzz_target;
use safetensors::SafeTensors;
use trestle::base::{DType, Shape};
use trestle::checkpoint::safetensors::{Header, Plan, SafetensorsError};
use trestle_fuzz::bounded;

const MOST: u64 = 1 << 20;

fuzz_target!(|data: &[u8]| {
    let limit = |bytes: usize| (64 << 10) + 64 * bytes;
    let parsed = bounded(limit(data.len()), || Header::parse(data));
    compare(data, &parsed);
    if let Ok(header) = parsed {
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
    compare(&file, &parsed);
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

/// The reference reads whatever is read here, as the same tensors. It is less strict in a few places only: names and fields that occur
/// twice, unknown fields, `__metadata__` of null, more dims than anyone has; and it has types that are unknown here.
fn compare(file: &[u8], parsed: &Result<Header, SafetensorsError>) {
    use SafetensorsError::{Duplicate, Json, UnknownDType};
    match (parsed, SafeTensors::read_metadata(file)) {
        (Ok(header), Ok((length, reference))) => {
            assert_eq!(header.data_start, 8 + length as u64);
            assert_eq!(header.tensors.len(), reference.tensors().len());
            for tensor in &header.tensors {
                let info = reference
                    .info(&tensor.name)
                    .expect("the reference has it too");
                assert_eq!(info.shape, tensor.shape.0);
                let start = info.data_offsets.0 as u64 + header.data_start;
                assert_eq!(start, tensor.extents[0].offset);
                assert_eq!(
                    (info.data_offsets.1 - info.data_offsets.0) as u64,
                    tensor.bytes()
                );
            }
        }
        (Ok(_), Err(error)) => panic!("the reference refuses it: {error}"),
        (Err(Duplicate { .. } | Json { .. } | UnknownDType { .. }), Ok(_)) | (Err(_), Err(_)) => {}
        (Err(error), Ok(_)) => panic!("the reference reads it, but: {error}"),
    }
}
