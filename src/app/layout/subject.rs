//! What is laid out: the selected recipe as a job of the planner.

use std::path::PathBuf;
use std::sync::Arc;

use crate::app::State as App;
use crate::plan::{Job, Machine, MegatronRecompute, RecomputeMethod, RecomputePart, machine};
use crate::recipe::{self, Megatron, Recipe};
use crate::spec::ModelConfig;

/// The machine where a recipe names none.
pub const USUAL_MACHINE: &str = "h100";

/// A recipe of either kind.
#[derive(Debug, Clone)]
pub enum Source {
    /// Of our own trainer.
    Own(Arc<Recipe>),
    /// For Megatron-Bridge, with errors or without.
    Bridge(Arc<Megatron>),
}

/// The recipe that the screen shows.
#[derive(Debug, Clone)]
pub struct Subject {
    /// Its file.
    pub path: PathBuf,
    /// What stands there.
    pub source: Source,
}

impl PartialEq for Subject {
    /// Whether both are the same reading of the same file.
    fn eq(&self, other: &Self) -> bool {
        let same = match (&self.source, &other.source) {
            (Source::Own(one), Source::Own(other)) => Arc::ptr_eq(one, other),
            (Source::Bridge(one), Source::Bridge(other)) => Arc::ptr_eq(one, other),
            _ => false,
        };
        same && self.path == other.path
    }
}

/// The recipe under the cursor of the Recipes screen, if it can be laid out: the last valid reading of one of our own, or one for
/// Megatron-Bridge.
pub fn subject(state: &App) -> Option<Subject> {
    let entry = state.recipes.selected()?;
    let bridge = entry
        .checked
        .as_ref()
        .and_then(|checked| checked.bridge.clone());
    let source = match bridge {
        Some(bridge) => Source::Bridge(bridge),
        None => Source::Own(entry.good.as_ref()?.recipe.clone()),
    };
    Some(Subject {
        path: entry.path.clone(),
        source,
    })
}

impl Subject {
    /// The recipe as it stands, as the planner's job.
    pub fn job(&self) -> Job {
        let mut job = match &self.source {
            Source::Own(recipe) => own(recipe),
            Source::Bridge(bridge) => bridge.job(),
        };
        // A job is copied for every change; the model's file says nothing that a plan reads.
        job.model.text.source = serde_json::Value::Null;
        job
    }

    /// The machine that the recipe names, else an H100.
    pub fn machine(&self) -> &'static Machine {
        let named = match &self.source {
            Source::Own(_) => None,
            Source::Bridge(bridge) => bridge.text("megatron.hardware").and_then(machine::machine),
        };
        named
            .or_else(|| machine::machine(USUAL_MACHINE))
            .unwrap_or(&machine::machines()[0])
    }

    /// Whether the number of GPUs is given, so that data parallelism follows from the other degrees.
    pub fn has_gpus(&self) -> bool {
        matches!(self.source, Source::Bridge(_))
    }
}

/// A recipe of our own as a job. On more than one rank Megatron would train it, with its own defaults where the recipe has no word for them.
fn own(recipe: &Recipe) -> Job {
    let model = ModelConfig::from(recipe.model.config.clone());
    let degrees = recipe::degrees(recipe);
    let mut job = Job::new(model, degrees, recipe::batch_shape(recipe));
    job.megatron.recompute = match &recipe.recompute {
        recipe::Recompute::None => MegatronRecompute::None,
        recipe::Recompute::Selective(modules) => {
            MegatronRecompute::Selective(modules.iter().copied().map(part).collect())
        }
        recipe::Recompute::Full => FULL,
    };
    job.megatron.mtp_loss_scaling = recipe.mtp.loss_scale;
    job.megatron.per_token_loss = recipe.train.per_token_loss;
    job.megatron.average_in_collective = !recipe.train.per_token_loss;
    job
}

/// Every layer is computed again.
pub(super) const FULL: MegatronRecompute = MegatronRecompute::Full {
    method: RecomputeMethod::Uniform,
    num_layers: 1,
};

/// Megatron's part that is most like one of ours.
fn part(module: recipe::RecomputeModule) -> RecomputePart {
    match module {
        recipe::RecomputeModule::CoreAttn => RecomputePart::CoreAttention,
        recipe::RecomputeModule::GatedDelta => RecomputePart::GatedDeltaNorm,
        recipe::RecomputeModule::MlpAct => RecomputePart::Mlp,
        recipe::RecomputeModule::Norm => RecomputePart::LayerNorm,
    }
}
