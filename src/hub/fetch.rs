//! The download of a plan: several files at once, watched from the calling thread.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use super::cache::Repository;
use super::client::Client;
use super::plan::Plan;
use super::progress::{Board, Meter, Progress};
use super::retry::Retry;
use super::transfer::Transfer;
use super::{Environment, HubError};
use crate::base::Bytes;

/// How often the threads are looked after.
const LOOK: Duration = Duration::from_millis(20);
/// How often progress is told.
const TELL: Duration = Duration::from_millis(100);

/// What is wanted, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Patterns of files that are wanted; the usual ones if there are none.
    pub include: Vec<String>,
    /// Patterns of files that are not.
    pub exclude: Vec<String>,
    /// How many files are downloaded at once.
    pub parallel: usize,
    /// When a failure is tried again.
    pub retry: Retry,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: Vec::new(),
            parallel: 4,
            retry: Retry::default(),
        }
    }
}

/// Downloads what a plan lacks into the cache and points the revision at its commit.
///
/// `tell` hears ten times a second how far it is, and once at the end. `cancel` ends it within moments; what was downloaded is kept, as it is
/// after an error or a kill, and the next fetch goes on from there.
pub fn fetch(
    plan: &Plan,
    options: &Options,
    environment: &Environment,
    cancel: &AtomicBool,
    tell: &mut dyn FnMut(&Progress),
) -> Result<Progress, HubError> {
    check_space(plan, environment)?;
    let repository = Repository::new(&environment.cache, &plan.id);
    let stop = AtomicBool::new(false);
    let client = Client::new(environment, plan.id.repository(), options.retry, &stop)?;
    let board = Board::new(plan);
    let mut meter = Meter::new();
    let next = AtomicUsize::new(0);
    let first_error = Mutex::new(None);
    let work = || {
        while !stop.load(Relaxed) {
            let index = next.fetch_add(1, Relaxed);
            let Some(file) = plan.files.get(index) else {
                return;
            };
            let transfer = Transfer {
                client: &client,
                repository: &repository,
                plan,
                file,
                cell: board.cell(index),
            };
            if let Err(error) = transfer.run() {
                if let Ok(mut first) = first_error.lock() {
                    first.get_or_insert(error);
                }
                client.shut_down();
            }
        }
    };
    thread::scope(|scope| {
        let count = options.parallel.clamp(1, 64).min(plan.files.len());
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let mut told = None;
        while !workers.iter().all(thread::ScopedJoinHandle::is_finished) {
            if cancel.load(Relaxed) && !stop.load(Relaxed) {
                client.shut_down();
            }
            let now = Instant::now();
            if told.is_none_or(|told| now.duration_since(told) >= TELL) {
                told = Some(now);
                tell(&meter.read(&board, now));
            }
            thread::sleep(LOOK);
        }
    });
    let progress = meter.read(&board, Instant::now());
    tell(&progress);
    match first_error.into_inner() {
        Ok(Some(error)) => return Err(error),
        _ => client.check_stop()?,
    }
    repository.point(&plan.id.revision, &plan.commit)?;
    Ok(progress)
}

/// Does `work`, whose requests end when `cancel` is set.
pub(super) fn watched<T>(
    client: &Client,
    cancel: &AtomicBool,
    work: impl FnOnce() -> Result<T, HubError>,
) -> Result<T, HubError> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                if cancel.load(Relaxed) {
                    return client.shut_down();
                }
                thread::sleep(LOOK);
            }
        });
        let result = work();
        done.store(true, Relaxed);
        result
    })
}

/// An error if what is missing does not fit.
fn check_space(plan: &Plan, environment: &Environment) -> Result<(), HubError> {
    let needed = plan.needed();
    match free(&environment.cache) {
        Some(free) if free < needed => Err(HubError::DiskFull {
            folder: environment.cache.clone(),
            needed,
            free,
        }),
        _ => Ok(()),
    }
}

/// What is free for us where a folder is, or will be; none if the system does not say.
pub(super) fn free(folder: &Path) -> Option<Bytes> {
    let there = folder.ancestors().find(|folder| folder.exists());
    let place = there.unwrap_or_else(|| Path::new("."));
    let place = if place.as_os_str().is_empty() {
        Path::new(".")
    } else {
        place
    };
    let system = rustix::fs::statvfs(place).ok()?;
    Some(Bytes(system.f_bavail.saturating_mul(system.f_frsize)))
}
