//! The trainer of one run: takes it up from its newest checkpoint and does step after step.
//!
//! On a GPU a step is queued and its numbers come later ([`queued`](super::queued)); whatever happens at a boundary waits for them first.
//! A step boundary is where everything but tensors happens, always in this order: the step's event, evaluation, checkpoint, changes to make again,
//! requests. What happens there depends on the step's number and on requests, never on the clock, so a continued run is the unbroken one.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use candle_core::{DType, Tensor};

use crate::checkpoint::training::{self, Unusable};
use crate::data::{Loader, Position, Split};
use crate::event::{Event, RunInfo};
use crate::nn::{Model, Parameters, Runner};
use crate::ops::Mark;
use crate::ops::adamw::Guard;
use crate::recipe::{Init, Recipe};
use crate::{checkpoint, nn, spec};

use super::control::{Asked, Control};
use super::feed::Feed;
use super::flops::Flops;
use super::history::{Change, History};
use super::journal::{Append, Journal};
use super::machine::Machine;
use super::memory_plan::{MemoryPlan, State};
use super::optimizer::Moments;
use super::peak::Peak;
use super::progress::Progress;
use super::queued::{Beside, Queued};
use super::saving::Writing;
use super::signals::Signals;
use super::tensorboard::EventFile;
use super::{Outcome, TrainError, machine, peak, recipe_file};

/// How often a waiting trainer looks for requests and for disk space.
pub(super) const WAIT: Duration = Duration::from_millis(100);

/// Everything a step needs.
pub(super) struct Trainer<'a> {
    pub(super) run: &'a Path,
    pub(super) journal: &'a mut Journal,
    pub(super) signals: &'a Signals,
    /// For whoever has to tell how far a trainer came that failed.
    pub(super) steps_done: &'a AtomicU64,
    /// With live changes applied.
    pub(super) recipe: Recipe,
    pub(super) model: Model,
    pub(super) runner: Runner,
    pub(super) moments: Moments,
    pub(super) feed: Feed,
    /// Where relative paths of the recipe start.
    pub(super) folder: PathBuf,
    /// Held-out text and where it begins, once there are evaluations.
    pub(super) validation: Option<(Loader, Position)>,
    pub(super) progress: Progress,
    pub(super) control: Control,
    /// Requests that were read and not yet carried out.
    pub(super) inbox: VecDeque<Asked>,
    /// Changes of a killed trainer that are still to be made again.
    pub(super) replay: VecDeque<Change>,
    /// When an earlier trainer of the run said its last word.
    pub(super) earlier_trainer_ms: Option<i64>,
    /// Ids of requests that lay there when this trainer started.
    pub(super) found_at_start: HashSet<String>,
    pub(super) paused: bool,
    pub(super) tensorboard: Option<EventFile>,
    /// Where it is trained.
    pub(super) machine: &'a Machine,
    /// What a step takes of its memory by plan, and what the arenas do take.
    pub(super) plan: &'a MemoryPlan,
    pub(super) state: State,
    /// Judges the numbers of a step on the GPU; none on the CPU.
    pub(super) guard: Option<Guard>,
    /// Where the sum of the gradient's squares goes that it judges, `[1]` f64.
    pub(super) squares: Tensor,
    /// The step whose numbers are still to come.
    pub(super) queued: Option<Queued>,
    /// The checkpoint that is being written.
    pub(super) writing: Option<Writing>,
    /// Where the step before ended, if nothing else happened since.
    pub(super) last_end: Option<Mark>,
    /// What happened between steps since the last step's event.
    pub(super) beside: Beside,
    pub(super) flops: Flops,
    pub(super) peak: Peak,
    pub(super) largest_peak: u64,
    pub(super) steps_measured: u32,
    /// Step and hash of the weights that the newest checkpoint holds.
    pub(super) saved: Option<(u64, String)>,
    /// Steps done before this process.
    first_step: u64,
    /// Step of the last evaluation of this process.
    pub(super) evaluated: Option<u64>,
    segment: u32,
    resumed_from: Option<String>,
}

/// How a segment ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// All steps are done.
    Completed,
    /// Somebody asked.
    Stopped,
}

impl<'a> Trainer<'a> {
    /// Takes up `run`.
    pub(super) fn open(
        run: &'a Path,
        recipe: Recipe,
        machine: &'a Machine,
        plan: &'a MemoryPlan,
        journal: &'a mut Journal,
        history: History,
        signals: &'a Signals,
        steps_done: &'a AtomicU64,
    ) -> Result<Self, TrainError> {
        plan.check(&recipe, machine)?;
        let info = run_info(run)?;
        // Relative paths of the recipe start where its file was.
        let folder = info
            .source
            .as_deref()
            .and_then(Path::parent)
            .unwrap_or(run)
            .to_owned();
        let config = recipe.model.config.clone();
        let parameters = Parameters::from_spec(&config, &machine.device, machine.precision)?;
        let moments = Moments::zeros(parameters.len(), &machine.device)?;
        let state = State::of(parameters.len(), machine.precision);
        let mut loader = Loader::open(&recipe, Split::Train, &folder)?;
        let (start, passed_over) = Start::find(run, &info)?;
        let mut recipe = recipe;
        let mut saved = None;
        let mut progress = Progress::new(loader.position(), config.mtp_num_hidden_layers);
        match &start {
            Start::Fresh => match &recipe.model.init {
                Init::Random => parameters.initialize(recipe.train.seed)?,
                Init::HuggingFace(path) => {
                    checkpoint::convert::load(&folder.join(path), &config, &parameters)?;
                }
            },
            Start::Own(path) | Start::Parent(path) => {
                let loaded = training::load(path, &config, &parameters, &moments.m, &moments.v)?;
                progress = Progress::from_json(loaded.progress, path)?;
                progress
                    .acceptance
                    .resize(config.mtp_num_hidden_layers, (0, 0));
                loader.seek(progress.position.clone())?;
                saved = Some((progress.step, loaded.weights_hash));
            }
        }
        if matches!(start, Start::Parent(_)) {
            // The fork's recipe already has the values that the parent had.
            progress.live = BTreeMap::new();
            saved = None;
        }
        for (key, value) in &progress.live {
            recipe_file::set_live(&mut recipe, key, value).map_err(|reason| {
                TrainError::Progress {
                    path: run.to_owned(),
                    reason,
                }
            })?;
        }
        let recompute = recompute(&recipe);
        let model = Model::new(config.clone(), parameters, &recompute)?
            .with_loss_chunk(recipe.train.loss_chunk);
        // The micro-batches of the next step, while this one computes.
        let ahead = recipe.data.prefetch.min(micro_batches(&recipe));
        let feed = Feed::start(loader, model.preparation(), ahead)?;
        let tensorboard = if recipe.logging.tensorboard {
            let host = machine::host_name();
            Some(EventFile::create(
                run,
                &host,
                history.segments,
                progress.step,
            ))
        } else {
            None
        };
        let replay = history.changes_after(progress.step).into();
        let first_step = progress.step;
        steps_done.store(first_step, Relaxed);
        let mut trainer = Self {
            run,
            journal,
            signals,
            steps_done,
            machine,
            plan,
            state,
            guard: machine
                .is_gpu()
                .then(|| Guard::new(&machine.device))
                .transpose()?,
            squares: Tensor::zeros(1, DType::F64, &machine.device)?,
            queued: None,
            writing: None,
            last_end: None,
            beside: Beside::default(),
            flops: Flops::of(&recipe),
            peak: peak::of(machine)?,
            largest_peak: 0,
            steps_measured: 0,
            runner: Runner::new(&machine.device, recipe.train.cuda_graph),
            recipe,
            model,
            moments,
            feed,
            folder,
            validation: None,
            progress,
            control: Control::new(run, history.answered),
            inbox: VecDeque::new(),
            replay,
            earlier_trainer_ms: history.last_time_ms.filter(|_| history.segments > 0),
            found_at_start: HashSet::new(),
            paused: false,
            tensorboard: None,
            saved,
            first_step,
            evaluated: None,
            segment: history.segments,
            resumed_from: start.describe(run),
        };
        trainer.poll()?;
        trainer.found_at_start = trainer.inbox.iter().filter_map(Asked::id).collect();
        if trainer.recipe.train.eval_interval > 0 {
            // What is wrong with held-out text shall be known now and not at the first evaluation.
            trainer.open_validation()?;
        }
        trainer.announce(tensorboard, &passed_over)?;
        if matches!(start, Start::Parent(_)) {
            // From here on the fork does not need its parent's files.
            trainer.save_or_warn()?;
        }
        Ok(trainer)
    }

    /// Says that the run is taken up, and what was found on the way.
    fn announce(
        &mut self,
        tensorboard: Option<std::io::Result<EventFile>>,
        passed_over: &[Unusable],
    ) -> Result<(), TrainError> {
        let count = spec::parameters(self.model.config());
        let step = self.progress.step;
        let mut events = vec![Event::Started {
            segment: self.segment,
            step,
            tokens: self.progress.tokens,
            total_steps: self.recipe.train.steps,
            pid: std::process::id(),
            host: machine::host_name(),
            device: self.machine.name(),
            program: format!("trestle {}", env!("CARGO_PKG_VERSION")),
            parameters: count.total,
            mtp_parameters: count.mtp,
            flops_per_token: self.flops.model,
            peak_flops: self.peak.flops,
            flops_formula: self.flops.formula.clone(),
            peak_name: self.peak.name.clone(),
            precision: self.machine.precision_name().to_owned(),
            devices: vec![self.machine.name()],
            memory_plan: Some(self.plan.terms()),
            mtp_depth: self.model.config().mtp_num_hidden_layers,
            resumed_from: self.resumed_from.clone(),
        }];
        if let Some(reason) = &self.machine.fallback {
            events.push(self.warning("device", format!("training on the CPU: {reason}")));
        }
        if self.journal.was_repaired() {
            events.push(self.warning(
                "torn_line",
                "the last line of events.jsonl was torn and has been cut off".to_owned(),
            ));
        }
        for Unusable { error, .. } in passed_over {
            events.push(self.warning(
                "checkpoint_damaged",
                format!("{error}; going on from step {step}"),
            ));
        }
        match tensorboard {
            Some(Ok(file)) => self.tensorboard = Some(file),
            Some(Err(error)) => events.push(self.warning(
                "tensorboard",
                format!("no TensorBoard files in this run: {error}"),
            )),
            None => {}
        }
        self.say(events)
    }

    /// Trains until all steps are done or somebody asks to stop.
    pub(super) fn train(&mut self) -> Result<Outcome, TrainError> {
        let result = self.steps();
        if result.is_err()
            && let Some(event) = self.collect(true)
        {
            // What was being written becomes whole; the first error is the one to tell.
            let _ = self.say(vec![event]);
        }
        result
    }

    fn steps(&mut self) -> Result<Outcome, TrainError> {
        loop {
            if let Some(end) = self.boundary()? {
                return self.finish(end);
            }
            if self.progress.step >= self.recipe.train.steps {
                return self.complete();
            }
            if let Some(end) = self.step()? {
                return self.finish(end);
            }
            let step = self.progress.step;
            let due = |interval: u64| interval > 0 && step.is_multiple_of(interval);
            if due(self.recipe.train.eval_interval) {
                self.settle()?;
                self.evaluate()?;
            }
            if due(self.recipe.checkpoint.interval) {
                self.settle()?;
                self.begin_save()?;
            }
        }
    }

    /// Makes changes again, carries out requests and signals, and waits while paused.
    fn boundary(&mut self) -> Result<Option<End>, TrainError> {
        if let Some(event) = self.collect(false) {
            self.say(vec![event])?;
        }
        self.replay_changes()?;
        loop {
            self.poll()?;
            if !self.inbox.is_empty() || self.signals.asked() > 0 {
                self.settle()?;
            }
            while let Some(asked) = self.inbox.pop_front() {
                if let Some(end) = self.carry_out(asked)? {
                    return Ok(Some(end));
                }
            }
            match self.signals.asked() {
                0 => {}
                1 => {
                    self.save_or_warn()?;
                    return Ok(Some(End::Stopped));
                }
                _ => return Ok(Some(End::Stopped)),
            }
            if !self.paused {
                return Ok(None);
            }
            self.last_end = None;
            thread::sleep(WAIT);
        }
    }

    /// Reads new requests into the inbox.
    pub(super) fn poll(&mut self) -> Result<(), TrainError> {
        self.inbox.extend(self.control.poll()?);
        Ok(())
    }

    /// The last evaluation and checkpoint of a run whose steps are all done.
    fn complete(&mut self) -> Result<Outcome, TrainError> {
        self.settle()?;
        let step = self.progress.step;
        if self.recipe.train.eval_interval > 0
            && step > self.first_step
            && self.evaluated != Some(step)
        {
            self.evaluate()?;
        }
        if self.recipe.checkpoint.at_end {
            // The weights are what the run was for: if they cannot be saved, wait until they can or somebody gives up.
            while !self.save_or_warn()? {
                let begin = Instant::now();
                while begin.elapsed() < Duration::from_secs(5) {
                    self.poll()?;
                    while let Some(asked) = self.inbox.pop_front() {
                        if let Some(end) = self.carry_out(asked)? {
                            return self.finish(end);
                        }
                    }
                    if self.signals.asked() > 0 {
                        return self.finish(End::Stopped);
                    }
                    thread::sleep(WAIT);
                }
            }
        }
        self.finish(End::Completed)
    }

    fn finish(&mut self, end: End) -> Result<Outcome, TrainError> {
        self.settle()?;
        let last = self.collect(true);
        self.say(last.into_iter().collect())?;
        let weights_hash = match &self.saved {
            Some((step, hash)) if *step == self.progress.step => hash.clone(),
            _ => training::weights_hash(self.model.parameters())?,
        };
        let outcome = Outcome {
            completed: end == End::Completed,
            step: self.progress.step,
            tokens: self.progress.tokens,
            weights_hash: weights_hash.clone(),
        };
        self.say(vec![Event::Finished {
            step: outcome.step,
            tokens: outcome.tokens,
            reason: match end {
                End::Completed => "completed",
                End::Stopped => "stopped",
            }
            .to_owned(),
            weights_hash,
        }])?;
        if self.journal.is_waiting() {
            self.wait_for_space()?;
        }
        Ok(outcome)
    }

    /// The step of the newest checkpoint that this process wrote or started from.
    pub(super) fn saved_step(&self) -> Option<u64> {
        self.saved.as_ref().map(|(step, _)| *step)
    }

    /// A warning at the present step.
    pub(super) fn warning(&self, code: &str, message: String) -> Event {
        Event::Warning {
            step: self.progress.step,
            code: code.to_owned(),
            message,
        }
    }

    /// Appends to the journal; with a full disk, training goes on until too much waits.
    pub(super) fn say(&mut self, events: Vec<Event>) -> Result<(), TrainError> {
        match self.journal.append(events)? {
            Append::Written | Append::Waiting => Ok(()),
            Append::Recovered => self.say_recovered(),
            Append::Overflowing => self.wait_for_space(),
        }
    }

    fn say_recovered(&mut self) -> Result<(), TrainError> {
        let warning = self.warning(
            "disk_full",
            "the disk was full; events waited in memory and have been written now".to_owned(),
        );
        self.journal.append(vec![warning]).map(|_| ())
    }

    /// Waits until the journal can be written; a signal ends the wait.
    fn wait_for_space(&mut self) -> Result<(), TrainError> {
        loop {
            match self.journal.retry()? {
                Append::Written => return Ok(()),
                Append::Recovered => return self.say_recovered(),
                Append::Waiting | Append::Overflowing => {}
            }
            if self.signals.asked() > 0 {
                return Err(self.journal.no_space());
            }
            thread::sleep(WAIT);
        }
    }
}

/// Where a segment starts.
enum Start {
    /// From the recipe.
    Fresh,
    /// From the run's own newest checkpoint.
    Own(PathBuf),
    /// From a checkpoint of the run that this one was forked from.
    Parent(PathBuf),
}

impl Start {
    /// Where, and the newer checkpoints that are damaged.
    fn find(run: &Path, info: &RunInfo) -> Result<(Self, Vec<Unusable>), TrainError> {
        if let Some(own) = training::newest_intact(run)? {
            return Ok((Self::Own(own.path), own.passed_over));
        }
        let start = match &info.parent {
            Some(parent) => Self::Parent(parent.checkpoint.clone()),
            None => Self::Fresh,
        };
        Ok((start, Vec::new()))
    }

    fn describe(&self, run: &Path) -> Option<String> {
        match self {
            Self::Fresh => None,
            Self::Own(path) => Some(path.strip_prefix(run).unwrap_or(path).display().to_string()),
            Self::Parent(path) => Some(path.display().to_string()),
        }
    }
}

/// What the run is; a folder without `run.json` that holds a recipe is a run of its own.
fn run_info(run: &Path) -> Result<RunInfo, TrainError> {
    let path = run.join(crate::event::layout::RUN);
    let text = match std::fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(RunInfo::default()),
        Err(e) => return Err(TrainError::read(&path, e)),
    };
    serde_json::from_slice(&text).map_err(|e| TrainError::read(&path, e.into()))
}

/// Micro-batches of a step.
pub(super) fn micro_batches(recipe: &Recipe) -> usize {
    let train = &recipe.train;
    (train.global_batch_size / train.micro_batch_size.max(1)).max(1)
}

/// The recipe's recompute in the model's words.
fn recompute(recipe: &Recipe) -> nn::Recompute {
    use crate::recipe::{Recompute, RecomputeModule};
    match &recipe.recompute {
        Recompute::None => nn::Recompute::None,
        Recompute::Full => nn::Recompute::Full,
        Recompute::Selective(modules) => nn::Recompute::Selective(
            modules
                .iter()
                .map(|module| match module {
                    RecomputeModule::CoreAttn => nn::Part::CoreAttn,
                    RecomputeModule::GatedDelta => nn::Part::GatedDelta,
                    RecomputeModule::MlpAct => nn::Part::MlpAct,
                    RecomputeModule::Norm => nn::Part::Norm,
                })
                .collect(),
        ),
    }
}
