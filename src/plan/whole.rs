//! Everything that is known of a job before it runs.

use super::cost::{ModuleFlops, Routing, StepTime, job_flops, job_memory, step_time};
use super::problem::job_stages;
use super::{
    GridError, Job, Machine, MemoryEstimate, PipelineError, Problem, RankGrid, Stage, errors,
    problems,
};
use crate::base::Bytes;
use thiserror::Error;

/// A plan of a job on a machine.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Places and groups of ranks.
    pub grid: RankGrid,
    /// Pipeline stages.
    pub stages: Vec<Stage>,
    /// What the ranks of each stage hold, experts evenly used.
    pub memory: Vec<MemoryEstimate>,
    /// What they hold if all tokens go to one rank's experts.
    pub worst: Vec<Bytes>,
    /// Operations of a step by module.
    pub flops: Vec<ModuleFlops>,
    /// Time of a step, with traffic by stage.
    pub time: StepTime,
    /// What is wrong with the job, and what to know.
    pub problems: Vec<Problem>,
}

/// Why there is no plan; [`problems`] says more.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PlanError {
    /// Layers that cannot be spread so.
    #[error(transparent)]
    Pipeline(#[from] PipelineError),
    /// Degrees that make no grid.
    #[error(transparent)]
    Grid(#[from] GridError),
    /// A size of 0 or beyond all reason.
    #[error("{0}")]
    Range(String),
}

impl Plan {
    /// What the fullest rank holds.
    pub fn fullest(&self) -> Bytes {
        let totals = self.memory.iter().map(|stage| stage.total);
        totals.max().unwrap_or(Bytes(0))
    }
}

/// The plan of a job on a machine. A job that cannot start has one too, as long as its sizes make ranks and stages.
pub fn plan(job: &Job, machine: &Machine) -> Result<Plan, PlanError> {
    plan_with(job, machine, problems(job))
}

/// The plan of a job whose `problems` are known.
pub fn plan_with(job: &Job, machine: &Machine, problems: Vec<Problem>) -> Result<Plan, PlanError> {
    if let Some(range) = problems.iter().find(|problem| problem.code == "range") {
        return Err(PlanError::Range(range.message.clone()));
    }
    let grid = RankGrid::ordered(job.degrees, job.megatron.rank_order)?;
    let stages = job_stages(job)?;
    let memory = job_memory(job, Routing::Balanced)?;
    let worst = job_memory(job, Routing::Worst)?;
    Ok(Plan {
        grid,
        memory,
        worst: worst.into_iter().map(|stage| stage.total).collect(),
        flops: job_flops(job),
        time: step_time(job, &stages, &grid, machine),
        stages,
        problems,
    })
}

/// A job's plan in a few numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Outline {
    /// Errors that keep it from starting.
    pub errors: usize,
    /// What the fullest rank holds.
    pub fullest: Bytes,
    /// Time of a step.
    pub time: StepTime,
}

/// A job's plan in a few numbers, without the search for what would mend its problems; none where [`plan`] fails.
pub fn outline(job: &Job, machine: &Machine) -> Option<Outline> {
    let errors = errors(job);
    if errors.iter().any(|problem| problem.code == "range") {
        return None;
    }
    let grid = RankGrid::ordered(job.degrees, job.megatron.rank_order).ok()?;
    let stages = job_stages(job).ok()?;
    let memory = job_memory(job, Routing::Balanced).ok()?;
    Some(Outline {
        errors: errors.len(),
        fullest: memory.iter().map(|stage| stage.total).max()?,
        time: step_time(job, &stages, &grid, machine),
    })
}
