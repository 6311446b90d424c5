//! Reads requests from `control.jsonl`.

use std::collections::HashSet;
use std::fs::File;
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::event::{Request, complete_lines, layout, parse_request};

use super::TrainError;

/// Something that was asked.
#[derive(Debug, PartialEq)]
pub(super) enum Asked {
    /// A request that this trainer understands.
    Request(Request),
    /// A request with an id that this trainer does not understand.
    Unknown {
        /// Its id.
        id: String,
        /// Why it is not understood.
        reason: String,
    },
    /// A line without an id to answer to.
    Broken(String),
}

impl Asked {
    /// The id that an answer names.
    pub(super) fn id(&self) -> Option<String> {
        match self {
            Self::Request(Request { id, .. }) | Self::Unknown { id, .. } => Some(id.clone()),
            Self::Broken(_) => None,
        }
    }
}

/// The requests of a run: where reading stands, and what was answered before.
#[derive(Debug)]
pub(super) struct Control {
    path: PathBuf,
    offset: u64,
    answered: HashSet<String>,
}

impl Control {
    /// Reads from the file's start; requests in `answered` are passed over, so that each is answered once over all trainers of a run.
    pub(super) fn new(run: &Path, answered: HashSet<String>) -> Self {
        Self {
            path: run.join(layout::CONTROL),
            offset: 0,
            answered,
        }
    }

    /// What was asked since the last call, in order. Only complete lines count; no file is no requests.
    pub(super) fn poll(&mut self) -> Result<Vec<Asked>, TrainError> {
        let read = |e| TrainError::read(&self.path, e);
        let size = match std::fs::metadata(&self.path) {
            Ok(metadata) => metadata.len(),
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(read(e)),
        };
        if size == self.offset {
            return Ok(Vec::new());
        }
        if size < self.offset {
            // Somebody replaced the file; the ids protect from answering twice.
            self.offset = 0;
        }
        let mut text = Vec::new();
        let mut file = File::open(&self.path).map_err(read)?;
        file.seek(SeekFrom::Start(self.offset)).map_err(read)?;
        file.read_to_end(&mut text).map_err(read)?;
        let (lines, used) = complete_lines(&text);
        self.offset += used as u64;
        let asked = lines.into_iter().map(understand);
        Ok(asked
            .filter(|asked| match asked {
                Asked::Request(Request { id, .. }) | Asked::Unknown { id, .. } => {
                    self.answered.insert(id.clone())
                }
                Asked::Broken(_) => true,
            })
            .collect())
    }
}

fn understand(line: Option<&str>) -> Asked {
    let Some(line) = line else {
        return Asked::Broken("a line that is not UTF-8".to_owned());
    };
    match parse_request(line) {
        Ok(request) => Asked::Request(request),
        Err(error) => {
            let value: Value = serde_json::from_str(line).unwrap_or_default();
            match value["id"].as_str() {
                Some(id) => Asked::Unknown {
                    id: id.to_owned(),
                    reason: match value["type"].as_str() {
                        Some(kind) => format!("`{kind}` is not understood: {error}"),
                        None => error.to_string(),
                    },
                },
                None => Asked::Broken(line.chars().take(200).collect()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::RequestKind;

    #[test]
    fn each_complete_line_is_handed_out_once() {
        let run = tempfile::tempdir().expect("a temporary folder");
        let path = run.path().join(layout::CONTROL);
        let mut control = Control::new(run.path(), HashSet::from(["old".to_owned()]));
        assert_eq!(control.poll().expect("no file"), []);
        let line = |id: &str| {
            Request {
                id: id.to_owned(),
                time_ms: 0,
                kind: RequestKind::Pause,
            }
            .to_line()
        };
        let torn = line("torn");
        let text = line("old") + &line("a") + "nonsense\n" + "{\"id\":\"b\",\"type\":\"dance\"}\n";
        std::fs::write(&path, text.clone() + &torn[..10]).expect("writable");
        let asked = control.poll().expect("readable");
        assert_eq!(asked.len(), 3, "{asked:?}");
        assert!(matches!(&asked[0], Asked::Request(r) if r.id == "a"));
        assert_eq!(asked[1], Asked::Broken("nonsense".to_owned()));
        assert!(
            matches!(&asked[2], Asked::Unknown { id, reason } if id == "b" && reason.contains("dance"))
        );
        std::fs::write(&path, text + &torn).expect("writable");
        let asked = control.poll().expect("readable");
        assert!(
            matches!(&asked[..], [Asked::Request(r)] if r.id == "torn"),
            "{asked:?}"
        );
        assert_eq!(control.poll().expect("readable"), []);
    }
}
