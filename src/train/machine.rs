//! The device that trains: whether it is there, what it is called, in which precision it computes.

use candle_core::Device;

use crate::nn::Precision;
use crate::ops::device::{self, Properties};
use crate::recipe::{DeviceChoice, PrecisionChoice, Recipe};

use super::TrainError;

/// The GPU that trains; this version trains on one.
const GPU: usize = 0;

/// Where and in what a run is trained.
#[derive(Debug)]
pub(super) struct Machine {
    /// Where tensors lie.
    pub(super) device: Device,
    /// What layers compute in.
    pub(super) precision: Precision,
    /// What the GPU is; none on the CPU.
    pub(super) gpu: Option<Properties>,
    /// Why it is the CPU although a GPU could have been taken.
    pub(super) fallback: Option<String>,
}

/// Refuses a recipe that this version's local trainer cannot train here, without opening a device.
pub(super) fn check(recipe: &Recipe) -> Result<(), TrainError> {
    if recipe.train.device == DeviceChoice::Cuda {
        gpus().map_err(|reason| missing(&reason))?;
    }
    let world_size = recipe.parallel.world_size();
    if world_size != 1 {
        return Err(TrainError::Unsupported(format!(
            "the recipe is cut for {world_size} ranks, and the local trainer is 1 rank"
        )));
    }
    Ok(())
}

impl Machine {
    /// Opens what the recipe asks for; `auto` is the first GPU if this build and machine have one.
    ///
    /// # Errors
    /// When CUDA is asked for and is not there, or bf16 is asked for and `auto` finds no GPU.
    pub(super) fn open(recipe: &Recipe) -> Result<Self, TrainError> {
        match recipe.train.device {
            DeviceChoice::Cpu => Self::cpu(recipe, None),
            DeviceChoice::Cuda => Self::gpu(recipe).map_err(|reason| missing(&reason)),
            DeviceChoice::Auto if cfg!(feature = "cuda") => match Self::gpu(recipe) {
                Ok(machine) => Ok(machine),
                Err(reason) => Self::cpu(recipe, Some(reason)),
            },
            DeviceChoice::Auto => Self::cpu(recipe, None),
        }
    }

    /// The CPU; `fallback` says why it is not a GPU.
    pub(super) fn cpu(recipe: &Recipe, fallback: Option<String>) -> Result<Self, TrainError> {
        if recipe.train.precision == PrecisionChoice::Bf16 {
            return Err(TrainError::Device {
                reason: format!(
                    "train.precision = \"bf16\" needs a GPU, and {}",
                    fallback.unwrap_or_else(|| "this build of trestle has no CUDA".to_owned())
                ),
                hint: "use train.precision = \"auto\", which is f32 on the CPU".to_owned(),
            });
        }
        Ok(Self {
            device: Device::Cpu,
            precision: Precision::F32,
            gpu: None,
            fallback,
        })
    }

    fn gpu(recipe: &Recipe) -> Result<Self, String> {
        gpus()?;
        let opened = device::open(GPU).and_then(|device| {
            let properties = device::properties(&device)?;
            Ok((device, properties))
        });
        let (device, gpu) = opened.map_err(|error| format!("there is no usable GPU: {error}"))?;
        Ok(Self {
            device,
            precision: match recipe.train.precision {
                PrecisionChoice::F32 => Precision::F32,
                PrecisionChoice::Auto | PrecisionChoice::Bf16 => Precision::Bf16,
            },
            gpu,
            fallback: None,
        })
    }

    /// Whether it is a GPU.
    pub(super) fn is_gpu(&self) -> bool {
        self.gpu.is_some()
    }

    /// As events name it: "cpu (2 threads)", "cuda:0 NVIDIA H100 80GB HBM3".
    pub(super) fn name(&self) -> String {
        match &self.gpu {
            Some(gpu) => format!("cuda:{GPU} {}", gpu.name),
            None => format!("cpu ({} threads)", rayon::current_num_threads()),
        }
    }

    /// As memory figures name it: "cpu", "cuda:0".
    pub(super) fn short_name(&self) -> String {
        if self.is_gpu() {
            format!("cuda:{GPU}")
        } else {
            "cpu".to_owned()
        }
    }

    /// As events name its number formats.
    pub(super) fn precision_name(&self) -> &'static str {
        match self.precision {
            Precision::F32 => "f32",
            Precision::Bf16 => "bf16 with f32 masters, gradients and moments",
        }
    }
}

fn missing(reason: &str) -> TrainError {
    TrainError::Device {
        reason: format!("train.device = \"cuda\", and {reason}"),
        hint: "use train.device = \"cpu\"".to_owned(),
    }
}

/// Fails with the reason if there is no GPU; creates no context on it.
fn gpus() -> Result<(), String> {
    if !cfg!(feature = "cuda") {
        Err("this build of trestle has no CUDA".to_owned())
    } else if device::count() == 0 {
        Err("there is no usable GPU: the driver is missing or sees none".to_owned())
    } else {
        Ok(())
    }
}

/// The host's name.
pub(super) fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}
