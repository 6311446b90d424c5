//! Changes of a layout that are tried out and written nowhere.

use std::path::PathBuf;

use super::Plan;
use crate::base::Bytes;
use crate::plan::{Axis, Degrees, Recompute, memory};

/// A layout that was changed on the screen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scratch {
    /// The recipe it belongs to.
    pub recipe: PathBuf,
    /// The changed degrees.
    pub degrees: Degrees,
    /// Micro-batches of a step on one data-parallel rank.
    pub micro_batches: usize,
}

impl Scratch {
    /// What `plan` would be with these changes.
    pub(super) fn applied_to<'a>(&self, mut plan: Plan<'a>) -> Plan<'a> {
        let recipe = plan.clone();
        plan.degrees = self.degrees;
        plan.batch.global_batch_size =
            self.micro_batches * plan.batch.micro_batch_size * self.degrees.dp;
        plan.is_scratch = plan.degrees != recipe.degrees || plan.batch != recipe.batch;
        plan
    }
}

/// The memory of a layout with one thing changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WhatIf {
    /// The change: `cp 1 to 2`.
    pub change: String,
    /// The fullest rank then.
    pub total: Bytes,
    /// Whether every rule would hold that keeps a run from starting.
    pub is_legal: bool,
}

/// What a few usual changes would do to the fullest rank.
pub fn what_if(plan: &Plan) -> Vec<WhatIf> {
    let mut list = Vec::new();
    let mut add = |change: String, plan: &Plan, recompute: Option<Recompute>| {
        let mut shape = plan.shape();
        if let Some(recompute) = recompute {
            shape.recompute = recompute;
        }
        if let Some(estimate) = memory(&plan.recipe.model.config, &plan.degrees, &shape) {
            list.push(WhatIf {
                change,
                total: estimate.total,
                is_legal: plan.errors() == 0,
            });
        }
    };

    let size = plan.batch.micro_batch_size;
    let mut bigger = plan.clone();
    bigger.batch.micro_batch_size = 2 * size;
    add(format!("micro batch {size} to {}", 2 * size), &bigger, None);
    for axis in [Axis::Tp, Axis::Cp, Axis::Pp, Axis::Dp] {
        let degree = plan.degrees.of(axis);
        let mut cut = plan.clone();
        cut.degrees = plan.degrees.with(axis, 2 * degree);
        if axis == Axis::Dp {
            cut.batch.global_batch_size *= 2;
        }
        add(format!("{axis} {degree} to {}", 2 * degree), &cut, None);
    }
    if plan.shape().recompute != Recompute::Full {
        add("recompute full".into(), plan, Some(Recompute::Full));
    }
    list
}
