//! How recipes differ: two marked ones, the selected one and the marked one, or the selected one and its base.

use crate::app::dialog::Note;
use crate::app::recipes::Entry;
use crate::app::{State, Tone};
use crate::recipe::{self, Recipe};

/// The two recipes to compare: older or base first.
fn pair(state: &State) -> Option<(&Entry, &Entry)> {
    let recipes = &state.recipes;
    let entry = |at: usize| recipes.entries.get(at);
    match recipes.marked()[..] {
        [a, b, ..] => Some((entry(a)?, entry(b)?)),
        [a] if a != recipes.cursor => Some((entry(a)?, entry(recipes.cursor)?)),
        _ => {
            let selected = recipes.selected()?;
            let base = selected.checked.as_ref()?.files.get(1)?;
            Some((entry(recipes.find(base)?)?, selected))
        }
    }
}

/// Why there is nothing to compare.
pub(super) fn unavailable(state: &State) -> Option<String> {
    let Some((a, b)) = pair(state) else {
        return Some("mark two recipes with space, or select one that extends another".into());
    };
    [a, b]
        .into_iter()
        .find(|entry| entry.good.is_none())
        .map(|entry| format!("{} was never valid", entry.name))
}

/// Shows the keys that differ.
pub(super) fn show(state: &mut State) {
    let Some((a, b)) = pair(state) else {
        return;
    };
    let (Some(left), Some(right)) = (&a.good, &b.good) else {
        return;
    };
    let title = format!("{} -> {}", a.name, b.name);
    let lines = lines(&left.recipe, &right.recipe);
    let dialog = super::view(title, lines);
    state.dialogs.push(dialog);
}

fn lines(left: &Recipe, right: &Recipe) -> Vec<Note> {
    let mut lines = Vec::new();
    for change in recipe::diff_recipes(left, right) {
        let live = if change.key.live { "   live" } else { "" };
        let key = format!("{}{live}", change.key.path);
        lines.push(Note::new(Tone::Neutral, key));
        if let Some(before) = &change.from {
            lines.push(Note::new(Tone::Bad, format!("  - {before}")));
        }
        if let Some(after) = &change.to {
            lines.push(Note::new(Tone::Good, format!("  + {after}")));
        }
    }
    if lines.is_empty() {
        lines.push(Note::new(Tone::Good, "every key has the same value"));
    }
    lines
}
