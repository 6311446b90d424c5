//! Records and requests as lines, and back.

use serde::Deserialize;
use serde_json::Value;
use thiserror::Error;

use super::{Event, Record, Request, StepRecord, VERSION};

/// Why a line is not a record or a request.
#[derive(Debug, Error)]
pub enum LineError {
    /// Not JSON, or a field is missing or of another type.
    #[error("not a line of the run protocol: {0}")]
    Malformed(#[from] serde_json::Error),
}

/// What every line has, read before its event so that a newer line is never misread.
#[derive(Deserialize)]
struct Head {
    v: u32,
    seq: u64,
    time_ms: i64,
    #[serde(rename = "type", default)]
    kind: Option<String>,
}

/// Types of [`VERSION`]; all others are kept as [`Event::Unknown`].
const TYPES: [&str; 13] = [
    "started",
    "step",
    "eval",
    "checkpoint",
    "warning",
    "sample",
    "live_change",
    "mark",
    "paused",
    "continued",
    "answer",
    "finished",
    "failed",
];

/// Reads one line of `events.jsonl`, with or without its newline.
///
/// A record of a newer version, or of a type that this version does not have, becomes [`Event::Unknown`] with all its fields but `v`, `seq`
/// and `time_ms`. A known type whose fields do not fit is an error.
pub fn parse_line(line: &str) -> Result<Record, LineError> {
    let head: Head = serde_json::from_str(line)?;
    let known = head.v <= VERSION && head.kind.as_deref().is_some_and(|k| TYPES.contains(&k));
    let event = if !known {
        let mut value: Value = serde_json::from_str(line)?;
        if let Value::Object(fields) = &mut value {
            for key in ["v", "seq", "time_ms"] {
                fields.shift_remove(key);
            }
        }
        Event::Unknown(value)
    } else if head.kind.as_deref() == Some("step") {
        // Most lines are steps; this reads their fields without the detour that a tagged enum takes.
        Event::Step(Box::new(serde_json::from_str::<StepRecord>(line)?))
    } else {
        match serde_json::from_str::<Event>(line)? {
            // Serde falls back to the untagged variant when the fields do not fit: say what does not fit.
            Event::Unknown(value) => return Err(misfit(&value)),
            event => event,
        }
    };
    Ok(Record {
        v: head.v,
        seq: head.seq,
        time_ms: head.time_ms,
        event,
    })
}

/// The error of a known type whose fields do not fit.
fn misfit(value: &Value) -> LineError {
    let kind = value["type"].as_str().unwrap_or_default().to_owned();
    LineError::Malformed(serde::de::Error::custom(format!(
        "the fields of a `{kind}` record do not fit version {VERSION}"
    )))
}

/// Reads one line of `control.jsonl`, with or without its newline.
pub fn parse_request(line: &str) -> Result<Request, LineError> {
    Ok(serde_json::from_str(line)?)
}

/// The complete lines at the start of `text` without their newlines, and how many bytes they take; a torn last line is left over.
///
/// Lines that are not UTF-8 come as `None`; empty lines are skipped.
pub fn complete_lines(text: &[u8]) -> (Vec<Option<&str>>, usize) {
    let end = text.iter().rposition(|&b| b == b'\n').map_or(0, |i| i + 1);
    let lines = text[..end]
        .split(|&b| b == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| std::str::from_utf8(line).ok())
        .collect();
    (lines, end)
}

impl Record {
    /// The record as one line of `events.jsonl`, its newline included; floats that are not finite become `null`.
    pub fn to_line(&self) -> String {
        line(self)
    }
}

impl Request {
    /// The request as one line of `control.jsonl`, its newline included.
    pub fn to_line(&self) -> String {
        line(self)
    }
}

fn line(value: &impl serde::Serialize) -> String {
    let mut line = serde_json::to_string(value)
        .expect("the protocol's types have string keys and no failing parts");
    line.push('\n');
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_that_end_are_complete() {
        let (lines, end) = complete_lines(b"{\"a\":1}\n\n{\"b\":2}\n{\"to");
        assert_eq!(lines, [Some("{\"a\":1}"), Some("{\"b\":2}")]);
        assert_eq!(end, 17);
        assert_eq!(complete_lines(b"torn"), (vec![], 0));
    }

    #[test]
    fn a_newer_version_is_kept_and_not_misread() {
        let text = r#"{"v":2,"seq":7,"time_ms":-5,"type":"step","loss":{"main":1.5}}"#;
        let record = parse_line(text).expect("a newer record is not an error");
        assert_eq!((record.v, record.seq, record.time_ms), (2, 7, -5));
        let Event::Unknown(value) = &record.event else {
            panic!("misread as {:?}", record.event);
        };
        assert_eq!(value["loss"]["main"], 1.5);
        assert_eq!(record.to_line().trim_end(), text);
    }

    #[test]
    fn a_known_type_with_wrong_fields_is_an_error() {
        for text in [
            r#"{"v":1,"seq":0,"time_ms":0,"type":"paused"}"#,
            r#"{"v":1,"seq":0,"time_ms":0,"type":"paused","step":-1}"#,
            r#"{"v":1,"seq":0,"type":"paused","step":1}"#,
            r#"{"v":1,"seq":0,"time_ms":0,"type":"pau"#,
            "",
            "[]",
        ] {
            assert!(parse_line(text).is_err(), "{text}");
        }
    }
}
