//! `.metadata` of a `torch_dist` checkpoint, or any other pickle.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trestle::checkpoint::torch_dist::pickle::{Compound, Value, parse};
use trestle_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    match bounded((64 << 10) + 128 * data.len(), || parse(data)) {
        Ok(pickle) => {
            assert!(pickle.length() <= data.len());
            let root = pickle.root();
            let _ = pickle.kind(root);
            let _ = pickle.get(root, "state_dict_metadata");
            if let Some(Compound::Object { class, args, state }) = pickle.compound(root) {
                let _ = class.to_string();
                let _ = pickle.sequence(*args);
                let _ = state.map(Value::count);
            }
        }
        Err(error) => drop(error.to_string()),
    }
});
