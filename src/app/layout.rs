//! The Layout screen: ranks, groups, stages, memory, time, traffic and problems of the selected recipe, and what changes would do to them.
//!
//! A [`View`] has all that is shown. It is made when the recipe or a change calls for it, so that moving the cursor over thousands of ranks
//! costs a frame and no plan.

pub mod blocks;
mod changes;
mod figures;
mod knob;
mod picture;
mod scratch;
mod subject;
mod view;

use std::path::PathBuf;

use crate::plan::{Axis, Constraints, Found, Job, Machine};

pub use changes::{Changes, Writing, writing};
pub use figures::{Compared, Figures, Row, Unit, compare, seconds};
pub use knob::{Knob, degrees_line, next_order, next_recompute, turned};
pub use picture::svg;
pub use scratch::Scratch;
pub use subject::{Source, Subject, USUAL_MACHINE, subject};
pub use view::{MOST_DRAWN, View, WhatIf, errors};

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {
    /// A search for layouts ended.
    Found(Box<Search>, Box<Found>),
    /// Degrees were written into the recipe's file.
    Written(PathBuf),
}

/// What layouts are searched for.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The job; its degrees, micro-batch and recompute are not read.
    pub job: Job,
    /// GPUs.
    pub gpus: usize,
    /// The machine.
    pub machine: &'static Machine,
    /// What may be tried.
    pub constraints: Constraints,
}

impl Search {
    /// Whether both search for the same.
    pub fn is_like(&self, other: &Self) -> bool {
        let batch = |search: &Self| {
            let batch = search.job.batch;
            (batch.seq_length, batch.global_batch_size)
        };
        self.gpus == other.gpus
            && self.machine == other.machine
            && batch(self) == batch(other)
            && self.job.model == other.job.model
    }
}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Search for the best layouts.
    Fit(Box<Search>),
    /// Change values of a recipe's file, if it still has the text that was read.
    Write {
        /// The recipe.
        path: PathBuf,
        /// Its text when it was read.
        expected: String,
        /// The values.
        changes: Changes,
    },
    /// Write a new file.
    Export {
        /// The file.
        path: PathBuf,
        /// Its text.
        text: String,
    },
}

/// Panes of the screen, in the order that tab goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// Ranks with their stages.
    #[default]
    Grid,
    /// The pipeline over time.
    Timeline,
    /// What moves between ranks.
    Traffic,
    /// The marked layout beside this one.
    Compare,
    /// The layouts that would do best.
    Fit,
    /// Memory by term and stage.
    Memory,
    /// Problems, and rules that hold.
    Problems,
}

impl Pane {
    /// Every pane.
    pub const ALL: [Self; 7] = [
        Self::Grid,
        Self::Timeline,
        Self::Traffic,
        Self::Compare,
        Self::Fit,
        Self::Memory,
        Self::Problems,
    ];

    /// Those that share a place, one shown at a time.
    pub const TABS: [Self; 4] = [Self::Timeline, Self::Traffic, Self::Compare, Self::Fit];
}

/// A layout that others are compared with.
#[derive(Debug, Clone, PartialEq)]
pub struct Mark {
    /// The recipe's file name.
    pub recipe: String,
    /// Its numbers.
    pub figures: Figures,
}

/// The screen's state.
#[derive(Debug)]
pub struct State {
    /// The rank under the cursor.
    pub rank: usize,
    /// Blocks of ranks that were entered.
    pub depth: usize,
    /// The axis whose groups are highlighted.
    pub axis: Axis,
    /// What `+` and `-` change.
    pub knob: Knob,
    /// The pane with the focus.
    pub focus: Pane,
    /// The one of [`Pane::TABS`] that is shown.
    pub tab: Pane,
    /// First line shown of the memory.
    pub scroll: usize,
    /// The row under the cursor of traffic.
    pub traffic: usize,
    /// First line shown of the comparison.
    pub compare: usize,
    /// The layout under the cursor of those that were found.
    pub candidate: usize,
    /// The problem under the cursor; rules that hold follow.
    pub problem: usize,
    /// Where the timeline's window begins, in mean forwards; none shows the whole step.
    pub zoom: Option<usize>,
    /// Changes that no file knows of.
    pub scratch: Option<Scratch>,
    /// The layout that others are compared with.
    pub mark: Option<Mark>,
    /// What was searched for and found.
    pub found: Option<(Box<Search>, Box<Found>)>,
    /// What is searched for at the moment.
    pub searching: Option<Box<Search>>,
    /// Counts changes of the scratch layout.
    pub stamp: u64,
    /// What is shown; none if there is no recipe to show.
    pub view: Option<Box<View>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            rank: 0,
            depth: 0,
            axis: Axis::Tp,
            knob: Knob::Tp,
            focus: Pane::Grid,
            tab: Pane::Timeline,
            scroll: 0,
            traffic: 0,
            compare: 0,
            candidate: 0,
            problem: 0,
            zoom: None,
            scratch: None,
            mark: None,
            found: None,
            searching: None,
            stamp: 0,
            view: None,
        }
    }
}

/// Makes the view again if the recipe or a change calls for it.
pub fn refresh(state: &mut super::State) {
    let Some(subject) = subject(state) else {
        state.layout.view = None;
        return;
    };
    let screen = &mut state.layout;
    let is_same = screen
        .view
        .as_ref()
        .is_some_and(|view| view.stamp == screen.stamp && view.subject == subject);
    if is_same {
        return;
    }
    let base = subject.job();
    let scratch = screen.scratch.as_ref().filter(|s| s.recipe == subject.path);
    let job = scratch.map_or_else(|| base.clone(), |scratch| scratch.on(&base));
    let machine = scratch
        .and_then(|scratch| scratch.machine)
        .unwrap_or_else(|| subject.machine());
    let view = View::new(subject, screen.stamp, base, job, machine);
    let world = view.world_size();
    screen.rank = screen.rank.min(world.saturating_sub(1));
    screen.view = Some(Box::new(view));
}
