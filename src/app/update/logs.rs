//! What happens on the Logs screen.

use crate::app::dialog::{Form, Purpose};
use crate::app::logs::State as LogsState;
use crate::app::logs::{Effect as Logs, Message, Place, step_in};
use crate::app::search::Query;
use crate::app::{Action, Effect, Scope, Screen, State, Tone, list};

/// Actions of the status line.
pub const HINTS: &[Action] = &[
    Action::FollowLog,
    Action::Search,
    Action::NextMatch,
    Action::LogLevel,
    Action::LogRank,
    Action::CollapseLines,
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
        Action::LogRank if state.logs.ranks.is_empty() => {
            Some("no rank stands before the lines".into())
        }
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
    let asked = match action {
        Action::FollowLog => {
            logs.follow = !logs.follow;
            logs.follow.then(|| to_end(logs)).flatten()
        }
        Action::LogLevel => {
            logs.filter.level = logs.filter.level.next();
            Some(logs.ask_here())
        }
        Action::LogRank => {
            logs.filter.rank = logs.next_rank();
            Some(logs.ask_here())
        }
        Action::CollapseLines => Some(logs.set_collapse(!logs.collapse)),
        Action::NextMatch | Action::PreviousMatch => find(state, action == Action::NextMatch),
        Action::LogToChart => {
            if let Some(step) = logs.line(logs.cursor).and_then(|line| step_in(&line.text)) {
                super::train::cursor_to_step(state, step);
                state.screen = Screen::Train;
            }
            None
        }
        Action::Copy => {
            let text = logs.line(logs.cursor).map(|line| line.text.clone());
            return text.map(Effect::Copy).into_iter().collect();
        }
        Action::SaveLog => return save(state),
        Action::Bottom => {
            logs.follow = true;
            to_end(logs)
        }
        Action::Top if logs.begin > 0 => {
            logs.follow = false;
            Some(logs.ask(Place::Start))
        }
        _ => {
            if let Some(cursor) = list::moved(logs.cursor, logs.entries.len(), action, half_page) {
                logs.cursor = cursor;
                // Only who goes to the end wants to stay there.
                logs.follow = cursor + 1 >= logs.entries.len() && logs.end >= logs.size;
            }
            logs.ask_near()
        }
    };
    asked.map(Effect::Logs).into_iter().collect()
}

/// Puts the cursor on the last line, which is read first where it is not held.
fn to_end(logs: &mut LogsState) -> Option<Logs> {
    logs.cursor = logs.entries.len().saturating_sub(1);
    (logs.end < logs.size).then(|| logs.ask(Place::End))
}

/// Puts the cursor on the next line that matches; one that is not held is looked for in the file.
fn find(state: &mut State, forward: bool) -> Option<Logs> {
    let logs = &mut state.logs;
    if let Some(row) = logs.match_from(forward) {
        (logs.cursor, logs.follow) = (row, false);
        return logs.ask_near();
    }
    if logs.query.is_empty() {
        return None;
    }
    // From the other end of the file where there is none on this side.
    let from = match forward {
        true if logs.end < logs.size => logs.end,
        true => 0,
        false if logs.begin > 0 => logs.begin,
        false => u64::MAX,
    };
    logs.follow = false;
    let query = logs.query.clone();
    Some(logs.ask(Place::Match {
        from,
        is_forward: forward,
        query,
    }))
}

fn save(state: &mut State) -> Vec<Effect> {
    let Some(run) = state.train.run.clone() else {
        return vec![];
    };
    let logs = &state.logs;
    let (filter, query) = (logs.filter, logs.query.clone());
    let path = run.join("console-filtered.log");
    vec![Effect::Logs(Logs::Save {
        run,
        path,
        filter,
        query,
    })]
}

/// Moves the cursor to the first line of a step.
pub(super) fn go_to_step(state: &mut State, step: u64) -> Vec<Effect> {
    let logs = &mut state.logs;
    logs.follow = false;
    vec![Effect::Logs(logs.ask(Place::Step(step)))]
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
    if logs.query.is_empty() || here {
        return vec![];
    }
    // What is typed is looked for among the lines held, both ways; `n` looks further.
    if let Some(row) = logs.match_from(true).or_else(|| logs.match_from(false)) {
        (logs.cursor, logs.follow) = (row, false);
    }
    let asked = logs.ask_near();
    asked.map(Effect::Logs).into_iter().collect()
}

/// A click in a pane, on a row of it.
pub fn click(state: &mut State, _pane: usize, row: Option<usize>) -> Vec<Effect> {
    let logs = &mut state.logs;
    if let Some(row) = row.filter(|&row| row < logs.entries.len()) {
        (logs.cursor, logs.follow) = (row, false);
    }
    let asked = logs.ask_near();
    asked.map(Effect::Logs).into_iter().collect()
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
    let logs = &mut state.logs;
    match message {
        Message::Lines(run, page) if state.train.run.as_ref() == Some(&run) => {
            let asked = logs.extend(page);
            return asked.map(Effect::Logs).into_iter().collect();
        }
        Message::Restarted(run) if state.train.run.as_ref() == Some(&run) => {
            *logs = logs.anew();
            return vec![Effect::Logs(logs.ask(Place::End))];
        }
        Message::Read {
            run,
            question,
            place,
            page,
            found,
            size,
        } if state.train.run.as_ref() == Some(&run) && question == logs.question => {
            if let Some(page) = page {
                logs.read(place, page, found, size);
                let asked = logs.ask_near();
                return asked.map(Effect::Logs).into_iter().collect();
            }
            logs.is_waiting = false;
            let text = match place {
                Place::Step(step) => format!("no line of the log names step {step}"),
                _ => "no line matches".into(),
            };
            state.say(Tone::Neutral, text);
        }
        Message::Lines(..) | Message::Restarted(_) | Message::Read { .. } => {}
    }
    vec![]
}
