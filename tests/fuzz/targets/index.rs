//! `model.safetensors.index.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trestle::checkpoint::safetensors::Index;
use trestle_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    match bounded((64 << 10) + 64 * data.len(), || Index::parse(data)) {
        Ok(index) => {
            for (name, &file) in &index.weight_map {
                assert!(file < index.files.len(), "{name} is in no file");
            }
            for file in &index.files {
                let path = std::path::Path::new("folder").join(file);
                assert_eq!(path.parent(), Some(std::path::Path::new("folder")));
            }
        }
        Err(error) => drop((error.to_string(), error.hint())),
    }
});
