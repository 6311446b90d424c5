//! What the palette and the help list: made from the action table.

use super::search::{Query, SearchMode};
use super::{Action, Scope, Screen, State, update};

/// One line of the palette.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The action.
    pub action: Action,
    /// Its name with its scope.
    pub name: String,
    /// Its first key.
    pub key: String,
    /// Why it cannot run now, if it cannot.
    pub unavailable: Option<String>,
}

fn line(state: &State, action: Action) -> Line {
    Line {
        action,
        name: action.full_name(),
        key: state.keymap.key(action),
        unavailable: update::unavailable(state, action),
    }
}

/// Actions that match `filter`, best first; those of other screens come with the reason why they cannot run here.
pub fn matches(state: &State, filter: &str) -> Vec<Line> {
    let query = Query {
        text: filter.to_owned(),
        mode: SearchMode::Fuzzy,
    };
    let mut found: Vec<(u32, Line)> = Action::ALL
        .iter()
        .filter_map(|&action| {
            let score = query.score(&format!("{} {}", action.full_name(), action.doc()))?;
            let named = query.score(&action.full_name()).map_or(0, |s| 2 * s);
            Some((score + named, line(state, action)))
        })
        .collect();
    found.sort_by_key(|(score, line)| {
        let here = line.action.scope() == Scope::On(state.screen);
        (
            line.unavailable.is_some(),
            std::cmp::Reverse(*score),
            !here,
            line.action,
        )
    });
    found.into_iter().map(|(_, line)| line).collect()
}

/// The keys of `screen` for the help overlay: the screen's own first, then the global ones.
pub fn help(state: &State, screen: Screen, filter: &str) -> Vec<Line> {
    let query = Query {
        text: filter.to_owned(),
        mode: SearchMode::Fuzzy,
    };
    [Scope::On(screen), Scope::Global]
        .into_iter()
        .flat_map(|scope| Action::ALL.iter().filter(move |a| a.scope() == scope))
        .filter(|action| query.is_match(&format!("{} {}", action.name(), action.doc())))
        .map(|&action| Line {
            key: state.keymap.keys(action).join(" "),
            ..line(state, action)
        })
        .collect()
}
