//! The Runs screen: every run of the folder, compared.

mod export;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::chart::View;
use super::search::Query;
use crate::event::Launched;
use crate::run::series::Metric;
use crate::run::{History, RunDirectory, Status, Summary};

pub use export::{StepsFormat, steps};

/// The most runs that are overlaid.
pub const MOST_OVERLAID: usize = 6;

/// What is read of a run to compare it.
#[derive(Debug)]
pub struct Detail {
    /// What it said.
    pub history: History,
    /// Values of its resolved recipe by key.
    pub values: BTreeMap<String, String>,
}

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {
    /// The runs, newest first.
    Listed(Vec<(RunDirectory, Summary)>),
    /// A run was read to be compared.
    Read(PathBuf, Box<Detail>),
}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// List the runs.
    List,
    /// Read a run to compare it.
    Read(PathBuf),
    /// End the job of a run: with a last checkpoint, or at once.
    EndJob {
        /// The run's folder.
        run: PathBuf,
        /// Whether at once.
        at_once: bool,
    },
    /// Submit the job of a run again.
    Resubmit(PathBuf),
    /// Move a run to the trash.
    Trash(PathBuf),
    /// Give a run these tags instead of its present ones.
    Tag(PathBuf, Vec<String>),
    /// List a run that another program trains among the others.
    Watch {
        /// Its log, its event files, or a folder of either.
        path: PathBuf,
        /// Tokens of a sample, where the files do not say.
        seq_length: Option<u64>,
    },
    /// Write every step of some runs to a new file.
    Export {
        /// The runs' folders.
        runs: Vec<PathBuf>,
        /// The file.
        path: PathBuf,
        /// How.
        format: StepsFormat,
    },
}

/// What rows are ordered by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Order {
    /// Newest first.
    #[default]
    Age,
    /// Lowest smoothed loss first.
    Loss,
    /// Most steps first.
    Step,
    /// By name.
    Name,
}

impl Order {
    /// The next order of the cycle.
    #[must_use]
    pub fn next(self) -> Self {
        match self {
            Self::Age => Self::Loss,
            Self::Loss => Self::Step,
            Self::Step => Self::Name,
            Self::Name => Self::Age,
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Loss => "loss",
            Self::Step => "step",
            Self::Name => "name",
        }
    }
}

/// The panes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// The table.
    #[default]
    Table,
    /// Curves of the compared runs.
    Overlay,
    /// Keys of the compared runs' recipes.
    Config,
}

impl Pane {
    /// Every pane, in the order of the focus.
    pub const ALL: [Self; 3] = [Self::Table, Self::Overlay, Self::Config];
}

/// The screen's state.
#[derive(Debug)]
pub struct State {
    /// The runs, newest first.
    pub runs: Vec<(RunDirectory, Summary)>,
    /// Whether they were listed once.
    pub is_listed: bool,
    /// The row under the cursor, of those shown.
    pub cursor: usize,
    /// Folders of the marked runs.
    pub marked: BTreeSet<PathBuf>,
    /// Folder of the run that others are compared with.
    pub baseline: Option<PathBuf>,
    /// What was read of compared runs.
    pub details: BTreeMap<PathBuf, Detail>,
    /// Runs that are being read.
    pub reading: BTreeSet<PathBuf>,
    /// What rows are ordered by.
    pub order: Order,
    /// What is looked for.
    pub query: Query,
    /// The compared metric.
    pub metric: Metric,
    /// How the overlay looks at the runs.
    pub view: View,
    /// Whether only keys that differ are listed.
    pub differing: bool,
    /// The pane with the focus.
    pub focus: Pane,
    /// The first key listed.
    pub scroll: usize,
    /// When the runs were last asked for, on the clock of ticks.
    pub asked_ms: u64,
    /// A run to select as soon as it is listed.
    pub wanted: Option<PathBuf>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            runs: vec![],
            is_listed: false,
            cursor: 0,
            marked: BTreeSet::new(),
            baseline: None,
            details: BTreeMap::new(),
            reading: BTreeSet::new(),
            order: Order::Age,
            query: Query::default(),
            metric: Metric::Loss,
            view: View::default(),
            differing: true,
            focus: Pane::Table,
            scroll: 0,
            asked_ms: 0,
            wanted: None,
        }
    }
}

impl State {
    /// Whether a second's passing changes the screen.
    pub fn needs_ticks(&self) -> bool {
        self.runs
            .iter()
            .any(|(_, summary)| summary.status.is_live() || summary.status == Status::Queued)
    }

    /// The rows shown: numbers of runs that match the search, in order.
    pub fn rows(&self) -> Vec<usize> {
        let matches = |&i: &usize| {
            let (run, summary) = &self.runs[i];
            let text = format!(
                "{} {} {} {}",
                run.id(),
                run.info.name,
                summary.status.word(),
                run.info.tags.join(" ")
            );
            self.query.is_match(&text)
        };
        let mut rows: Vec<usize> = (0..self.runs.len()).filter(matches).collect();
        let loss = |i: usize| self.runs[i].1.loss_smoothed.unwrap_or(f64::INFINITY);
        match self.order {
            Order::Age => {}
            Order::Loss => rows.sort_by(|&a, &b| loss(a).total_cmp(&loss(b))),
            Order::Step => rows.sort_by_key(|&i| std::cmp::Reverse(self.runs[i].1.step)),
            Order::Name => rows.sort_by(|&a, &b| self.runs[a].0.id().cmp(self.runs[b].0.id())),
        }
        rows
    }

    /// The run under the cursor.
    pub fn selected(&self) -> Option<&(RunDirectory, Summary)> {
        self.runs.get(*self.rows().get(self.cursor)?)
    }

    /// The runs that are compared: the baseline, then the marked ones, or without any the one under the cursor.
    pub fn compared(&self) -> Vec<&(RunDirectory, Summary)> {
        let is_baseline = |run: &RunDirectory| self.baseline.as_ref() == Some(&run.path);
        let mut list: Vec<_> = self
            .runs
            .iter()
            .filter(|(run, _)| is_baseline(run))
            .collect();
        let marked = self
            .runs
            .iter()
            .filter(|(run, _)| self.marked.contains(&run.path) && !is_baseline(run));
        list.extend(marked);
        if let Some(selected) = self.selected()
            && !list.iter().any(|(run, _)| run.path == selected.0.path)
            && list.len() < 2
        {
            list.push(selected);
        }
        list.truncate(MOST_OVERLAID);
        list
    }

    /// The newest run that a trainer works on.
    pub fn newest_live(&self) -> Option<&Path> {
        let live = self
            .runs
            .iter()
            .find(|(_, summary)| summary.status.is_live());
        live.map(|(run, _)| run.path.as_path())
    }

    /// The summary of the baseline.
    pub fn baseline_summary(&self) -> Option<&Summary> {
        let baseline = self.baseline.as_ref()?;
        self.runs
            .iter()
            .find(|(run, _)| run.path == *baseline)
            .map(|(_, s)| s)
    }

    /// The keys of the compared runs' recipes with the value of each run, those that differ or all.
    pub fn keys(&self) -> Vec<(&str, Vec<Option<&str>>)> {
        let compared = self.compared();
        let details: Vec<Option<&Detail>> = compared
            .iter()
            .map(|(run, _)| self.details.get(&run.path))
            .collect();
        let keys: BTreeSet<&str> = details
            .iter()
            .flatten()
            .flat_map(|detail| detail.values.keys().map(String::as_str))
            .collect();
        let mut list = Vec::new();
        for key in keys {
            let mut values: Vec<Option<&str>> = Vec::new();
            for detail in &details {
                values.push(detail.and_then(|d| d.values.get(key)).map(String::as_str));
            }
            if !self.differing || values.windows(2).any(|w| w[0] != w[1]) {
                list.push((key, values));
            }
        }
        list
    }

    /// x over all compared runs.
    pub fn range(&self) -> (f64, f64) {
        let ranges = self.compared().into_iter().filter_map(|(run, _)| {
            self.details
                .get(&run.path)?
                .history
                .train
                .x_range(self.view.axis)
        });
        ranges
            .reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
            .unwrap_or((0.0, 0.0))
    }

    /// The job of the run under the cursor, if it was launched beyond this machine's trainer.
    pub fn job(&self) -> Option<&Launched> {
        self.selected()?.1.launched.as_ref()
    }

    /// Whether the run under the cursor has ended.
    pub fn has_ended(&self) -> bool {
        self.selected().is_some_and(|(_, s)| {
            !s.status.is_live() && !matches!(s.status, Status::New | Status::Queued)
        })
    }
}
