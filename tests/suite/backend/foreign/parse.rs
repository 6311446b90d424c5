//! Every line of the format, and what it says.

use super::{golden, lines, steps, watch, words};
use trestle::backend::foreign::{Iteration, Line, Memory, Options, Split, Stage, Theory};
use trestle::event::Event;
use trestle::run;
use trestle::run::series::Metric;

fn one(line: &str) -> Line {
    let mut found = lines(line.as_bytes());
    assert_eq!(found.len(), 1, "{line}: {found:?}");
    found.remove(0)
}

fn iteration(line: &str) -> Iteration {
    match one(line) {
        Line::Iteration(it) => *it,
        other => panic!("{other:?}"),
    }
}

fn iterations(log: &[u8]) -> Vec<Iteration> {
    let of = |line| match line {
        Line::Iteration(it) => Some(*it),
        _ => None,
    };
    lines(log).into_iter().filter_map(of).collect()
}

const MOE: &str = " [2026-01-15 11:03:09] iteration       20/     100 | consumed samples:          640 | elapsed time per iteration (ms): 3305.4 | throughput per GPU (TFLOP/s/GPU): 57.2 | learning rate: 4.000000E-06 | global batch size:    32 | lm loss: 1.902213E+00 | load_balancing_loss: 0.000000E+00 | global_load_balancing_loss: 1.084211E+00 | mtp_1 loss: 2.511902E+00 | loss scale: 1.0 | grad norm: 0.964 | number of skipped iterations:   0 | number of nan iterations:   0 |";

#[test]
fn an_iteration_line_of_a_mixture_of_experts() {
    let expected = Iteration {
        time_ms: 1_768_474_989_000,
        step: 20,
        total: 100,
        samples: 640,
        elapsed_ms: 3305.4,
        tflops: Some(57.2),
        lr: Some(4e-6),
        global_batch: 32,
        loss: Some(1.902_213),
        mtp: vec![Some(2.511_902)],
        others: vec![
            ("load_balancing_loss".to_owned(), 0.0),
            ("global_load_balancing_loss".to_owned(), 1.084_211),
        ],
        loss_scale: Some(1.0),
        grad_norm: Some(0.964),
        ..Iteration::default()
    };
    assert_eq!(iteration(MOE), expected);
    // What launchers put in front, colours, and what a progress bar left on the line change nothing.
    for prefix in [
        "3: ",
        "[default3]:",
        "7: [default3]:",
        "[rank3]: ",
        "\x1b[32m",
        " 10%|#   | 1/10\r",
        "\u{fffd}junk ",
    ] {
        assert_eq!(
            iteration(&format!("{prefix}{MOE}\r\n")),
            expected,
            "{prefix:?}"
        );
    }
}

#[test]
fn every_optional_field_has_its_place() {
    let log = std::fs::read(golden("bridge-fields.log")).unwrap();
    let found = iterations(&log);
    assert_eq!(found.len(), 3);
    let none = &found[0];
    assert_eq!(
        (none.loss, none.grad_norm, none.skipped, none.nan),
        (None, None, 10, 10)
    );
    let all = &found[1];
    assert_eq!(all.skipped_samples, 64);
    assert_eq!(
        (all.tflops, all.energy, all.power),
        (Some(101.9), Some(1410.2), Some(563.6))
    );
    assert_eq!(all.mtp, [Some(1.6), Some(2.1)]);
    assert_eq!(
        (all.num_zeros, all.params_norm, all.max_attention_logit),
        (Some(1024.0), Some(812.445), Some(41.25))
    );
    assert_eq!((all.skipped, all.nan), (1, 1));
}

#[test]
fn numbers_that_overflow_their_columns_or_are_none() {
    let wide = MOE
        .replace("      20/     100", "123456789/987654321")
        .replace("grad norm: 0.964", "grad norm: nan");
    let it = iteration(&wide);
    assert_eq!((it.step, it.total), (123_456_789, 987_654_321));
    assert!(it.grad_norm.is_some_and(f64::is_nan));
    let it = iteration(
        &MOE.replace("3305.4", "inf")
            .replace("E-06", "E-106")
            .replace(" mtp_1 loss: 2.511902E+00 |", ""),
    );
    assert_eq!(
        (it.elapsed_ms, it.lr, it.mtp.len()),
        (f64::INFINITY, Some(4e-106), 0)
    );
}

#[test]
fn megatron_lm_has_fractions_and_fewer_fields() {
    let line = MOE
        .replace("11:03:09", "11:03:09.482913")
        .replace(" learning rate: 4.000000E-06 |", "")
        .replace(
            " load_balancing_loss: 0.000000E+00",
            " expert entropy: 0.25",
        );
    let it = iteration(&line);
    assert_eq!(
        (it.time_ms, it.has_fraction, it.lr),
        (1_768_474_989_482, true, None)
    );
    assert_eq!(it.others[0], ("expert entropy".to_owned(), 0.25));
}

#[test]
fn a_torn_line_is_dropped_and_the_next_one_read() {
    let log = [&MOE[..150], "\n", MOE, "\n", &MOE[60..], "\n"].concat();
    assert_eq!(iterations(log.as_bytes()).len(), 1);
    // Another rank began its line in the middle of this one.
    let mixed = [&MOE[..200], MOE, "\n"].concat();
    assert_eq!(iterations(mixed.as_bytes()), [iteration(MOE)]);
    // Another rank's words in the middle of a piece.
    for at in [190, 230] {
        let mixed = [&MOE[..at], "[rank2] hello: x|", &MOE[at..], "\n", MOE, "\n"].concat();
        assert_eq!(iterations(mixed.as_bytes()), [iteration(MOE)], "{mixed}");
    }
    // Two whole lines without a newline between them.
    assert_eq!(iterations([MOE, MOE].concat().as_bytes()).len(), 2);
}

#[test]
fn other_lines_say_what_they_say() {
    let gb = |gb: f64| (gb * 1e9).round() as u64;
    assert_eq!(
        one("Step Time : 3.31s GPU utilization: 57.2MODEL_TFLOP/s/GPU"),
        Line::StepTime {
            seconds: 3.31,
            tflops: 57.2
        }
    );
    assert_eq!(
        one(
            "[Rank 0] (after 10 iterations) memory (GB) | mem-allocated-gigabytes: 31.482 | mem-active-gigabytes: 31.482 | mem-inactive-gigabytes: 0.84213 | mem-reserved-gigabytes: 58.147 | mem-max-allocated-gigabytes: 52.904 | mem-max-active-gigabytes: 53.118 | mem-max-inactive-gigabytes: 2.6471 | mem-max-reserved-gigabytes: 58.147 | mem-alloc-retires: 2 | mem-allocated-count: 2184"
        ),
        Line::Memory(Memory {
            rank: 0,
            step: 10,
            allocated: gb(31.482),
            max_allocated: gb(52.904),
            reserved: gb(58.147),
            max_reserved: gb(58.147),
            retries: 2
        })
    );
    let Line::Memory(mb) = one(
        "[Rank 12] (after save_checkpoint for iteration 40) memory (MB) | allocated: 30024.11 | max allocated: 50453.02 | reserved: 55454.00 | max reserved: 55454.00 | total device memory used: 60000.00",
    ) else {
        panic!("not memory")
    };
    assert_eq!((mb.rank, mb.step, mb.max_reserved), (12, 40, 55454 << 20));
    assert_eq!(
        one("Total number of parameters in billions: 35.51"),
        Line::Theory(Theory::Parameters, 35.51 * 1e9)
    );
    assert_eq!(
        one("Theoretical memory footprints: weight and optimizer=30511.00 MB"),
        Line::Theory(Theory::WeightAndOptimizer, (30511u64 << 20) as f64)
    );
    assert_eq!(
        one(
            "Theoretical memory footprints: weight and optimizer=1.00 MB, activation=2.00 MB, total=3.00 MB"
        ),
        Line::Theory(Theory::Total, f64::from(3 << 20))
    );
    for (place, split) in [
        ("", Split::Validation),
        (" on validation set", Split::Final),
        (" on test set", Split::Test),
    ] {
        assert_eq!(
            one(&format!(
                " validation loss at iteration 500{place} | lm loss value: 1.387122E+00 | lm loss PPL: 4.003312E+00 | "
            )),
            Line::Validation {
                step: 500,
                split,
                losses: vec![("lm loss".to_owned(), 1.387_122)],
                time_ms: None
            }
        );
    }
    let path = "ckpt/run1".to_owned();
    assert_eq!(
        one("saving checkpoint at iteration     500 to ckpt/run1 in torch_dist format"),
        Line::Saving {
            step: 500,
            path: path.clone()
        }
    );
    assert_eq!(
        one("  scheduled an async checkpoint save at iteration     500 to ckpt/run1"),
        Line::Saving {
            step: 500,
            path: path.clone()
        }
    );
    assert_eq!(
        one("  successfully saved checkpoint from iteration     500 to ckpt/run1 [ t 1/2, p 1/4 ]"),
        Line::Saved {
            step: 500,
            path: path.clone()
        }
    );
    assert_eq!(
        one("  successfully loaded checkpoint from ckpt/run1 [ t 0/2, p 0/4 ] at iteration 500"),
        Line::Loaded {
            step: Some(500),
            path
        }
    );
    assert_eq!(
        one(" loading HuggingFace-format checkpoint from models/qwen"),
        Line::Loaded {
            step: None,
            path: "models/qwen".to_owned()
        }
    );
    assert_eq!(
        one("WARNING: could not find the metadata file ckpt/latest_checkpointed_iteration.txt"),
        Line::NoCheckpoint
    );
    for (text, stage) in [
        ("after megatron is initialized", Stage::Initialized),
        ("after tokenizer is built", Stage::Tokenizer),
        (
            "after model, optimizer, and learning rate scheduler are built",
            Stage::Built,
        ),
        ("after dataloaders are built", Stage::Data),
        ("after training is done", Stage::Done),
    ] {
        assert_eq!(
            one(&format!("[{text}] datetime: 1970-01-02 00:00:01.500000 ")),
            Line::Stage {
                stage,
                time_ms: 86_401_500
            }
        );
    }
    assert_eq!(
        one("Starting training loop at iteration 12"),
        Line::TrainingLoop { step: 12 }
    );
    assert_eq!(
        one("exiting program at iteration 40"),
        Line::Exiting {
            step: Some(40),
            why: "exiting program at iteration 40".to_owned()
        }
    );
    for why in [
        "exiting program after 230 minutes",
        "exiting program after receiving SIGTERM.",
        "Exiting program due to straggler detection.",
    ] {
        assert_eq!(
            one(why),
            Line::Exiting {
                step: None,
                why: why.to_owned()
            }
        );
    }
    assert_eq!(
        one("  Trainable parameters: 12,345"),
        Line::Trainable(12_345)
    );
    assert_eq!(one("  seq_length: 4096"), Line::SequenceLength(4096));
    assert_eq!(
        one("  seq_length ...................................... 4096"),
        Line::SequenceLength(4096)
    );
}

#[test]
fn timer_tables_give_the_slowest_rank() {
    let table = "INFO:megatron:(min, max) time across ranks (ms):\n    forward-backward ...............................: (2210.41, 2241.97)\n    optimizer ......................................: (61.02, 63.88)\nmax time across ranks (ms):\n    optimizer ......................................: 61.02\n    not a timer\n";
    let timer = |name: &str, ms: f64| Line::Timer {
        name: name.to_owned(),
        seconds: ms / 1000.0,
    };
    assert_eq!(
        lines(table.as_bytes()),
        [
            timer("forward-backward", 2241.97),
            timer("optimizer", 63.88),
            timer("optimizer", 61.02)
        ]
    );
}

#[test]
fn timers_of_each_rank_give_the_slowest() {
    let table = "times across ranks (ms):\n  forward-backward:\n     rank  0: 2210.41\n     rank  1: 2241.97\n     rank  2: 2200.00\n  optimizer:\n     rank  0: 61.02\nStep Time : 1.00s GPU utilization: 5.0MODEL_TFLOP/s/GPU\n";
    let timer = |name: &str, ms: f64| Line::Timer {
        name: name.to_owned(),
        seconds: ms / 1000.0,
    };
    assert_eq!(
        lines(table.as_bytes()),
        [
            timer("forward-backward", 2210.41),
            timer("forward-backward", 2241.97),
            timer("optimizer", 61.02),
            Line::StepTime {
                seconds: 1.0,
                tflops: 5.0
            },
        ]
    );
}

#[test]
fn a_hung_collective_names_its_rank() {
    let line = "[rank5]:[E115 10:00:00.123 ProcessGroupNCCL.cpp:1] [Rank 5] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7) ran for 600000 milliseconds";
    let Line::Error { rank, message } = one(line) else {
        panic!("not an error")
    };
    assert_eq!(rank, Some(5));
    assert!(message.contains("WorkNCCL(SeqNum=7)"), "{message}");
}

#[test]
fn what_a_mixture_of_experts_and_a_meter_report_is_drawn() {
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("moe.log");
    let memory = |rank: u32, peak: f64| {
        format!(
            "[Rank {rank}] (after 19 iterations) memory (GB) | mem-allocated-gigabytes: 31.5 | mem-max-allocated-gigabytes: {peak} | mem-max-reserved-gigabytes: 58.25\n"
        )
    };
    let first = MOE.replace("      20/", "      19/");
    let energy = MOE.replace(
        " learning rate",
        " energy per GPU (J/iter/GPU): 1410.2 | power per GPU (W/GPU): 563.6 | learning rate",
    );
    let unknown = energy.replace(" mtp_1", " a \"task\": 5.0E-01 | mtp_1");
    let text = [
        &first,
        "\n",
        &memory(0, 50.0),
        &memory(8, 52.5),
        &unknown,
        "\n",
    ]
    .concat();
    std::fs::write(&log, text).unwrap();
    let options = Options {
        seq_length: Some(1),
        ..Options::default()
    };
    let (mirror, records) = watch(&log, &folder.path().join("cache"), options);
    let step = steps(&records)[1];
    let has = |name: &str| step.extra.get(name).copied();
    assert_eq!(has("global_load_balancing_loss"), Some(1.084_211));
    assert_eq!(
        (has("tflops"), has("energy"), has("power")),
        (Some(57.2), Some(1410.2), Some(563.6))
    );
    assert_eq!(has("a \"task\""), Some(0.5));
    let memory = step.memory.as_ref().unwrap();
    assert_eq!(
        (memory.device.as_str(), memory.peak),
        ("rank 8", 52_500_000_000)
    );
    let peaks: Vec<(u32, u64)> = memory.ranks.iter().map(|r| (r.rank, r.peak)).collect();
    assert_eq!(peaks, [(0, 50_000_000_000), (8, 52_500_000_000)]);
    // The scanner of histories takes the names it knows and passes over the task's.
    let table = run::History::open(mirror.folder()).unwrap().train;
    for (metric, value) in [
        (Metric::GlobalLoadBalancing, 1.084_211),
        (Metric::Tflops, 57.2),
        (Metric::Power, 563.6),
    ] {
        assert_eq!(table.value(metric, 1), Some(value), "{metric}");
    }
    assert!(table.has(Metric::LoadBalancing) && !table.has(Metric::RouterZ));
    assert_eq!(table.value(Metric::Energy, 0), None);
}

#[test]
fn tracebacks_of_several_ranks_are_told_apart() {
    let log = "[rank1]: Traceback (most recent call last):\n[rank2]: Traceback (most recent call last):\n[rank1]:   File \"a.py\", line 1\n[rank2]:   File \"b.py\", line 2\nTraceback of something else\n[rank2]: RuntimeError: found NaN in local forward loss calculation\n[rank1]:     x = y\n[rank1]: torch.distributed.DistBackendError: NCCL timeout\n[rank1]: more words\n";
    assert_eq!(
        lines(log.as_bytes()),
        [
            Line::Error {
                rank: Some(2),
                message: "RuntimeError: found NaN in local forward loss calculation".to_owned()
            },
            Line::Error {
                rank: Some(1),
                message: "torch.distributed.DistBackendError: NCCL timeout".to_owned()
            },
        ]
    );
}

#[test]
fn a_log_becomes_a_run_of_ours() {
    let cache = tempfile::tempdir().unwrap();
    let options = Options {
        peak_tflops: Some(981.0),
        ..Options::default()
    };
    let (mirror, records) = watch(&golden("bridge-dense.log"), cache.path(), options);
    assert_eq!(
        words(&records),
        [
            "started 0 at 0 of 2000",
            "step 10",
            "step 20",
            "eval 20",
            "saved 20 ckpt/run1/iter_0000020",
            "step 30",
            "warning non_finite",
            "finished 30: exiting program after receiving SIGTERM.",
        ]
    );
    let steps = steps(&records);
    assert_eq!(
        (steps[0].tokens, steps[0].loss, steps[0].mtp[0].loss),
        (320 * 4096, 2.431_177, 3.018_254)
    );
    assert!((steps[0].tokens_per_second - 32.0 * 4096.0 / 2.4817).abs() < 1e-6);
    assert!(
        (steps[0].mfu - 0.1).abs() < 1e-9,
        "from the `Step Time` line"
    );
    let memory = steps[1]
        .memory
        .as_ref()
        .expect("the memory line after step 10");
    assert_eq!(
        (memory.peak, memory.reserved),
        (52_904_000_000, 58_147_000_000)
    );
    assert_eq!(memory.planned_peak, (31535.43 * f64::from(1 << 20)) as u64);
    assert!(
        steps[2].loss.is_nan() && steps[2].grad_norm.is_nan(),
        "a loss that is left out is none"
    );
    // Lists, histories and consoles take it for a run.
    let summary = run::summary(mirror.folder()).unwrap();
    assert_eq!(
        (
            summary.step,
            summary.eval_loss,
            summary.checkpoint_step,
            summary.status.word()
        ),
        (30, Some(1.387_122), Some(20), "stopped")
    );
    let listed = run::list(cache.path()).unwrap();
    assert_eq!(listed.len(), 1);
    assert!(listed[0].0.id().starts_with("bridge-dense.log-"));
    assert_eq!(run::History::open(mirror.folder()).unwrap().train.rows(), 3);
    let console = std::fs::read(mirror.folder().join("console.log")).unwrap();
    assert!(console.starts_with(b"model:"));
}

#[test]
fn megatron_lm_logs_become_runs_too() {
    let cache = tempfile::tempdir().unwrap();
    let options = Options {
        utc_offset_minutes: 60,
        ..Options::default()
    };
    let (_, records) = watch(&golden("megatron-lm.log"), cache.path(), options);
    assert_eq!(
        words(&records),
        [
            "started 0 at 0 of 3",
            "step 1",
            "step 2",
            "step 3",
            "finished 3: completed"
        ]
    );
    assert_eq!(records[1].time_ms, 1_768_472_551_482 - 3_600_000);
    let Event::Started { program, .. } = &records[0].event else {
        panic!()
    };
    assert_eq!(program, "Megatron-LM");
    let steps = steps(&records);
    assert_eq!(steps[1].parts["forward_backward"], 2.241_97);
    assert_eq!(steps[1].memory.as_ref().unwrap().device, "rank 0");
    assert_eq!(steps[2].tokens, 24 * 2048);
}

#[test]
fn ranks_and_restarts_are_joined() {
    let cache = tempfile::tempdir().unwrap();
    let options = Options {
        peak_tflops: Some(500.0),
        seq_length: Some(1024),
        ..Options::default()
    };
    let (mirror, records) = watch(&golden("slurm"), cache.path(), options);
    assert_eq!(
        words(&records),
        [
            "started 0 at 0 of 6",
            "step 1",
            "step 2",
            "saved 2 ckpt/a/iter_0000002",
            "step 3",
            "warning rank_failed",
            "failed 3: rank 3: torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.",
            "started 1 at 2 of 6",
            "step 3",
            "step 4",
            "step 5",
            "step 6",
            "finished 6: completed",
        ]
    );
    assert!(
        (steps(&records)[0].mfu - 0.1).abs() < 1e-9,
        "rank 0's line meets rank 3's"
    );
    let history = run::History::open(mirror.folder()).unwrap();
    assert_eq!((history.train.rows(), history.abandoned.len()), (6, 1));
    assert_eq!(history.abandoned[0].steps.rows(), 1);
}
