//! Launching: what the dialog asks and what is asked of the runtime.

pub mod bridge;
mod room;

use std::path::PathBuf;

use super::dialog::{Field, Form, Note, Purpose};
use super::recipes::Entry;
use super::{Tone, preview};
use crate::recipe::{Recipe, find_key};
use crate::telemetry::Sample;

pub use room::{CHECK_KEY, Room, chosen, rooms};

/// A run to create and a trainer to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchRequest {
    /// The recipe's file.
    pub recipe: PathBuf,
    /// The run's name; none lets the program choose.
    pub name: Option<String>,
    /// `key=value` overrides.
    pub sets: Vec<String>,
    /// Whether a recipe is refused whose plan does not fit into the free memory.
    pub check_memory: bool,
    /// Words to find the run by.
    pub tags: Vec<String>,
}

impl LaunchRequest {
    /// Why the resolved `recipe` is refused on a machine: it takes more memory than is free.
    pub fn refusal(&self, recipe: &Recipe, sample: &Sample) -> Option<String> {
        let device = preview::device_name(recipe.train.device);
        chosen(recipe, device, sample)
            .filter(|room| self.check_memory && room.is_short())
            .map(|room| room.refusal())
    }
}

/// Rows of the dialog, in order.
const NAME: usize = 0;
const DEVICE: usize = 1;
const STEPS: usize = 2;
const SEED: usize = 3;
const OVERRIDES: usize = 4;
const SMOKE: usize = 5;
const CHECK: usize = 6;
const TAGS: usize = 7;

/// What the dialog explains: the command, what each device has room for, what is accepted, the recipe's numbers.
pub fn notes(entry: &Entry, sample: Option<&Sample>) -> Vec<Note> {
    let Some(good) = &entry.good else {
        return vec![];
    };
    let mut notes = vec![Note::new(
        Tone::Neutral,
        format!("trestle train {} --detach", entry.path.display()),
    )];
    match sample {
        None => notes.push(Note::new(Tone::Neutral, "looking for free memory...")),
        Some(sample) => {
            for room in rooms(&good.recipe, sample) {
                let tone = if room.is_short() {
                    Tone::Bad
                } else {
                    Tone::Neutral
                };
                notes.push(Note::new(tone, room.text()));
            }
            if let Err(why) = &sample.gpus {
                notes.push(Note::new(Tone::Neutral, why.clone()));
            }
        }
    }
    if let Some(checked) = &entry.checked {
        let warnings = checked.warnings();
        if warnings > 0 {
            notes.push(Note::new(
                Tone::Bad,
                format!("{warnings} warnings are accepted by launching:"),
            ));
        }
        for problem in checked.problems.iter().take(4) {
            notes.push(Note::new(Tone::Bad, format!("! {}", problem.message)));
        }
    }
    notes.extend(
        good.preview
            .lines()
            .into_iter()
            .map(|line| Note::new(Tone::Neutral, line)),
    );
    notes
}

/// The launch dialog of a recipe that is valid, on a machine as far as it was looked at.
pub fn form(entry: &Entry, sample: Option<&Sample>) -> Option<Form> {
    let good = entry.good.as_ref()?;
    let train = &good.recipe.train;
    let devices = ["auto", "cpu", "cuda"];
    let device = devices
        .iter()
        .position(|d| *d == preview::device_name(train.device))
        .unwrap_or(0);
    let notes = notes(entry, sample);
    Some(Form {
        title: format!("Launch {}", entry.name),
        fields: vec![
            Field::text(
                "run name",
                "",
                "empty: made from the recipe's name and a number",
            ),
            Field::choice("device", &devices, device),
            Field::text("steps", &train.steps.to_string(), ""),
            Field::text("seed", &train.seed.to_string(), ""),
            Field::text("overrides", "", "key=value key=value"),
            Field::toggle("smoke test", false, "10 steps, no checkpoint"),
            Field::toggle("memory check", true, "off: launch what cannot fit"),
            Field::text("tags", "", "words to find the run by"),
        ],
        focus: 0,
        notes,
        accept: "launch".into(),
        error: None,
        purpose: Purpose::Launch(entry.path.clone()),
    })
}

/// What a filled-in dialog asks for: only values that differ from the recipe's become overrides.
///
/// A recipe that takes more memory than its device has free is refused. With overrides only the runtime knows what it takes.
pub fn request(
    recipe: PathBuf,
    form: &Form,
    entry: &Entry,
    sample: Option<&Sample>,
) -> Result<LaunchRequest, String> {
    let good = entry.good.as_ref().ok_or("the recipe is not valid")?;
    let name = form.text(NAME).trim().to_owned();
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(format!("run name `{name}` has to be a folder's name"));
    }
    let mut sets = Vec::new();
    let device = form.text(DEVICE).to_owned();
    if device != preview::device_name(good.recipe.train.device) {
        sets.push(format!("train.device=\"{device}\""));
    }
    for (row, key, value) in [
        (STEPS, "train.steps", good.recipe.train.steps),
        (SEED, "train.seed", good.recipe.train.seed),
    ] {
        let text = form.text(row).trim().replace('_', "");
        let number: u64 = text
            .parse()
            .map_err(|error| format!("{key}: `{text}` is not a whole number ({error})"))?;
        if number != value {
            sets.push(format!("{key}={number}"));
        }
    }
    for set in form.text(OVERRIDES).split_whitespace() {
        if !set.contains('=') {
            return Err(format!("override `{set}` has no `=`"));
        }
        sets.push(set.to_owned());
    }
    if form.is_on(SMOKE) {
        sets.retain(|set| !set.starts_with("train.steps="));
        sets.push("train.steps=10".into());
        sets.push("checkpoint.interval=0".into());
        sets.push("checkpoint.at_end=false".into());
    }
    let check_memory = form.is_on(CHECK);
    let is_short = sample
        .and_then(|sample| chosen(&good.recipe, &device, sample))
        .filter(|room| check_memory && room.is_short());
    if let Some(room) = is_short
        && form.text(OVERRIDES).trim().is_empty()
    {
        return Err(room.refusal());
    }
    if !check_memory && find_key(CHECK_KEY).is_some() {
        sets.push(format!("{CHECK_KEY}=false"));
    }
    Ok(LaunchRequest {
        recipe,
        name: Some(name).filter(|n| !n.is_empty()),
        sets,
        check_memory,
        tags: form
            .text(TAGS)
            .split_whitespace()
            .map(str::to_owned)
            .collect(),
    })
}
