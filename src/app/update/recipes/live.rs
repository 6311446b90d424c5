//! A recipe was saved while a trainer works on it: the live keys that differ are offered to the trainer, never applied unasked.

use crate::app::dialog::{Answer, Choice, Dialog, Note, Purpose};
use crate::app::{Effect, Screen, State, Tone};
use crate::event::RequestKind;

/// A live key whose value in the recipe is not the trainer's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Dotted key.
    pub key: &'static str,
    /// The trainer's value, as TOML.
    pub from: String,
    /// The recipe's value, as TOML.
    pub to: String,
}

/// What differs between the selected recipe and the watched trainer, if it was launched from this recipe and lives.
pub fn differences(state: &State) -> Vec<Difference> {
    let recipes = &state.recipes;
    let launched_from_it = recipes
        .selected()
        .is_some_and(|entry| state.train.recipe() == Some(entry.path.as_path()));
    if !state.train.is_alive || !launched_from_it {
        return Vec::new();
    }
    let Some(good) = state.selected_recipe() else {
        return Vec::new();
    };
    let value = |key: &str| good.live.iter().find(|(k, _)| *k == key).map(|(_, v)| v);
    state
        .train
        .live
        .iter()
        .filter_map(|(key, from)| {
            let to = value(key)?;
            (to != from).then(|| Difference {
                key,
                from: from.clone(),
                to: to.clone(),
            })
        })
        .collect()
}

/// Why nothing can be applied.
pub(super) fn unavailable(state: &State) -> Option<String> {
    differences(state)
        .is_empty()
        .then(|| "no running trainer of this recipe has other live values".into())
}

/// Asks whether the trainer shall take the recipe's values.
pub(super) fn ask(state: &mut State) {
    let differences = differences(state);
    let run = state.train.run.clone().unwrap_or_default();
    let name = run.file_name().unwrap_or_default().to_string_lossy();
    let choice = Choice {
        title: format!("Apply to {name}"),
        notes: differences
            .iter()
            .map(|d| Note::new(Tone::Neutral, format!("{}  {} -> {}", d.key, d.from, d.to)))
            .collect(),
        answers: vec![
            Answer::new('y', "apply", "from the trainer's next step on"),
            Answer::new('n', "leave the trainer as it is", ""),
        ],
        selected: 0,
        purpose: Purpose::Screen(Screen::Recipes, "live", run.clone()),
    };
    state.dialogs.push(Dialog::Choice(choice));
}

/// Asks the trainer for the changes, unless another run is watched by now.
pub(super) fn choose(state: &mut State, purpose: &Purpose, answer: usize) -> Vec<Effect> {
    let Purpose::Screen(_, _, run) = purpose else {
        return vec![];
    };
    if answer != 0 || state.train.run.as_ref() != Some(run) {
        return vec![];
    }
    let effects: Vec<Effect> = differences(state)
        .into_iter()
        .map(|d| Effect::Request {
            run: run.clone(),
            kind: RequestKind::Set {
                key: d.key.to_owned(),
                value: d.to,
            },
        })
        .collect();
    state.say(Tone::Neutral, "asked; the trainer answers at its next step");
    effects
}
