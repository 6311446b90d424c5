//! What earlier trainers of a run said, as far as the next one must know.

use std::collections::HashSet;

use crate::event::{Event, parse_line};

/// A change that a killed trainer made after the checkpoint from which the next one starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Change {
    /// First step that used the value.
    pub(super) step: u64,
    /// Dotted recipe key.
    pub(super) key: String,
    /// The value, as TOML.
    pub(super) value: String,
}

/// Sums up `events.jsonl`.
#[derive(Debug, Default)]
pub(super) struct History {
    /// Number of the next record.
    pub(super) next_seq: u64,
    /// Trainers that had the run.
    pub(super) segments: u32,
    /// Requests that were answered.
    pub(super) answered: HashSet<String>,
    /// Time of the last record.
    pub(super) last_time_ms: Option<i64>,
    /// Changes of the present segment.
    made: Vec<Change>,
    /// Changes of earlier segments that the present one still has to make.
    carried: Vec<Change>,
}

impl History {
    /// Takes one line. Lines that are no records are left to those who show the run.
    pub(super) fn observe(&mut self, line: &[u8]) {
        if line.len() > SHORT && find(line, STEP) {
            // Nearly all lines of a long run are steps, of which only the number matters here.
            if let Ok(head) = serde_json::from_slice::<Head>(line) {
                self.next_seq = self.next_seq.max(head.seq + 1);
                self.last_time_ms = Some(head.time_ms);
            }
            return;
        }
        let Some(record) = std::str::from_utf8(line)
            .ok()
            .and_then(|l| parse_line(l).ok())
        else {
            return;
        };
        self.next_seq = self.next_seq.max(record.seq + 1);
        self.last_time_ms = Some(record.time_ms);
        match record.event {
            Event::Started { segment, step, .. } => {
                self.segments = self.segments.max(segment + 1);
                self.carried = self.changes_after(step);
                self.made.retain(|change| change.step <= step);
            }
            Event::Answer { request, .. } => {
                self.answered.insert(request);
            }
            Event::LiveChange { step, key, to, .. } => {
                let change = Change {
                    step,
                    key,
                    value: to,
                };
                match self.carried.iter().position(|c| *c == change) {
                    Some(index) => {
                        self.carried.remove(index);
                    }
                    // A new wish for the key takes the place of old ones that were still to come.
                    None => self.carried.retain(|c| c.key != change.key),
                }
                self.made.push(change);
            }
            _ => {}
        }
    }

    /// Changes that a trainer has to make again when it starts after `step` updates, in their order.
    ///
    /// A killed run would otherwise continue from its last checkpoint with the values of that time and not be the run that it was.
    pub(super) fn changes_after(&self, step: u64) -> Vec<Change> {
        let mut changes: Vec<Change> = self
            .made
            .iter()
            .chain(&self.carried)
            .filter(|change| change.step > step)
            .cloned()
            .collect();
        changes.sort_by_key(|change| change.step);
        changes
    }
}

/// How a step's line is told from others without reading all of it; no other record's text may hold this unescaped.
const STEP: &[u8] = br#","type":"step","#;
/// A line up to here is read whole at no cost.
const SHORT: usize = 64;

#[derive(serde::Deserialize)]
struct Head {
    seq: u64,
    time_ms: i64,
}

/// Whether the first bytes of a line, which hold its type, contain `wanted`.
fn find(line: &[u8], wanted: &[u8]) -> bool {
    let start = &line[..line.len().min(120)];
    start.windows(wanted.len()).any(|window| window == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::{Record, VERSION};

    fn started(segment: u32, step: u64) -> Event {
        Event::Started {
            segment,
            step,
            tokens: 0,
            total_steps: 100,
            pid: 1,
            host: String::new(),
            device: String::new(),
            program: String::new(),
            parameters: 0,
            mtp_parameters: 0,
            flops_per_token: 0.0,
            peak_flops: 0.0,
            flops_formula: String::new(),
            peak_name: String::new(),
            precision: String::new(),
            devices: vec![],
            memory_plan: None,
            mtp_depth: 0,
            resumed_from: None,
        }
    }

    fn set(step: u64, value: &str) -> Event {
        Event::LiveChange {
            step,
            key: "optimizer.lr".to_owned(),
            from: String::new(),
            to: value.to_owned(),
        }
    }

    fn history(events: Vec<Event>) -> History {
        let mut history = History::default();
        for (seq, event) in events.into_iter().enumerate() {
            let record = Record {
                v: VERSION,
                seq: seq as u64,
                time_ms: 0,
                event,
            };
            history.observe(record.to_line().as_bytes());
        }
        history
    }

    fn values(history: &History, step: u64) -> Vec<(u64, String)> {
        let changes = history.changes_after(step).into_iter();
        changes.map(|c| (c.step, c.value)).collect()
    }

    #[test]
    fn changes_after_the_checkpoint_are_made_again_however_often_the_trainer_is_killed() {
        let first = vec![started(0, 0), set(15, "1"), set(18, "2")];
        let expected = [(15, "1".to_owned()), (18, "2".to_owned())];
        assert_eq!(values(&history(first.clone()), 10), expected);
        let second = [first, vec![started(1, 10), set(15, "1")]].concat();
        assert_eq!(values(&history(second.clone()), 10), expected);
        let third = [second, vec![started(2, 10)]].concat();
        assert_eq!(values(&history(third.clone()), 10), expected);
        assert_eq!(values(&history(third), 15), expected[1..]);
    }

    #[test]
    fn a_new_wish_replaces_what_was_still_to_be_made_again() {
        let events = vec![
            started(0, 0),
            set(15, "1"),
            set(18, "2"),
            started(1, 10),
            set(12, "3"),
            started(2, 10),
        ];
        assert_eq!(values(&history(events), 10), [(12, "3".to_owned())]);
    }
}
