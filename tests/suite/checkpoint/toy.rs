//! Small models as Hugging Face directories, whole or broken on purpose.

use std::fs;
use std::path::Path;

use half::{bf16, f16};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use trestle::base::{DType, Shape};
use trestle::checkpoint::safetensors::Plan;
use trestle::spec::{ExpertStyle, ModelConfig, model_tensors};

use super::convert::{goldens, json};

/// A tensor as it will be written.
pub(crate) struct Tensor {
    pub(crate) name: String,
    pub(crate) shape: Shape,
    pub(crate) dtype: DType,
    pub(crate) bytes: Vec<u8>,
}

type Edit = Box<dyn Fn(&mut Vec<Tensor>)>;
type Change = Box<dyn Fn(&mut ModelConfig)>;

/// A model to be written.
pub(crate) struct Toy {
    pub(crate) config: ModelConfig,
    pub(crate) style: ExpertStyle,
    pub(crate) seed: u64,
    /// The one value that every scalar has.
    pub(crate) value: Option<f32>,
    /// Makes tensors of another model than `config.json` says.
    pub(crate) shapes_of: Option<Change>,
    pub(crate) dtype: fn(&str) -> DType,
    edits: Vec<Edit>,
}

impl Toy {
    pub(crate) fn of(case: &str) -> Self {
        let config = ModelConfig::from_json(&json(&goldens().join(case).join("config.json")));
        Self {
            config: config.expect("a config"),
            style: ExpertStyle::QWEN3_5,
            seed: 0,
            value: None,
            shapes_of: None,
            dtype: |_| DType::F32,
            edits: Vec::new(),
        }
    }

    pub(crate) fn dense() -> Self {
        Self::of("dense")
    }

    pub(crate) fn moe() -> Self {
        Self::of("moe")
    }

    /// The types of Qwen3.5's publication.
    pub(crate) fn published_types(mut self) -> Self {
        self.dtype = |name| {
            let is_f32 =
                name.ends_with("linear_attn.A_log") || name.ends_with("linear_attn.norm.weight");
            if is_f32 { DType::F32 } else { DType::BF16 }
        };
        self
    }

    fn edit(mut self, edit: impl Fn(&mut Vec<Tensor>) + 'static) -> Self {
        self.edits.push(Box::new(edit));
        self
    }

    /// Leaves out the tensors that start with, or are, `name`.
    pub(crate) fn without(self, name: &'static str) -> Self {
        self.edit(move |tensors| tensors.retain(|tensor| !tensor.name.starts_with(name)))
    }

    pub(crate) fn renamed(self, from: &'static str, to: &'static str) -> Self {
        self.edit(move |tensors| {
            for tensor in tensors {
                tensor.name = tensor.name.replace(from, to);
            }
        })
    }

    /// Adds a tensor with the values of another.
    pub(crate) fn doubled(self, of: &'static str, name: &'static str) -> Self {
        self.edit(move |tensors| {
            let like = tensors.iter().find(|tensor| tensor.name == of).expect(of);
            let copy = Tensor {
                name: name.to_owned(),
                shape: like.shape.clone(),
                dtype: like.dtype,
                bytes: like.bytes.clone(),
            };
            tensors.push(copy);
        })
    }

    /// Adds a tensor of another's shape with values of its own.
    pub(crate) fn added(self, name: &'static str, like: &'static str) -> Self {
        self.doubled(like, name).edit(move |tensors| {
            if let Some(tensor) = tensors.last_mut() {
                tensor.bytes.reverse();
            }
        })
    }

    /// Gives the tensors that end so other values.
    pub(crate) fn replace(self, end: &'static str, dtype: &str, bytes: Vec<u8>) -> Self {
        let dtype = match dtype {
            "f32" => DType::F32,
            "bf16" => DType::BF16,
            _ => DType::F16,
        };
        self.edit(move |tensors| {
            for tensor in tensors.iter_mut().filter(|t| t.name.ends_with(end)) {
                tensor.dtype = dtype;
                tensor.bytes.clone_from(&bytes);
            }
        })
    }

    /// Swaps the last two dims of the experts' tensors.
    pub(crate) fn transposed(self) -> Self {
        self.edit(|tensors| {
            for tensor in tensors.iter_mut().filter(|t| t.shape.0.len() == 3) {
                let &[experts, rows, cols] = &tensor.shape.0[..] else {
                    continue;
                };
                if !tensor.name.contains(".experts.") || rows == cols {
                    continue;
                }
                let size = tensor.dtype.size() as usize;
                let mut bytes = Vec::with_capacity(tensor.bytes.len());
                for e in 0..experts {
                    for c in 0..cols {
                        for r in 0..rows {
                            let at = ((e * rows + r) * cols + c) * size;
                            bytes.extend_from_slice(&tensor.bytes[at..at + size]);
                        }
                    }
                }
                tensor.bytes = bytes;
                tensor.shape.0.swap(1, 2);
            }
        })
    }

    pub(crate) fn tensors(&self) -> Vec<Tensor> {
        let mut config = self.config.clone();
        if let Some(change) = &self.shapes_of {
            change(&mut config);
        }
        let mut random = ChaCha8Rng::seed_from_u64(self.seed);
        let mut list: Vec<Tensor> = model_tensors(&config, self.style)
            .into_iter()
            .map(|spec| {
                let dtype = (self.dtype)(&spec.name);
                let mut bytes = Vec::with_capacity((spec.shape.elements() * dtype.size()) as usize);
                for _ in 0..spec.shape.elements() {
                    let value = self.value.unwrap_or_else(|| random.random_range(-1.0..2.0));
                    match dtype {
                        DType::F32 => bytes.extend(value.to_le_bytes()),
                        DType::BF16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
                        _ => bytes.extend(f16::from_f32(value).to_le_bytes()),
                    }
                }
                Tensor {
                    name: spec.name,
                    shape: spec.shape,
                    dtype,
                    bytes,
                }
            })
            .collect();
        for edit in &self.edits {
            edit(&mut list);
        }
        list
    }

    /// Writes `config.json` and `model.safetensors`.
    pub(crate) fn write(&self, directory: &Path) {
        fs::create_dir_all(directory).expect("a folder");
        let config = serde_json::to_string_pretty(&self.config.to_json()).expect("JSON");
        fs::write(directory.join("config.json"), config).expect("written");
        let tensors = self.tensors();
        let described: Vec<(&str, Shape, DType)> = tensors
            .iter()
            .map(|t| (t.name.as_str(), t.shape.clone(), t.dtype))
            .collect();
        let plan = Plan::new(&described, None);
        let mut file = plan.files[0].header.clone();
        for tensor in &tensors {
            file.extend_from_slice(&tensor.bytes);
        }
        fs::write(directory.join("model.safetensors"), file).expect("written");
    }
}
