//! How long a conversion of a large checkpoint takes and how much memory, against a plain copy of the same bytes.
//!
//! `cargo bench --bench convert [-- SIZE [FOLDER]]` makes up a checkpoint of a published size (default: the text model of 4B, 8.6 GB) in FOLDER,
//! copies it with `cp -r`, imports it to `torch_dist`, exports it back, compares the two, and prints one JSON object. Each is a process of
//! its own; memory is the largest resident set of that process. Copy and conversions end on the disk (`sync` after `cp`, since ours does
//! as much before it renames); time of a plain `cp -r` is given as well. The page cache is dropped before each where the machine lets us.
//! `TRESTLE_PROGRAM` names another program to measure.
#![allow(
    missing_docs,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a bench prints its result"
)]

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use serde_json::{Value, json};
use trestle::base::{DType, Shape};
use trestle::checkpoint::safetensors::Plan;
use trestle::spec::{ModelConfig, find, model_tensors};

fn main() {
    let arguments: Vec<String> = std::env::args()
        .skip(1)
        .filter(|a| a != "--bench")
        .collect();
    let size = arguments.first().map_or("4b", String::as_str);
    let folder = match arguments.get(1) {
        Some(folder) => PathBuf::from(folder),
        None => std::env::temp_dir().join("trestle-convert"),
    };
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    let (hf, there, back) = (folder.join("hf"), folder.join("mg"), folder.join("back"));
    let entry = find(size).expect("a size of the registry");
    let bytes = make(&hf, &entry.text_only(), entry.experts);

    let copy = folder.join("copy");
    let cp = measure(
        "sh",
        &["-c", &format!("cp -r {} {}", hf.display(), copy.display())],
    );
    let sync = measure("sync", &[]);
    fs::remove_dir_all(&copy).unwrap();
    let program = std::env::var("TRESTLE_PROGRAM");
    let trestle = program.as_deref().unwrap_or(env!("CARGO_BIN_EXE_trestle"));
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    let (h, t, b) = (text(&hf), text(&there), text(&back));
    let import = measure(trestle, &["convert", "import", &h, &t]);
    let export = measure(trestle, &["convert", "export", &t, &b, "--hf", &h]);
    let verify = measure(trestle, &["verify", &h, &b]);
    fs::remove_dir_all(&folder).unwrap();

    let seconds = |run: &Value| run["seconds"].as_f64().unwrap();
    let copied = seconds(&cp) + seconds(&sync);
    let result = json!({
        "command": format!("cargo bench --bench convert -- {}", arguments.join(" ")),
        "machine": { "cores": std::thread::available_parallelism().unwrap().get() },
        "model": format!("{size}, text and MTP, made up"),
        "bytes": bytes,
        "cp_r": cp,
        "sync_after_cp": sync,
        "import": import,
        "export": export,
        "verify": verify,
        "ratio": {
            "import_to_cp_and_sync": seconds(&import) / copied,
            "export_to_cp_and_sync": seconds(&export) / copied,
            "import_to_cp": seconds(&import) / seconds(&cp),
            "export_to_cp": seconds(&export) / seconds(&cp),
        },
    });
    println!("{}", serde_json::to_string_pretty(&result).unwrap());
}

/// Writes a model of made-up numbers in shards of 4 GB, in the types of publication; its bytes.
fn make(directory: &Path, config: &ModelConfig, style: trestle::spec::ExpertStyle) -> u64 {
    fs::create_dir_all(directory).unwrap();
    let config_text = serde_json::to_string_pretty(&config.to_json()).unwrap();
    fs::write(directory.join("config.json"), config_text).unwrap();
    let tensors: Vec<(String, Shape, DType)> = model_tensors(config, style)
        .into_iter()
        .map(|spec| {
            let is_f32 = spec.name.ends_with("linear_attn.A_log")
                || spec.name.ends_with("linear_attn.norm.weight");
            let dtype = if is_f32 { DType::F32 } else { DType::BF16 };
            (spec.name, spec.shape, dtype)
        })
        .collect();
    let plan = Plan::new(&tensors, Some(4_000_000_000));
    // Finite numbers of both types, all different enough that a misplaced row shows.
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut block = vec![0_u8; 8 << 20];
    for (index, planned) in plan.files.iter().enumerate() {
        let file = File::create(directory.join(&planned.name)).unwrap();
        let mut file = BufWriter::with_capacity(1 << 20, file);
        file.write_all(&planned.header).unwrap();
        for place in plan.tensors.iter().filter(|place| place.file == index) {
            let mut left = place.bytes as usize;
            while left > 0 {
                let part = left.min(block.len());
                for word in block[..part].chunks_mut(8) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    let bytes = (state & 0xbfff_bfff_bfff_bfff).to_le_bytes();
                    word.copy_from_slice(&bytes[..word.len()]);
                }
                file.write_all(&block[..part]).unwrap();
                left -= part;
            }
        }
        file.into_inner().unwrap().sync_all().unwrap();
    }
    if let Some(index) = &plan.index {
        fs::write(directory.join("model.safetensors.index.json"), index).unwrap();
    }
    plan.bytes()
}

/// Runs a command with a cold page cache, where that can be had: seconds, and the largest resident set.
fn measure(program: &str, arguments: &[&str]) -> Value {
    if program != "sync" {
        let _ = Command::new("sync").status();
        let _ = fs::write("/proc/sys/vm/drop_caches", "3");
    }
    let begin = Instant::now();
    #[expect(
        clippy::zombie_processes,
        reason = "it is waited for below, with its usage"
    )]
    let child = Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut status = 0;
    let mut usage: libc::rusage = no_usage();
    #[allow(
        unsafe_code,
        reason = "the standard library does not tell what a child used"
    )]
    // SAFETY: both pointers are to values that live through the call.
    unsafe {
        libc::wait4(child.id() as i32, &raw mut status, 0, &raw mut usage);
    }
    let seconds = begin.elapsed().as_secs_f64();
    assert_eq!(status, 0, "{program} {arguments:?}");
    json!({ "seconds": seconds, "largest_resident_mib": usage.ru_maxrss / 1024 })
}

fn no_usage() -> libc::rusage {
    #[allow(unsafe_code, reason = "a struct of numbers that the call fills")]
    // SAFETY: all zeros are numbers.
    unsafe {
        std::mem::zeroed()
    }
}
