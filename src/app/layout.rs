//! The Layout screen: ranks, groups, stages, memory and rules of the selected recipe.

mod scratch;

use std::cmp::Reverse;

use super::State as App;
use crate::base::Severity;
use crate::plan::{
    Axis, BatchShape, Degrees, MemoryEstimate, RankGrid, Recompute, RecomputeModule, Rule, Stage,
    Storage, TrainShape, memory_by_stage, rules, stages,
};
use crate::recipe::{self, DeviceChoice, Recipe};

pub use scratch::{Scratch, WhatIf, what_if};

/// What the outside world tells: nothing, the screen follows from the recipe.
#[derive(Debug, Clone, Copy)]
pub enum Message {}

/// Work for the outside world: none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {}

/// Panes of the screen, in the order that tab goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// Ranks with their stages.
    #[default]
    Grid,
    /// Memory by term and stage.
    Memory,
    /// Rules with their numbers.
    Rules,
}

impl Pane {
    /// Every pane.
    pub const ALL: [Self; 3] = [Self::Grid, Self::Memory, Self::Rules];
}

/// The screen's state.
#[derive(Debug)]
pub struct State {
    /// The rank under the cursor.
    pub rank: usize,
    /// The axis whose groups are highlighted.
    pub axis: Axis,
    /// First line shown of the memory.
    pub scroll: usize,
    /// The rule under the cursor.
    pub rule: usize,
    /// The pane with the focus.
    pub focus: Pane,
    /// Changes that no file knows of.
    pub scratch: Option<Scratch>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            rank: 0,
            axis: Axis::Tp,
            scroll: 0,
            rule: 0,
            focus: Pane::Grid,
            scratch: None,
        }
    }
}

/// The layout that the screen shows: the recipe's, or the scratch one.
#[derive(Debug, Clone)]
pub struct Plan<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// How it is spread.
    pub degrees: Degrees,
    /// Its batch sizes.
    pub batch: BatchShape,
    /// Whether it differs from the recipe.
    pub is_scratch: bool,
}

/// The layout of the selected recipe; none if no valid recipe is selected.
pub fn plan(state: &App) -> Option<Plan<'_>> {
    let recipe = &*state.selected_recipe()?.recipe;
    let own = Plan {
        recipe,
        degrees: recipe::degrees(recipe),
        batch: recipe::batch_shape(recipe),
        is_scratch: false,
    };
    let path = &state.recipes.selected()?.path;
    match &state.layout.scratch {
        Some(scratch) if scratch.recipe == *path => Some(scratch.applied_to(own)),
        _ => Some(own),
    }
}

impl Plan<'_> {
    /// The ranks; none if experts do not fit them.
    pub fn grid(&self) -> Option<RankGrid> {
        RankGrid::new(self.degrees)
    }

    /// Micro-batches of a step on one data-parallel rank, at least 1.
    pub fn micro_batches(&self) -> usize {
        let step = self.batch.micro_batch_size * self.degrees.dp;
        (self.batch.global_batch_size / step.max(1)).max(1)
    }

    /// Every rule with whether it holds: errors, then warnings, then those that hold.
    pub fn rules(&self) -> Vec<Rule> {
        let mut list = rules(&self.recipe.model.config, &self.degrees, &self.batch);
        list.sort_by_key(|rule| Reverse(rule.violation.as_ref().map(|v| v.severity)));
        list
    }

    /// How many rules are broken that keep a run from starting.
    pub fn errors(&self) -> usize {
        let rules = self.rules();
        let broken = rules.iter().filter_map(|rule| rule.violation.as_ref());
        broken.filter(|v| v.severity == Severity::Error).count()
    }

    /// The layers of every stage and what else it holds; empty if the layers do not divide.
    pub fn stages(&self) -> Vec<Stage> {
        stages(&self.recipe.model.config, &self.degrees).unwrap_or_default()
    }

    /// One rank on CPU is our own trainer in `f32`; everything else is mixed precision on GPUs.
    pub fn storage(&self) -> Storage {
        let local =
            self.degrees.world_size() == 1 && self.recipe.train.device != DeviceChoice::Cuda;
        if local {
            Storage::LocalF32
        } else {
            Storage::MixedBf16
        }
    }

    /// What a step works on.
    pub fn shape(&self) -> TrainShape {
        TrainShape {
            seq_length: self.batch.seq_length,
            micro_batch_size: self.batch.micro_batch_size,
            micro_batches: self.micro_batches(),
            loss_chunk: self.recipe.train.loss_chunk,
            recompute: recompute(&self.recipe.recompute),
            storage: self.storage(),
        }
    }

    /// Memory of every stage; empty if the layers do not divide.
    pub fn memory(&self) -> Vec<MemoryEstimate> {
        memory_by_stage(&self.recipe.model.config, &self.degrees, &self.shape()).unwrap_or_default()
    }
}

/// The recipe's recompute in the planner's words.
pub fn recompute(recompute: &recipe::Recompute) -> Recompute {
    let module = |module: &recipe::RecomputeModule| match module {
        recipe::RecomputeModule::CoreAttn => RecomputeModule::CoreAttn,
        recipe::RecomputeModule::GatedDelta => RecomputeModule::GatedDelta,
        recipe::RecomputeModule::MlpAct => RecomputeModule::MlpAct,
        recipe::RecomputeModule::Norm => RecomputeModule::Norm,
    };
    match recompute {
        recipe::Recompute::None => Recompute::None,
        recipe::Recompute::Selective(modules) => {
            Recompute::Selective(modules.iter().map(module).collect())
        }
        recipe::Recompute::Full => Recompute::Full,
    }
}
