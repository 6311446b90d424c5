//! What happens on the Layout screen.

use crate::app::dialog::{Form, Purpose};
use crate::app::layout::Message;
use crate::app::search::Query;
use crate::app::{Action, Effect, State};

/// Actions of the status line.
pub const HINTS: &[Action] = &[Action::GoRecipes];

/// Why an action cannot run now.
pub fn unavailable(_state: &State, action: Action) -> Option<String> {
    (action.scope() != crate::app::Scope::Global).then(|| "not in this version".into())
}

/// Carries out an action of the screen.
pub fn act(_state: &mut State, _action: Action) -> Vec<Effect> {
    vec![]
}

/// The present search.
pub fn query(_state: &State) -> Option<&Query> {
    None
}

/// A new search.
pub fn search(_state: &mut State, _query: Query) -> Vec<Effect> {
    vec![]
}

/// A click in a pane, on a row of it.
pub fn click(_state: &mut State, _pane: usize, _row: Option<usize>) -> Vec<Effect> {
    vec![]
}

/// A form of the screen was filled in.
pub fn accept(_state: &mut State, _form: &Form) -> Result<Vec<Effect>, String> {
    Ok(vec![])
}

/// An answer of a choice of the screen was chosen.
pub fn choose(_state: &mut State, _purpose: &Purpose, _answer: usize) -> Vec<Effect> {
    vec![]
}

/// Takes up what the outside world tells.
pub fn message(_state: &mut State, message: Message) -> Vec<Effect> {
    match message {}
}
