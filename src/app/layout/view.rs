//! Everything that the screen shows of a layout, made once a change and not once a frame.

use super::figures::Figures;
use super::knob::{Knob, next_recompute};
use super::subject::{Source, Subject};
use crate::app::preview;
use crate::base::{Bytes, Severity};
use crate::plan::{
    self, Job, Machine, MegatronRecompute, MemoryEstimate, Plan, PlanError, Problem, RankGrid,
    Schedule, Turn, recompute_name,
};
use crate::recipe::Recipe;

/// Most ranks that are drawn and moved over.
pub const MOST_DRAWN: usize = 1 << 17;

/// A layout with its numbers.
#[derive(Debug)]
pub struct View {
    /// The recipe.
    pub subject: Subject,
    /// Counts changes; see [`State::stamp`](super::State::stamp).
    pub stamp: u64,
    /// The recipe as it stands.
    pub base: Job,
    /// The job that is shown.
    pub job: Job,
    /// The machine.
    pub machine: &'static Machine,
    /// Whether the job differs from the recipe.
    pub is_scratch: bool,
    /// Whether memory is our own trainer's.
    pub is_ours: bool,
    /// What is wrong, errors first.
    pub problems: Vec<Problem>,
    /// Rules that hold, with their numbers.
    pub held: Vec<String>,
    /// The plan, or why there is none.
    pub plan: Result<Plan, PlanError>,
    /// Places and groups of ranks, also where layers cannot be spread over them; none if the degrees make no grid, or one of more than
    /// [`MOST_DRAWN`] ranks.
    pub grid: Option<RankGrid>,
    /// What the ranks of each stage hold.
    pub memory: Vec<MemoryEstimate>,
    /// The pipeline's work.
    pub schedule: Option<Schedule>,
    /// What usual changes would do.
    pub what_if: Vec<WhatIf>,
    /// The numbers of a comparison.
    pub figures: Figures,
}

/// A layout with one thing changed.
#[derive(Debug, Clone, PartialEq)]
pub struct WhatIf {
    /// The change: `cp 1 to 2`.
    pub change: String,
    /// The fullest rank then; none if there is no plan.
    pub total: Option<Bytes>,
    /// The step then.
    pub seconds: Option<f64>,
    /// Whether it could start and fits the machine.
    pub is_legal: bool,
}

/// How many errors there are.
pub fn errors(problems: &[Problem]) -> usize {
    let is_error = |problem: &&Problem| problem.severity == Severity::Error;
    problems.iter().filter(is_error).count()
}

fn bubble(job: &Job, schedule: Option<&Schedule>, plan: Option<&Plan>) -> f64 {
    match (schedule, plan) {
        (Some(laid), _) if Some(laid.micro_batches) == job.micro_batches() => laid.bubble(),
        (_, Some(plan)) => plan.time.bubble,
        _ => 0.0,
    }
}

/// What each stage's ranks hold: our own trainer's terms on one rank of one of its recipes, else Megatron's.
fn memory(subject: &Subject, job: &Job, plan: Option<&Plan>) -> Vec<MemoryEstimate> {
    match &subject.source {
        Source::Own(recipe) if job.degrees.world_size() == 1 => ours(recipe, job),
        _ => plan.map_or_else(Vec::new, |plan| plan.memory.clone()),
    }
}

fn ours(recipe: &Recipe, job: &Job) -> Vec<MemoryEstimate> {
    let mut shape = preview::train_shape(recipe);
    shape.micro_batch_size = job.batch.micro_batch_size;
    shape.micro_batches = job.micro_batches().unwrap_or(1);
    shape.recompute = match (&job.megatron.recompute, shape.recompute) {
        (MegatronRecompute::None, _) => plan::Recompute::None,
        (MegatronRecompute::Full { .. }, _) => plan::Recompute::Full,
        (MegatronRecompute::Selective(_), parts @ plan::Recompute::Selective(_)) => parts,
        (MegatronRecompute::Selective(_), _) => {
            plan::Recompute::Selective(vec![plan::RecomputeModule::CoreAttn])
        }
    };
    plan::memory_by_stage(&recipe.model.config, &job.degrees, &shape).unwrap_or_default()
}

impl View {
    /// The view of a job of a recipe on a machine.
    pub(super) fn new(
        subject: Subject,
        stamp: u64,
        base: Job,
        job: Job,
        machine: &'static Machine,
    ) -> Self {
        let problems = plan::problems(&job);
        let plan = plan::plan_with(&job, machine, problems.clone());
        let grid = match &plan {
            Ok(plan) => Some(plan.grid),
            Err(PlanError::Pipeline(_)) => {
                RankGrid::ordered(job.degrees, job.megatron.rank_order).ok()
            }
            Err(_) => None,
        };
        let rules = plan::rules(&job.model.text, &job.degrees, &job.batch);
        let held = rules.into_iter().filter(|rule| rule.violation.is_none());
        let memory = memory(&subject, &job, plan.as_ref().ok());
        let schedule = plan.as_ref().ok().map(|plan| {
            let turns: Vec<Turn> = plan
                .time
                .stages
                .iter()
                .map(|stage| Turn {
                    forward: stage.forward,
                    backward: stage.backward,
                })
                .collect();
            let vpp = plan.stages.iter().map(|stage| stage.chunks.len()).max();
            plan::schedule(&turns, vpp.unwrap_or(1), job.micro_batches().unwrap_or(1))
        });
        let figures = Figures::of(
            &job,
            machine,
            &problems,
            &memory,
            plan.as_ref()
                .ok()
                .map(|plan| (plan, bubble(&job, schedule.as_ref(), Some(plan)))),
        );
        let is_ours = matches!(subject.source, Source::Own(_)) && job.degrees.world_size() == 1;
        Self {
            stamp,
            what_if: what_if(&subject, &base, &job, machine),
            is_scratch: job != base || *machine != *subject.machine(),
            is_ours,
            held: held.map(|rule| rule.statement).collect(),
            base,
            job,
            machine,
            problems,
            plan,
            grid: grid.filter(|grid| grid.world_size() <= MOST_DRAWN),
            memory,
            schedule,
            figures,
            subject,
        }
    }

    /// The ranks, if they can be drawn.
    pub fn grid(&self) -> Option<&RankGrid> {
        self.grid.as_ref()
    }

    /// Seconds that a forward of a chunk takes on average: what the timeline's window moves by.
    pub fn quantum(&self) -> f64 {
        let Some(schedule) = &self.schedule else {
            return 0.0;
        };
        let forwards = schedule.stages.iter().flatten().filter(|p| !p.is_backward);
        let (count, sum) = forwards.fold((0usize, 0.0), |(count, sum), piece| {
            (count + 1, sum + piece.end - piece.start)
        });
        sum / count.max(1) as f64
    }

    /// Steps of [`quantum`](Self::quantum) in the timeline.
    pub fn quanta(&self) -> usize {
        let seconds = self.schedule.as_ref().map_or(0.0, |s| s.seconds);
        let quantum = self.quantum();
        if quantum > 0.0 {
            (seconds / quantum) as usize
        } else {
            0
        }
    }

    /// Ranks in all; those that the degrees would make where they make no grid.
    pub fn world_size(&self) -> usize {
        self.grid()
            .map_or(self.job.degrees.world_size(), RankGrid::world_size)
    }

    /// How many errors keep the job from starting.
    pub fn errors(&self) -> usize {
        errors(&self.problems)
    }

    /// The stage of a rank.
    pub fn stage_of(&self, rank: usize) -> usize {
        self.grid()
            .filter(|grid| rank < grid.world_size())
            .map_or(0, |grid| grid.coordinates(rank).pp)
    }

    /// What the ranks of a stage hold.
    pub fn memory_of(&self, stage: usize) -> Option<&MemoryEstimate> {
        self.memory.iter().find(|estimate| estimate.stage == stage)
    }

    /// The fullest stage.
    pub fn fullest(&self) -> Option<&MemoryEstimate> {
        self.memory.iter().rev().max_by_key(|stage| stage.total)
    }

    /// Share of the pipeline's time in which stages stand idle: as laid out, or by the planner's formula where not all micro-batches are.
    pub fn bubble(&self) -> f64 {
        bubble(&self.job, self.schedule.as_ref(), self.plan.as_ref().ok())
    }

    /// Whether the fullest rank holds no more than a GPU has; true where neither is known.
    pub fn fits(&self) -> bool {
        match (self.fullest(), self.device()) {
            (Some(fullest), Some(device)) => fullest.total <= device,
            _ => true,
        }
    }

    /// What one GPU can hold; none where the trainer computes on a CPU.
    pub fn device(&self) -> Option<Bytes> {
        match &self.subject.source {
            Source::Own(recipe)
                if self.is_ours && recipe.train.device != crate::recipe::DeviceChoice::Cuda =>
            {
                None
            }
            _ => Some(self.machine.memory()),
        }
    }
}

/// What a few usual changes would do to memory and time.
fn what_if(subject: &Subject, base: &Job, job: &Job, machine: &'static Machine) -> Vec<WhatIf> {
    let has_gpus = subject.has_gpus();
    let mut list = Vec::new();
    let mut add = |change: String, job: &Job| {
        let outline = plan::outline(job, machine);
        let total = match &subject.source {
            Source::Own(recipe) if job.degrees.world_size() == 1 => {
                ours(recipe, job).iter().map(|stage| stage.total).max()
            }
            _ => outline.as_ref().map(|outline| outline.fullest),
        };
        let starts = outline.as_ref().is_some_and(|outline| outline.errors == 0);
        let is_legal = starts && total.is_some_and(|total| total <= machine.memory());
        list.push(WhatIf {
            change,
            total,
            seconds: outline.map(|outline| outline.time.seconds),
            is_legal,
        });
    };
    for knob in [
        Knob::MicroBatch,
        Knob::Tp,
        Knob::Cp,
        Knob::Pp,
        Knob::Ep,
        Knob::Dp,
    ] {
        let Some(value) = knob.value(job) else {
            continue;
        };
        if knob == Knob::Ep && job.model.text.moe.is_none() {
            continue;
        }
        let twice = value.saturating_mul(2);
        if knob.most().is_some_and(|most| twice > most) || twice == value {
            continue;
        }
        let mut changed = job.clone();
        knob.set(&mut changed, twice, has_gpus);
        if knob == Knob::Dp {
            let global = &mut changed.batch.global_batch_size;
            *global = global.saturating_mul(2);
        }
        add(format!("{knob} {value} to {twice}"), &changed);
    }
    let mut changed = job.clone();
    changed.megatron.recompute = next_recompute(&job.megatron.recompute, &base.megatron.recompute);
    let name = recompute_name(&changed.megatron.recompute);
    add(format!("recompute {name}"), &changed);
    list
}
