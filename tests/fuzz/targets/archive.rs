//! An archive of `torch.save`: its directory, whole and from its tail, and where records lie.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trestle::checkpoint::torch_dist::zip::{data_offset, directory, find, records};
use trestle_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    let limit = (64 << 10) + 64 * data.len();
    match bounded(limit, || records(data)) {
        Ok(records) => {
            let _ = find(&records, "data.pkl");
            for record in &records {
                let header = usize::try_from(record.header).ok();
                let Some(header) = header.and_then(|at| data.get(at..)) else {
                    continue;
                };
                if let Ok(offset) = data_offset(record, header, data.len() as u64) {
                    assert!(offset + record.size <= data.len() as u64);
                }
            }
        }
        Err(error) => drop(error.to_string()),
    }
    // The same bytes as the tail of a longer archive.
    for before in [1, 4096, u64::MAX - data.len() as u64] {
        let _ = bounded(limit, || {
            directory(data, before.saturating_add(data.len() as u64))
        });
    }
});
