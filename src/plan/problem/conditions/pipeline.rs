//! Conditions on pipeline stages.

use super::{Job, Problem, problem};
use crate::base::Severity;
use crate::plan::PipelineError;
use crate::plan::problem::job_stages;

/// Whether the last stage has fewer layers than the fullest, so that MTP and the loss do not stick out.
pub(super) fn has_light_end(job: &Job) -> bool {
    let Ok(stages) = job_stages(job) else {
        return true;
    };
    let layers = |stage: &crate::plan::Stage| stage.layers().count();
    let fullest = stages.iter().map(layers).max().unwrap_or(0);
    stages.last().is_some_and(|last| layers(last) < fullest)
}

pub(super) fn add(job: &Job, list: &mut Vec<Problem>) {
    let Err(error) = job_stages(job) else {
        return;
    };
    let (code, numbers) = named(&error);
    list.push(problem(
        code,
        Severity::Error,
        error.to_string(),
        numbers,
        Vec::new(),
    ));
}

/// Names of problems that other stages mend.
pub(super) const CODES: [&str; 5] = [
    "layers-by-pp",
    "layers-by-vpp",
    "one-stage-two-ends",
    "ends-by-layers",
    "middle-by-stages",
];

/// The name of a pipeline's problem and its numbers.
fn named(error: &PipelineError) -> (&'static str, [(&str, usize); 2]) {
    match error {
        PipelineError::Zero { what } => ("range", [(what, 0), ("least", 1)]),
        PipelineError::NoLayers { what } => ("stage-without-layers", [(what, 0), ("least", 1)]),
        PipelineError::TwoWays { .. } => ("pipeline-two-ways", [("ways", 2), ("most", 1)]),
        PipelineError::LayersByStages { counted, pp, .. } => (
            "layers-by-pp",
            [("num_hidden_layers", *counted), ("pp", *pp)],
        ),
        PipelineError::LayersByChunks { count, vpp, .. } => (
            "layers-by-vpp",
            [("layers of a stage", *count), ("vpp", *vpp)],
        ),
        PipelineError::OneStageTwoEnds { first, last, .. } => (
            "one-stage-two-ends",
            [("first stage", *first), ("last stage", *last)],
        ),
        PipelineError::Ends { own, layers, .. } => (
            "ends-by-layers",
            [("num_hidden_layers", *layers), ("first and last", *own)],
        ),
        PipelineError::Middle {
            between, middle, ..
        } => (
            "middle-by-stages",
            [("layers between", *between), ("stages between", *middle)],
        ),
        PipelineError::Text { at, .. } => ("layout-text", [("character", *at + 1), ("layout", 1)]),
        PipelineError::ChunksByStages { chunks, pp } => {
            ("layout-chunks", [("chunks", *chunks), ("pp", *pp)])
        }
        PipelineError::OtherChunks { vpp, chunks, .. } => {
            ("layout-vpp", [("chunks", *chunks), ("vpp", *vpp)])
        }
        PipelineError::Count {
            found, expected, ..
        } => (
            "layout-count",
            [("in the model", *expected), ("in the layout", *found)],
        ),
        PipelineError::Misplaced { chunk, .. } => {
            ("layout-place", [("chunk", *chunk), ("layout", 1)])
        }
    }
}
