//! Launching beyond this machine: scripts, profiles, Slurm, torchrun.

mod foreign;
mod profiles;
mod published;
mod real_slurm;
mod real_torchrun;
mod scripts;

use std::io::Write as _;
use std::path::Path;

use trestle::backend::Job;
use trestle::backend::job::{Folders, Sizes};
use trestle::recipe::Parallel;

/// A job of the 9B model on 16 GPUs, folders below `run`.
fn job(run: &Path) -> Job {
    Job {
        name: "qwen-9b-1".to_owned(),
        recipe: "qwen35_vl_9b_sft_4gpu_h100_bf16_config".to_owned(),
        mode: None,
        model: "qwen3_5-9b".to_owned(),
        parallel: Parallel {
            tp: 4,
            pp: 1,
            vpp: 1,
            cp: 1,
            ep: 1,
            etp: 1,
            dp: 4,
            sequence_parallel: true,
        },
        ranks: None,
        mtp_depth: 1,
        sizes: Sizes {
            steps: Some(1000),
            seq_length: Some(4096),
            micro_batch_size: Some(2),
            global_batch_size: Some(64),
            lr: Some(5e-6),
            min_lr: Some(5e-7),
            warmup_steps: Some(50),
            decay_steps: Some(1000),
            save_interval: Some(100),
        },
        overrides: vec![("logger.log_interval".to_owned(), "1".to_owned())],
        dataset: None,
        saves: true,
        environment: [("NCCL_NVLS_ENABLE".to_owned(), "0".to_owned())].into(),
        folders: Folders {
            run: run.to_owned(),
            save: run.join("checkpoints"),
            load: run.join("checkpoints"),
            tensorboard: run.join("tb"),
            pretrained: None,
        },
        accepted: Vec::new(),
    }
}

/// Says on the real standard error, which the test runner does not keep to itself, that a test did not run.
fn skipped(test: &str, why: &str) {
    let mut tty = std::io::stderr().lock();
    let _ = writeln!(tty, "\n!!! SKIPPED {test}: {why}\n");
}
