//! Hugging Face's `config.json`.
#![no_main]

use libfuzzer_sys::fuzz_target;
use serde_json::Value;
use trestle::spec::{ModelConfig, parameters, tensors};
use trestle_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    let Ok(json) = serde_json::from_slice::<Value>(data) else {
        return;
    };
    match bounded((1 << 20) + 256 * data.len(), || {
        ModelConfig::from_json(&json)
    }) {
        Ok(config) => {
            // What is written for it is read as the same model.
            let written = config.to_json();
            let mut again = ModelConfig::from_json(&written).expect("what is written is read");
            again.text.source = config.text.source.clone();
            assert_eq!(again, config);
            let _ = parameters(&config.text);
            if config.text.num_hidden_layers <= 8 && config.text.moe.is_none() {
                let _ = tensors(&config.text);
            }
        }
        Err(error) => drop(error.to_string()),
    }
});
