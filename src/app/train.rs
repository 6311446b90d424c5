//! The Train screen: the watched run.

mod facts;
mod machine;

use std::path::{Path, PathBuf};

use super::chart::View;
use crate::event::{Event, Record, RequestKind, RunInfo};
use crate::run::series::{Metric, ROUTER};
use crate::run::{History, Status, Summary};
use crate::telemetry::Sample;

pub use facts::Facts;
pub use machine::{Machine, Track, Tracks};

/// A run as it was when it was opened.
#[derive(Debug)]
pub struct Opened {
    /// What the run is.
    pub info: RunInfo,
    /// What it said so far.
    pub history: History,
    /// Where it stands.
    pub summary: Summary,
    /// Keys that a running trainer takes, with their values in the run's recipe.
    pub live: Vec<(&'static str, String)>,
    /// The alert rules of the recipe, a line each.
    pub alerts: Vec<String>,
}

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {
    /// The run was read, or why not.
    Opened(PathBuf, Result<Box<Opened>, String>),
    /// The run's trainer wrote records.
    Records(PathBuf, Vec<Record>),
    /// Whether the run's trainer lives.
    Alive(PathBuf, bool),
    /// What the machine of this name does, with the run's trainer if it is there.
    Sensed(PathBuf, String, Box<Sample>),
}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Follow this run instead of the one followed before.
    Follow(PathBuf),
    /// Start a trainer that continues the run.
    Resume(PathBuf),
    /// Make a run from a checkpoint of another and start its trainer.
    Fork(Fork),
}

/// A run to make from a checkpoint of another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    /// The folder of the run to start from.
    pub run: PathBuf,
    /// The step of the checkpoint.
    pub step: u64,
    /// The new run's name.
    pub name: String,
    /// Changes, as `key=value`.
    pub sets: Vec<String>,
}

/// The panes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// The main chart.
    #[default]
    Main,
    /// Losses of all depths and their gaps.
    Mtp,
    /// Gradient norm.
    GradNorm,
    /// Learning rate.
    LearningRate,
    /// Tokens per second.
    Throughput,
    /// Memory.
    Memory,
    /// Where a step's time goes.
    Time,
    /// GPUs and host.
    Devices,
    /// What happened.
    Events,
}

impl Pane {
    /// Every pane, in the order of the focus.
    pub const ALL: [Self; 9] = [
        Self::Main,
        Self::Mtp,
        Self::GradNorm,
        Self::LearningRate,
        Self::Throughput,
        Self::Memory,
        Self::Time,
        Self::Devices,
        Self::Events,
    ];
}

/// Steps that means are taken over.
pub const RECENT: usize = 50;

/// Metrics that the main chart can show; losses of MTP depths come behind.
pub const MAIN_METRICS: [Metric; 20] = [
    Metric::Loss,
    Metric::GradNorm,
    Metric::LearningRate,
    Metric::TokensPerSecond,
    Metric::StepSeconds,
    Metric::Peak,
    Metric::Rss,
    Metric::Mfu,
    Metric::Hfu,
    Metric::LoadBalancing,
    Metric::SequenceLoadBalancing,
    Metric::GlobalLoadBalancing,
    Metric::RouterZ,
    Metric::Tflops,
    Metric::Energy,
    Metric::Power,
    Metric::ParamsNorm,
    Metric::NumZeros,
    Metric::MaxAttentionLogit,
    Metric::LossScale,
];

/// Metrics that a chart can show of a run with so many MTP depths.
pub fn metrics_of(depth: usize) -> impl Iterator<Item = Metric> {
    let depths = (1..=depth).flat_map(|d| [Metric::MtpLoss(d), Metric::MtpAcceptance(d)]);
    MAIN_METRICS.into_iter().chain(depths)
}

/// The screen's state.
#[derive(Debug)]
pub struct State {
    /// The watched run's folder.
    pub run: Option<PathBuf>,
    /// Whether its trainer lives.
    pub is_alive: bool,
    /// The recipe file that the run was launched from.
    pub recipe: Option<PathBuf>,
    /// Why the run could not be read.
    pub unreadable: Option<String>,
    /// What the run is.
    pub info: RunInfo,
    /// What it said.
    pub history: History,
    /// Where it stands.
    pub summary: Summary,
    /// What its trainer said about itself.
    pub facts: Facts,
    /// The machine that this program runs on.
    pub machine: Machine,
    /// Keys that a running trainer takes, with their present values.
    pub live: Vec<(&'static str, String)>,
    /// The alert rules of the recipe, a line each.
    pub alerts: Vec<String>,
    /// How the charts look at it.
    pub view: View,
    /// What the main chart shows.
    pub metric: Metric,
    /// The pane with the focus.
    pub focus: Pane,
    /// The event under the cursor, counted from the newest.
    pub event: usize,
}

impl Default for State {
    fn default() -> Self {
        Self {
            run: None,
            is_alive: false,
            recipe: None,
            unreadable: None,
            info: RunInfo::default(),
            history: History::default(),
            summary: Summary::default(),
            facts: Facts::default(),
            machine: Machine::default(),
            live: vec![],
            alerts: vec![],
            view: View::default(),
            metric: Metric::Loss,
            focus: Pane::default(),
            event: 0,
        }
    }
}

impl State {
    /// The recipe file that the watched run was launched from.
    pub fn recipe(&self) -> Option<&Path> {
        self.recipe.as_deref()
    }

    /// Whether a second's passing changes the screen.
    pub fn needs_ticks(&self) -> bool {
        self.is_alive
    }

    /// The first and last x of the charts.
    pub fn range(&self) -> (f64, f64) {
        self.history
            .train
            .x_range(self.view.axis)
            .unwrap_or((0.0, 0.0))
    }

    /// Where the run stands, as far as is known of its trainer.
    pub fn status(&self) -> Status {
        match (&self.summary.status, self.is_alive) {
            (Status::Paused, true) => Status::Paused,
            (_, true) => Status::Running,
            (Status::Running | Status::Paused, false) if self.info.watched.is_some() => {
                Status::Stale
            }
            (Status::Running | Status::Paused, false) => Status::Killed,
            (other, false) => other.clone(),
        }
    }

    /// Seconds until the last step at the pace of the last steps; `None` when nothing moves.
    pub fn eta_seconds(&self) -> Option<f64> {
        let left = self.summary.total_steps.checked_sub(self.summary.step)?;
        let rows = self.history.train.rows();
        let recent = self
            .history
            .train
            .fold(Metric::StepSeconds, rows.saturating_sub(50)..rows);
        (self.status() == Status::Running).then(|| recent.mean().map(|s| s * left as f64))?
    }

    /// The mean of a metric over the last steps.
    pub fn recent(&self, metric: Metric) -> Option<f64> {
        let rows = self.history.train.rows();
        let recent = rows.saturating_sub(RECENT)..rows;
        self.history.train.fold(metric, recent).mean()
    }

    /// Seconds a step that a phase took over the last steps, those without it counted as 0; `None` if none had it.
    pub fn phase_seconds(&self, phase: Metric) -> Option<f64> {
        let rows = self.history.train.rows();
        let recent = rows.saturating_sub(RECENT)..rows;
        let node = self.history.train.fold(phase, recent.clone());
        (node.count > 0).then(|| node.sum / recent.len() as f64)
    }

    /// Whether the run trains on the machine that this program runs on, as far as is known.
    pub fn is_here(&self) -> bool {
        let (there, here) = (&self.facts.host, &self.machine.name);
        there.is_empty() || here.is_empty() || there == here
    }

    /// Events worth a line, newest first.
    pub fn events(&self) -> impl Iterator<Item = &Record> {
        self.history
            .events
            .iter()
            .rev()
            .filter(|r| is_listed(&r.event))
    }

    /// Steps since the last checkpoint, which a kill would lose.
    pub fn unsaved_steps(&self) -> u64 {
        self.summary.step
            - self
                .summary
                .checkpoint_step
                .unwrap_or(0)
                .min(self.summary.step)
    }

    /// Losses of the router that this run has, but those that are always 0: a type that is tracked and not used.
    pub fn router(&self) -> Vec<Metric> {
        let table = &self.history.train;
        let is_told = |metric: &Metric| {
            let node = table.fold(*metric, 0..table.rows());
            node.count > 0 && (node.max > 0.0 || node.min < 0.0)
        };
        ROUTER.into_iter().filter(is_told).collect()
    }

    /// Metrics that the main chart can show of this run.
    pub fn metrics(&self) -> Vec<Metric> {
        metrics_of(self.history.train.mtp_depth())
            .filter(|&m| m == Metric::Loss || self.history.train.has(m))
            .collect()
    }
}

/// Answers to requests repeat what the requested event says, unless they refuse.
fn is_listed(event: &Event) -> bool {
    !matches!(event, Event::Answer { ok: true, .. } | Event::Step(_))
}

/// The step that an event is about.
pub fn step_of(event: &Event) -> Option<u64> {
    match event {
        Event::Started { step, .. }
        | Event::Eval { step, .. }
        | Event::Checkpoint { step, .. }
        | Event::Warning { step, .. }
        | Event::Sample { step, .. }
        | Event::LiveChange { step, .. }
        | Event::Mark { step, .. }
        | Event::Paused { step }
        | Event::Continued { step }
        | Event::Answer { step, .. }
        | Event::Finished { step, .. }
        | Event::Failed { step, .. } => Some(*step),
        Event::Step(step) => Some(step.step),
        Event::Unknown(_) => None,
    }
}

/// How a gap between two losses has moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trend {
    /// Smaller than before.
    Narrowing,
    /// About the same.
    Stable,
    /// Larger than before.
    Widening,
}

/// The gap of an MTP depth's loss to the main loss over the last tenth of the run, and how it moved since the tenth before.
pub fn gap(history: &History, depth: usize) -> Option<(f64, Trend)> {
    let rows = history.train.rows();
    let tenth = (rows / 10).clamp(1, 10_000);
    let over = |range: std::ops::Range<usize>| {
        let mean = |metric| history.train.fold(metric, range.clone()).mean();
        Some(mean(Metric::MtpLoss(depth))? - mean(Metric::Loss)?)
    };
    let now = over(rows.saturating_sub(tenth)..rows)?;
    let before = over(rows.saturating_sub(2 * tenth)..rows.saturating_sub(tenth));
    let trend = match before {
        Some(before) if now > before + before.abs() * 0.02 => Trend::Widening,
        Some(before) if now < before - before.abs() * 0.02 => Trend::Narrowing,
        _ => Trend::Stable,
    };
    Some((now, trend))
}

/// A request to the trainer of the watched run.
pub fn request(run: &Path, kind: RequestKind) -> super::Effect {
    super::Effect::Request {
        run: run.to_owned(),
        kind,
    }
}
