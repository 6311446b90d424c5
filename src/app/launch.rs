//! Launching: what the dialog asks and what is asked of the runtime.

use std::path::PathBuf;

use super::dialog::{Field, Form, Note, Purpose};
use super::recipes::Entry;
use super::{Tone, preview};

/// A run to create and a trainer to start.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LaunchRequest {
    /// The recipe's file.
    pub recipe: PathBuf,
    /// The run's name; none lets the program choose.
    pub name: Option<String>,
    /// `key=value` overrides.
    pub sets: Vec<String>,
}

/// Rows of the dialog, in order.
const NAME: usize = 0;
const DEVICE: usize = 1;
const STEPS: usize = 2;
const SEED: usize = 3;
const OVERRIDES: usize = 4;
const SMOKE: usize = 5;

/// The launch dialog of a recipe that is valid.
pub fn form(entry: &Entry) -> Option<Form> {
    let good = entry.good.as_ref()?;
    let train = &good.recipe.train;
    let devices = ["auto", "cpu", "cuda"];
    let device = devices
        .iter()
        .position(|d| *d == preview::device_name(train.device))
        .unwrap_or(0);
    let mut notes = vec![Note::new(
        Tone::Neutral,
        format!("trestle train {} --detach", entry.path.display()),
    )];
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
        ],
        focus: 0,
        notes,
        accept: "launch".into(),
        error: None,
        purpose: Purpose::Launch(entry.path.clone()),
    })
}

/// What a filled-in dialog asks for: only values that differ from the recipe's become overrides.
pub fn request(recipe: PathBuf, form: &Form, entry: &Entry) -> Result<LaunchRequest, String> {
    let good = entry.good.as_ref().ok_or("the recipe is not valid")?;
    let name = form.text(NAME).trim().to_owned();
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return Err(format!("run name `{name}` has to be a folder's name"));
    }
    let mut sets = Vec::new();
    let device = form.text(DEVICE);
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
    Ok(LaunchRequest {
        recipe,
        name: Some(name).filter(|n| !n.is_empty()),
        sets,
    })
}
