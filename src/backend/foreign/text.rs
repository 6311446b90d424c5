//! Lines other than iterations: what a single one says.

use super::line::{Cause, Line, Memory, Split, Stage, Theory};
use super::number;

/// Gigabytes of the memory line.
const GB: f64 = 1e9;
/// Megabytes of Megatron-LM's memory line and of the theoretical one.
const MB: f64 = (1u64 << 20) as f64;

/// The payload of a line without what launchers put in front, and the rank that they name.
///
/// `srun --label` writes `3: `, torchrun `[default3]:`, torch `[rank3]:`, and they may follow one another.
pub(super) fn strip_prefix(line: &str) -> (Option<u32>, &str) {
    let mut rank = None;
    let mut rest = line;
    if let Some((digits, after)) = rest.split_once(':')
        && let Ok(task) = digits.parse::<u32>()
        && digits.bytes().all(|b| b.is_ascii_digit())
    {
        (rank, rest) = (Some(task), after.trim_start_matches(' '));
        // The blank of the payload's own beginning is no matter: no payload depends on its first blank but traceback lines, below.
        if after.starts_with("  ") {
            rest = &after[1..];
        }
    }
    if let Some((inside, after)) = rest.strip_prefix('[').and_then(|r| r.split_once("]:")) {
        let digits = inside
            .trim_start_matches("default")
            .trim_start_matches("rank");
        if !digits.is_empty()
            && let Ok(number) = digits.parse::<u32>()
        {
            // `[default3]` counts within its node; a task number before it says more.
            if rank.is_none() || inside.starts_with("rank") {
                rank = Some(number);
            }
            // torch puts a blank after its prefix, torchrun does not.
            let is_torch = inside.starts_with("rank");
            rest = after
                .strip_prefix(' ')
                .filter(|_| is_torch)
                .unwrap_or(after);
        }
    }
    (rank, rest)
}

/// Removes terminal sequences: `ESC [ ... letter`.
pub(super) fn without_escapes(line: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(line.len());
    let mut bytes = line.iter().copied();
    while let Some(byte) = bytes.next() {
        if byte != 0x1b {
            out.push(byte);
        } else if bytes.next() == Some(b'[') {
            let _ = bytes.find(|b| (0x40..=0x7e).contains(b));
        }
    }
    out
}

/// What a line says that needs no other line.
pub(super) fn single(payload: &str) -> Option<Line> {
    let text = payload.trim();
    match text.as_bytes().first()? {
        b'S' => {
            if let Some(rest) = text.strip_prefix("Step Time : ") {
                let (seconds, rest) = rest.split_once("s GPU utilization: ")?;
                let tflops = rest.strip_suffix("MODEL_TFLOP/s/GPU")?;
                return Some(Line::StepTime {
                    seconds: real(seconds)?,
                    tflops: real(tflops)?,
                });
            }
            let step = text.strip_prefix("Starting training loop at iteration ")?;
            Some(Line::TrainingLoop { step: count(step)? })
        }
        b'[' if text.starts_with("[Rank ") => memory(text),
        b'[' => stage(text),
        b'N' | b'T'
            if text.contains("in billions: ")
                || text.starts_with("Theoretical")
                || text.starts_with("Trainable") =>
        {
            theory(text)
        }
        b'v' => validation(text),
        b's' => checkpoint(text),
        b'l' => {
            let rest = text.strip_prefix("loading ")?;
            if let Some(path) = rest.strip_prefix("HuggingFace-format checkpoint from ") {
                return Some(Line::Loaded {
                    step: None,
                    path: path.to_owned(),
                });
            }
            None
        }
        b'W' if text.starts_with("WARNING: could not find the metadata file") => {
            Some(Line::NoCheckpoint)
        }
        b'e' | b'E' => exiting(text),
        _ => None,
    }
    .or_else(|| configuration(text))
    .or_else(|| cancelled(text))
    .or_else(|| killed(text))
}

fn real(text: &str) -> Option<f64> {
    number::decimal(text.trim().as_bytes())
}

fn count(text: &str) -> Option<u64> {
    number::integer(text.trim().as_bytes())
}

/// Bytes from a number in `unit` bytes.
fn bytes(text: &str, unit: f64) -> Option<u64> {
    real(text)
        .filter(|v| v.is_finite() && *v >= 0.0)
        .map(|v| (v * unit).round() as u64)
}

fn memory(text: &str) -> Option<Line> {
    let (rank, rest) = text.strip_prefix("[Rank ")?.split_once(']')?;
    let (when, rest) = rest
        .trim_start()
        .strip_prefix('(')?
        .split_once(") memory (")?;
    let (unit, rest) = rest.split_once(')')?;
    let unit = match unit {
        "GB" => GB,
        "MB" => MB,
        _ => return None,
    };
    let step = when
        .strip_prefix("after ")
        .and_then(|w| w.strip_suffix(" iterations"));
    let saving = || when.rsplit(' ').next();
    let mut memory = Memory {
        rank: rank.trim().parse().ok()?,
        step: count(step.or_else(saving)?)?,
        ..Memory::default()
    };
    for piece in rest.split('|').filter(|p| !p.trim().is_empty()) {
        let (key, value) = piece.trim().rsplit_once(": ")?;
        let slot = match key {
            "mem-allocated-gigabytes" | "allocated" => &mut memory.allocated,
            "mem-max-allocated-gigabytes" | "max allocated" => &mut memory.max_allocated,
            "mem-reserved-gigabytes" | "reserved" => &mut memory.reserved,
            "mem-max-reserved-gigabytes" | "max reserved" => &mut memory.max_reserved,
            "mem-alloc-retires" => {
                memory.retries = count(value)?;
                continue;
            }
            _ => {
                real(value)?;
                continue;
            }
        };
        *slot = bytes(value, unit)?;
    }
    Some(Line::Memory(memory))
}

fn stage(text: &str) -> Option<Line> {
    let (what, time) = text.strip_prefix('[')?.split_once("] datetime: ")?;
    let stage = match what {
        "after megatron is initialized" => Stage::Initialized,
        "after tokenizer is built" => Stage::Tokenizer,
        "after model, optimizer, and learning rate scheduler are built" => Stage::Built,
        "after dataloaders are built" => Stage::Data,
        "after training is done" => Stage::Done,
        _ => return None,
    };
    let (time_ms, _) = number::time(time.trim().as_bytes())?;
    Some(Line::Stage { stage, time_ms })
}

fn theory(text: &str) -> Option<Line> {
    if let Some(billions) = text.strip_prefix("Total number of parameters in billions: ") {
        return Some(Line::Theory(Theory::Parameters, real(billions)? * 1e9));
    }
    if let Some(scalars) = text.strip_prefix("Trainable parameters: ") {
        return Some(Line::Trainable(
            scalars.replace(',', "").trim().parse().ok()?,
        ));
    }
    // The last number of the line counts most, so that one line gives one value: the total where it is there.
    let rest = text.strip_prefix("Theoretical memory footprints: ")?;
    let mut found = None;
    for piece in rest.split(", ") {
        let (key, value) = piece.split_once('=')?;
        let value = real(value.strip_suffix(" MB")?)? * MB;
        found = match key {
            "weight and optimizer" => Some(Line::Theory(Theory::WeightAndOptimizer, value)),
            "activation" => Some(Line::Theory(Theory::Activations, value)),
            "total" => Some(Line::Theory(Theory::Total, value)),
            _ => found,
        };
    }
    found
}

fn validation(text: &str) -> Option<Line> {
    let mut pieces = text
        .strip_prefix("validation loss at ")?
        .split('|')
        .map(str::trim);
    let place = pieces.next()?.strip_prefix("iteration ")?;
    let (step, split) = match place.split_once(' ') {
        None => (place, Split::Validation),
        Some((step, "on validation set")) => (step, Split::Final),
        Some((step, "on test set")) => (step, Split::Test),
        Some(_) => return None,
    };
    let mut losses = vec![];
    for piece in pieces.filter(|p| !p.is_empty()) {
        let (key, value) = piece.rsplit_once(": ")?;
        let value = real(value)?;
        if let Some(key) = key.strip_suffix(" value") {
            losses.push((key.to_owned(), value));
        }
    }
    (!losses.is_empty()).then_some(Line::Validation {
        step: count(step)?,
        split,
        losses,
        time_ms: None,
    })
}

fn checkpoint(text: &str) -> Option<Line> {
    if let Some(rest) = text.strip_prefix("successfully saved checkpoint from iteration ") {
        let (step, path) = rest.trim_start().split_once(" to ")?;
        let path = path.rsplit_once(" [ t ").map_or(path, |(path, _)| path);
        return Some(Line::Saved {
            step: count(step)?,
            path: path.trim().to_owned(),
        });
    }
    if let Some(rest) = text.strip_prefix("successfully loaded checkpoint from ") {
        let (path, step) = rest.rsplit_once(" at iteration ")?;
        let path = path.rsplit_once(" [ t ").map_or(path, |(path, _)| path);
        return Some(Line::Loaded {
            step: Some(count(step)?),
            path: path.trim().to_owned(),
        });
    }
    if let Some(rest) = text.strip_prefix("saving checkpoint at iteration ") {
        let (step, path) = rest.trim_start().split_once(" to ")?;
        let path = path
            .rsplit_once(" in ")
            .filter(|(_, tail)| tail.ends_with(" format"))
            .map_or(path, |(path, _)| path);
        return Some(Line::Saving {
            step: count(step)?,
            path: path.to_owned(),
        });
    }
    let rest = text.strip_prefix("scheduled an async checkpoint save at iteration ")?;
    let (step, path) = rest.trim_start().split_once(" to ")?;
    Some(Line::Saving {
        step: count(step)?,
        path: path.to_owned(),
    })
}

fn exiting(text: &str) -> Option<Line> {
    let rest = text
        .strip_prefix("exiting program ")
        .or_else(|| text.strip_prefix("Exiting program "))?;
    Some(Line::Exiting {
        step: rest.strip_prefix("at iteration ").and_then(count),
        why: text.to_owned(),
    })
}

/// A line of the configuration that Megatron-Bridge prints as YAML, or of the arguments that Megatron-LM prints with dots.
fn configuration(text: &str) -> Option<Line> {
    let value = text.strip_prefix("seq_length")?;
    let value = value
        .strip_prefix(": ")
        .or_else(|| value.trim_start().trim_start_matches('.').strip_prefix(' '))?;
    count(value).filter(|&n| n > 0).map(Line::SequenceLength)
}

/// What Slurm says when it ends a job or a step: `*** JOB 7 ON node1 CANCELLED AT 2026-01-15T10:22:31 DUE TO TIME LIMIT ***`.
fn cancelled(text: &str) -> Option<Line> {
    let rest = text.strip_prefix("slurmstepd: error: *** ")?;
    let (_, rest) = rest.split_once(" CANCELLED AT ")?;
    let (time, why) = rest.split_at_checked(19).unwrap_or((rest, ""));
    let cause = match () {
        () if why.contains("TIME LIMIT") => Cause::TimeLimit,
        () if why.contains("PREEMPTION") => Cause::Preempted,
        () if why.contains("REQUEUE") => Cause::Requeued,
        () if why.contains("NODE FAILURE") => Cause::NodeFailure,
        () => Cause::Asked,
    };
    let time = number::time(time.replacen('T', " ", 1).as_bytes());
    Some(Line::Cancelled {
        cause,
        time_ms: time.map(|(ms, _)| ms),
        message: text.trim_start_matches("slurmstepd: error: ").to_owned(),
    })
}

/// What launchers say when a job or a task of it ends badly.
fn killed(text: &str) -> Option<Line> {
    let is_end = (text.starts_with("srun: error: ")
        && (text.contains("Exited with exit code")
            || text.contains("Killed")
            || text.contains("Aborted")
            || text.contains("Segmentation fault")))
        || text.ends_with("ChildFailedError:")
        || text.starts_with("slurmstepd: error: Detected ") && text.contains("oom");
    is_end.then(|| Line::Killed {
        message: text.to_owned(),
    })
}
