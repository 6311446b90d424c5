//! Work of the Train screen: a thread that reads and follows the watched run; trainers that continue or fork it.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use super::Outside;
use crate::app::train::{Effect, Fork, Message as Train, Opened};
use crate::app::{Message, Tone};
use crate::backend::local;
use crate::event::{Event, Parent, Record, layout};
use crate::recipe::{self, KEYS, Loaded};
use crate::run::{self, Batch, CreateRun, History, RunError, Tail, is_live};
use crate::telemetry::Sampler;

/// Between looks at a run that is trained.
const LIVE: Duration = Duration::from_millis(200);
/// Between looks at a run that is not.
const IDLE: Duration = Duration::from_secs(1);

/// Between looks at the machine while a trainer works, and while none does.
const SENSE: Duration = Duration::from_secs(1);
const SENSE_IDLE: Duration = Duration::from_secs(5);

/// The thread that follows the watched run; dropped, it ends.
#[derive(Debug, Default)]
pub(super) struct Follower(Arc<AtomicBool>);

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn carry_out(outside: &mut Outside, effect: Effect) {
    match effect {
        Effect::Follow(run) => follow(outside, run),
        Effect::Resume(path) => outside.worker.run(move || {
            let started = run::open(&path).map_err(|e| e.to_string()).and_then(|run| {
                local::spawn(&run).map_err(|e| e.to_string())?;
                Ok(format!("a trainer continues {}", run.id()))
            });
            Some(match started {
                Ok(text) => Message::Say(Tone::Good, text),
                Err(why) => Message::Say(Tone::Bad, why),
            })
        }),
        Effect::Fork(fork) => outside
            .worker
            .run(move || Some(Message::Launched(start_fork(&fork)))),
    }
}

fn follow(outside: &mut Outside, run: std::path::PathBuf) {
    outside.train = Follower::default();
    let stop = outside.train.0.clone();
    let mailbox = outside.mailbox.clone();
    let pid = Arc::new(AtomicU32::new(0));
    sense(outside, run.clone(), pid.clone());
    let follow = move || {
        let opened = open(&run);
        if let Some(trainer) = opened.as_ref().ok().and_then(|o| o.summary.pid) {
            pid.store(trainer, Ordering::Relaxed);
        }
        let offset = opened.as_ref().map_or(0, |o| o.history.offset());
        let opened = opened.map(Box::new).map_err(|error| error.to_string());
        mailbox.send(Message::Train(Train::Opened(run.clone(), opened)));
        let mut tail = Tail::from_offset(&run, offset);
        let mut alive = None;
        while !stop.load(Ordering::Relaxed) {
            let live = is_live(&run);
            let batch = tail
                .as_mut()
                .map_or_else(|_| Batch::default(), |t| t.poll().unwrap_or_default());
            let said = if batch.restarted {
                let opened = open(&run).map(Box::new).map_err(|error| error.to_string());
                Some(Train::Opened(run.clone(), opened))
            } else if batch.records.is_empty() {
                None
            } else {
                if let Some(trainer) = batch.records.iter().rev().find_map(trainer) {
                    pid.store(trainer, Ordering::Relaxed);
                }
                Some(Train::Records(run.clone(), batch.records))
            };
            if let Some(said) = said
                && !mailbox.send(Message::Train(said))
            {
                return;
            }
            if alive != Some(live) {
                alive = Some(live);
                mailbox.send(Message::Train(Train::Alive(run.clone(), live)));
            }
            if !batch.more {
                thread::sleep(if live { LIVE } else { IDLE });
            }
        }
    };
    // Without a thread the run still trains; the screen stays empty.
    let _ = thread::Builder::new().name("follow".into()).spawn(follow);
}

/// The process of a trainer that takes the run up.
fn trainer(record: &Record) -> Option<u32> {
    match record.event {
        Event::Started { pid, .. } => Some(pid),
        _ => None,
    }
}

/// Looks at the machine while the run is watched. The driver's answers may take their time, so this has a thread of its own.
///
/// Where no trainer works and no GPU is there to show, nothing is asked after the first look.
fn sense(outside: &Outside, run: std::path::PathBuf, pid: Arc<AtomicU32>) {
    let stop = outside.train.0.clone();
    let mailbox = outside.mailbox.clone();
    let sense = move || {
        let name = rustix::system::uname()
            .nodename()
            .to_string_lossy()
            .into_owned();
        let mut sampler = Sampler::new();
        let mut is_first = true;
        let mut has_gpus = false;
        while !stop.load(Ordering::Relaxed) {
            let live = is_live(&run);
            if live || has_gpus || is_first {
                let trainer = Some(pid.load(Ordering::Relaxed)).filter(|&p| live && p > 0);
                let sample = sampler.sample(trainer, live);
                has_gpus = sample.gpus.is_ok();
                let sensed = Train::Sensed(run.clone(), name.clone(), Box::new(sample));
                if stop.load(Ordering::Relaxed) || !mailbox.send(Message::Train(sensed)) {
                    return;
                }
                is_first = false;
            }
            thread::sleep(if live { SENSE } else { SENSE_IDLE });
        }
    };
    // Without a thread the pane says that nothing was asked.
    let _ = thread::Builder::new().name("sense".into()).spawn(sense);
}

fn open(path: &Path) -> Result<Opened, RunError> {
    let run = run::open(path)?;
    let loaded = load(path, &[]);
    let value = |key: &str| loaded.values.get(key).map(|l| l.value.to_string());
    let live = KEYS
        .iter()
        .filter(|key| key.live)
        .filter_map(|key| Some((key.path, value(key.path)?)))
        .collect();
    let alerts = KEYS
        .iter()
        .filter(|key| key.section() == "alerts")
        .filter_map(|key| Some(format!("{} = {}  {}", key.path, value(key.path)?, key.doc)))
        .collect();
    Ok(Opened {
        info: run.info,
        history: History::open(path)?,
        summary: run::summary(path)?,
        live,
        alerts,
    })
}

/// The recipe of a run, with changes.
pub(super) fn load(run: &Path, sets: &[String]) -> Loaded {
    recipe::load(&run.join(layout::RECIPE), sets, &|path: &Path| {
        fs::read_to_string(path)
    })
}

fn start_fork(fork: &Fork) -> Result<std::path::PathBuf, String> {
    let parent = run::open(&fork.run).map_err(|e| e.to_string())?;
    let checkpoint = layout::checkpoint(&parent.path, fork.step);
    if !checkpoint.is_dir() {
        return Err(format!(
            "{} has no checkpoint of step {}",
            parent.id(),
            fork.step
        ));
    }
    let loaded = load(&fork.run, &fork.sets);
    let recipe = match (
        &loaded.recipe,
        loaded
            .diagnostics
            .iter()
            .find(|d| d.severity == crate::base::Severity::Error),
    ) {
        (Some(recipe), None) => recipe,
        (_, Some(problem)) => return Err(problem.message.clone()),
        (None, None) => return Err("the run's recipe cannot be read".into()),
    };
    let new = CreateRun {
        name: fork.name.clone(),
        recipe_toml: recipe::to_toml(recipe),
        source: parent.info.source.clone(),
        overrides: fork.sets.clone(),
        parent: Some(Parent {
            run: parent.info.id.clone(),
            checkpoint,
            step: fork.step,
        }),
        tags: parent.info.tags.clone(),
    };
    // Beside its parent.
    let runs = parent.path.parent().unwrap_or(&parent.path);
    let run = run::create(runs, new).map_err(|e| e.to_string())?;
    local::spawn(&run).map_err(|e| e.to_string())?;
    Ok(run.path)
}
