//! One thread that does slow work in order, so that the loop never waits for a disk.

use std::sync::mpsc::{Sender, channel};
use std::thread;

use super::mailbox::Mailbox;
use crate::app::Message;

type Job = Box<dyn FnOnce() -> Option<Message> + Send>;

/// The sending end of the worker's queue.
#[derive(Debug, Clone)]
pub(super) struct Worker(Sender<Job>);

impl Worker {
    /// Starts the thread; it ends with its last sender.
    pub(super) fn new(name: &str, mailbox: Mailbox) -> std::io::Result<Self> {
        let (sender, receiver) = channel::<Job>();
        thread::Builder::new()
            .name(name.to_owned())
            .spawn(move || {
                for job in receiver {
                    if let Some(message) = job()
                        && !mailbox.send(message)
                    {
                        return;
                    }
                }
            })?;
        Ok(Self(sender))
    }

    /// Queues a job whose answer goes to the state.
    pub(super) fn run(&self, job: impl FnOnce() -> Option<Message> + Send + 'static) {
        // The worker only ends when the program does.
        let _ = self.0.send(Box::new(job));
    }
}
