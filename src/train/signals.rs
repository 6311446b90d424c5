//! Asks from the system: end, soon or at once.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use signal_hook::consts::{SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::{SigId, flag, low_level};

/// Counts `SIGTERM` and `SIGINT` while it lives, and keeps a file size limit from killing the process.
#[derive(Debug)]
pub(super) struct Signals {
    asked: Arc<AtomicUsize>,
    registered: Vec<SigId>,
}

impl Signals {
    /// Takes the signals over.
    pub(super) fn take() -> io::Result<Self> {
        let asked = Arc::new(AtomicUsize::new(0));
        let mut registered = Vec::new();
        for signal in [SIGTERM, SIGINT] {
            let asked = Arc::clone(&asked);
            #[expect(unsafe_code, reason = "`flag` has no counter that adds up")]
            // SAFETY: an atomic addition is safe in a signal handler.
            registered.push(unsafe {
                low_level::register(signal, move || {
                    asked.fetch_add(1, Relaxed);
                })
            }?);
        }
        // With a handler, a write over the limit is an error (`EFBIG`) instead of the end.
        registered.push(flag::register(SIGXFSZ, Arc::new(AtomicBool::new(false)))?);
        Ok(Self { asked, registered })
    }

    /// How often the system asked to end: once is with a checkpoint, more often is at once.
    pub(super) fn asked(&self) -> usize {
        self.asked.load(Relaxed)
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            low_level::unregister(id);
        }
    }
}
