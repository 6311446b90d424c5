//! How recipes differ: two marked ones, the selected one and the marked one, or the selected one and its base.

use std::collections::BTreeMap;

use crate::app::dialog::Note;
use crate::app::recipes::Entry;
use crate::app::{State, Tone};

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
    let lines = lines(&left.values, &right.values);
    let dialog = super::view(title, lines);
    state.dialogs.push(dialog);
}

fn lines(left: &[(String, String)], right: &[(String, String)]) -> Vec<Note> {
    let old: BTreeMap<&str, &str> = left.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
    let new: BTreeMap<&str, &str> = right
        .iter()
        .map(|(k, v)| (k.as_str(), v.as_str()))
        .collect();
    let mut keys: Vec<&str> = right.iter().map(|(k, _)| k.as_str()).collect();
    keys.extend(
        left.iter()
            .map(|(k, _)| k.as_str())
            .filter(|k| !new.contains_key(k)),
    );
    let mut lines = Vec::new();
    for key in keys {
        let (before, after) = (old.get(key), new.get(key));
        if before == after {
            continue;
        }
        lines.push(Note::new(Tone::Neutral, key));
        if let Some(before) = before {
            lines.push(Note::new(Tone::Bad, format!("  - {before}")));
        }
        if let Some(after) = after {
            lines.push(Note::new(Tone::Good, format!("  + {after}")));
        }
    }
    if lines.is_empty() {
        lines.push(Note::new(Tone::Good, "every key has the same value"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_differing_keys_are_listed() {
        let pair = |k: &str, v: &str| (k.to_owned(), v.to_owned());
        let lines = lines(
            &[pair("a", "1"), pair("b", "2"), pair("c", "3")],
            &[pair("a", "1"), pair("b", "4")],
        );
        let text: Vec<&str> = lines.iter().map(|n| n.text.as_str()).collect();
        assert_eq!(text, ["b", "  - 2", "  + 4", "c", "  - 3"]);
    }
}
