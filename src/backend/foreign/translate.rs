//! The lines of all files of a job and its restarts, joined into the events of one run.
//!
//! A job prints its iteration lines from its last rank and everything else from its first, which may write to another file: what names an
//! iteration that has not come yet waits for it. A restart begins a new segment, as a trainer of ours that takes a run up again.

mod numbers;

use std::collections::{BTreeMap, VecDeque};

use super::Iteration;
use super::line::{Cause, Line, Memory, Split, Stage, Theory};
use crate::event::{Event, Record, StepRecord, VERSION};
use crate::recipe::{Alarm, Alerts};

/// `Step Time` lines that wait for their iteration.
const STEP_TIMES: usize = 1 << 16;
/// Iterations out of order that, rising, are a restart and not stragglers.
const STRAGGLERS: usize = 3;
/// Errors that are told one by one; more ranks than that say the same.
const ERRORS: u32 = 8;

/// What a log does not say.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Tokens of a sample, where the log does not print the configuration.
    pub seq_length: Option<u64>,
    /// Minutes that the trainer's clock is ahead of UTC.
    pub utc_offset_minutes: i64,
    /// Peak of one GPU in TFLOP/s, for MFU.
    pub peak_tflops: Option<f64>,
    /// What deserves a warning; the trainer of a foreign run looks for nothing of the kind itself.
    pub alerts: Alerts,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            seq_length: None,
            utc_offset_minutes: 0,
            peak_tflops: None,
            // As in a recipe that says nothing of them.
            alerts: Alerts {
                loss_spike: 6.0,
                throughput_drop: 0.5,
            },
        }
    }
}

/// How the job seems to end, told when nothing follows.
#[derive(Debug, Clone, PartialEq)]
enum Ending {
    Done,
    Exited { step: Option<u64>, why: String },
    Cancelled { why: String },
    Failed { error: String },
}

/// Joins lines into events.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "each says one thing that happened or not"
)]
pub struct Translator {
    options: Options,
    seq: u64,
    /// Time of the last line that had one.
    time_ms: i64,
    /// Trainers before the present one.
    segment: u32,
    /// A trainer was started whose `started` is not said yet.
    starting: bool,
    is_started: bool,
    is_over: bool,
    /// Iterations that the trainer said it starts from.
    from: Option<u64>,
    loaded: Option<String>,
    last: Option<Last>,
    interval: u64,
    gap_ms: i64,
    total: u64,
    seq_length: Option<u64>,
    said_tokens_unknown: bool,
    parameters: f64,
    trainable: Option<u64>,
    planned: [Option<f64>; 3],
    memory: BTreeMap<u32, Memory>,
    memory_is_new: bool,
    timers: BTreeMap<String, f64>,
    step_times: VecDeque<(f64, f64)>,
    /// What names an iteration that has not come, by it.
    waiting: BTreeMap<u64, Vec<Line>>,
    late: Vec<Iteration>,
    ending: Option<Ending>,
    errors: u32,
    alarm: Alarm,
    out: Vec<Record>,
}

/// What counts of the last iteration that was taken.
#[derive(Debug, Clone, Copy)]
struct Last {
    step: u64,
    samples: u64,
    time_ms: i64,
}

impl Translator {
    /// A translator of a run from its beginning.
    pub fn new(options: Options) -> Self {
        Self {
            seq_length: options.seq_length,
            options,
            starting: true,
            ..Self::default()
        }
    }

    /// What came out since the last time.
    pub fn drain(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.out)
    }

    /// Iterations done.
    pub fn step(&self) -> u64 {
        self.last.map_or(0, |l| l.step)
    }

    /// Milliseconds between the last two iterations that were told; 0 before there are two.
    pub fn gap_ms(&self) -> i64 {
        self.gap_ms
    }

    /// Whether the last thing said was the run's end.
    pub fn is_over(&self) -> bool {
        self.is_over
    }

    /// Takes the next line.
    pub fn take(&mut self, line: Line) {
        match line {
            Line::Iteration(it) => self.iteration(*it),
            Line::StepTime { seconds, tflops } => {
                if self.step_times.len() == STEP_TIMES {
                    self.step_times.pop_front();
                }
                self.step_times.push_back((seconds, tflops));
            }
            Line::Memory(memory) => {
                self.memory_is_new |= self.memory.insert(memory.rank, memory) != Some(memory);
            }
            Line::Theory(which, value) => match which {
                Theory::Parameters => self.parameters = value,
                Theory::WeightAndOptimizer => self.planned[0] = Some(value),
                Theory::Activations => self.planned[1] = Some(value),
                Theory::Total => self.planned[2] = Some(value),
            },
            Line::Trainable(scalars) => self.trainable = Some(scalars),
            Line::SequenceLength(tokens) => {
                self.seq_length = self.options.seq_length.or(Some(tokens));
            }
            Line::Timer { name, seconds } => {
                self.timers.insert(name, seconds);
            }
            Line::Validation { step, .. } | Line::Saved { step, .. } => {
                if self.last.is_none_or(|last| step > last.step) {
                    self.waiting.entry(step).or_default().push(line);
                } else {
                    self.named(line);
                }
            }
            Line::Saving { .. } => {}
            Line::Loaded { step, path } => {
                self.restart();
                self.from = step.or(self.from);
                self.loaded = Some(path);
            }
            Line::NoCheckpoint => self.warn(
                "random_weights",
                "no checkpoint was found where one should be loaded: the run trains from random weights".to_owned(),
            ),
            Line::Stage { stage, time_ms } => {
                self.time_ms = time_ms;
                if stage == Stage::Done {
                    self.ending = Some(Ending::Done);
                } else if stage == Stage::Initialized {
                    self.restart();
                }
            }
            Line::TrainingLoop { step } => {
                self.restart();
                self.from = Some(step);
            }
            Line::Exiting { step, why } => self.ending = Some(Ending::Exited { step, why }),
            Line::Error { rank, message } => {
                let by = rank.map_or_else(|| "a rank".to_owned(), |r| format!("rank {r}"));
                let error = format!("{by}: {message}");
                self.errors += 1;
                if self.errors <= ERRORS {
                    self.warn("rank_failed", error.clone());
                }
                // What failed first is the cause more often than what followed.
                if !matches!(self.ending, Some(Ending::Failed { .. } | Ending::Cancelled { .. })) {
                    self.ending = Some(Ending::Failed { error });
                }
            }
            Line::Cancelled {
                cause,
                time_ms,
                message,
            } => {
                self.time_ms = time_ms.unwrap_or(self.time_ms);
                // What a trainer said of its end before, it said for itself; Slurm says it of the job and of each step.
                if !matches!(
                    self.ending,
                    Some(Ending::Failed { .. } | Ending::Done | Ending::Cancelled { .. })
                ) {
                    self.ending = Some(match cause {
                        Cause::TimeLimit | Cause::NodeFailure => Ending::Failed { error: message },
                        Cause::Asked | Cause::Preempted | Cause::Requeued => {
                            Ending::Cancelled { why: message }
                        }
                    });
                }
            }
            Line::Killed { message } => {
                if !matches!(
                    self.ending,
                    Some(Ending::Failed { .. } | Ending::Done | Ending::Cancelled { .. })
                ) {
                    self.ending = Some(Ending::Failed { error: message });
                }
            }
        }
    }

    /// Nothing follows for now: what waited is told, and the end if there was one.
    pub fn settle(&mut self) {
        self.flush(u64::MAX);
        let Some(last) = self.last else {
            match self.ending.take() {
                Some(Ending::Failed { error }) => {
                    self.start(0, 0, 0);
                    self.say(Event::Failed {
                        step: 0,
                        error,
                        hint: None,
                    });
                    self.is_over = true;
                }
                Some(Ending::Cancelled { why }) => {
                    self.start(0, 0, 0);
                    self.finish(0, &why);
                    self.is_over = true;
                }
                _ => {}
            }
            return;
        };
        let is_complete = self.total > 0 && last.step >= self.total;
        let ending = match self.ending.take() {
            None if is_complete && !self.is_over && !self.starting => Ending::Done,
            None => return,
            Some(ending) => ending,
        };
        self.is_over = true;
        match ending {
            Ending::Failed { error } => self.say(Event::Failed {
                step: last.step,
                error,
                hint: None,
            }),
            Ending::Cancelled { why } => self.finish(last.step, &why),
            Ending::Done => self.finish(
                last.step,
                if is_complete || self.total == 0 {
                    "completed"
                } else {
                    "stopped"
                },
            ),
            Ending::Exited { step, why } => {
                let step = step.unwrap_or(last.step).max(last.step);
                if self.total > 0 && step >= self.total {
                    self.finish(step, "completed");
                } else {
                    self.finish(step, &why);
                }
            }
        }
    }

    fn finish(&mut self, step: u64, reason: &str) {
        let tokens = self.tokens(self.last.map_or(0, |l| l.samples));
        self.say(Event::Finished {
            step,
            tokens,
            reason: reason.to_owned(),
            weights_hash: String::new(),
        });
    }

    /// A trainer begins, unless one did already that has done nothing yet.
    fn restart(&mut self) {
        if self.starting {
            return;
        }
        self.flush(u64::MAX);
        if self.ending.is_some() {
            self.settle();
        }
        self.starting = true;
        self.from = None;
        self.loaded = None;
        self.ending = None;
        self.errors = 0;
        self.late.clear();
        self.step_times.clear();
        self.memory.clear();
        self.timers.clear();
    }

    fn iteration(&mut self, it: Iteration) {
        // The first update is 1; what stands at 0 was measured before it.
        if it.step == 0 {
            return;
        }
        if let Some(last) = self.last
            && !self.starting
            && it.step <= last.step
        {
            if it.step == last.step && it.time_ms == last.time_ms {
                // The same line from another file.
                return;
            }
            if it.time_ms > last.time_ms {
                self.restart();
            } else {
                // A straggler of another node, or a restart under a clock that was set back.
                let rises = self.late.last().is_none_or(|l| it.step > l.step);
                if !rises {
                    self.late.clear();
                }
                self.late.push(it);
                if self.late.len() >= STRAGGLERS {
                    let late = std::mem::take(&mut self.late);
                    self.restart();
                    for it in late {
                        self.iteration(it);
                    }
                }
                return;
            }
        } else if self.is_over {
            self.restart();
        }
        // Whoever goes on did not fail.
        if matches!(
            self.ending,
            Some(Ending::Failed { .. } | Ending::Done | Ending::Cancelled { .. })
        ) {
            self.ending = None;
        }
        self.late.clear();
        self.time_ms = it.time_ms;
        self.flush(it.step.saturating_sub(1));
        let before = self.last;
        if self.starting {
            let from = self.from.filter(|&from| from < it.step);
            let from = from.unwrap_or_else(|| it.step - 1.min(it.step));
            let samples = it
                .samples
                .saturating_sub((it.step - from).saturating_mul(it.global_batch));
            self.interval = it.step - from;
            self.start_with(&it, from, samples);
        } else if let Some(last) = before {
            self.interval = it.step - last.step;
            self.gap_ms = it.time_ms - last.time_ms;
        }
        self.total = it.total;
        self.last = Some(Last {
            step: it.step,
            samples: it.samples,
            time_ms: it.time_ms,
        });
        let record = self.numbers(&it);
        let skipped = record.skipped;
        let warnings = self.alarm(&record, &it);
        self.say(Event::Step(Box::new(record)));
        for (code, message) in warnings {
            self.warn(code, message);
        }
        if it.nan > 0 || (it.skipped > 0 && !skipped) {
            self.warn(
                if it.nan > 0 { "non_finite" } else { "skipped" },
                format!("{} iterations since the last line were skipped, {} had a loss that is not a number", it.skipped, it.nan),
            );
        }
        self.flush(it.step);
    }

    /// What the iteration deserves a warning for.
    fn alarm(&mut self, step: &StepRecord, it: &Iteration) -> Vec<(&'static str, String)> {
        let loss = if step.skipped { f64::NAN } else { step.loss };
        let (throughput, unit) = if step.tokens_per_second.is_finite() {
            (step.tokens_per_second, "tokens/s")
        } else {
            (it.global_batch as f64 / step.step_seconds, "samples/s")
        };
        self.alarm
            .observe(&self.options.alerts, loss, throughput, unit)
    }

    fn tokens(&mut self, samples: u64) -> u64 {
        if let Some(tokens) = self.seq_length {
            return samples.saturating_mul(tokens);
        }
        if !self.said_tokens_unknown && samples > 0 {
            self.said_tokens_unknown = true;
            self.warn(
                "tokens_unknown",
                "the log does not say how long a sample is, so tokens are not counted; `--seq-length N` says it".to_owned(),
            );
        }
        0
    }

    fn start_with(&mut self, it: &Iteration, from: u64, samples: u64) {
        self.total = it.total;
        let program = if it.has_fraction {
            "Megatron-LM"
        } else {
            "Megatron-Bridge"
        };
        self.started(from, samples, it.mtp.len(), program);
    }

    fn start(&mut self, from: u64, samples: u64, mtp_depth: usize) {
        if self.starting {
            self.started(from, samples, mtp_depth, "Megatron");
        }
    }

    fn started(&mut self, from: u64, samples: u64, mtp_depth: usize, program: &str) {
        if self.is_started {
            self.segment += 1;
        }
        (self.is_started, self.starting, self.is_over) = (true, false, false);
        let tokens = self.seq_length.unwrap_or(0).saturating_mul(samples);
        let resumed_from = self
            .loaded
            .take()
            .or_else(|| (from > 0).then(|| "not said".to_owned()));
        self.say(Event::Started {
            segment: self.segment,
            step: from,
            tokens,
            total_steps: self.total,
            pid: 0,
            host: String::new(),
            device: "elsewhere".to_owned(),
            program: program.to_owned(),
            parameters: self.trainable.unwrap_or(self.parameters as u64),
            mtp_parameters: 0,
            flops_per_token: 0.0,
            peak_flops: self.options.peak_tflops.map_or(0.0, |t| t * 1e12),
            flops_formula: String::new(),
            peak_name: String::new(),
            precision: String::new(),
            devices: vec![],
            memory_plan: None,
            mtp_depth,
            resumed_from,
        });
    }

    /// Tells what waited for an iteration up to `step`.
    fn flush(&mut self, step: u64) {
        while let Some(entry) = self.waiting.first_entry()
            && *entry.key() <= step
        {
            for line in entry.remove() {
                self.named(line);
            }
        }
    }

    /// Tells a line that names an iteration.
    fn named(&mut self, line: Line) {
        match line {
            Line::Validation {
                step,
                split,
                losses,
                time_ms,
            } => {
                if let Some(time_ms) = time_ms {
                    self.time_ms = time_ms;
                }
                let main = losses
                    .iter()
                    .find(|(key, _)| key == "lm loss")
                    .or(losses.first());
                let Some(&(_, loss)) = main else { return };
                if split == Split::Validation {
                    let samples = self.last.map_or(0, |l| l.samples);
                    let tokens = self.seq_length.map_or(0, |s| s.saturating_mul(samples));
                    self.say(Event::Eval {
                        step,
                        tokens,
                        loss,
                        mtp: vec![],
                        eval_tokens: 0,
                        seconds: f64::NAN,
                    });
                } else {
                    let set = if split == Split::Test {
                        "test"
                    } else {
                        "validation"
                    };
                    self.say(Event::Mark {
                        step,
                        note: format!("loss on the {set} set at the end: {loss:.6}"),
                    });
                }
            }
            Line::Saved { step, path } => self.say(Event::Checkpoint {
                step,
                path: format!("{}/iter_{step:07}", path.trim_end_matches('/')),
                bytes: 0,
                seconds: f64::NAN,
                weights_hash: String::new(),
                removed: vec![],
            }),
            _ => {}
        }
    }

    fn warn(&mut self, code: &str, message: String) {
        let step = self.step();
        self.say(Event::Warning {
            step,
            code: code.to_owned(),
            message,
        });
    }

    /// Tells something about the sources rather than the run.
    pub fn note(&mut self, code: &str, message: String) {
        self.warn(code, message);
    }

    fn say(&mut self, event: Event) {
        self.out.push(Record {
            v: VERSION,
            seq: self.seq,
            time_ms: self.time_ms - self.options.utc_offset_minutes * 60_000,
            event,
        });
        self.seq += 1;
    }
}
