//! Directories of weights as models of the screen: opened, read, verified.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use crate::app::mapping::{Files, Model, Numbers, Progress, Report, Stored, Values, ValuesOf};
use crate::checkpoint::compare::{Compared, Verdict, Watch, round_trip};
use crate::checkpoint::statistics::Detail;
use crate::checkpoint::{CheckpointError, Format, Statistics, Weights, huggingface, training};
use crate::mapping::{Layout, Table, View};
use crate::spec::{ModelConfig, find};

/// An error with what the user can do.
fn told(error: &CheckpointError) -> String {
    match error.hint() {
        Some(hint) => format!("{error}; {hint}"),
        None => error.to_string(),
    }
}

/// Opens `path` as a model with what the files have of it; of a run the latest checkpoint. `config` tells the model where nothing beside the
/// weights does.
pub(super) fn open(path: &Path, config: &str) -> Result<Model, String> {
    // What is no run has no checkpoint.
    let latest = training::latest(path).ok().flatten();
    let read = || {
        let weights = Weights::open(latest.as_deref().unwrap_or(path))?;
        let config = match config {
            "" => weights.model()?,
            text => model_config(text)?,
        };
        let table = Table::new(&config, weights.expert_style()?);
        let (view, audit) = weights.audit(&table)?;
        let layout = match weights.format {
            Format::Shards => Some(weights.layout(&table)?),
            _ => None,
        };
        Ok((weights, table, view, audit, layout))
    };
    let (weights, table, view, audit, layout) = read().map_err(|error| told(&error))?;
    let stored = weights.tensors.into_iter().map(|tensor| Stored {
        name: tensor.name,
        shape: tensor.shape,
        dtype: tensor.dtype,
    });
    let files = Files {
        format: weights.format.name(),
        layout,
        stored: stored.collect(),
        path: weights.path,
        view,
        audit,
    };
    Ok(Model::with_files(name(&files.path), table, files))
}

/// What people call a directory: its last part; of a step or an iteration the run's or the checkpoint's too.
fn name(path: &Path) -> String {
    let mut parts = path.iter().rev().map(|part| part.to_string_lossy());
    let Some(last) = parts.next() else {
        return path.display().to_string();
    };
    let is_step = last.starts_with("step-") || last.starts_with("iter_");
    match parts.find(|part| part != "checkpoints").filter(|_| is_step) {
        Some(above) => format!("{above} {last}"),
        None => last.into_owned(),
    }
}

/// The model that a `config.json`, a directory with one, or the name of a published size tells.
fn model_config(text: &str) -> Result<ModelConfig, CheckpointError> {
    match find(text) {
        Some(entry) => Ok(entry.model.clone()),
        None => huggingface::read_model(&PathBuf::from(text)),
    }
}

/// Reads the values of a stored tensor; none if `stop` was told meanwhile.
pub(super) fn values(of: &ValuesOf, stop: &AtomicBool) -> Result<Option<Values>, String> {
    let weights = Weights::open(&of.path).map_err(|error| told(&error))?;
    let Some(tensor) = weights.tensors.get(of.stored) else {
        return Err(format!("{} has changed; open it again", of.path.display()));
    };
    let read = Statistics::read(&weights.files, tensor, Detail::Histogram, stop);
    Ok(read.map_err(|error| told(&error))?.map(|read| Values {
        elements: read.elements,
        zeros: read.zeros,
        nan: read.nan,
        infinite: read.positive_infinity + read.negative_infinity,
        numbers: numbers(&read),
        histogram: read.histogram,
    }))
}

fn numbers(read: &Statistics) -> Option<Numbers> {
    Some(Numbers {
        min: read.min?,
        max: read.max?,
        mean: read.mean?,
        std: read.std?,
    })
}

/// Makes the opened directory again by way of a layout and compares; none if `stop` was told meanwhile.
pub(super) fn verify(
    model: &Model,
    layout: &Layout,
    stop: &AtomicBool,
    progress: &(dyn Fn(Progress) + Sync),
) -> Result<Option<Report>, String> {
    let Some(files) = &model.files else {
        return Err("no files are open".into());
    };
    let watch = Watch {
        progress: &|so_far| {
            progress(Progress {
                done: so_far.done,
                total: so_far.total,
            });
        },
        cancel: stop,
    };
    let compared = Weights::open(&files.path).and_then(|weights| {
        let bound = weights.bind(model.table.config(), model.table.style())?;
        let view = View::shards(&bound.table, layout);
        round_trip(&bound, &weights.files, &view, None, &watch)
    });
    match compared {
        Ok(compared) => Ok(Some(report(compared))),
        Err(CheckpointError::Cancelled) => Ok(None),
        Err(error) => Err(told(&error)),
    }
}

fn report(compared: Vec<Compared>) -> Report {
    let mut report = Report::default();
    for tensor in compared {
        match tensor.verdict {
            Verdict::Exact => report.exact += 1,
            Verdict::Rounded { differ, ulp } => {
                let text = format!(
                    "{differ} of {} differ by at most {ulp} ulp",
                    tensor.elements
                );
                report.rounded.push((tensor.name, text));
            }
            Verdict::Differs {
                differ,
                first,
                values,
                ..
            } => {
                let text = format!(
                    "{differ} of {} differ, the first at [{}, {}]: {} became {}",
                    tensor.elements, first.0, first.1, values.1, values.0
                );
                report.different.push((tensor.name, text));
            }
        }
    }
    report
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_is_called_by_its_run_and_step() {
        let called = |path: &str| name(Path::new(path));
        assert_eq!(
            called("runs/demo-1/checkpoints/step-00000020"),
            "demo-1 step-00000020"
        );
        assert_eq!(called("megatron/iter_0000500"), "megatron iter_0000500");
        assert_eq!(called("models/toy"), "toy");
        assert_eq!(called("step-1"), "step-1");
    }
}
