//! `.metadata` of a `torch_dist` checkpoint: the pickle, and what it says about tensors and their places.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trestle::checkpoint::torch_dist::metadata::parse;
use trestle_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    match bounded((64 << 10) + 1200 * data.len(), || parse(data)) {
        Ok(metadata) => {
            for tensor in &metadata.tensors {
                for chunk in &tensor.chunks {
                    assert_eq!(chunk.offsets.len(), tensor.shape.0.len());
                    assert_eq!(chunk.sizes.len(), tensor.shape.0.len());
                    assert!(chunk.item.file < metadata.files.len());
                }
            }
            assert!(
                metadata
                    .objects
                    .iter()
                    .all(|o| o.item.file < metadata.files.len())
            );
        }
        Err(error) => drop(error.to_string()),
    }
});
