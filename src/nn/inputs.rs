//! A prepared batch where a model computes.
//!
//! On a GPU all of it lies in a few tensors that can be filled again with another batch of the same shape: what was queued for the old
//! values still reads them, what is queued afterwards reads the new ones, at the same addresses.

use candle_core::{DType, Device, Tensor};

use crate::ops::cross_entropy::{self, Objective};
use crate::ops::embedding::{self, Ids, PlacedPlan};
use crate::ops::{CuSeqlens, rope, transfer};
use crate::spec::TextConfig;

use super::NnError;
use super::batch::Targets;
use super::decoder_layer::Context;
use super::loss::LossScales;
use super::pending::{DepthPending, Pending};
use super::prepared::{Layout, Part, Prepared};

/// What one forward, or forward and backward, reads besides weights.
#[derive(Debug)]
pub struct Inputs {
    pub(super) context: Context,
    pub(super) main: Depth,
    /// MTP depth 1, 2, ...
    pub(super) mtp: Vec<Depth>,
    /// Whether the MTP losses have a gradient.
    pub(super) mtp_gradient: bool,
    places: Option<Places>,
}

/// What one depth reads and predicts.
#[derive(Debug)]
pub(super) struct Depth {
    pub(super) ids: Ids,
    pub(super) objective: Objective,
}

/// The tensors that everything lies in, on a GPU.
#[derive(Debug, Clone)]
struct Places {
    layout: Layout,
    /// u32.
    words: Tensor,
    /// `[depths, N]` f32, flat.
    weights: Tensor,
    /// `[depths]` f32.
    scales: Tensor,
    /// `[depths, 2]` f64; written by the losses.
    sums: Tensor,
}

impl Inputs {
    /// Places `prepared` on `device`, for a model of `config`. Without `scales` there is no gradient.
    ///
    /// # Errors
    /// When the batch was prepared for another number of depths, or the device refuses.
    pub(super) fn new(
        prepared: &Prepared,
        scales: Option<&LossScales>,
        config: &TextConfig,
        device: &Device,
    ) -> Result<Self, NnError> {
        let batch = prepared.batch();
        let depths = 1 + config.mtp_num_hidden_layers;
        if prepared.depths().len() != depths {
            return Err(NnError::Tensor(candle_core::Error::Msg(format!(
                "the batch was prepared for {} depths, and the model has {depths}",
                prepared.depths().len()
            ))));
        }
        let rope = rope::Table::new(
            &batch.position_ids,
            config.rotary_dim(),
            config.rope_theta,
            config.mrope_section,
        )?;
        let places = match prepared.tables() {
            None => None,
            Some(tables) => Some(Places {
                layout: tables.layout,
                words: transfer::upload_u32(&tables.words, device)?,
                weights: transfer::upload_f32(&tables.weights, device)?,
                scales: transfer::upload_f32(&factors(prepared, scales), device)?,
                sums: Tensor::zeros((depths, 2), DType::F64, device)?,
            }),
        };
        if let Some(places) = &places {
            rope.refresh(&places.positions()?)?;
        }
        let (main, mtp) = depths_of(prepared, scales, places.as_ref())?;
        Ok(Self {
            context: Context {
                rope,
                cu_seqlens: batch.cu_seqlens.clone(),
            },
            main,
            mtp,
            mtp_gradient: scales.is_some_and(|scales| scales.mtp_lambda != 0.0),
            places,
        })
    }

    /// Takes another batch in, on a GPU at the same addresses and behind the work that is queued.
    ///
    /// # Errors
    /// When its sequences are others, or it was prepared otherwise.
    pub fn refill(&mut self, prepared: &Prepared, scales: &LossScales) -> Result<(), NnError> {
        let scales = Some(scales);
        let batch = prepared.batch();
        let layouts = (
            self.places.as_ref().map(|places| places.layout),
            prepared.tables().map(|tables| tables.layout),
        );
        if layouts.0 != layouts.1
            || prepared.depths().len() != 1 + self.mtp.len()
            || batch.cu_seqlens != self.context.cu_seqlens
        {
            return Err(NnError::Tensor(candle_core::Error::Msg(
                "inputs are refilled with batches of one shape".to_owned(),
            )));
        }
        self.context.rope = self.context.rope.at(&batch.position_ids)?;
        if let (Some(places), Some(tables)) = (&self.places, prepared.tables()) {
            transfer::refill_u32(&places.words, &tables.words)?;
            transfer::refill_f32(&places.weights, &tables.weights)?;
            transfer::refill_f32(&places.scales, &factors(prepared, scales))?;
            self.context.rope.refresh(&places.positions()?)?;
        }
        (self.main, self.mtp) = depths_of(prepared, scales, self.places.as_ref())?;
        self.mtp_gradient = scales.is_some_and(|scales| scales.mtp_lambda != 0.0);
        Ok(())
    }

    /// What a run of these inputs on a GPU gives, for one that was recorded: the numbers are written when it is launched.
    pub(super) fn pending(&self, saved_bytes: usize) -> candle_core::Result<Pending> {
        let Some(places) = &self.places else {
            candle_core::bail!("inputs of the CPU have no place for losses");
        };
        let depth = |k: usize, depth: &Depth| {
            Ok(DepthPending {
                sums: places.sums.get(k)?,
                weight_sum: depth.objective.weight_sum(),
                total: depth.objective.total(),
            })
        };
        let mtp = self.mtp.iter().enumerate();
        Ok(Pending {
            main: depth(0, &self.main)?,
            mtp: mtp
                .map(|(k, of)| depth(k + 1, of))
                .collect::<candle_core::Result<_>>()?,
            saved_bytes,
        })
    }
}

/// What the recorded work for a batch depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    cu_seqlens: CuSeqlens,
    /// Chunks of every depth without weight, for which nothing is computed.
    weightless: Vec<bool>,
    mtp_gradient: bool,
}

impl Shape {
    /// Of a batch whose losses are computed for `chunk` tokens at a time.
    pub(super) fn of(prepared: &Prepared, scales: &LossScales, chunk: usize) -> Self {
        let depths = prepared.depths().iter();
        let chunks = depths.flat_map(|targets| targets.loss_mask.chunks(chunk.max(1)));
        Self {
            cu_seqlens: prepared.batch().cu_seqlens.clone(),
            weightless: chunks
                .map(|weights| weights.iter().all(|weight| *weight == 0.0))
                .collect(),
            mtp_gradient: scales.mtp_lambda != 0.0,
        }
    }
}

impl Places {
    fn positions(&self) -> candle_core::Result<Tensor> {
        let (start, words) = self.layout.positions();
        self.words.narrow(0, start, words)
    }

    /// What lies here of depth `k`.
    fn depth(&self, k: usize) -> candle_core::Result<(embedding::Placed, cross_entropy::Placed)> {
        let layout = self.layout;
        let part = |(start, words): Part| self.words.narrow(0, k * layout.depth() + start, words);
        let plan = if layout.has_plan {
            Some(PlacedPlan {
                order: part(layout.order())?,
                runs: part(layout.runs())?,
                several: part(layout.several())?,
            })
        } else {
            None
        };
        let ids = embedding::Placed {
            ids: part(layout.ids())?,
            plan,
        };
        let objective = cross_entropy::Placed {
            labels: part(layout.labels())?,
            weights: self.weights.narrow(0, k * layout.tokens, layout.tokens)?,
            scale: self.scales.narrow(0, k, 1)?,
            sums: self.sums.get(k)?,
        };
        Ok((ids, objective))
    }
}

/// What the sums of cross entropies are multiplied with, depth by depth.
fn factors(prepared: &Prepared, scales: Option<&LossScales>) -> Vec<f32> {
    let depths = prepared.depths();
    let Some(scales) = scales else {
        return vec![0.0; depths.len()];
    };
    let weights: Vec<f64> = depths.iter().map(Targets::weight_sum).collect();
    let mtp = weights
        .iter()
        .skip(1)
        .map(|weight| scales.mtp(weights[0], *weight, weights.len() - 1) as f32);
    std::iter::once(scales.main(weights[0]) as f32)
        .chain(mtp)
        .collect()
}

/// The decoder's depth and those of MTP.
fn depths_of(
    prepared: &Prepared,
    scales: Option<&LossScales>,
    places: Option<&Places>,
) -> Result<(Depth, Vec<Depth>), NnError> {
    let factors = factors(prepared, scales);
    let targets = prepared.depths().iter().zip(factors).enumerate();
    let mut depths = targets.map(|(k, (targets, factor))| {
        let ids = Ids::new(targets.input_ids.clone());
        let (labels, weights) = (targets.labels.clone(), targets.loss_mask.clone());
        let objective = Objective::new(labels, weights, factor);
        Ok(match places.map(|places| places.depth(k)).transpose()? {
            None => Depth { ids, objective },
            Some((placed_ids, placed)) => Depth {
                ids: ids.placed(placed_ids),
                objective: objective.placed(placed),
            },
        })
    });
    let main = depths
        .next()
        .unwrap_or_else(|| Err(candle_core::Error::Msg("a batch of no depth".to_owned())))?;
    let mtp = depths.collect::<candle_core::Result<_>>()?;
    Ok((main, mtp))
}
