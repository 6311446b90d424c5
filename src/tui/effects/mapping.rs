//! Work of the Mapping screen: models built and directories read, values read, round trips verified, tables written.

mod files;

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::Outside;
use crate::app::mapping::{
    Effect, Form, Message as Mapping, Model, Origin, Shared, ValuesOf, table,
};
use crate::app::{Message, Tone};
use crate::mapping::Layout;
use crate::spec::{ExpertStyle, registry};

/// Threads of the screen that can be told to stop.
#[derive(Debug, Default)]
pub(super) struct Threads {
    /// The one that reads values.
    values: Stop,
    /// The one that verifies.
    verify: Stop,
}

/// Tells a thread to stop when it is dropped.
#[derive(Debug, Default)]
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

pub(super) fn carry_out(outside: &mut Outside, effect: Effect) {
    match effect {
        Effect::Open(origin) => outside.worker.run(move || {
            let model = open(&origin).map(|model| Shared(Arc::new(model)));
            Some(Message::Mapping(Mapping::Opened(origin, model)))
        }),
        Effect::Values(of) => values(outside, of),
        Effect::StopValues => outside.mapping.values = Stop::default(),
        Effect::Verify { model, layout } => verify(outside, model, layout),
        Effect::StopVerify => outside.mapping.verify = Stop::default(),
        Effect::Export {
            path,
            model,
            format,
        } => outside.worker.run(move || {
            Some(match write_new(&path, &table(&model.0, format)) {
                Ok(()) => Message::Say(Tone::Good, format!("wrote {}", path.display())),
                Err(error) => Message::Say(
                    Tone::Bad,
                    format!("cannot write {}: {error}", path.display()),
                ),
            })
        }),
    }
}

fn open(origin: &Origin) -> Result<Model, String> {
    match origin {
        Origin::Published { name, form } => {
            let entry = registry()
                .iter()
                .find(|entry| entry.name == name)
                .ok_or_else(|| format!("no published size is called {name}"))?;
            let (config, style) = match form {
                Form::Published => (entry.model.clone(), entry.experts),
                Form::Text => (entry.text_only(), entry.experts),
                Form::TextPerExpert => (entry.text_only(), ExpertStyle::PER_EXPERT),
            };
            Ok(Model::new(entry.display.to_owned(), &config, style))
        }
        Origin::Path { path, config } => files::open(path, config),
    }
}

/// Reads values on a thread of its own, so that giving up does not wait for other work.
fn values(outside: &mut Outside, of: ValuesOf) {
    outside.mapping.values = Stop::default();
    let stop = outside.mapping.values.0.clone();
    let mailbox = outside.mailbox.clone();
    let failed = mailbox.clone();
    let asked = of.clone();
    let read = move || {
        let values = apart(|| files::values(&of, &stop));
        mailbox.send(Message::Mapping(Mapping::Values(of, values)));
    };
    if let Err(error) = thread::Builder::new().name("values".into()).spawn(read) {
        let why = Err(format!("no thread to read with: {error}"));
        failed.send(Message::Mapping(Mapping::Values(asked, why)));
    }
}

/// Long work on threads of its own. On the common ones a key of the search, which uses them too, would wait until all of it is done.
fn apart<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    match rayon::ThreadPoolBuilder::new().build() {
        Ok(pool) => pool.install(work),
        // Without more threads the work is still done.
        Err(_) => work(),
    }
}

/// Between messages about how far a verification has come.
const PAUSE: Duration = Duration::from_millis(100);

/// Verifies on a thread of its own.
fn verify(outside: &mut Outside, model: Shared, layout: Layout) {
    outside.mapping.verify = Stop::default();
    let stop = outside.mapping.verify.0.clone();
    let mailbox = outside.mailbox.clone();
    let failed = mailbox.clone();
    let work = move || {
        let last = Mutex::new(Instant::now());
        let progress = |so_far| {
            // Whoever finds the clock taken is a moment early anyway.
            if let Ok(mut last) = last.try_lock()
                && last.elapsed() >= PAUSE
            {
                *last = Instant::now();
                mailbox.send(Message::Mapping(Mapping::Verifying(so_far)));
            }
        };
        let verified = apart(|| files::verify(&model.0, &layout, &stop, &progress));
        mailbox.send(Message::Mapping(Mapping::Verified(verified)));
    };
    if let Err(error) = thread::Builder::new().name("verify".into()).spawn(work) {
        let why = Err(format!("no thread to verify with: {error}"));
        failed.send(Message::Mapping(Mapping::Verified(why)));
    }
}

/// Writes a file that does not exist yet.
fn write_new(path: &Path, text: &str) -> std::io::Result<()> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())
}
