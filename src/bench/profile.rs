//! A whole step of a model on random tokens: how long it takes, by phase and by kernel.

use std::collections::BTreeMap;

use candle_core::{DType, Device, Tensor};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{Sizes, Spread};
use crate::base::Bytes;
use crate::nn::{
    Batch, LossScales, Model, NnError, Parameters, Phase, Precision, Prepared, Recompute, Runner,
    StepOutput,
};
use crate::ops::{self, CuSeqlens, Mark, adamw, device, graph, reduce};

/// Largest norm of a gradient.
const CLIP: f64 = 1.0;

/// How a step is made.
#[derive(Debug, Clone)]
pub struct StepOptions {
    /// Model and micro-batch.
    pub sizes: Sizes,
    /// What the backward computes again.
    pub recompute: Recompute,
    /// What activations and weights are stored in.
    pub precision: Precision,
    /// Micro-batches whose gradients add up before an update.
    pub micro_batches: usize,
    /// How much the MTP losses count.
    pub mtp_lambda: f32,
    /// Whether micro-batches are launched as graphs where the device can.
    pub cuda_graph: bool,
    /// Steps before the first timed one.
    pub warm_up: usize,
    /// Timed steps.
    pub repeat: usize,
}

/// The time of a part of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PhaseTime {
    /// `forward`, `loss`, `backward`, `optimizer`.
    pub name: &'static str,
    /// Seconds a step.
    pub seconds: Spread,
}

/// What a kernel takes of one micro-batch's forward and backward and one update.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct KernelShare {
    /// The kernel, without its element type.
    pub name: String,
    /// Launches.
    pub calls: usize,
    /// Seconds of all launches.
    pub seconds: f64,
    /// Of all kernels' seconds.
    pub share: f64,
}

/// What was measured of a step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Profile {
    /// Tokens of a step.
    pub tokens: usize,
    /// Trainable scalars.
    pub parameters: usize,
    /// Seconds of a step, from the first launch to the end of the update.
    pub step: Spread,
    /// By the median.
    pub tokens_per_second: f64,
    /// Micro-batches of the timed steps that were launched as graphs.
    pub graphs: u64,
    /// Why none could be, if that was tried.
    pub graph_failure: Option<String>,
    /// Parts of a step in their order.
    pub phases: Vec<PhaseTime>,
    /// By kernel, longest first; empty where kernels have no clock.
    pub kernels: Vec<KernelShare>,
    /// Of the last step, in nats.
    pub loss: f64,
    /// Bytes that forwards kept for backwards, by the model's own count.
    pub saved: Bytes,
    /// Most that tensors took of the device's memory during the timed steps; none on the CPU.
    pub used_peak: Option<Bytes>,
    /// Most that the pool held.
    pub reserved_peak: Option<Bytes>,
    /// What the device lacks after the steps, by the driver: everybody's.
    pub driver: Option<Bytes>,
}

/// A model with its optimizer on one batch of random tokens.
struct Step {
    model: Model,
    runner: Runner,
    batch: Prepared,
    moments: [Tensor; 2],
    guard: adamw::Guard,
    squares: Tensor,
    options: StepOptions,
    updates: u64,
}

/// Runs `options` on `device`.
///
/// # Errors
/// When the device has not the memory, or an operation not the kernel.
pub fn profile(device: &Device, options: StepOptions) -> Result<Profile, NnError> {
    let (warm_up, repeat) = (options.warm_up, options.repeat.max(1));
    let mut step = Step::new(device, options)?;
    for _ in 0..warm_up {
        step.run(&mut |_, _| {})?.read()?;
    }
    let launches = step.runner.launches();
    device.synchronize()?;
    device::reset_peak(device)?;
    let mut whole = Vec::with_capacity(repeat);
    let mut parts: BTreeMap<usize, Vec<f64>> = BTreeMap::new();
    let mut output = StepOutput::default();
    for _ in 0..repeat {
        let mut marks = vec![(None, Mark::record(device)?)];
        let pending = step.run(&mut |part, mark| marks.push((Some(part), mark)))?;
        output = pending.read()?;
        device.synchronize()?;
        let (seconds, by_part) = between(marks)?;
        whole.push(seconds);
        for (part, seconds) in by_part {
            parts.entry(part).or_default().push(seconds);
        }
    }
    let memory = device::memory(device)?;
    let graphs = step.runner.launches() - launches;
    let graph_failure = step.runner.take_failure();
    // Kernels of a graph have no times of their own.
    step.runner = Runner::new(device, false);
    graph::trim(device)?;
    let kernels = kernels(device, &mut step)?;
    let spread = Spread::of(whole);
    let tokens = step.batch.batch().tokens() * step.options.micro_batches;
    Ok(Profile {
        tokens,
        parameters: step.model.parameters().masters().elem_count(),
        tokens_per_second: tokens as f64 / spread.median,
        step: spread,
        graphs,
        graph_failure,
        phases: parts
            .into_iter()
            .map(|(part, seconds)| PhaseTime {
                name: PARTS[part],
                seconds: Spread::of(seconds),
            })
            .collect(),
        kernels,
        loss: output.main.mean(),
        saved: Bytes(output.saved_bytes as u64),
        used_peak: memory.map(|memory| memory.used_peak),
        reserved_peak: memory.map(|memory| memory.reserved_peak),
        driver: memory.map(|memory| Bytes(memory.total.0 - memory.free.0)),
    })
}

/// Names of parts, in the order of a step.
const PARTS: [&str; 4] = ["forward", "loss", "backward", "optimizer"];

fn part(phase: Phase) -> usize {
    match phase {
        Phase::Forward => 0,
        Phase::Loss => 1,
        Phase::Backward => 2,
    }
}

/// Seconds from the first mark to the last, and those that end in each part.
fn between(marks: Vec<(Option<usize>, Mark)>) -> candle_core::Result<(f64, BTreeMap<usize, f64>)> {
    let mut by_part = BTreeMap::new();
    let mut whole = 0.0;
    let mut before: Option<Mark> = None;
    for (part, mark) in marks {
        if let (Some(part), Some(before)) = (part, &before) {
            let seconds = mark.seconds_since(before)?;
            whole += seconds;
            *by_part.entry(part).or_default() += seconds;
        }
        before = Some(mark);
    }
    Ok((whole, by_part))
}

impl Step {
    fn new(device: &Device, options: StepOptions) -> Result<Self, NnError> {
        let sizes = &options.sizes;
        let parameters = Parameters::from_spec(&sizes.config, device, options.precision)?;
        scatter(&parameters, device)?;
        let scalars = parameters.masters().elem_count();
        let zeros = || Tensor::zeros(scalars, DType::F32, device);
        let moments = [zeros()?, zeros()?];
        let model = Model::new(sizes.config.clone(), parameters, &options.recompute)?
            .with_loss_chunk(sizes.loss_chunk);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let tokens = sizes.tokens();
        let ids: Vec<u32> = (0..=tokens)
            .map(|_| random.random_range(0..sizes.config.vocab_size as u32))
            .collect();
        let batch = Batch::text(
            ids[..tokens].to_vec(),
            ids[1..].to_vec(),
            vec![1.0; tokens],
            CuSeqlens::uniform(sizes.micro_batch_size, sizes.seq_length),
        );
        let batch = model.preparation().prepare(batch)?;
        Ok(Self {
            runner: Runner::new(device, options.cuda_graph),
            model,
            batch,
            moments,
            guard: adamw::Guard::new(device)?,
            squares: Tensor::zeros(1, DType::F64, device)?,
            options,
            updates: 0,
        })
    }

    /// Gradients of every micro-batch, clipping at 1, one `AdamW` update.
    fn run(
        &mut self,
        ended: &mut (dyn FnMut(usize, Mark) + Send),
    ) -> Result<crate::nn::Pending, NnError> {
        let parameters = self.model.parameters().clone();
        parameters.zero_grads()?;
        let scales = LossScales {
            mtp_lambda: self.options.mtp_lambda,
            gradient_scale: 1.0 / self.options.micro_batches as f64,
            ..LossScales::default()
        };
        let mut pending = None;
        for _ in 0..self.options.micro_batches.max(1) {
            let mut phase_ended = |phase, mark| ended(part(phase), mark);
            pending = Some(
                self.runner
                    .run(&self.model, &self.batch, &scales, &mut phase_ended)?,
            );
        }
        let pending: crate::nn::Pending =
            pending.ok_or_else(|| candle_core::Error::Msg("no micro-batch".into()))?;
        self.updates += 1;
        reduce::sum_of_squares_into(parameters.grads(), &self.squares)?;
        self.guard.judge(&pending.sums(), &self.squares, CLIP)?;
        self.update(&parameters)?;
        ended(3, Mark::record(parameters.weights().device())?);
        Ok(pending)
    }

    fn update(&self, parameters: &Parameters) -> Result<(), NnError> {
        let [m, v] = &self.moments;
        for (range, decays) in parameters.decay_ranges() {
            let part = |arena: &Tensor| arena.narrow(0, range.start, range.len());
            let weights = match self.options.precision {
                Precision::Bf16 => Some(part(parameters.weights())?),
                Precision::F32 => None,
            };
            adamw::step_guarded(
                &part(parameters.masters())?,
                &part(parameters.grads())?,
                &part(m)?,
                &part(v)?,
                weights.as_ref(),
                &self.guard,
                adamw::AdamW {
                    lr: 1e-4,
                    beta1: 0.9,
                    beta2: 0.95,
                    eps: 1e-8,
                    weight_decay: if decays { 0.1 } else { 0.0 },
                    step: self.updates,
                    grad_scale: 1.0,
                },
            )?;
        }
        Ok(())
    }
}

/// Small random weights, made on the device: what they are does not matter to the time.
fn scatter(parameters: &Parameters, device: &Device) -> Result<(), NnError> {
    const AT_ONCE: usize = 64 << 20;
    let masters = parameters.masters();
    let count = masters.elem_count();
    for start in (0..count).step_by(AT_ONCE) {
        let length = AT_ONCE.min(count - start);
        let values = Tensor::randn(0f32, 0.02, length, device)?;
        ops::add_assign(&masters.narrow(0, start, length)?, &values)?;
    }
    parameters.refresh()
}

/// By kernel, from one more step.
#[cfg(feature = "cuda")]
fn kernels(device: &Device, step: &mut Step) -> Result<Vec<KernelShare>, NnError> {
    if !device.is_cuda() {
        return Ok(Vec::new());
    }
    // Launches are timed by thread, and the model runs in the pool.
    let mut failed = None;
    let timed = rayon::scope(|_| {
        ops::kernel_times(device, || {
            let result = step.run(&mut |_, _| {}).and_then(crate::nn::Pending::read);
            failed = result.err();
            Ok(())
        })
    });
    if let Some(error) = failed {
        return Err(error);
    }
    let ((), times) = timed?;
    let mut by_name: BTreeMap<String, (usize, f64)> = BTreeMap::new();
    for time in times {
        let entry = by_name.entry(time.name).or_default();
        entry.0 += 1;
        entry.1 += time.seconds;
    }
    let whole: f64 = by_name.values().map(|(_, seconds)| seconds).sum();
    let mut list: Vec<_> = by_name
        .into_iter()
        .map(|(name, (calls, seconds))| KernelShare {
            name,
            calls,
            seconds,
            share: seconds / whole,
        })
        .collect();
    list.sort_by(|a, b| b.seconds.total_cmp(&a.seconds));
    Ok(list)
}

/// Kernels have clocks on GPUs alone.
#[cfg(not(feature = "cuda"))]
#[expect(
    clippy::unnecessary_wraps,
    reason = "the same signature as with kernels"
)]
fn kernels(_: &Device, _: &mut Step) -> Result<Vec<KernelShare>, NnError> {
    Ok(Vec::new())
}
