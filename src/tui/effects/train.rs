//! Work of the Train screen: a thread that follows the watched run.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use super::Outside;
use crate::app::Message;
use crate::app::train::{Effect, Message as Train};
use crate::run::{Tail, is_live};

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
        Effect::Follow(run) => {
            outside.train = Follower::default();
            let stop = outside.train.0.clone();
            let mailbox = outside.mailbox.clone();
            let follow = move || {
                let mut tail = Tail::from_start(&run);
                let mut alive = None;
                while !stop.load(Ordering::Relaxed) {
                    let live = is_live(&run);
                    if let Ok(batch) = tail.poll()
                        && !batch.records.is_empty()
                        && !mailbox.send(Message::Train(Train::Records(run.clone(), batch.records)))
                    {
                        return;
                    }
                    if alive != Some(live) {
                        alive = Some(live);
                        mailbox.send(Message::Train(Train::Alive(run.clone(), live)));
                    }
                    thread::sleep(Duration::from_millis(if live { 200 } else { 1000 }));
                }
            };
            // Without a thread the run still trains; the screen stays empty.
            let _ = thread::Builder::new().name("follow".into()).spawn(follow);
        }
    }
}
