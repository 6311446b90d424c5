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
    let needle = filter.trim().to_lowercase();
    let mut found: Vec<(bool, u32, Line)> = Action::ALL
        .iter()
        .filter_map(|&action| {
            let by_name = query.score(&action.full_name());
            // A sentence holds almost any letters in some order, so there the words have to stand as they are.
            let by_doc = action.doc().to_lowercase().contains(&needle);
            let score = by_name.or(by_doc.then_some(0))?;
            Some((by_name.is_none(), score, line(state, action)))
        })
        .collect();
    found.sort_by_key(|(by_doc, score, line)| {
        let here = line.action.scope() == Scope::On(state.screen);
        let available = line.unavailable.is_none();
        (
            *by_doc,
            !available,
            std::cmp::Reverse(*score),
            !here,
            line.action,
        )
    });
    found.into_iter().map(|(_, _, line)| line).collect()
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
            name: action.name().to_owned(),
            ..line(state, action)
        })
        .collect()
}
