//! The YAML of a configuration of Megatron-Bridge.
#![no_main]

use std::path::Path;

use libfuzzer_sys::fuzz_target;
use trestle::recipe::{Known, from_yaml, load};
use trestle_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let path = Path::new("a.yaml");
    // An alias repeats what it stands for, up to a number of nodes that the reader bounds.
    let read = bounded((64 << 20) + 1024 * data.len(), || {
        from_yaml(path, text, &[], &Known::default())
    });
    match read {
        Ok(imported) => {
            // What is written is a document that loads, with whatever problems its values have.
            let loaded = load(Path::new("a.toml"), &[], &|_| Ok(imported.toml.clone()));
            let broken = loaded.diagnostics.iter().find(|d| d.code == "E0101");
            assert_eq!(broken, None, "{}", imported.toml);
        }
        Err(error) => drop(error.to_string()),
    }
});
