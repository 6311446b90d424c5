//! The event files, read by the `tensorboard` package itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Place, events, steps};
use trestle::event::{Event, layout, tensorboard};
use trestle::train;

/// Steps and values by tag.
type Scalars = BTreeMap<String, Vec<(i64, f64)>>;

#[test]
fn the_tensorboard_package_reads_what_the_events_say() {
    let place = Place::new();
    let run = place.run(&[
        "train.steps=12",
        "checkpoint.interval=5",
        "checkpoint.at_end=false",
    ]);
    train::run(&run.path).expect("trains");
    // Resumed at step 10, so that two files overlap.
    train::run(&run.path).expect("takes it up again");
    let folder = run.join(layout::TENSORBOARD);
    compare(&own_reader(&folder), &run.path, "our own reader");

    match python() {
        Ok(python) => {
            let script =
                Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/train/read_event_files.py");
            let output = Command::new(python)
                .arg(script)
                .arg(&folder)
                .output()
                .expect("starts");
            assert!(output.status.success(), "{output:?}");
            let scalars: Scalars = serde_json::from_slice(&output.stdout).expect("JSON");
            compare(&scalars, &run.path, "tensorboard");
        }
        Err(reason) => eprintln!(
            "\n!!! SKIPPED: the tensorboard package did not read our event files, because it could not be installed: {reason}\n"
        ),
    }
}

fn compare(scalars: &Scalars, run: &Path, reader: &str) {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * a.abs().max(1e-6);
    let series = |tag: &str| -> BTreeMap<i64, f64> {
        let values = scalars.get(tag).unwrap_or_else(|| {
            panic!(
                "{reader}: no `{tag}` among {:?}",
                scalars.keys().collect::<Vec<_>>()
            )
        });
        values.iter().copied().collect()
    };
    let steps = steps(run);
    assert_eq!(series("lm loss").len(), steps.len(), "{reader}");
    assert_eq!(
        scalars["lm loss"].len(),
        steps.len(),
        "{reader}: abandoned steps are dropped"
    );
    for (step, record) in &steps {
        let step = *step as i64;
        for (tag, value) in [
            ("lm loss", record.loss),
            ("mtp_1 loss", record.mtp[0].loss),
            ("mtp_1_acceptance_rate", record.mtp[0].acceptance_percent()),
            ("learning-rate", record.lr),
            ("grad-norm", record.grad_norm),
            ("iteration-time", record.step_seconds),
            ("throughput/tokens_per_sec", record.tokens_per_second),
        ] {
            let found = series(tag)[&step];
            assert!(
                near(value, found),
                "{reader}: {tag} at {step}: {found}, not {value}"
            );
        }
    }
    assert_eq!(
        series("mtp_1_cumulative_acceptance_rate").len(),
        steps.len()
    );
    for event in events(run) {
        if let Event::Eval { step, loss, .. } = event {
            assert!(
                near(loss, series("lm loss validation")[&(step as i64)]),
                "{reader}"
            );
        }
    }
}

/// All files by our decoder; of a step that is there twice, the later one.
fn own_reader(folder: &Path) -> Scalars {
    let mut names = super::names(folder);
    names.sort_by_key(|name| name.rsplit('.').next().and_then(|n| n.parse::<u32>().ok()));
    let mut by_step: BTreeMap<String, BTreeMap<i64, f64>> = BTreeMap::new();
    for name in names {
        let bytes = std::fs::read(folder.join(name)).expect("readable");
        let (scalars, used) = tensorboard::decode(&bytes).expect("own file");
        assert_eq!(used, bytes.len());
        for scalar in scalars {
            let series = by_step.entry(scalar.tag).or_default();
            series.insert(scalar.step, f64::from(scalar.value));
        }
    }
    let lists = by_step.into_iter();
    lists
        .map(|(tag, series)| (tag, series.into_iter().collect()))
        .collect()
}

/// A Python that has `tensorboard`, in an environment under the user's cache that is made once.
fn python() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
        .ok_or("no cache folder")?;
    let folder = cache.join("trestle").join("tensorboard");
    let python = folder.join("bin/python");
    let works = |python: &Path| {
        let check = Command::new(python)
            .args(["-c", "import tensorboard"])
            .output();
        check.is_ok_and(|output| output.status.success())
    };
    if works(&python) {
        return Ok(python);
    }
    std::fs::create_dir_all(cache.join("trestle")).map_err(|e| e.to_string())?;
    run(Command::new("python3")
        .args(["-m", "venv", "--clear"])
        .arg(&folder))?;
    run(Command::new(&python).args([
        "-m",
        "pip",
        "install",
        "--quiet",
        "--disable-pip-version-check",
        "tensorboard>=2.16,<3",
    ]))?;
    if works(&python) {
        Ok(python)
    } else {
        Err("tensorboard was installed and cannot be imported".to_owned())
    }
}

fn run(command: &mut Command) -> Result<Output, String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() {
        Ok(output)
    } else {
        let error = String::from_utf8_lossy(&output.stderr);
        Err(format!("{command:?}: {}", error.trim()))
    }
}
