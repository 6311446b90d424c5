//! TensorBoard event files: frames, and the steps that their scalars become. A first byte says whether the rest is a file as it stands or one
//! payload after another, which get the checksums that no mutation would find.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trestle::backend::foreign::scalars::Steps;
use trestle::backend::foreign::{Options, Translator};
use trestle::event::tensorboard::{Scalar, decode, encode_frame, frame_bytes};
use trestle_fuzz::bounded;

fuzz_target!(|data: &[u8]| {
    let Some((&first, rest)) = data.split_first() else {
        return;
    };
    let mut file = vec![];
    if first % 2 == 0 {
        file.extend_from_slice(rest);
    } else {
        // Each payload says its length in one byte.
        let mut rest = rest;
        while let Some((&length, after)) = rest.split_first() {
            let (payload, after) = after.split_at(after.len().min(usize::from(length)));
            file.extend(encode_frame(payload));
            rest = after;
        }
    }
    let limit = (64 << 10) + 128 * file.len();
    let Ok((scalars, used)) = bounded(limit, || decode(&file)) else {
        return;
    };
    assert!(used <= file.len());
    assert!(used == file.len() || frame_bytes(&file[used..]).is_none_or(|b| b > (file.len() - used) as u64));
    // A file that is cut anywhere says a beginning of the same.
    let cut = file.len() * usize::from(first) / 256;
    let (begin, taken) = decode(&file[..cut]).expect("a beginning of a sound file is sound");
    let (end, _) = decode(&file[taken..]).expect("it goes on where it was left");
    let print = |scalars: &[Scalar]| format!("{scalars:?}");
    assert_eq!(print(&scalars), print(&[begin, end].concat()));
    bounded((1 << 20) + 4096 * scalars.len(), || {
        let (mut steps, mut translator) = (Steps::default(), Translator::new(Options::default()));
        for scalar in &scalars {
            steps.take(scalar, &mut |line| translator.take(line));
        }
        steps.flush(&mut |line| translator.take(line));
        translator.settle();
        translator.drain()
    });
});
