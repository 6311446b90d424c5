//! Memory of one device against its plan: before the first step, at each step, and when there was not enough.

use std::fmt::Write;
use std::path::Path;

use crate::base::Bytes;
use crate::checkpoint::training;
use crate::event::{MEMORY_TERMS, MemoryTerm, MemoryUse};
use crate::nn::Precision;
use crate::ops::device;
use crate::plan::{self, Fit, OptimizerState, StepPlan, StepShape};
use crate::recipe::{Recipe, Recompute, RecomputeModule};

use super::TrainError;
use super::machine::Machine;
use super::memory;

/// Terms of a plan under the name that events give them. What is not listed is workspace, except what lies outside the pool.
const NAMES: [(&str, &str); 11] = [
    ("weights", "weights"),
    ("master weights", "masters"),
    ("gradients", "gradients"),
    ("adam moments", "moments"),
    ("activations", "activations"),
    ("one layer again", "activations"),
    ("delta net layers", "activations"),
    ("attention layers", "activations"),
    ("mtp activations", "activations"),
    ("head input", "activations"),
    ("logits chunk", "logits"),
];

/// Terms of a plan that no tensor takes.
const OUTSIDE: [&str; 2] = ["allocator slack", "driver context"];

/// What a run's step takes by plan.
#[derive(Debug, Clone)]
pub(super) struct MemoryPlan {
    shape: StepShape,
    plan: StepPlan,
}

impl MemoryPlan {
    /// Of a step of `recipe` on `machine`.
    pub(super) fn of(recipe: &Recipe, machine: &Machine) -> Self {
        let shape = StepShape {
            micro_batch_size: recipe.train.micro_batch_size,
            seq_length: recipe.train.seq_length,
            precision: match machine.precision {
                Precision::F32 => plan::Precision::F32,
                Precision::Bf16 => plan::Precision::Bf16,
            },
            recompute: recompute(recipe),
            optimizer: OptimizerState::AdamW,
            loss_chunk: recipe.train.loss_chunk,
            keeps_cheap: machine.gpu.is_none(),
        };
        Self {
            plan: plan::step_plan(&recipe.model.config, &shape),
            shape,
        }
    }

    /// What tensors take at the fullest moment.
    pub(super) fn peak(&self) -> Bytes {
        self.plan.allocated()
    }

    /// The terms as events name them.
    pub(super) fn terms(&self) -> Vec<MemoryTerm> {
        MEMORY_TERMS
            .iter()
            .map(|&name| MemoryTerm {
                name: name.to_owned(),
                planned: Some(self.planned(name)),
                measured: None,
            })
            .filter(|term| term.planned != Some(0))
            .collect()
    }

    fn planned(&self, name: &str) -> u64 {
        let terms = self.plan.terms.iter();
        terms
            .filter(|term| !OUTSIDE.contains(&term.name) && name_of(term.name) == name)
            .map(|term| term.bytes.0)
            .sum()
    }

    /// Refuses a plan that is larger than what the device has left, unless the recipe says not to check.
    pub(super) fn check(&self, recipe: &Recipe, machine: &Machine) -> Result<(), TrainError> {
        let Some(room) = room(machine)? else {
            return Ok(());
        };
        if !recipe.train.check_memory || self.plan.total <= room.for_us {
            return Ok(());
        }
        Err(TrainError::TooLarge {
            report: format!(
                "a step needs {} by plan, and {} has {} of {} left\n{}{}",
                self.plan.total,
                machine.name(),
                room.for_us,
                room.total,
                self.largest(),
                self.would_fit(recipe, room.for_us)
            ),
        })
    }

    /// Whether [`Self::check`] would pass.
    pub(super) fn fits(&self, recipe: &Recipe, machine: &Machine) -> Result<bool, TrainError> {
        Ok(match self.check(recipe, machine) {
            Ok(()) => true,
            Err(TrainError::TooLarge { .. }) => false,
            Err(other) => return Err(other),
        })
    }

    /// The error of a step for which the device had not enough memory.
    pub(super) fn exhausted(
        &self,
        cause: &TrainError,
        recipe: &Recipe,
        machine: &Machine,
        run: &Path,
    ) -> TrainError {
        let mut report = format!("{} ran out of memory: {cause}\n", machine.name());
        let _ = writeln!(report, "planned: {} in all", self.plan.total);
        let room = match (device::memory(&machine.device), room(machine)) {
            (Ok(Some(now)), Ok(Some(room))) => {
                let _ = writeln!(
                    report,
                    "peak: {} in tensors, {} held by the pool; free on the device: {} of {}",
                    now.used_peak, now.reserved_peak, now.free, now.total
                );
                Some(room.for_us)
            }
            _ => None,
        };
        report += &self.largest();
        if let Some(room) = room {
            report += &self.would_fit(recipe, room);
        }
        let _ = match training::latest(run) {
            Ok(Some(path)) => write!(report, "intact: {}", path.display()),
            _ => write!(report, "there was no checkpoint yet"),
        };
        TrainError::OutOfMemory { report }
    }

    /// The three largest terms, a line.
    fn largest(&self) -> String {
        let terms = self.plan.largest().into_iter().take(3);
        let words: Vec<String> = terms
            .map(|term| format!("{} {} ({})", term.name, term.bytes, term.formula))
            .collect();
        format!(
            "largest by plan, at {}: {}\n",
            self.plan.moment,
            words.join(", ")
        )
    }

    /// What would fit into `room`, a line.
    fn would_fit(&self, recipe: &Recipe, room: Bytes) -> String {
        let fits = plan::fitting(&recipe.model.config, &self.shape, room);
        let words: Vec<String> = fits.iter().filter_map(describe).collect();
        if words.is_empty() {
            "by plan, not even one row with full recompute fits\n".to_owned()
        } else {
            format!("by plan, this would fit: {}\n", words.join("; "))
        }
    }

    /// What a step measured, by term, beside its plan.
    pub(super) fn measured(&self, machine: &Machine, state: State, now: &Measured) -> MemoryUse {
        let known = [
            ("weights", state.weights),
            ("masters", state.masters),
            ("gradients", state.gradients),
            ("moments", state.moments),
            ("activations", now.saved),
            ("logits", self.planned("logits")),
        ];
        let rest = now
            .peak
            .saturating_sub(known.iter().map(|(_, bytes)| bytes).sum());
        let terms = MEMORY_TERMS.iter().map(|&name| MemoryTerm {
            name: name.to_owned(),
            planned: Some(self.planned(name)),
            measured: match known.iter().find(|(known, _)| *known == name) {
                // Logits are not measured apart: they live and die inside one op.
                Some(("logits", _)) => None,
                Some((_, bytes)) => Some(*bytes),
                None => Some(rest),
            },
        });
        MemoryUse {
            device: machine.short_name(),
            terms: terms.collect(),
            planned_peak: self.peak().0,
            peak: now.peak,
            reserved: now.reserved,
            driver_used: now.driver_used,
            driver_total: now.driver_total,
            ranks: vec![],
        }
    }
}

/// What the arenas take, exactly.
#[derive(Debug, Clone, Copy)]
pub(super) struct State {
    pub(super) weights: u64,
    pub(super) masters: u64,
    pub(super) gradients: u64,
    pub(super) moments: u64,
}

impl State {
    /// Of a model of `scalars` parameters.
    pub(super) fn of(scalars: usize, precision: Precision) -> Self {
        let arena = 4 * scalars as u64;
        let (weights, masters) = match precision {
            // One arena is both.
            Precision::F32 => (arena, 0),
            Precision::Bf16 => (arena / 2, arena),
        };
        Self {
            weights,
            masters,
            gradients: arena,
            moments: 2 * arena,
        }
    }
}

/// Bytes as they were at the end of a step; 0 where nobody knows.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    /// In tensors now.
    pub(super) allocated: u64,
    /// In tensors at most, inside the step.
    pub(super) peak: u64,
    /// Held by the pool.
    pub(super) reserved: u64,
    /// Kept from the forward for the backward.
    pub(super) saved: u64,
    /// Taken of the device by everybody.
    pub(super) driver_used: u64,
    /// The whole device.
    pub(super) driver_total: u64,
}

impl Measured {
    /// Of `machine` now. Asks the driver, waits for nothing.
    pub(super) fn now(machine: &Machine) -> Result<Self, TrainError> {
        Ok(match device::memory(&machine.device)? {
            Some(now) => Self {
                allocated: now.used.0,
                peak: now.used_peak.0,
                reserved: now.reserved.0,
                saved: 0,
                driver_used: now.total.0.saturating_sub(now.free.0),
                driver_total: now.total.0,
            },
            None => Self {
                allocated: memory::allocated(),
                peak: memory::peak(),
                ..Self::default()
            },
        })
    }
}

/// Lets the peak of the next step begin.
pub(super) fn reset_peak(machine: &Machine) -> Result<(), TrainError> {
    memory::reset_peak();
    Ok(device::reset_peak(&machine.device)?)
}

/// Memory of a GPU as far as this process may have it.
struct Room {
    for_us: Bytes,
    total: Bytes,
}

/// Free memory and what this process has already, its context included; none on the CPU.
fn room(machine: &Machine) -> Result<Option<Room>, TrainError> {
    Ok(device::memory(&machine.device)?.map(|now| Room {
        for_us: Bytes(now.free.0 + now.reserved.0 + plan::DRIVER_CONTEXT.0).min(now.total),
        total: now.total,
    }))
}

/// Whether an error is the driver's refusal of memory.
pub(super) fn is_out_of_memory(error: &TrainError) -> bool {
    let mut text = format!("{error:?}");
    text.make_ascii_lowercase();
    text.contains("out_of_memory")
        || text.contains("out of memory")
        || text.contains("alloc_failed")
}

fn name_of(term: &str) -> &'static str {
    let found = NAMES.iter().find(|(name, _)| *name == term);
    found.map_or("workspace", |(_, event)| event)
}

fn describe(fit: &Fit) -> Option<String> {
    let rows = fit.micro_batch_size?;
    let mode = match &fit.recompute {
        plan::Recompute::None => "none",
        plan::Recompute::Selective(_) => "selective",
        plan::Recompute::Full => "full",
    };
    Some(format!(
        "train.micro_batch_size = {rows} with recompute.mode = \"{mode}\" ({})",
        fit.total
    ))
}

/// The recipe's recompute in the planner's words.
fn recompute(recipe: &Recipe) -> plan::Recompute {
    match &recipe.recompute {
        Recompute::None => plan::Recompute::None,
        Recompute::Full => plan::Recompute::Full,
        Recompute::Selective(modules) => plan::Recompute::Selective(
            modules
                .iter()
                .map(|module| match module {
                    RecomputeModule::CoreAttn => plan::RecomputeModule::CoreAttn,
                    RecomputeModule::GatedDelta => plan::RecomputeModule::GatedDelta,
                    RecomputeModule::MlpAct => plan::RecomputeModule::MlpAct,
                    RecomputeModule::Norm => plan::RecomputeModule::Norm,
                })
                .collect(),
        ),
    }
}
