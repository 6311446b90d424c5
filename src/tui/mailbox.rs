//! The one bounded channel into the loop.

use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::app::{Key, Message, Size};

/// What reaches the loop: messages for the state, and what only the loop understands.
#[derive(Debug)]
pub(super) enum Event {
    /// For the state.
    Message(Message),
    /// A key, which is answered quickly.
    Key(Key),
    /// The mouse did something at a cell.
    Mouse(crate::app::Mouse, u16, u16),
    /// The terminal has a new size.
    Resize(Size),
    /// SIGTSTP.
    Suspend,
    /// SIGCONT: the terminal may have been changed by others.
    Continue,
    /// SIGINT, SIGTERM, SIGHUP.
    Terminate,
}

/// The sending end, one for every thread.
#[derive(Debug, Clone)]
pub(super) struct Mailbox(SyncSender<Event>);

impl Mailbox {
    /// The channel; senders wait when it is full.
    pub(super) fn new() -> (Self, Receiver<Event>) {
        let (sender, receiver) = sync_channel(1024);
        (Self(sender), receiver)
    }

    /// Sends a message to the state; false when the loop has ended.
    pub(super) fn send(&self, message: Message) -> bool {
        self.0.send(Event::Message(message)).is_ok()
    }

    pub(super) fn post(&self, event: Event) -> bool {
        self.0.send(event).is_ok()
    }
}
