//! Keys of the search box, and where a screen keeps its query.

use tui_input::InputRequest;

use super::{layout, logs, mapping, recipes, runs, train};
use crate::app::search::Query;
use crate::app::{Code, Effect, Key, Screen, State};

/// The query of the present screen, if it can be searched.
pub(super) fn query(state: &State) -> Option<&Query> {
    match state.screen {
        Screen::Recipes => recipes::query(state),
        Screen::Mapping => mapping::query(state),
        Screen::Layout => layout::query(state),
        Screen::Train => train::query(state),
        Screen::Runs => runs::query(state),
        Screen::Logs => logs::query(state),
    }
}

/// Gives the present screen a query.
pub(super) fn set(state: &mut State, query: Query) -> Vec<Effect> {
    match state.screen {
        Screen::Recipes => recipes::search(state, query),
        Screen::Mapping => mapping::search(state, query),
        Screen::Layout => layout::search(state, query),
        Screen::Train => train::search(state, query),
        Screen::Runs => runs::search(state, query),
        Screen::Logs => logs::search(state, query),
    }
}

/// A key while the box is open; `None` if it is not.
pub(super) fn key(state: &mut State, key: Key) -> Option<Vec<Effect>> {
    let mut search = state.search.take()?;
    match key.code {
        Code::Enter => return Some(vec![]),
        Code::Esc => return Some(set(state, search.before)),
        Code::Char('c') if key.ctrl => return Some(set(state, search.before)),
        Code::Tab => search.mode = search.mode.next(),
        _ => {
            if let Some(request) = request(key) {
                search.input.handle(request);
            }
        }
    }
    let now = Query {
        text: search.input.value().to_owned(),
        mode: search.mode,
    };
    state.search = Some(search);
    Some(set(state, now))
}

/// What a key does in a line of text.
pub(super) fn request(key: Key) -> Option<InputRequest> {
    use InputRequest as R;
    Some(match (key.code, key.ctrl, key.alt) {
        (Code::Char('a'), true, _) | (Code::Home, ..) => R::GoToStart,
        (Code::Char('e'), true, _) | (Code::End, ..) => R::GoToEnd,
        (Code::Char('u'), true, _) => R::DeleteLine,
        (Code::Char('w'), true, _) => R::DeletePrevWord,
        (Code::Char('k'), true, _) => R::DeleteTillEnd,
        (Code::Left, false, false) => R::GoToPrevChar,
        (Code::Right, false, false) => R::GoToNextChar,
        (Code::Left, ..) => R::GoToPrevWord,
        (Code::Right, ..) => R::GoToNextWord,
        (Code::Backspace, false, false) => R::DeletePrevChar,
        (Code::Backspace, ..) => R::DeletePrevWord,
        (Code::Delete, ..) => R::DeleteNextChar,
        (Code::Char(c), false, false) => R::InsertChar(c),
        _ => return None,
    })
}
