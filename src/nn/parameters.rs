//! Masters, weights and gradients in arenas, with a name for each part.

use std::collections::HashMap;
use std::ops::Range;

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::base::Shape;
use crate::ops;
use crate::spec::{self, Role, TextConfig, VisionPart};

use super::NnError;

/// Scalars that are converted at a time, so that no second arena is needed for it.
const CAST: usize = 64 << 20;

/// Where one parameter lies in the arenas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Hugging Face name.
    pub name: String,
    /// Extents.
    pub shape: Shape,
    /// What it does.
    pub role: Role,
    /// First scalar in the arena.
    pub offset: usize,
}

impl Entry {
    /// Its scalars in the arena.
    pub fn range(&self) -> Range<usize> {
        self.offset..self.offset + self.shape.elements() as usize
    }

    /// Whether decoupled weight decay applies: two dimensions or more, so matrices and the convolution but not norms,
    /// `A_log` and `dt_bias`.
    pub fn decays(&self) -> bool {
        self.shape.0.len() >= 2
    }
}

/// A weight and its gradient: views into the arenas.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// The weight.
    pub weight: Tensor,
    /// Its gradient, that backwards add to.
    pub grad: Tensor,
}

/// What activations and the weights of matrix products are stored in; masters, gradients and moments are f32 always.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Precision {
    /// f32 throughout; masters and weights are one arena.
    #[default]
    F32,
    /// bf16 activations and weights, each weight the rounded master.
    Bf16,
}

impl Precision {
    /// The element type of activations and weights.
    pub fn dtype(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::Bf16 => DType::BF16,
        }
    }
}

/// All weights and all gradients of a model.
///
/// Each arena is one contiguous tensor of one dimension; a parameter is a view with the Hugging Face name, in the order of
/// [`spec::tensors`]. A clone shares the storage.
#[derive(Debug, Clone)]
pub struct Parameters {
    masters: Tensor,
    weights: Tensor,
    grads: Tensor,
    entries: Vec<Entry>,
    by_name: HashMap<String, usize>,
    initializer_range: f64,
}

impl Parameters {
    /// Zeros for every tensor of `config`, which must be dense.
    pub fn from_spec(
        config: &TextConfig,
        device: &Device,
        precision: Precision,
    ) -> Result<Self, NnError> {
        if let Some(moe) = &config.moe {
            return Err(NnError::MixtureOfExperts {
                num_experts: moe.num_experts,
            });
        }
        let mut entries = Vec::new();
        let mut offset = 0;
        for tensor in spec::tensors(config) {
            let entry = Entry {
                name: tensor.name,
                shape: tensor.shape,
                role: tensor.role,
                offset,
            };
            offset = entry.range().end;
            entries.push(entry);
        }
        let by_name = entries
            .iter()
            .enumerate()
            .map(|(i, entry)| (entry.name.clone(), i))
            .collect();
        let masters = Tensor::zeros(offset, DType::F32, device)?;
        let weights = match precision {
            Precision::F32 => masters.clone(),
            Precision::Bf16 => Tensor::zeros(offset, DType::BF16, device)?,
        };
        Ok(Self {
            masters,
            weights,
            grads: Tensor::zeros(offset, DType::F32, device)?,
            entries,
            by_name,
            initializer_range: config.initializer_range,
        })
    }

    /// Random weights as transformers starts from scratch.
    ///
    /// Matrices, embedding, head and convolution are `N(0, initializer_range)`; zero-centred norms 0; the gated delta net's
    /// norm 1; `A_log` is `ln U(0.01, 16)`; `dt_bias` 1. Each tensor has a random stream of its own made from `seed` and its
    /// name, so that a model with MTP and the same one without start from the same decoder.
    pub fn initialize(&self, seed: u64) -> Result<(), NnError> {
        let mut values = vec![0f32; self.len()];
        for entry in &self.entries {
            let mut random = stream(seed, &entry.name);
            let part = &mut values[entry.range()];
            match entry.role {
                Role::Norm | Role::VisionBias(_) => {}
                Role::GdnNorm | Role::DtBias | Role::Vision(VisionPart::Norm) => part.fill(1.0),
                Role::ALog => part.fill_with(|| random.random_range(0.01f32..16.0).ln()),
                Role::Embedding
                | Role::Head
                | Role::Conv
                | Role::Projection(_)
                | Role::Vision(_) => {
                    for pair in part.chunks_mut(2) {
                        for (slot, value) in pair.iter_mut().zip(normal_pair(&mut random)) {
                            *slot = (self.initializer_range * value) as f32;
                        }
                    }
                }
            }
        }
        for (index, part) in values.chunks(CAST).enumerate() {
            let part = Tensor::new(part, self.masters.device())?;
            self.masters.slice_set(&part, 0, index * CAST)?;
        }
        self.refresh()
    }

    /// Rounds the masters into the weights; nothing to do in f32.
    pub fn refresh(&self) -> Result<(), NnError> {
        if self.weights.dtype() == DType::F32 {
            return Ok(());
        }
        for start in (0..self.len()).step_by(CAST) {
            let part = self
                .masters
                .narrow(0, start, CAST.min(self.len() - start))?
                .to_dtype(self.weights.dtype())?;
            self.weights.slice_set(&part, 0, start)?;
        }
        Ok(())
    }

    /// Scalars in an arena.
    pub fn len(&self) -> usize {
        self.entries.last().map_or(0, |entry| entry.range().end)
    }

    /// Whether there is no parameter.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The arena of f32 masters, which the optimizer updates, `[len]`.
    pub fn masters(&self) -> &Tensor {
        &self.masters
    }

    /// The arena of weights in the type that layers compute with, `[len]`; in f32 the masters themselves.
    pub fn weights(&self) -> &Tensor {
        &self.weights
    }

    /// The arena of gradients, f32 `[len]`.
    pub fn grads(&self) -> &Tensor {
        &self.grads
    }

    /// Every parameter in arena order.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }

    /// Every name in arena order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.entries.iter().map(|entry| entry.name.as_str())
    }

    /// Where `name` lies.
    pub fn entry(&self, name: &str) -> Result<&Entry, NnError> {
        self.by_name
            .get(name)
            .map(|&i| &self.entries[i])
            .ok_or_else(|| NnError::UnknownParameter {
                name: name.to_owned(),
            })
    }

    /// Whether `name` is in the group with decoupled weight decay; see [`Entry::decays`].
    pub fn decays(&self, name: &str) -> Result<bool, NnError> {
        Ok(self.entry(name)?.decays())
    }

    /// The arena cut into the longest runs of one decay group: ranges in order, without gaps, and whether they decay.
    pub fn decay_ranges(&self) -> Vec<(Range<usize>, bool)> {
        let mut ranges: Vec<(Range<usize>, bool)> = Vec::new();
        for entry in &self.entries {
            match ranges.last_mut() {
                Some((range, decays)) if *decays == entry.decays() => range.end = entry.range().end,
                _ => ranges.push((entry.range(), entry.decays())),
            }
        }
        ranges
    }

    /// The view of a weight as layers read it, in its shape. The decay parameters of the gated delta net are read in f32.
    pub fn weight(&self, name: &str) -> Result<Tensor, NnError> {
        let arena = match self.entry(name)?.role {
            Role::ALog | Role::DtBias => &self.masters,
            _ => &self.weights,
        };
        self.view(arena, name)
    }

    /// The view of a master, f32 in its weight's shape.
    pub fn master(&self, name: &str) -> Result<Tensor, NnError> {
        self.view(&self.masters, name)
    }

    /// The view of a gradient, in its weight's shape.
    pub fn grad(&self, name: &str) -> Result<Tensor, NnError> {
        self.view(&self.grads, name)
    }

    /// Weight and gradient of `name`.
    pub fn get(&self, name: &str) -> Result<Parameter, NnError> {
        Ok(Parameter {
            weight: self.weight(name)?,
            grad: self.grad(name)?,
        })
    }

    /// Several matrices of equal width that lie one behind the other in the arena, as one `[sum of rows, width]`.
    pub fn joined(&self, names: &[String]) -> Result<Parameter, NnError> {
        let entries = names
            .iter()
            .map(|name| self.entry(name))
            .collect::<Result<Vec<_>, _>>()?;
        let adjacent = entries.windows(2).all(|pair| {
            pair[0].range().end == pair[1].offset
                && pair[0].shape.0.get(1) == pair[1].shape.0.get(1)
        });
        let (Some(first), Some(last), true) = (entries.first(), entries.last(), adjacent) else {
            return Err(NnError::NotAdjacent {
                names: names.join(", "),
            });
        };
        let (start, end) = (first.offset, last.range().end);
        let width = first.shape.0.get(1).copied().unwrap_or(1);
        let view = |arena: &Tensor| -> Result<Tensor, NnError> {
            Ok(arena
                .narrow(0, start, end - start)?
                .reshape(((end - start) / width, width))?)
        };
        Ok(Parameter {
            weight: view(&self.weights)?,
            grad: view(&self.grads)?,
        })
    }

    /// Copies `value` into a master, widened to f32, and into the weight.
    ///
    /// # Errors
    /// When there is no such weight, or `value` has another shape.
    pub fn set(&self, name: &str, value: &Tensor) -> Result<(), NnError> {
        let entry = self.entry(name)?;
        if value.dims() != entry.shape.0.as_slice() {
            return Err(NnError::ShapeMismatch {
                name: name.to_owned(),
                expected: entry.shape.clone(),
                found: Shape(value.dims().to_vec()),
            });
        }
        let value = value
            .to_dtype(DType::F32)?
            .to_device(self.masters.device())?
            .flatten_all()?
            .contiguous()?;
        self.masters.slice_set(&value, 0, entry.offset)?;
        if self.weights.dtype() != DType::F32 {
            let rounded = value.to_dtype(self.weights.dtype())?;
            self.weights.slice_set(&rounded, 0, entry.offset)?;
        }
        Ok(())
    }

    /// Whether a forward keeps what one pass over memory computes again (norms, convolution, gates): on the CPU, where such a pass costs
    /// more than the memory. On a GPU the backward's kernels give those values again.
    pub(super) fn keeps_cheap(&self) -> bool {
        self.weights.device().is_cpu()
    }

    /// Sets every gradient to zero.
    pub fn zero_grads(&self) -> Result<(), NnError> {
        Ok(ops::fill_zero(&self.grads)?)
    }

    fn view(&self, arena: &Tensor, name: &str) -> Result<Tensor, NnError> {
        let entry = self.entry(name)?;
        let range = entry.range();
        Ok(arena
            .narrow(0, range.start, range.len())?
            .reshape(entry.shape.0.as_slice())?)
    }
}

/// The random stream of one tensor.
fn stream(seed: u64, name: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(name.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}

/// Two independent standard normal values (Box and Muller).
fn normal_pair(random: &mut ChaCha8Rng) -> [f64; 2] {
    let radius = (-2.0 * (1.0 - random.random::<f64>()).ln()).sqrt();
    let (sin, cos) = (std::f64::consts::TAU * random.random::<f64>()).sin_cos();
    [radius * cos, radius * sin]
}
