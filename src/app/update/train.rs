//! What happens on the Train screen.

mod details;
mod dialogs;

use std::path::PathBuf;

use crate::app::dialog::{Form, Purpose};
use crate::app::search::Query;
use crate::app::train::{Message, Opened, Pane, request, step_of};
use crate::app::{Action, Effect, Scope, Screen, State, Tone, list, logs, train};
use crate::event::{Event, Record, RequestKind};
use crate::run::Status;
use crate::run::series::Axis;

pub use dialogs::{accept, ask_fork, ask_resume, choose, fork_form, read_fork};

/// Actions of the status line.
pub const HINTS: &[Action] = &[
    Action::PauseRun,
    Action::StopRun,
    Action::CheckpointNow,
    Action::LiveEdit,
    Action::ResumeRun,
    Action::RunDetails,
    Action::ZoomIn,
    Action::CycleScale,
    Action::CycleXAxis,
    Action::FollowTail,
    Action::GoRuns,
];

/// Why an action cannot run now.
pub fn unavailable(state: &State, action: Action) -> Option<String> {
    let train = &state.train;
    let needs_run = matches!(action.scope(), Scope::On(Screen::Train)) && train.run.is_none();
    if needs_run {
        return Some("no run is watched; launch a recipe or open a run".into());
    }
    let asks_trainer = matches!(
        action,
        Action::PauseRun
            | Action::CheckpointNow
            | Action::StopRun
            | Action::LiveEdit
            | Action::MarkNote
    );
    let steers = asks_trainer || matches!(action, Action::ResumeRun | Action::ForkRun);
    match action {
        _ if steers && train.info.watched.is_some() => Some("another program trains it".into()),
        _ if steers && train.summary.launched.is_some() => {
            Some("its job is stopped and submitted again on the Runs screen".into())
        }
        _ if asks_trainer && !train.is_alive => Some(format!(
            "no trainer works on this run ({})",
            train.status().word()
        )),
        Action::LiveEdit if train.live.is_empty() => Some("the run's recipe cannot be read".into()),
        Action::ResumeRun if train.is_alive => Some("its trainer is at work".into()),
        Action::ForkRun if train.summary.checkpoint_step.is_none() => {
            Some("it has no checkpoint yet".into())
        }
        Action::PanLeft | Action::PanRight if !train.view.is_zoomed() => {
            Some("the whole run is shown; zoom in first".into())
        }
        Action::Export | Action::Copy if train.run.is_none() => {
            Some("no run is watched; launch a recipe or open a run".into())
        }
        Action::Search => Some("nothing to search here; the Logs screen has the console".into()),
        _ => None,
    }
}

/// Carries out an action of the screen.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    let range = state.train.range();
    // One column of the main chart, whose width is about two thirds of the terminal.
    let column = 1.0 / f64::from(state.size.width).mul_add(0.62, -9.0).max(8.0);
    let half_page = state.half_page();
    let train = &mut state.train;
    match action {
        Action::NextPane => train.focus = neighbour(train.focus, 1),
        Action::PreviousPane => train.focus = neighbour(train.focus, -1),
        Action::MoveLeft => train.view.move_cursor(-column, range),
        Action::MoveRight => train.view.move_cursor(column, range),
        Action::PanLeft => train.view.pan(-0.5, range),
        Action::PanRight => train.view.pan(0.5, range),
        Action::ZoomIn => train.view.zoom(0.5, range),
        Action::ZoomOut => train.view.zoom(2.0, range),
        Action::ZoomReset => train.view.reset(),
        Action::CycleScale => train.view.cycle_scale(),
        Action::CycleXAxis => train.view.cycle_axis(),
        Action::SmoothLess | Action::SmoothMore => {
            train.view.smooth(action == Action::SmoothMore);
            train.history.train.set_smoothing(train.view.smoothing());
        }
        Action::ToggleBand => train.view.band = !train.view.band,
        Action::InspectAll => train.view.inspect = !train.view.inspect,
        Action::FollowTail => {
            train.view.follow = !train.view.follow;
            let word = if train.view.follow { "on" } else { "off" };
            state.say(Tone::Neutral, format!("follow {word}"));
        }
        Action::OverlayMetric => {
            let metrics = train.metrics();
            let at = metrics.iter().position(|&m| m == train.metric).unwrap_or(0);
            train.metric = metrics[(at + 1) % metrics.len()];
        }
        Action::Open => return open_log(state),
        Action::Back => train.view.cursor = None,
        Action::PauseRun => {
            let kind = if train.status() == Status::Paused {
                RequestKind::Continue
            } else {
                RequestKind::Pause
            };
            return ask(state, kind);
        }
        Action::CheckpointNow => return ask(state, RequestKind::Checkpoint),
        Action::StopRun => dialogs::ask_stop(state),
        Action::LiveEdit => dialogs::ask_live(state),
        Action::AlertRules => dialogs::show_alerts(state),
        Action::RunDetails => details::show(state),
        Action::MarkNote => dialogs::ask_note(state),
        Action::Export => {
            let (id, run) = (train.info.id.clone(), train.run.clone().unwrap_or_default());
            let form = super::runs::export_form(&id, &id, Screen::Train, run);
            state.dialogs.push(crate::app::Dialog::Form(form));
        }
        Action::Copy => {
            let path = train.run.as_ref().map(|run| run.display().to_string());
            return path.map(Effect::Copy).into_iter().collect();
        }
        Action::ResumeRun => return ask_resume(state),
        Action::ForkRun => ask_fork(state),
        _ => {
            let events = train.events().count();
            if let Some(moved) = list::moved(train.event, events, action, half_page) {
                train.focus = Pane::Events;
                train.event = moved;
                cursor_to_event(state);
            }
        }
    }
    vec![]
}

fn neighbour(pane: Pane, by: isize) -> Pane {
    let at = Pane::ALL.iter().position(|&p| p == pane).unwrap_or(0) as isize;
    Pane::ALL[(at + by).rem_euclid(Pane::ALL.len() as isize) as usize]
}

/// Asks the watched run's trainer for something.
fn ask(state: &mut State, kind: RequestKind) -> Vec<Effect> {
    let Some(run) = &state.train.run else {
        return vec![];
    };
    let effect = request(run, kind);
    state.say(Tone::Neutral, "asked; the trainer answers at its next step");
    vec![effect]
}

/// Moves the charts' cursor to the event under the events' cursor.
fn cursor_to_event(state: &mut State) {
    let train = &state.train;
    let step = train
        .events()
        .nth(train.event)
        .and_then(|record| step_of(&record.event));
    if let Some(step) = step {
        cursor_to_step(state, step);
    }
}

/// Moves the charts' cursor to a step.
pub fn cursor_to_step(state: &mut State, step: u64) {
    let range = state.train.range();
    let train = &mut state.train;
    let table = &train.history.train;
    if table.rows() == 0 {
        return;
    }
    let row = table.row_at(Axis::Step, step as f64).min(table.rows() - 1);
    let x = table.x(train.view.axis, row);
    train.view.put_cursor(x, range);
}

/// Goes to the log line of the step under the cursor.
fn open_log(state: &mut State) -> Vec<Effect> {
    let train = &state.train;
    let step = train.view.cursor.and_then(|x| {
        let table = &train.history.train;
        let row = table.row_at(train.view.axis, x);
        (row < table.rows()).then(|| table.step(row))
    });
    state.screen = Screen::Logs;
    match step {
        Some(step) => super::logs::go_to_step(state, step),
        None => vec![],
    }
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
pub fn click(state: &mut State, pane: usize, row: Option<usize>) -> Vec<Effect> {
    if let Some(&pane) = Pane::ALL.get(pane) {
        state.train.focus = pane;
        if let (Pane::Events, Some(row)) = (pane, row) {
            state.train.event = row;
            cursor_to_event(state);
        }
    }
    vec![]
}

/// Takes up what the outside world tells.
pub fn message(state: &mut State, message: Message) -> Vec<Effect> {
    let of = match &message {
        Message::Opened(run, _)
        | Message::Records(run, _)
        | Message::Alive(run, _)
        | Message::Sensed(run, ..) => run,
    };
    // What comes late from a run that is no longer watched says nothing.
    if state.train.run.as_ref() != Some(of) {
        return vec![];
    }
    match message {
        Message::Opened(_, Ok(opened)) => take(state, *opened),
        Message::Opened(_, Err(why)) => {
            state.say(Tone::Bad, why.clone());
            state.train.unreadable = Some(why);
        }
        Message::Records(_, records) => records_came(state, records),
        Message::Alive(_, is_alive) => state.train.is_alive = is_alive,
        Message::Sensed(_, name, sample) => state.train.machine.push(name, *sample),
    }
    vec![]
}

fn take(state: &mut State, opened: Opened) {
    let train = &mut state.train;
    train.recipe.clone_from(&opened.info.source);
    train.info = opened.info;
    train.history = opened.history;
    train.summary = opened.summary;
    train.live = opened.live;
    train.alerts = opened.alerts;
    train.unreadable = None;
    train.history.train.set_smoothing(train.view.smoothing());
    train.facts = train::Facts::default();
    for record in &train.history.events {
        train.facts.take(&record.event);
        note_live_change(&mut train.live, record);
    }
}

fn note_live_change(live: &mut [(&'static str, String)], record: &Record) {
    if let Event::LiveChange { key, to, .. } = &record.event
        && let Some((_, value)) = live.iter_mut().find(|(k, _)| k == key)
    {
        value.clone_from(to);
    }
}

fn records_came(state: &mut State, records: Vec<Record>) {
    let mut said = None;
    for record in &records {
        state.train.summary.add(record);
        state.train.facts.take(&record.event);
        note_live_change(&mut state.train.live, record);
        said = match &record.event {
            Event::Answer { ok, message, .. } => {
                Some((if *ok { Tone::Good } else { Tone::Bad }, message.clone()))
            }
            Event::Warning { message, .. } => Some((Tone::Bad, message.clone())),
            Event::Failed { error, .. } => Some((Tone::Bad, format!("the run failed: {error}"))),
            Event::Finished { reason, .. } => Some((Tone::Good, format!("the run is {reason}"))),
            _ => said,
        };
    }
    let listed = state.train.events().count();
    state.train.history.extend(records);
    // The cursor stays on its event while newer ones come above it.
    if state.train.event > 0 {
        state.train.event += state.train.events().count().saturating_sub(listed);
    }
    if let Some((tone, text)) = said {
        state.say(tone, text);
    }
}

/// Watches a run.
pub fn open(state: &mut State, run: PathBuf) -> Vec<Effect> {
    let (focus, view) = (state.train.focus, state.train.view.of_another_run());
    let machine = std::mem::take(&mut state.train.machine);
    state.train = train::State {
        run: Some(run.clone()),
        focus,
        view,
        machine,
        ..train::State::default()
    };
    // A number of a question is never used again, so that no answer is taken for another run's.
    state.logs = state.logs.anew();
    let end = state.logs.ask(logs::Place::End);
    vec![
        Effect::Train(train::Effect::Follow(run.clone())),
        Effect::Logs(logs::Effect::Follow(run)),
        Effect::Logs(end),
    ]
}

/// Whether a form's or choice's answer belongs to what is still watched.
fn is_watched(state: &State, purpose: &Purpose) -> bool {
    matches!(purpose, Purpose::Screen(_, _, run) if state.train.run.as_ref() == Some(run))
}

/// What a purpose is about.
fn about(form: &Form) -> &'static str {
    match &form.purpose {
        Purpose::Screen(_, about, _) => about,
        _ => "",
    }
}
