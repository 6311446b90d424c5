//! What happens on the Mapping screen.

use crate::app::dialog::{Form, Purpose};
use crate::app::mapping::{Content, Message, Pane, Row, model, rows};
use crate::app::search::Query;
use crate::app::{Action, Effect, State, list};

/// Actions of the status line.
pub const HINTS: &[Action] = &[
    Action::Open,
    Action::CollapseLayers,
    Action::Search,
    Action::Copy,
    Action::GoRecipes,
    Action::GoLayout,
];

/// Why an action cannot run now.
pub fn unavailable(state: &State, action: Action) -> Option<String> {
    if state.selected_recipe().is_none() {
        return match action {
            Action::Open | Action::CollapseLayers | Action::Copy => {
                Some("no valid recipe is selected".into())
            }
            _ => later(action),
        };
    }
    later(action)
}

/// What this version has no view for yet.
fn later(action: Action) -> Option<String> {
    match action {
        Action::OtherSide
        | Action::UnmappedOnly
        | Action::ShardGrid
        | Action::VerifyRoundTrip
        | Action::NextUnmapped
        | Action::PreviousUnmapped => Some("Megatron's side is not in this version".into()),
        Action::ValueStatistics => Some("reading values is not in this version".into()),
        Action::Export => Some("nothing to export here".into()),
        _ => None,
    }
}

/// Carries out an action of the screen.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::NextPane | Action::PreviousPane => {
            state.mapping.focus = match state.mapping.focus {
                Pane::Tree => Pane::Detail,
                Pane::Detail => Pane::Tree,
            };
        }
        Action::Back => state.mapping.focus = Pane::Tree,
        Action::CollapseLayers => {
            let key = under_cursor(state).map(|row| row.key);
            state.mapping.collapsed = !state.mapping.collapsed;
            follow(state, key.as_deref());
        }
        Action::Copy => {
            let name = under_cursor(state).map(|row| name(state, &row));
            return name.map(Effect::Copy).into_iter().collect();
        }
        _ if state.mapping.focus == Pane::Detail => scroll(state, action),
        Action::Open => toggle(state, None),
        Action::MoveRight => right(state),
        Action::MoveLeft => left(state),
        Action::NextMatch => step(state, Action::MoveDown),
        Action::PreviousMatch => step(state, Action::MoveUp),
        _ => step(state, action),
    }
    vec![]
}

/// The present search.
pub fn query(state: &State) -> Option<&Query> {
    Some(&state.mapping.query)
}

/// A new search; when it is over, the tree opens at the tensor that was found.
pub fn search(state: &mut State, query: Query) -> Vec<Effect> {
    let found = under_cursor(state).filter(|_| !state.mapping.query.is_empty());
    state.mapping.query = query;
    if !state.mapping.query.is_empty() {
        state.mapping.cursor = 0;
        state.mapping.scroll = 0;
    } else if let Some(row) = found {
        reveal(state, &row.key);
    }
    clamp(state);
    vec![]
}

/// A click in a pane, on a row of it.
pub fn click(state: &mut State, pane: usize, row: Option<usize>) -> Vec<Effect> {
    if pane == Pane::Detail as usize {
        state.mapping.focus = Pane::Detail;
        return vec![];
    }
    state.mapping.focus = Pane::Tree;
    if let Some(row) = row {
        if row == state.mapping.cursor {
            toggle(state, None);
        } else {
            state.mapping.cursor = row;
            state.mapping.scroll = 0;
            clamp(state);
        }
    }
    vec![]
}

/// A form of the screen was filled in; there are none.
pub fn accept(_state: &mut State, _form: &Form) -> Result<Vec<Effect>, String> {
    Ok(vec![])
}

/// An answer of a choice of the screen was chosen; there are none.
pub fn choose(_state: &mut State, _purpose: &Purpose, _answer: usize) -> Vec<Effect> {
    vec![]
}

/// Takes up what the outside world tells.
pub fn message(_state: &mut State, message: Message) -> Vec<Effect> {
    match message {}
}

fn present_rows(state: &State) -> Vec<Row> {
    model(state).map_or_else(Vec::new, |model| rows(&model, &state.mapping))
}

fn under_cursor(state: &State) -> Option<Row> {
    let mut rows = present_rows(state);
    let at = state.mapping.cursor.min(rows.len().checked_sub(1)?);
    Some(rows.swap_remove(at))
}

/// The full name of what a row stands for.
fn name(state: &State, row: &Row) -> String {
    match (&row.content, model(state)) {
        (Content::Tensor(index), Some(model)) => model.tensors[*index].name.clone(),
        (Content::Same { list, .. }, _) => list.clone(),
        _ => row.label.clone(),
    }
}

fn clamp(state: &mut State) {
    let last = present_rows(state).len().saturating_sub(1);
    state.mapping.cursor = state.mapping.cursor.min(last);
}

fn step(state: &mut State, action: Action) {
    let len = present_rows(state).len();
    if let Some(cursor) = list::moved(state.mapping.cursor, len, action, state.half_page()) {
        state.mapping.cursor = cursor;
        state.mapping.scroll = 0;
    }
}

fn scroll(state: &mut State, action: Action) {
    // The view shows no line past the last one.
    if let Some(scroll) = list::moved(state.mapping.scroll, 64, action, state.half_page()) {
        state.mapping.scroll = scroll;
    } else if action == Action::MoveLeft {
        state.mapping.focus = Pane::Tree;
    }
}

/// Opens or closes the group under the cursor, or does what `open` says.
fn toggle(state: &mut State, open: Option<bool>) {
    let Some(row) = under_cursor(state) else {
        return;
    };
    let Content::Group { open: is_open, .. } = row.content else {
        return;
    };
    if open.unwrap_or(!is_open) {
        state.mapping.open.insert(row.key);
    } else {
        state.mapping.open.remove(&row.key);
    }
}

/// Opens a closed group; from an open one to its first row; from a tensor to its detail.
fn right(state: &mut State) {
    match under_cursor(state).map(|row| row.content) {
        Some(Content::Group { open: false, .. }) => toggle(state, Some(true)),
        Some(Content::Group { open: true, .. }) => step(state, Action::MoveDown),
        Some(_) => state.mapping.focus = Pane::Detail,
        None => {}
    }
}

/// Closes an open group, else goes to the group around.
fn left(state: &mut State) {
    let rows = present_rows(state);
    let Some(row) = rows.get(state.mapping.cursor) else {
        return;
    };
    if matches!(row.content, Content::Group { open: true, .. }) {
        toggle(state, Some(false));
        return;
    }
    let around = rows[..state.mapping.cursor]
        .iter()
        .rposition(|other| other.depth < row.depth);
    if let Some(around) = around {
        state.mapping.cursor = around;
        state.mapping.scroll = 0;
    }
}

/// Moves the cursor to the row of `key`, or leaves it inside the rows.
fn follow(state: &mut State, key: Option<&str>) {
    let rows = present_rows(state);
    if let Some(at) = key.and_then(|key| rows.iter().position(|row| row.key == key)) {
        state.mapping.cursor = at;
    }
    clamp(state);
}

/// Opens the groups around a tensor and moves the cursor to it.
fn reveal(state: &mut State, name: &str) {
    let Some(model) = model(state) else {
        return;
    };
    // Every group of the full tree is open in a copy of the state; those around the tensor open in the real one.
    let around = |collapsed: bool| -> Option<Vec<String>> {
        let mut everything = crate::app::mapping::State {
            collapsed,
            ..Default::default()
        };
        loop {
            let rows = rows(&model, &everything);
            let closed: Vec<String> = rows
                .iter()
                .filter(|row| matches!(row.content, Content::Group { open: false, .. }))
                .map(|row| row.key.clone())
                .collect();
            if closed.is_empty() {
                let at = rows.iter().position(|row| row.key == name)?;
                let mut depth = rows[at].depth;
                let mut keys = Vec::new();
                for row in rows[..at].iter().rev() {
                    if row.depth < depth {
                        depth = row.depth;
                        keys.push(row.key.clone());
                    }
                }
                return Some(keys);
            }
            everything.open.extend(closed);
        }
    };
    let collapsed = state.mapping.collapsed;
    let (keys, collapsed) = match around(collapsed) {
        Some(keys) => (keys, collapsed),
        // A layer that the collapsed tree shows as "same as" is only in the full one.
        None => (around(false).unwrap_or_default(), false),
    };
    state.mapping.collapsed = collapsed;
    state.mapping.open.extend(keys);
    follow(state, Some(name));
}
