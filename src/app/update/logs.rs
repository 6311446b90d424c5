//! What happens on the Logs screen.

use crate::app::dialog::{Form, Purpose};
use crate::app::logs::{Effect as Logs, Message, State as LogsState, step_in};
use crate::app::search::Query;
use crate::app::{Action, Effect, Scope, Screen, State, Tone, list};

/// Actions of the status line.
pub const HINTS: &[Action] = &[
    Action::FollowLog,
    Action::Search,
    Action::NextMatch,
    Action::LogLevel,
    Action::LogToChart,
    Action::SaveLog,
    Action::Copy,
    Action::GoTrain,
];

/// Why an action cannot run now.
pub fn unavailable(state: &State, action: Action) -> Option<String> {
    let own = matches!(action.scope(), Scope::On(Screen::Logs)) || action == Action::Copy;
    if own && state.train.run.is_none() {
        return Some("no run is watched; launch a recipe or open a run".into());
    }
    let line = state.logs.line(state.logs.cursor);
    match action {
        Action::LogRank => Some("the local trainer has one rank".into()),
        Action::LogToChart if line.and_then(|l| step_in(&l.text)).is_none() => {
            Some("the line names no step".into())
        }
        Action::Copy if line.is_none() => Some("there is no line".into()),
        Action::Export => Some("`S` saves the shown lines".into()),
        _ => None,
    }
}

/// Carries out an action of the screen.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let half_page = state.half_page();
    let logs = &mut state.logs;
    match action {
        Action::FollowLog => {
            logs.follow = !logs.follow;
            if logs.follow {
                logs.cursor = logs.shown.len().saturating_sub(1);
            }
        }
        Action::LogLevel => {
            logs.level = logs.level.next();
            logs.filter();
        }
        Action::NextMatch | Action::PreviousMatch => find(state, action == Action::NextMatch),
        Action::LogToChart => {
            if let Some(step) = logs.line(logs.cursor).and_then(|line| step_in(&line.text)) {
                super::train::cursor_to_step(state, step);
                state.screen = Screen::Train;
            }
        }
        Action::Copy => {
            let text = logs.line(logs.cursor).map(|line| line.text.clone());
            return text.map(Effect::Copy).into_iter().collect();
        }
        Action::SaveLog => return save(state),
        _ => {
            if let Some(cursor) = list::moved(logs.cursor, logs.shown.len(), action, half_page) {
                logs.cursor = cursor;
                // Only who goes to the end wants to stay there.
                logs.follow = cursor + 1 >= logs.shown.len();
            }
        }
    }
    vec![]
}

fn find(state: &mut State, forward: bool) {
    match state.logs.match_from(forward) {
        Some(row) => {
            state.logs.cursor = row;
            state.logs.follow = false;
        }
        None => state.say(Tone::Neutral, "no line matches"),
    }
}

fn save(state: &mut State) -> Vec<Effect> {
    let Some(run) = &state.train.run else {
        return vec![];
    };
    let logs = &state.logs;
    let lines = (0..logs.shown.len()).filter_map(|row| logs.line(row));
    let mut text = String::new();
    for line in lines.filter(|line| logs.query.is_match(&line.text)) {
        text.push_str(&line.text);
        text.push('\n');
    }
    let path = run.join("console-filtered.log");
    vec![Effect::Logs(Logs::Save { path, text })]
}

/// Moves the cursor to the first line of a step.
pub(super) fn go_to_step(state: &mut State, step: u64) {
    let logs = &mut state.logs;
    let found = (0..logs.shown.len()).find(|&row| {
        logs.line(row)
            .and_then(|l| step_in(&l.text))
            .is_some_and(|s| s >= step)
    });
    match found {
        Some(row) => {
            logs.cursor = row;
            logs.follow = false;
        }
        None => state.say(
            Tone::Neutral,
            format!("no line of the log names step {step}"),
        ),
    }
}

/// The present search.
pub fn query(state: &State) -> Option<&Query> {
    Some(&state.logs.query)
}

/// A new search: the cursor goes to the first match from where it is.
pub fn search(state: &mut State, query: Query) -> Vec<Effect> {
    let logs = &mut state.logs;
    logs.query = query;
    let here = logs
        .line(logs.cursor)
        .is_some_and(|line| logs.query.is_match(&line.text));
    if !logs.query.is_empty()
        && !here
        && let Some(row) = logs.match_from(true)
    {
        logs.cursor = row;
        logs.follow = false;
    }
    vec![]
}

/// A click in a pane, on a row of it.
pub fn click(state: &mut State, _pane: usize, row: Option<usize>) -> Vec<Effect> {
    if let Some(row) = row.filter(|&row| row < state.logs.shown.len()) {
        state.logs.cursor = row;
        state.logs.follow = false;
    }
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
pub fn message(state: &mut State, message: Message) -> Vec<Effect> {
    match message {
        Message::Lines(run, lines) if state.train.run.as_ref() == Some(&run) => {
            state.logs.extend(lines);
        }
        Message::Restarted(run) if state.train.run.as_ref() == Some(&run) => {
            let LogsState { level, query, .. } = std::mem::take(&mut state.logs);
            state.logs = LogsState {
                level,
                query,
                ..LogsState::default()
            };
        }
        Message::Lines(..) | Message::Restarted(_) => {}
    }
    vec![]
}
