//! Moving about in the leading tree.

use crate::app::mapping::{Content, Pane, State as Mapping};
use crate::app::{Action, State, list};

/// Moves the cursor to a row.
pub(super) fn go(state: &mut State, row: usize) {
    if row != state.mapping.cursor {
        (state.mapping.scroll, state.mapping.rank) = (0, 0);
    }
    state.mapping.cursor = row;
}

/// A vertical movement.
pub(super) fn step(state: &mut State, action: Action) {
    let (cursor, len) = (state.mapping.cursor, state.mapping.len());
    if let Some(row) = list::moved(cursor, len, action, state.half_page()) {
        go(state, row);
    }
}

/// Opens or closes the group under the cursor, or does what `open` says; shows equal ones each; from a tensor goes to its detail.
pub(super) fn toggle(state: &mut State, open: Option<bool>) {
    let screen = &mut state.mapping;
    let is_open = match screen.present().map(|row| row.content) {
        Some(Content::Group { open, .. }) => open,
        Some(Content::Same { node, .. }) => return screen.spread(node),
        Some(Content::Tensor(_)) => {
            screen.focus = Pane::Detail;
            return;
        }
        None => return,
    };
    let path = screen.path(screen.cursor);
    if open.unwrap_or(!is_open) {
        screen.open().insert(path);
    } else {
        screen.open().remove(&path);
    }
}

/// Opens a closed group; from an open one to its first row; else as [`toggle`].
pub(super) fn right(state: &mut State) {
    match state.mapping.present().map(|row| row.content) {
        Some(Content::Group { open: false, .. }) => toggle(state, Some(true)),
        Some(Content::Group { open: true, .. }) => step(state, Action::MoveDown),
        _ => toggle(state, None),
    }
}

/// Closes an open group, else goes to the group around.
pub(super) fn left(state: &mut State) {
    let screen = &state.mapping;
    let Some(row) = screen.present() else {
        return;
    };
    if matches!(row.content, Content::Group { open: true, .. }) && !screen.unmapped {
        toggle(state, Some(false));
        return;
    }
    let is_around = |&at: &usize| screen.row(at).is_some_and(|other| other.depth < row.depth);
    if let Some(around) = (0..screen.cursor).rev().find(is_around) {
        go(state, around);
    }
}

/// Changes what is shown and leaves the cursor on the tensor or group that it was on, where that is still shown.
pub(super) fn keep(state: &mut State, change: impl FnOnce(&mut Mapping)) {
    let before = state.mapping.present().map(|row| row.content);
    change(&mut state.mapping);
    super::refresh(state);
    let same = |content: &Content| match (content, &before) {
        (Content::Tensor(a), Some(Content::Tensor(b))) => a == b,
        (Content::Group { node: a, .. }, Some(Content::Group { node: b, .. })) => a == b,
        _ => false,
    };
    let screen = &state.mapping;
    let found = (0..screen.len()).find(|&at| screen.row(at).is_some_and(|row| same(&row.content)));
    if let Some(at) = found {
        state.mapping.cursor = at;
    }
}

/// Opens the groups around a tensor of the leading side and moves the cursor to it.
pub(super) fn reveal(state: &mut State, name: u32) {
    let Some(model) = state.mapping.model().cloned() else {
        return;
    };
    let tree = model.tree(state.mapping.side);
    let Some(node) = tree.find(name) else {
        return;
    };
    state.mapping.show(node);
    super::refresh(state);
    let screen = &state.mapping;
    let is_it = |at: &usize| {
        screen
            .row(*at)
            .is_some_and(|r| r.content == Content::Tensor(name))
    };
    if let Some(at) = (0..screen.len()).find(is_it) {
        go(state, at);
    }
}
