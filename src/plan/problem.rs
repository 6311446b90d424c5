//! Why a job cannot start, and the least changes with which it does.

use serde::Serialize;

use super::rule::{self, Violation};
use super::{Job, Pipeline, PipelineError};
use crate::base::Severity;

mod conditions;
mod mend;

pub(super) use mend::balanced_layout;

/// A value that would mend a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// The dotted key of the recipe: `parallel.tp`, `train.global_batch_size`, `megatron.recompute_num_layers`. Keys below `megatron` have
    /// Megatron's own names.
    pub key: String,
    /// The value as TOML spells it, without quotes around text; `null` to leave the key out.
    pub value: String,
    /// Keys with their values that change together with it; most often none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<(String, String)>,
}

impl Fix {
    fn new(key: &str, value: impl ToString) -> Self {
        Self {
            key: key.to_owned(),
            value: value.to_string(),
            also: Vec::new(),
        }
    }
}

/// A condition that does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// A stable name: `heads-by-tp`.
    pub code: &'static str,
    /// Errors keep a job from starting; warnings do not.
    pub severity: Severity,
    /// What is wrong, with the two numbers that disagree.
    pub message: String,
    /// Those numbers with their names.
    pub numbers: [(String, usize); 2],
    /// Changes of which each alone mends this problem, the smallest first.
    pub fixes: Vec<Fix>,
}

impl From<Violation> for Problem {
    fn from(violation: Violation) -> Self {
        Self {
            code: violation.rule,
            severity: violation.severity,
            message: violation.message,
            numbers: violation.numbers,
            fixes: violation
                .nearest
                .iter()
                .map(|value| Fix::new(violation.key, value))
                .collect(),
        }
    }
}

/// Everything that is wrong with a job, errors first; nothing if it starts and there is nothing to say.
///
/// The conditions are Megatron's and Megatron-Bridge's. A size of 0 or beyond all reason hides all others.
pub fn problems(job: &Job) -> Vec<Problem> {
    let text = &job.model.text;
    let mut list: Vec<Problem> = rule::check(text, &job.degrees, &job.batch)
        .into_iter()
        .filter(|violation| !conditions::replaces(job, violation.rule))
        .map(Problem::from)
        .collect();
    if !list.iter().any(|problem| problem.code == "range") {
        conditions::add(job, &mut list);
    }
    for problem in &mut list {
        mend::smallest_first(job, problem);
    }
    list.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    list
}

/// The job with a fix made, the GPUs kept; none where its key is not one that a plan knows.
pub fn mended(job: &Job, fix: &Fix) -> Option<Job> {
    mend::apply(job, fix)
}

/// What a job asks of the pipeline.
pub(super) fn pipeline(job: &Job) -> Pipeline {
    let megatron = &job.megatron;
    Pipeline {
        pp: job.degrees.pp,
        vpp: job.degrees.vpp,
        first: megatron.first_stage_layers,
        last: megatron.last_stage_layers,
        account_for_embedding: megatron.account_for_embedding,
        account_for_loss: megatron.account_for_loss,
        layout: megatron.pipeline_layout.clone(),
    }
}

/// The stages of a job.
pub(super) fn job_stages(job: &Job) -> Result<Vec<super::Stage>, PipelineError> {
    let text = &job.model.text;
    pipeline(job).stages(
        text.num_hidden_layers,
        text.mtp_num_hidden_layers,
        text.tie_word_embeddings,
    )
}

/// The errors, their fixes neither tried nor sorted: quicker than [`problems`].
pub fn errors(job: &Job) -> Vec<Problem> {
    mend::errors(job)
}

/// The first error, without fixes; for searches that look at many jobs.
pub(super) fn first_error(job: &Job) -> Option<Problem> {
    mend::errors(job).into_iter().next()
}
