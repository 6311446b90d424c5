//! Runs micro-batches: one after the other, and on a GPU as a graph when the shape came before.
//!
//! The first micro-batch of a shape runs eagerly, which loads kernels and plans products; the second is recorded and launched; later ones
//! are launched. Shapes that hardly ever come again, as those of packed text, stay eager. Results do not depend on any of it, to the last
//! bit.
//!
//! Eager runs have memory of the pool, graphs memory of their own: whichever does not run now gives its memory back, so that there is the
//! one or the other. That waits for the device, which is why graphs are for text whose shapes come again most of the time.

use candle_core::Device;

use crate::ops::graph::{self, Graph};
use crate::ops::{Mark, device};

use super::NnError;
use super::inputs::{Inputs, Shape};
use super::loss::LossScales;
use super::model::Model;
use super::pending::Pending;
use super::phase::Phase;
use super::prepared::Prepared;

/// Most graphs. They share their memory, but each holds nodes and inputs of its own.
const GRAPHS: usize = 4;
/// Most shapes that were seen once and are remembered.
const SEEN: usize = 8;
/// How far known shapes may be ahead of new ones in the count that decides about graphs, or behind.
const LEAD: i32 = 8;

/// Runs forward and backward of one model's micro-batches.
#[derive(Debug)]
pub struct Runner {
    device: Device,
    wants_graphs: bool,
    /// The one that was used last comes last.
    known: Vec<Known>,
    /// One up for a known shape, one down for a new one; below 0 there are no graphs.
    lead: i32,
    /// Whether the pool may hold memory of an eager run.
    pool_is_full: bool,
    launches: u64,
    failure: Option<String>,
}

/// A shape that came before.
#[derive(Debug)]
struct Known {
    shape: Shape,
    inputs: Inputs,
    graph: Option<Recorded>,
}

/// One micro-batch, recorded.
#[derive(Debug)]
struct Recorded {
    graph: Graph,
    /// What each of its marks ends.
    phases: Vec<Phase>,
    saved_bytes: usize,
}

impl Runner {
    /// For models on `device`, which are launched as `graphs` if that is wanted and the device has them.
    pub fn new(device: &Device, graphs: bool) -> Self {
        Self {
            device: device.clone(),
            wants_graphs: graphs && device.is_cuda(),
            known: Vec::new(),
            lead: 0,
            pool_is_full: true,
            launches: 0,
            failure: None,
        }
    }

    /// Adds the gradient of the objective to the arena of `model`, always the same one. `ended` is told where each part of a phase ends.
    ///
    /// # Errors
    /// When the model cannot be run. A graph that cannot be recorded or launched is no error: see [`Self::take_failure`].
    pub fn run(
        &mut self,
        model: &Model,
        prepared: &Prepared,
        scales: &LossScales,
        ended: &mut (dyn FnMut(Phase, Mark) + Send),
    ) -> Result<Pending, NnError> {
        if !self.wants_graphs {
            return self.eagerly(model, &model.inputs(prepared, scales)?, ended);
        }
        let shape = Shape::of(prepared, scales, model.loss_chunk());
        let found = self.known.iter().position(|known| known.shape == shape);
        let step = if found.is_some() { 1 } else { -1 };
        self.lead = (self.lead + step).clamp(-LEAD, LEAD);
        let mut known = match found {
            Some(index) => {
                let mut known = self.known.remove(index);
                known.inputs.refill(prepared, scales)?;
                known
            }
            None => Known {
                inputs: model.inputs(prepared, scales)?,
                graph: None,
                shape,
            },
        };
        if found.is_none() || self.lead < 0 {
            known.graph = None;
            self.before_eager_run()?;
            let pending = self.eagerly(model, &known.inputs, ended)?.detached()?;
            self.remember(known);
            return Ok(pending);
        }
        match self.launch(model, &mut known) {
            Ok((marks, pending)) => {
                for (phase, mark) in marks {
                    ended(phase, mark);
                }
                self.remember(known);
                pending.detached()
            }
            Err(error) => {
                let inputs = known.inputs;
                drop(known.graph);
                self.give_up(&error)?;
                self.eagerly(model, &inputs, ended)
            }
        }
    }

    /// How many micro-batches were launched as graphs.
    pub fn launches(&self) -> u64 {
        self.launches
    }

    /// Why there are no graphs any more, said once.
    pub fn take_failure(&mut self) -> Option<String> {
        self.failure.take()
    }

    /// Lets an eager use of the model have the memory of graphs, such as an evaluation.
    ///
    /// # Errors
    /// When the device failed.
    pub fn lend_memory(&mut self) -> Result<(), NnError> {
        if self.has_graphs() {
            graph::trim(&self.device)?;
            self.pool_is_full = true;
        }
        Ok(())
    }

    fn has_graphs(&self) -> bool {
        self.known.iter().any(|known| known.graph.is_some())
    }

    fn eagerly(
        &self,
        model: &Model,
        inputs: &Inputs,
        ended: &mut (dyn FnMut(Phase, Mark) + Send),
    ) -> Result<Pending, NnError> {
        let device = &self.device;
        let mut marked = Ok(());
        let pending = model.forward_backward_of(inputs, &mut |phase| {
            if marked.is_ok() {
                marked = Mark::record(device).map(|mark| ended(phase, mark));
            }
        })?;
        marked?;
        Ok(pending)
    }

    /// Launches what is recorded of a shape, or records it first.
    fn launch(
        &mut self,
        model: &Model,
        known: &mut Known,
    ) -> Result<(Vec<(Phase, Mark)>, Pending), NnError> {
        if std::mem::take(&mut self.pool_is_full) {
            // The peak of this step is from here on that of the graph: the eager run's memory is gone.
            device::trim(&self.device)?;
            device::reset_peak(&self.device)?;
        }
        let recorded = match &mut known.graph {
            Some(recorded) => recorded,
            empty => empty.insert(Recorded::new(model, &known.inputs, &self.device)?),
        };
        let marks = recorded.graph.launch()?;
        self.launches += 1;
        let marks = recorded.phases.iter().copied().zip(marks).collect();
        Ok((marks, known.inputs.pending(recorded.saved_bytes)?))
    }

    /// Takes memory from graphs, and graphs away where new shapes have come too often.
    fn before_eager_run(&mut self) -> Result<(), NnError> {
        self.pool_is_full = true;
        if !self.has_graphs() {
            return Ok(());
        }
        if self.lead < 0 {
            for known in &mut self.known {
                known.graph = None;
            }
        }
        Ok(graph::trim(&self.device)?)
    }

    /// Puts a shape last, in place of the one of its kind that was not used for longest if there are too many.
    fn remember(&mut self, known: Known) {
        let alike = |other: &Known| other.graph.is_some() == known.graph.is_some();
        let most = if known.graph.is_some() { GRAPHS } else { SEEN };
        if self.known.iter().filter(|other| alike(other)).count() >= most
            && let Some(oldest) = self.known.iter().position(alike)
        {
            self.known.remove(oldest);
        }
        self.known.push(known);
    }

    /// No graphs from here on; what they held goes back to the driver.
    fn give_up(&mut self, error: &NnError) -> Result<(), NnError> {
        self.wants_graphs = false;
        self.known.clear();
        self.failure = Some(error.to_string());
        Ok(graph::trim(&self.device)?)
    }
}

impl Recorded {
    fn new(model: &Model, inputs: &Inputs, device: &Device) -> Result<Self, NnError> {
        let mut phases = Vec::new();
        let work = || {
            let mut marked = Ok(());
            let pending = model.forward_backward_of(inputs, &mut |phase| {
                if marked.is_ok() {
                    marked = graph::mark(device);
                    phases.push(phase);
                }
            })?;
            marked?;
            Ok::<_, NnError>(pending.saved_bytes)
        };
        let (graph, saved_bytes) = Graph::record(device, work)?;
        Ok(Self {
            graph,
            phases,
            saved_bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::nn::{Batch, Parameters, Precision, Recompute};
    use crate::ops::CuSeqlens;
    use crate::spec::TextConfig;

    fn model() -> Model {
        let config = TextConfig::from_json(&json!({
            "model_type": "qwen3_5_text", "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24,
            "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 16,
            "layer_types": ["linear_attention", "full_attention"], "linear_conv_kernel_dim": 4,
            "linear_key_head_dim": 4, "linear_value_head_dim": 4, "linear_num_key_heads": 2,
            "linear_num_value_heads": 2, "mtp_num_hidden_layers": 1, "tie_word_embeddings": true,
            "rope_parameters": {
                "rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.5,
                "mrope_section": [2, 1, 1], "mrope_interleaved": true,
            },
        }))
        .expect("a config");
        let parameters = Parameters::from_spec(&config, &Device::Cpu, Precision::F32);
        let parameters = parameters.expect("zeros");
        parameters.initialize(1).expect("random weights");
        Model::new(config, parameters, &Recompute::None).expect("a model")
    }

    fn batch(model: &Model, salt: u32) -> Prepared {
        let ids: Vec<u32> = (0..12).map(|n| (n * 7 + salt) % 32).collect();
        let labels = ids.iter().map(|id| (id + 1) % 32).collect();
        let cu_seqlens = CuSeqlens::new(vec![0, 7, 12]).expect("two sequences");
        let batch = Batch::text(ids, labels, vec![1.0; 12], cu_seqlens);
        model.preparation().prepare(batch).expect("a good batch")
    }

    #[test]
    fn where_nothing_can_be_recorded_it_is_said_once_and_micro_batches_run_nevertheless() {
        let model = model();
        let scales = LossScales::default();
        let run = |runner: &mut Runner, salt| {
            let mut phases = Vec::new();
            model.parameters().zero_grads().expect("zeros");
            let pending = runner.run(&model, &batch(&model, salt), &scales, &mut |phase, _| {
                phases.push(phase);
            });
            let output = pending.and_then(Pending::read).expect("a micro-batch");
            let grads = model.parameters().grads().to_vec1::<f32>().expect("f32");
            (output, grads, phases)
        };
        let mut eager = Runner::new(&Device::Cpu, true);
        assert!(!eager.wants_graphs, "the CPU has none");
        let mut failing = Runner {
            wants_graphs: true,
            ..Runner::new(&Device::Cpu, true)
        };
        let mut failures = Vec::new();
        for salt in 0..4 {
            assert_eq!(run(&mut failing, salt), run(&mut eager, salt));
            failures.push(failing.take_failure().is_some());
        }
        assert_eq!(failures, [false, true, false, false]);
        assert_eq!((failing.launches(), failing.known.len()), (0, 0));
    }

    #[test]
    fn shapes_are_remembered_by_sequences_weights_and_gradients() {
        let model = model();
        let of = |batch: &Prepared, lambda| {
            let scales = LossScales {
                mtp_lambda: lambda,
                ..LossScales::default()
            };
            Shape::of(batch, &scales, 4)
        };
        let first = batch(&model, 1);
        assert_eq!(of(&first, 0.1), of(&batch(&model, 2), 0.3));
        assert_ne!(of(&first, 0.1), of(&first, 0.0));
        let mut other = first.batch().clone();
        other.loss_mask[..4].fill(0.0);
        let unweighted = model.preparation().prepare(other).expect("a good batch");
        assert_ne!(of(&first, 0.1), of(&unweighted, 0.1));
        let mut other = first.batch().clone();
        other.cu_seqlens = CuSeqlens::new(vec![0, 6, 12]).expect("two sequences");
        let elsewhere = model.preparation().prepare(other).expect("a good batch");
        assert_ne!(of(&first, 0.1), of(&elsewhere, 0.1));
    }
}
