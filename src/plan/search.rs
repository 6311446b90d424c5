//! Which layouts of a model on so many GPUs would do best.
//!
//! Every layout whose degrees divide is tried with every micro-batch and recompute mode of the constraints; a layout is rejected with the
//! condition that it breaks or the bytes that it lacks. Of the others those are kept that no other beats in both memory and time.

use std::collections::BTreeMap;

use super::cost::{Routing, StepTime, stage_memory, step_time};
use super::problem::{balanced_layout, first_error, job_stages};
use super::{Degrees, Job, Machine, MegatronRecompute, RankGrid, RecomputeMethod, Stage};
use crate::base::Bytes;

/// What may be tried.
#[derive(Debug, Clone, PartialEq)]
pub struct Constraints {
    /// Degrees of `tp`, `cp`, `pp`, `vpp` up to these.
    pub most: Degrees,
    /// Micro-batches.
    pub micro_batches: Vec<usize>,
    /// Recompute modes.
    pub recompute: Vec<MegatronRecompute>,
    /// Share of a GPU's memory that a rank may fill.
    pub share: f64,
}

impl Default for Constraints {
    /// `tp` to 8, `cp` to 8, `pp` to 32, `vpp` to 4; micro-batches 1, 2, 4; no recompute, or all of it; 92 % of memory.
    fn default() -> Self {
        Self {
            most: Degrees {
                tp: 8,
                cp: 8,
                pp: 32,
                vpp: 4,
                ..Degrees::default()
            },
            micro_batches: vec![1, 2, 4],
            recompute: vec![
                MegatronRecompute::None,
                MegatronRecompute::Full {
                    method: RecomputeMethod::Uniform,
                    num_layers: 1,
                },
            ],
            share: 0.92,
        }
    }
}

/// A layout that starts and fits.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// Its degrees.
    pub degrees: Degrees,
    /// Sequences of a micro-batch.
    pub micro_batch_size: usize,
    /// What the backward computes again.
    pub recompute: MegatronRecompute,
    /// The layout string, where layers do not divide evenly.
    pub pipeline_layout: Option<String>,
    /// What the fullest rank holds.
    pub memory: Bytes,
    /// The step's time, without the traffic of each stage.
    pub time: StepTime,
}

/// Why layouts were rejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejection {
    /// A problem's code, or `memory`.
    pub code: &'static str,
    /// How many.
    pub count: usize,
    /// The reason in words, of the one that came nearest; for conditions the first.
    pub message: String,
    /// That one's degrees and micro-batch.
    pub example: (Degrees, usize),
    /// Bytes that the nearest one needs, where memory is the reason.
    pub needs: Option<Bytes>,
}

/// What a search found.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// Layouts that no other beats in both memory and time, the fastest first.
    pub best: Vec<Candidate>,
    /// Why others were rejected, by code.
    pub rejected: Vec<Rejection>,
    /// Layouts that were tried.
    pub tried: usize,
    /// Those that start and fit.
    pub fitting: usize,
}

/// Divisors of `n` up to `most`.
fn divisors(n: usize, most: usize) -> impl Iterator<Item = usize> {
    (1..=most.min(n)).filter(move |&d| n.is_multiple_of(d))
}

struct Search<'a> {
    machine: &'a Machine,
    constraints: &'a Constraints,
    room: u64,
    candidates: Vec<Candidate>,
    rejected: BTreeMap<&'static str, Rejection>,
    tried: usize,
    fitting: usize,
}

/// The best layouts of `job`'s model, batch and options on `gpus` GPUs of a machine; its own degrees, micro-batch and recompute are not read.
pub fn fit(job: &Job, gpus: usize, machine: &Machine, constraints: &Constraints) -> Found {
    let mut job = job.clone();
    // A copy for every layout would copy the model's file each time.
    job.model.text.source = serde_json::Value::Null;
    job.megatron.first_stage_layers = None;
    job.megatron.last_stage_layers = None;
    let mut search = Search {
        machine,
        constraints,
        room: (machine.memory().0 as f64 * constraints.share.clamp(0.0, 1.0)) as u64,
        candidates: Vec::new(),
        rejected: BTreeMap::new(),
        tried: 0,
        fitting: 0,
    };
    let most = constraints.most;
    for pp in divisors(gpus, most.pp) {
        for vpp in 1..=if pp > 1 { most.vpp } else { 1 } {
            for tp in divisors(gpus / pp, most.tp) {
                for cp in divisors(gpus / (pp * tp), most.cp) {
                    let ranks = gpus / pp;
                    let most_experts = job.model.text.moe.map_or(1, |moe| moe.num_experts);
                    for ep in divisors(ranks, most_experts) {
                        job.degrees = Degrees {
                            tp,
                            cp,
                            ep,
                            etp: 1,
                            dp: ranks / (tp * cp),
                            pp,
                            vpp,
                            sequence_parallel: tp > 1,
                        };
                        job.gpus = gpus;
                        search.layout(&mut job);
                    }
                }
            }
        }
    }
    search.finish()
}

impl Search<'_> {
    fn layout(&mut self, job: &mut Job) {
        job.megatron.pipeline_layout = None;
        job.megatron.recompute = MegatronRecompute::None;
        let even = job.degrees.pp.checked_mul(job.degrees.vpp);
        if even.is_some_and(|chunks| !job.model.text.num_hidden_layers.is_multiple_of(chunks)) {
            job.megatron.pipeline_layout = balanced_layout(job);
        }
        if job.degrees.cp > 1 && job.model.vision.is_some() {
            job.megatron.per_token_loss = true;
            job.megatron.average_in_collective = false;
        }
        let Some(grid) = RankGrid::ordered(job.degrees, job.megatron.rank_order).ok() else {
            return self.reject(
                "ranks",
                job,
                "the degrees make no grid of ranks".into(),
                None,
            );
        };
        let stages = match job_stages(job) {
            Ok(stages) => stages,
            Err(error) => return self.reject("layers-by-pp", job, error.to_string(), None),
        };
        // Conditions on degrees hold or fail whatever the micro-batch; that it divides the batch is looked at one by one.
        job.batch.micro_batch_size = 1;
        if let Some(problem) = first_error(job) {
            return self.reject(problem.code, job, problem.message, None);
        }
        for &micro_batch_size in &self.constraints.micro_batches {
            job.batch.micro_batch_size = micro_batch_size;
            if let Some(problem) = first_error(job) {
                self.reject(problem.code, job, problem.message, None);
                continue;
            }
            for recompute in &self.constraints.recompute {
                job.megatron.recompute = recompute.clone();
                self.one(job, &stages, &grid);
            }
            job.megatron.recompute = MegatronRecompute::None;
        }
    }

    fn one(&mut self, job: &Job, stages: &[Stage], grid: &RankGrid) {
        let needs = stages
            .iter()
            .map(|stage| {
                let terms = stage_memory(job, stage, Routing::Balanced);
                terms
                    .iter()
                    .fold(0u64, |sum, term| sum.saturating_add(term.bytes.0))
            })
            .max()
            .unwrap_or(0);
        if needs > self.room {
            let message = format!(
                "the fullest rank needs {}, but {} of {} are to be filled at most",
                Bytes(needs),
                Bytes(self.room),
                self.machine.memory()
            );
            return self.reject("memory", job, message, Some(Bytes(needs)));
        }
        self.tried += 1;
        self.fitting += 1;
        let mut time = step_time(job, stages, grid, self.machine);
        let beaten = self
            .candidates
            .iter()
            .any(|other| other.memory.0 <= needs && other.time.seconds <= time.seconds);
        if beaten {
            return;
        }
        self.candidates
            .retain(|other| other.memory.0 < needs || other.time.seconds < time.seconds);
        for stage in &mut time.stages {
            stage.traffic = Vec::new();
        }
        self.candidates.push(Candidate {
            degrees: job.degrees,
            micro_batch_size: job.batch.micro_batch_size,
            recompute: job.megatron.recompute.clone(),
            pipeline_layout: job.megatron.pipeline_layout.clone(),
            memory: Bytes(needs),
            time,
        });
    }

    fn reject(&mut self, code: &'static str, job: &Job, message: String, needs: Option<Bytes>) {
        self.tried += 1;
        let example = (job.degrees, job.batch.micro_batch_size);
        match self.rejected.get_mut(code) {
            None => {
                self.rejected.insert(
                    code,
                    Rejection {
                        code,
                        count: 1,
                        message,
                        example,
                        needs,
                    },
                );
            }
            Some(rejection) => {
                rejection.count += 1;
                if needs.is_some() && needs < rejection.needs {
                    rejection.needs = needs;
                    rejection.message = message;
                    rejection.example = example;
                }
            }
        }
    }

    fn finish(mut self) -> Found {
        self.candidates
            .sort_by(|one, other| one.time.seconds.total_cmp(&other.time.seconds));
        let mut rejected: Vec<Rejection> = self.rejected.into_values().collect();
        rejected.sort_by_key(|rejection| std::cmp::Reverse(rejection.count));
        Found {
            best: self.candidates,
            rejected,
            tried: self.tried,
            fitting: self.fitting,
        }
    }
}
