//! Carries out requests at step boundaries; each is answered by one event, in the same write as what it did.

use crate::event::{Event, Request, RequestKind, StopKind};

use super::control::Asked;
use super::trainer::{End, Trainer};
use super::{TrainError, recipe_file};

impl Trainer<'_> {
    /// Carries out or refuses what was asked; `Some` when it ends the run.
    pub(super) fn carry_out(&mut self, asked: Asked) -> Result<Option<End>, TrainError> {
        let request = match asked {
            Asked::Request(request) => request,
            Asked::Unknown { id, reason } => {
                let answer = self.answer(&id, false, reason);
                return self.say(vec![answer]).map(|()| None);
            }
            Asked::Broken(line) => {
                let message = format!("a line of control.jsonl is no request: {line}");
                let warning = self.warning("bad_request", message);
                return self.say(vec![warning]).map(|()| None);
            }
        };
        if let Some(reason) = self.stale(&request) {
            let answer = self.answer(&request.id, false, reason);
            return self.say(vec![answer]).map(|()| None);
        }
        let id = request.id;
        let step = self.progress.step;
        let mut end = None;
        let events = match request.kind {
            RequestKind::Pause if self.paused => {
                vec![self.answer(&id, true, "already paused".to_owned())]
            }
            RequestKind::Pause => {
                self.paused = true;
                let answer = self.answer(&id, true, format!("paused after step {step}"));
                vec![Event::Paused { step }, answer]
            }
            RequestKind::Continue if self.paused => {
                self.paused = false;
                let answer = self.answer(&id, true, format!("goes on after step {step}"));
                vec![Event::Continued { step }, answer]
            }
            RequestKind::Continue => {
                vec![self.answer(&id, false, "not paused".to_owned())]
            }
            RequestKind::Checkpoint => self.checkpoint(&id).1,
            RequestKind::Set { key, value } => self.set(&id, &key, &value),
            RequestKind::Mark { note } => {
                let answer = self.answer(&id, true, format!("noted at step {step}"));
                vec![Event::Mark { step, note }, answer]
            }
            RequestKind::Stop {
                how: StopKind::Save,
            } => {
                let (saved, events) = self.checkpoint(&id);
                end = saved.then_some(End::Stopped);
                events
            }
            RequestKind::Stop {
                how: StopKind::Step,
            } => {
                end = Some(End::Stopped);
                vec![self.answer(
                    &id,
                    true,
                    format!("stops after step {step}, without a checkpoint"),
                )]
            }
            RequestKind::Stop { how: StopKind::Now } => {
                end = Some(End::Stopped);
                vec![self.answer(
                    &id,
                    true,
                    format!("stops at once; step {step} was the last"),
                )]
            }
        };
        self.say(events)?;
        Ok(end)
    }

    fn answer(&self, id: &str, ok: bool, message: String) -> Event {
        Event::Answer {
            request: id.to_owned(),
            step: self.progress.step,
            ok,
            message,
        }
    }

    /// Why a request that an earlier trainer left unanswered is not carried out any more, if so.
    fn stale(&self, request: &Request) -> Option<String> {
        let steers = matches!(
            request.kind,
            RequestKind::Pause
                | RequestKind::Continue
                | RequestKind::Checkpoint
                | RequestKind::Stop { .. }
        );
        // The clock alone does not decide: it may have gone backwards since the earlier trainer.
        let before = self.earlier_trainer_ms?;
        let is_old = request.time_ms <= before && self.found_at_start.contains(&request.id);
        (steers && is_old)
            .then(|| "it was asked of an earlier trainer of this run; ask again".to_owned())
    }

    fn checkpoint(&mut self, id: &str) -> (bool, Vec<Event>) {
        let step = self.progress.step;
        let (mut events, result) = self.save();
        let saved = result.is_ok();
        let message = match result {
            Ok(()) => format!("the checkpoint of step {step} is complete"),
            Err(reason) => format!("no checkpoint: {reason}; training goes on"),
        };
        events.push(self.answer(id, saved, message));
        (saved, events)
    }

    fn set(&mut self, id: &str, key: &str, value: &str) -> Vec<Event> {
        match self.change(key, value) {
            Err(reason) => vec![self.answer(id, false, reason)],
            Ok(None) => vec![self.answer(id, true, format!("{key} is {value} already"))],
            Ok(Some(change)) => {
                // A new wish for a key takes the place of old ones that were still to be made again.
                self.replay.retain(|old| old.key != key);
                let first = self.progress.step + 1;
                let answer = self.answer(id, true, format!("{key} = {value} from step {first} on"));
                vec![change, answer]
            }
        }
    }

    /// Changes a live key; the event to say, `None` if the value is the present one.
    fn change(&mut self, key: &str, value: &str) -> Result<Option<Event>, String> {
        let Some((from, to)) = recipe_file::set_live(&mut self.recipe, key, value)? else {
            return Ok(None);
        };
        self.progress.live.insert(key.to_owned(), to.clone());
        Ok(Some(Event::LiveChange {
            step: self.progress.step + 1,
            key: key.to_owned(),
            from,
            to,
        }))
    }

    /// Makes the changes again that a killed trainer made at this step, so that this run goes on as that one would have.
    pub(super) fn replay_changes(&mut self) -> Result<(), TrainError> {
        while let Some(change) = self
            .replay
            .pop_front_if(|c| c.step <= self.progress.step + 1)
        {
            self.settle()?;
            match self.change(&change.key, &change.value) {
                Ok(event) => self.say(event.into_iter().collect())?,
                Err(reason) => {
                    let message = format!("{} is not changed again: {reason}", change.key);
                    let warning = self.warning("live_change", message);
                    self.say(vec![warning])?;
                }
            }
        }
        Ok(())
    }
}
