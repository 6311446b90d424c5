//! Whether a device has the memory that a recipe takes.

use crate::app::preview;
use crate::base::Bytes;
use crate::plan::{self, Storage};
use crate::recipe::{self, PrecisionChoice, Recipe};
use crate::telemetry::Sample;

/// The dotted key that lets a trainer start although the plan says that it cannot fit.
pub const CHECK_KEY: &str = "train.check_memory";

/// A device's memory and what the recipe takes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Room {
    /// Its name: `cpu`, `cuda:0 H100 80GB HBM3`.
    pub name: String,
    /// What a process can still get.
    pub free: Bytes,
    /// In all.
    pub total: Bytes,
    /// What the recipe takes at its fullest moment; `None` if it cannot be planned.
    pub needs: Option<Bytes>,
}

impl Room {
    /// Whether the recipe takes more than is free.
    pub fn is_short(&self) -> bool {
        self.needs.is_some_and(|needs| needs > self.free)
    }

    /// In a line.
    pub fn text(&self) -> String {
        let Self {
            name, free, total, ..
        } = self;
        let begin = format!("{name}: {free} of {total} free");
        match self.needs {
            None => begin,
            Some(needs) if needs > *free => {
                format!(
                    "{begin}, planned {needs}: {} short",
                    Bytes(needs.0 - free.0)
                )
            }
            Some(needs) => format!(
                "{begin}, planned {needs}: fits, {} left",
                Bytes(free.0 - needs.0)
            ),
        }
    }

    /// Why a launch is refused, and how to launch all the same.
    pub fn refusal(&self) -> String {
        format!(
            "cannot fit on {}; turn `memory check` off to launch all the same (on the command line: --set {CHECK_KEY}=false)",
            self.text()
        )
    }
}

/// Bytes that a step of the recipe takes on one device in these formats.
fn needs(recipe: &Recipe, storage: Storage) -> Option<Bytes> {
    let shape = plan::TrainShape {
        storage,
        ..preview::train_shape(recipe)
    };
    let degrees = recipe::degrees(recipe);
    plan::memory(&recipe.model.config, &degrees, &shape).map(|estimate| estimate.total)
}

/// The same on one of our GPUs, in the recipe's precision.
fn gpu_needs(recipe: &Recipe) -> Option<Bytes> {
    let is_f32 = recipe.train.precision == PrecisionChoice::F32;
    if is_f32 && recipe.parallel.world_size() == 1 {
        let shape = plan::TrainShape {
            storage: Storage::LocalF32,
            ..preview::train_shape(recipe)
        };
        return Some(plan::step_plan(&recipe.model.config, &shape.one_gpu()).total);
    }
    needs(recipe, Storage::MixedBf16)
}

/// The host's memory; `None` where the system does not say.
fn host(recipe: &Recipe, sample: &Sample) -> Option<Room> {
    sample.host.map(|host| Room {
        name: "cpu".into(),
        free: host.memory_free,
        total: host.memory_total,
        needs: needs(recipe, Storage::LocalF32),
    })
}

/// The memory of every GPU whose driver tells it.
fn gpus(recipe: &Recipe, sample: &Sample) -> Vec<Room> {
    let room = |gpu: &crate::telemetry::Gpu| {
        let memory = gpu.memory.as_ref().ok()?;
        let name = gpu.name.as_ref().map_or("", String::as_str);
        let name = name.strip_prefix("NVIDIA ").unwrap_or(name);
        Some(Room {
            name: format!("cuda:{} {name}", gpu.index).trim_end().to_owned(),
            free: memory.free,
            total: memory.total,
            needs: gpu_needs(recipe),
        })
    };
    sample.gpus.iter().flatten().filter_map(room).collect()
}

/// Every device of the machine, the host first.
pub fn rooms(recipe: &Recipe, sample: &Sample) -> Vec<Room> {
    host(recipe, sample)
        .into_iter()
        .chain(gpus(recipe, sample))
        .collect()
}

/// The device that a launch with `device` (`auto`, `cpu`, `cuda`) would train on, as far as its memory is known.
///
/// The trainer takes the first GPU; `auto` is it where this build has CUDA and the machine a GPU, else the CPU.
pub fn chosen(recipe: &Recipe, device: &str, sample: &Sample) -> Option<Room> {
    let gpu = || gpus(recipe, sample).into_iter().next();
    match device {
        "cuda" => gpu(),
        "auto" if cfg!(feature = "cuda") => gpu().or_else(|| host(recipe, sample)),
        _ => host(recipe, sample),
    }
}
