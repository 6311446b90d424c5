//! What happens on the Runs screen.

mod files;

use std::path::PathBuf;

use crate::app::dialog::{Answer, Choice, Form, Note, Purpose, View};
use crate::app::runs::{Effect as Runs, Message, Pane};
use crate::app::search::Query;
use crate::app::train::{Effect as Train, metrics_of};
use crate::app::{Action, Dialog, Effect, Scope, Screen, State, Tone, list};
use crate::event::Launched;
use crate::run::series::Metric;

pub use files::{export_form, read_export};

/// Actions of the status line.
pub const HINTS: &[Action] = &[
    Action::Open,
    Action::MarkRun,
    Action::Baseline,
    Action::DiffRunRecipes,
    Action::CompareMetric,
    Action::DifferingKeys,
    Action::ResumeThisRun,
    Action::ForkThisRun,
    Action::TagRun,
    Action::Export,
    Action::WatchPath,
    Action::DeleteRun,
];

/// How often runs are listed again while one is trained, in milliseconds.
const AGAIN: u64 = 2000;

/// Why an action cannot run now.
pub fn unavailable(state: &State, action: Action) -> Option<String> {
    let selected = state.runs.selected();
    let own = matches!(action.scope(), Scope::On(Screen::Runs)) || action == Action::Open;
    if own && selected.is_none() && action != Action::WatchPath {
        return Some("there is no run".into());
    }
    let is_live = selected.is_some_and(|(_, summary)| summary.status.is_live());
    let is_watched = selected.is_some_and(|(run, _)| run.info.watched.is_some());
    if let Some(job) = state.runs.job() {
        match action {
            Action::ResumeThisRun | Action::DeleteRun if !job.is_over() => {
                return Some("its job is not over: S stops it".into());
            }
            Action::EndJob if job.is_over() => return Some("its job is over".into()),
            Action::ResumeThisRun | Action::DeleteRun | Action::EndJob => return None,
            Action::ForkThisRun => {
                return Some("its checkpoints are Megatron's: launch a recipe with weights".into());
            }
            _ => {}
        }
    }
    match action {
        Action::EndJob => Some("it has no job in a queue".into()),
        Action::ResumeThisRun | Action::ForkThisRun if is_watched => {
            Some("another program trains it".into())
        }
        Action::ResumeThisRun | Action::DeleteRun if is_live => {
            Some("its trainer is at work".into())
        }
        Action::ForkThisRun if selected.is_some_and(|(_, s)| s.checkpoint_step.is_none()) => {
            Some("it has no checkpoint yet".into())
        }
        Action::DiffRunRecipes if state.runs.compared().len() < 2 => {
            Some("mark two runs first".into())
        }
        Action::Export | Action::Copy if selected.is_none() => Some("there is no run".into()),
        _ => None,
    }
}

/// Carries out an action of the screen.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    if action == Action::WatchPath {
        files::ask_watch(state);
        return vec![];
    }
    let half_page = state.half_page();
    let Some((run, summary)) = state.runs.selected() else {
        return vec![];
    };
    let (path, id, name) = (run.path.clone(), run.info.id.clone(), run.info.name.clone());
    let checkpoint = summary.checkpoint_step;
    match action {
        Action::Open => {
            state.screen = Screen::Train;
            return super::train::open(state, path);
        }
        Action::MarkRun => {
            if !state.runs.marked.remove(&path) {
                state.runs.marked.insert(path);
            }
            let last = state.runs.rows().len().saturating_sub(1);
            state.runs.cursor = (state.runs.cursor + 1).min(last);
        }
        Action::Baseline => {
            let is_baseline = state.runs.baseline.as_ref() == Some(&path);
            state.runs.baseline = (!is_baseline).then_some(path);
        }
        Action::DifferingKeys => state.runs.differing = !state.runs.differing,
        Action::CompareMetric => {
            let metrics = compared_metrics(state);
            let at = metrics
                .iter()
                .position(|&m| m == state.runs.metric)
                .unwrap_or(0);
            state.runs.metric = metrics[(at + 1) % metrics.len()];
        }
        Action::DiffRunRecipes => show_difference(state),
        Action::ResumeThisRun if state.runs.job().is_some() => {
            state.say(Tone::Neutral, format!("submitting {id} again"));
            return vec![Effect::Runs(Runs::Resubmit(path))];
        }
        Action::EndJob => state
            .dialogs
            .push(Dialog::Choice(end_choice(state, &id, path))),
        Action::ResumeThisRun => {
            state.screen = Screen::Train;
            let mut effects = super::train::open(state, path.clone());
            effects.push(Effect::Train(Train::Resume(path)));
            state.say(Tone::Neutral, format!("starting a trainer for {id}"));
            return effects;
        }
        Action::ForkThisRun => {
            let purpose = Purpose::Screen(Screen::Runs, "fork", path);
            let form = super::train::fork_form(&id, &name, checkpoint.unwrap_or(0), purpose);
            state.dialogs.push(Dialog::Form(form));
        }
        Action::DeleteRun => state.dialogs.push(Dialog::Choice(Choice {
            title: format!("Delete {id}"),
            notes: vec![Note::new(
                Tone::Neutral,
                "moves its folder to .trash beside the runs",
            )],
            answers: vec![
                Answer::new('n', "keep it", ""),
                Answer::new('y', format!("delete {id}"), "with its checkpoints"),
            ],
            selected: 0,
            purpose: Purpose::Screen(Screen::Runs, "delete", path),
        })),
        Action::TagRun => files::ask_tags(state),
        Action::Export => files::ask_export(state),
        Action::Copy => return vec![Effect::Copy(path.display().to_string())],
        Action::NextPane | Action::PreviousPane => {
            let at = Pane::ALL
                .iter()
                .position(|&p| p == state.runs.focus)
                .unwrap_or(0);
            let by = if action == Action::NextPane { 1 } else { 2 };
            state.runs.focus = Pane::ALL[(at + by) % 3];
        }
        Action::MoveLeft | Action::MoveRight if state.runs.focus == Pane::Table => {
            state.runs.order = state.runs.order.next();
        }
        Action::MoveLeft | Action::MoveRight => {
            let share = if action == Action::MoveLeft {
                -0.02
            } else {
                0.02
            };
            let range = state.runs.range();
            state.runs.view.move_cursor(share, range);
        }
        Action::Back => state.runs.view.cursor = None,
        _ if state.runs.focus == Pane::Config => {
            let keys = state.runs.keys().len();
            if let Some(scroll) = list::moved(state.runs.scroll, keys, action, half_page) {
                state.runs.scroll = scroll;
            }
        }
        _ => {
            let rows = state.runs.rows().len();
            if let Some(cursor) = list::moved(state.runs.cursor, rows, action, half_page) {
                state.runs.cursor = cursor;
            }
        }
    }
    read_compared(state)
}

/// What can be compared: numbers that every trainer has, and those that any of the compared runs has.
fn compared_metrics(state: &State) -> Vec<Metric> {
    let mut metrics = vec![
        Metric::Loss,
        Metric::MtpLoss(1),
        Metric::GradNorm,
        Metric::TokensPerSecond,
    ];
    let compared = state.runs.compared();
    let tables: Vec<_> = compared
        .iter()
        .filter_map(|(run, _)| Some(&state.runs.details.get(&run.path)?.history.train))
        .collect();
    let depth = tables.iter().map(|t| t.mtp_depth()).max().unwrap_or(0);
    for metric in metrics_of(depth) {
        if !metrics.contains(&metric) && tables.iter().any(|t| t.has(metric)) {
            metrics.push(metric);
        }
    }
    metrics
}

/// How to end the job under the cursor.
fn end_choice(state: &State, id: &str, path: PathBuf) -> Choice {
    let words = state.runs.job().map(Launched::words).unwrap_or_default();
    Choice {
        title: format!("Stop the job of {id}"),
        notes: vec![Note::new(Tone::Neutral, words)],
        answers: vec![
            Answer::new('n', "let it go on", ""),
            Answer::new('s', "save and stop", "a last checkpoint, then the end"),
            Answer::new(
                'c',
                "cancel",
                "now; steps since its last checkpoint are lost",
            ),
        ],
        selected: 0,
        purpose: Purpose::Screen(Screen::Runs, "end job", path),
    }
}

/// Reads what is compared and was not read yet.
fn read_compared(state: &mut State) -> Vec<Effect> {
    let missing: Vec<PathBuf> = state
        .runs
        .compared()
        .into_iter()
        .map(|(run, _)| run.path.clone())
        .filter(|path| !state.runs.details.contains_key(path) && !state.runs.reading.contains(path))
        .collect();
    state.runs.reading.extend(missing.iter().cloned());
    missing
        .into_iter()
        .map(|path| Effect::Runs(Runs::Read(path)))
        .collect()
}

/// Shows every key that differs between the compared runs.
fn show_difference(state: &mut State) {
    let runs = &state.runs;
    let ids: Vec<&str> = runs.compared().iter().map(|(run, _)| run.id()).collect();
    let mut lines = vec![];
    for (key, values) in runs.keys() {
        lines.push(Note::new(Tone::Neutral, key));
        for (id, value) in ids.iter().zip(values) {
            lines.push(Note::new(
                Tone::Good,
                format!("  {id}: {}", value.unwrap_or("(absent)")),
            ));
        }
    }
    if lines.is_empty() {
        lines.push(Note::new(Tone::Neutral, "the recipes are equal"));
    }
    let title = format!("Recipes of {}", ids.join(", "));
    state.dialogs.push(Dialog::View(View {
        title,
        lines,
        scroll: 0,
    }));
}

/// Asks for the runs again while the screen is open and one of them is trained.
pub(super) fn tick(state: &mut State) -> Vec<Effect> {
    let due = state.now_ms >= state.runs.asked_ms + AGAIN;
    if state.screen == Screen::Runs && due && state.runs.needs_ticks() {
        state.runs.asked_ms = state.now_ms;
        return vec![Effect::Runs(Runs::List)];
    }
    vec![]
}

/// The present search.
pub fn query(state: &State) -> Option<&Query> {
    Some(&state.runs.query)
}

/// A new search.
pub fn search(state: &mut State, query: Query) -> Vec<Effect> {
    state.runs.query = query;
    state.runs.cursor = 0;
    read_compared(state)
}

/// A click in a pane, on a row of it.
pub fn click(state: &mut State, pane: usize, row: Option<usize>) -> Vec<Effect> {
    if let Some(&pane) = Pane::ALL.get(pane) {
        state.runs.focus = pane;
        if let (Pane::Table, Some(row)) = (pane, row) {
            state.runs.cursor = row.min(state.runs.rows().len().saturating_sub(1));
            return read_compared(state);
        }
    }
    vec![]
}

/// A form of the screen was filled in.
pub fn accept(state: &mut State, form: &Form) -> Result<Vec<Effect>, String> {
    match &form.purpose {
        Purpose::Screen(_, "fork", run) => {
            let fork = super::train::read_fork(form, run)?;
            Ok(vec![Effect::Train(Train::Fork(fork))])
        }
        Purpose::Screen(_, "tags", run) => files::read_tags(form, run),
        Purpose::Screen(_, "watch", _) => files::read_watch(form),
        Purpose::Screen(_, "export", _) => {
            let runs = state.runs.compared().into_iter();
            files::read_export(form, runs.map(|(run, _)| run.path.clone()).collect())
        }
        _ => Ok(vec![]),
    }
}

/// An answer of a choice of the screen was chosen.
pub fn choose(state: &mut State, purpose: &Purpose, answer: usize) -> Vec<Effect> {
    match purpose {
        Purpose::Screen(_, "delete", run) if answer == 1 => {
            state.runs.marked.remove(run);
            vec![Effect::Runs(Runs::Trash(run.clone()))]
        }
        Purpose::Screen(_, "end job", run) if answer > 0 => {
            state.say(Tone::Neutral, "asked; its state follows");
            vec![Effect::Runs(Runs::EndJob {
                run: run.clone(),
                at_once: answer == 2,
            })]
        }
        _ => vec![],
    }
}

/// Takes up what the outside world tells.
pub fn message(state: &mut State, message: Message) -> Vec<Effect> {
    match message {
        Message::Listed(runs) => {
            let wanted = state.runs.wanted.take();
            let is_listed = |path: &PathBuf| runs.iter().any(|(run, _)| run.path == *path);
            if !wanted.as_ref().is_none_or(is_listed) {
                state.runs.wanted.clone_from(&wanted);
            }
            let selected = wanted
                .filter(is_listed)
                .or_else(|| state.runs.selected().map(|(run, _)| run.path.clone()));
            // What was read of a run that went on since is old.
            for (run, summary) in &runs {
                let before = state.runs.runs.iter().find(|(r, _)| r.path == run.path);
                if before.is_some_and(|(_, s)| s.step != summary.step) {
                    state.runs.details.remove(&run.path);
                }
            }
            let first = !std::mem::replace(&mut state.runs.is_listed, true);
            state.runs.runs = runs;
            let rows = state.runs.rows();
            let at = |path: &PathBuf| {
                rows.iter()
                    .position(|&i| state.runs.runs[i].0.path == *path)
            };
            state.runs.cursor = selected
                .as_ref()
                .and_then(at)
                .unwrap_or_else(|| state.runs.cursor.min(rows.len().saturating_sub(1)));
            let mut effects = vec![];
            // Whoever comes back finds the run that was left.
            if first
                && state.train.run.is_none()
                && let Some(live) = state.runs.newest_live().map(PathBuf::from)
            {
                effects.extend(super::train::open(state, live));
            }
            if state.screen == Screen::Runs {
                effects.extend(read_compared(state));
            }
            effects
        }
        Message::Read(path, detail) => {
            state.runs.reading.remove(&path);
            state.runs.details.insert(path, *detail);
            vec![]
        }
    }
}
