//! What happens on the Layout screen.

mod change;
mod file;

use crate::app::dialog::{Form, Purpose};
use crate::app::layout::{
    Effect as Work, Knob, Mark, Message, Pane, Search, View, blocks, refresh as make,
};
use crate::app::search::Query;
use crate::app::{Action, Effect, Screen, State, Tone, list, recipes};
use crate::base::Diagnostic;
use crate::plan::Constraints;

/// Actions of the status line.
pub const HINTS: &[Action] = &[
    Action::AxisMore,
    Action::AxisLess,
    Action::NextKnob,
    Action::CycleRecompute,
    Action::FitLayouts,
    Action::MarkLayout,
    Action::CompareLayouts,
    Action::WriteLayout,
    Action::ResetLayout,
];

/// What can be done without a recipe.
fn needs_view(action: Action) -> bool {
    matches!(
        action,
        Action::AxisMore
            | Action::AxisLess
            | Action::TypeValue
            | Action::CycleRecompute
            | Action::MoreMicrobatches
            | Action::FewerMicrobatches
            | Action::MoreStages
            | Action::FewerStages
            | Action::SwitchSchedule
            | Action::MendProblem
            | Action::MarkLayout
            | Action::CompareLayouts
            | Action::FitLayouts
            | Action::RankOrder
            | Action::ResetLayout
            | Action::WriteLayout
            | Action::Export
            | Action::Copy
    )
}

/// Why an action cannot run now.
pub fn unavailable(state: &State, action: Action) -> Option<String> {
    let Some(view) = &state.layout.view else {
        return needs_view(action).then(|| "no valid recipe is selected".into());
    };
    match action {
        Action::ResetLayout if !view.is_scratch => Some("nothing is changed".into()),
        Action::CompareLayouts if state.layout.mark.is_none() => {
            let key = state.keymap.key(Action::MarkLayout);
            Some(format!("no layout is marked; {key} marks this one"))
        }
        Action::WriteLayout => file::cannot_write(view),
        _ => change::cannot(&state.layout, view, action),
    }
}

/// Carries out an action of the screen.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::HighlightTp => choose_knob(state, Knob::Tp),
        Action::HighlightPp => choose_knob(state, Knob::Pp),
        Action::HighlightCp => choose_knob(state, Knob::Cp),
        Action::HighlightDp => choose_knob(state, Knob::Dp),
        Action::HighlightEp => choose_knob(state, Knob::Ep),
        Action::KnobMicroBatch => choose_knob(state, Knob::MicroBatch),
        Action::KnobGlobalBatch => choose_knob(state, Knob::GlobalBatch),
        Action::KnobGpus => choose_knob(state, Knob::Gpus),
        Action::NextKnob => {
            let at = Knob::ALL.iter().position(|&k| k == state.layout.knob);
            let next = at.map_or(0, |at| (at + 1) % Knob::ALL.len());
            choose_knob(state, Knob::ALL[next]);
        }
        Action::TypeValue => file::ask_value(state),
        Action::MarkLayout => mark(state),
        Action::CompareLayouts => focus(state, Pane::Compare),
        Action::FitLayouts => {
            focus(state, Pane::Fit);
            return search_layouts(state);
        }
        Action::WriteLayout => return file::write(state),
        Action::Export => file::ask_export(state),
        Action::Copy => return file::copy(state),
        Action::NextPane => turn(state, 1),
        Action::PreviousPane => turn(state, Pane::ALL.len() - 1),
        Action::Back => back(state),
        Action::Open => open(state),
        _ if change::act(state, action) => {}
        _ => step(state, action),
    }
    vec![]
}

/// The screen is not searched.
pub fn query(_state: &State) -> Option<&Query> {
    None
}

/// The screen is not searched.
pub fn search(state: &mut State, Query { text, .. }: Query) -> Vec<Effect> {
    if !text.is_empty() {
        state.say(Tone::Neutral, "nothing to search on this screen");
    }
    vec![]
}

/// A click in a pane, on a rank or row of it.
pub fn click(state: &mut State, pane: usize, row: Option<usize>) -> Vec<Effect> {
    if let Some(&pane) = Pane::ALL.get(pane) {
        focus(state, pane);
        let screen = &mut state.layout;
        match (pane, row) {
            (Pane::Grid, Some(rank)) => screen.rank = rank,
            (Pane::Traffic, Some(row)) => screen.traffic = row,
            (Pane::Fit, Some(row)) => screen.candidate = row,
            (Pane::Problems, Some(row)) => screen.problem = row,
            _ => {}
        }
        clamp(state);
    }
    vec![]
}

/// A form of the screen was filled in.
pub fn accept(state: &mut State, form: &Form) -> Result<Vec<Effect>, String> {
    file::accept(state, form)
}

/// An answer of a choice of the screen was chosen.
pub fn choose(state: &mut State, purpose: &Purpose, answer: usize) -> Vec<Effect> {
    file::choose(state, purpose, answer)
}

/// Takes up what the outside world tells.
pub fn message(state: &mut State, message: Message) -> Vec<Effect> {
    match message {
        Message::Found(search, found) => {
            let asked = state.layout.searching.as_ref();
            if asked.is_some_and(|asked| asked.is_like(&search)) {
                state.layout.searching = None;
            }
            state.layout.candidate = 0;
            state.layout.found = Some((search, found));
            vec![]
        }
        Message::Written(path) => {
            state.say(Tone::Good, format!("wrote {}", path.display()));
            vec![Effect::CheckRecipe(path)]
        }
    }
}

/// Makes the view again if this screen is shown and something changed.
pub(super) fn refresh(state: &mut State) {
    if state.screen == Screen::Layout {
        make(state);
        clamp(state);
    }
}

fn choose_knob(state: &mut State, knob: Knob) {
    state.layout.knob = knob;
    if let Some(axis) = knob.axis() {
        state.layout.axis = axis;
    }
}

fn focus(state: &mut State, pane: Pane) {
    state.layout.focus = pane;
    if Pane::TABS.contains(&pane) {
        state.layout.tab = pane;
    }
}

fn turn(state: &mut State, by: usize) {
    let at = Pane::ALL.iter().position(|&p| p == state.layout.focus);
    let next = (at.unwrap_or(0) + by) % Pane::ALL.len();
    focus(state, Pane::ALL[next]);
}

fn mark(state: &mut State) {
    let Some(view) = &state.layout.view else {
        return;
    };
    let name = view.subject.path.file_name().unwrap_or_default();
    let recipe = name.to_string_lossy().into_owned();
    let text = format!("marked {}", view.figures.degrees);
    state.layout.mark = Some(Mark {
        recipe,
        figures: view.figures.clone(),
    });
    state.layout.tab = Pane::Compare;
    state.say(Tone::Neutral, text);
}

/// Searches for layouts, unless what was found last answers.
fn search_layouts(state: &mut State) -> Vec<Effect> {
    let Some(view) = &state.layout.view else {
        return vec![];
    };
    let search = Box::new(Search {
        job: view.job.clone(),
        gpus: view.job.gpus,
        machine: view.machine,
        constraints: Constraints::default(),
    });
    let is_known = |other: Option<&Search>| other.is_some_and(|other| other.is_like(&search));
    let found = state.layout.found.as_ref().map(|(search, _)| &**search);
    if is_known(found) || is_known(state.layout.searching.as_deref()) {
        return vec![];
    }
    state.layout.searching = Some(search.clone());
    vec![Effect::Layout(Work::Fit(search))]
}

/// One level back: out of a block, out of the enlarged timeline, to the grid.
fn back(state: &mut State) {
    let depth = shown_depth(state);
    let screen = &mut state.layout;
    match screen.focus {
        Pane::Grid => screen.depth = depth.saturating_sub(1),
        Pane::Timeline if screen.zoom.is_some() => screen.zoom = None,
        _ => screen.focus = Pane::Grid,
    }
}

/// How many blocks are really entered.
fn shown_depth(state: &State) -> usize {
    let screen = &state.layout;
    screen
        .view
        .as_ref()
        .and_then(|view| view.grid())
        .map_or(0, |grid| {
            let column = blocks::column(grid, screen.rank);
            blocks::blocks(grid.degrees(), column, screen.depth).depth
        })
}

fn open(state: &mut State) {
    match state.layout.focus {
        Pane::Grid => {
            // Deeper than there is to go is not counted.
            state.layout.depth = shown_depth(state) + 1;
            state.layout.depth = shown_depth(state);
        }
        Pane::Timeline => {
            let zoom = &mut state.layout.zoom;
            *zoom = if zoom.is_some() { None } else { Some(0) };
        }
        Pane::Problems => jump(state),
        Pane::Fit => change::take_candidate(state),
        Pane::Traffic | Pane::Compare | Pane::Memory => {}
    }
}

/// From a problem to the recipe's, where it stands in the file.
fn jump(state: &mut State) {
    let Some(view) = &state.layout.view else {
        return;
    };
    let Some(problem) = view.problems.get(state.layout.problem) else {
        return;
    };
    let keys: Vec<&str> = problem
        .fixes
        .iter()
        .map(|fix| crate::recipe::key_of_fix(&fix.key))
        .collect();
    let checked = state
        .recipes
        .selected()
        .and_then(|entry| entry.checked.as_ref());
    let found = checked.and_then(|checked| {
        let same = |d: &Diagnostic| d.message == problem.message;
        let about = |d: &Diagnostic| d.key.as_deref().is_some_and(|key| keys.contains(&key));
        let list = &checked.problems;
        let same = list.iter().position(same);
        same.or_else(|| list.iter().position(about))
    });
    if let Some(at) = found {
        state.recipes.problem_cursor = at;
        state.recipes.focus = recipes::Pane::Problems;
        state.screen = Screen::Recipes;
    } else {
        let text = format!("{} is not a problem of the recipe itself", problem.code);
        state.say(Tone::Neutral, text);
    }
}

fn step(state: &mut State, action: Action) {
    let half_page = state.half_page();
    let Some(view) = &state.layout.view else {
        return;
    };
    let screen = &state.layout;
    let rows = rows(state, view);
    let cursor = match screen.focus {
        Pane::Grid => {
            if let Some(rank) = next_rank(view, screen.rank, screen.depth, action) {
                state.layout.rank = rank;
            }
            return;
        }
        Pane::Timeline => {
            let last = view.quanta();
            pan(&mut state.layout.zoom, action, last);
            return;
        }
        Pane::Traffic => screen.traffic,
        Pane::Compare => screen.compare,
        Pane::Fit => screen.candidate,
        Pane::Memory => screen.scroll,
        Pane::Problems => screen.problem,
    };
    let Some(moved) = list::moved(cursor, rows, action, half_page) else {
        return;
    };
    let screen = &mut state.layout;
    match screen.focus {
        Pane::Traffic => screen.traffic = moved,
        Pane::Compare => screen.compare = moved,
        Pane::Fit => screen.candidate = moved,
        Pane::Memory => screen.scroll = moved,
        Pane::Problems => screen.problem = moved,
        Pane::Grid | Pane::Timeline => {}
    }
}

/// Rows of the focused pane.
fn rows(state: &State, view: &View) -> usize {
    let screen = &state.layout;
    match screen.focus {
        Pane::Traffic => traffic_rows(state, view),
        Pane::Compare => view.figures.rows.len() + 8,
        Pane::Fit => found_rows(state),
        Pane::Memory => 64,
        Pane::Problems => view.problems.len() + view.held.len(),
        Pane::Grid | Pane::Timeline => 0,
    }
}

fn traffic_rows(state: &State, view: &View) -> usize {
    let stage = view.stage_of(state.layout.rank);
    let stages = view.plan.as_ref().ok().map(|plan| &plan.time.stages);
    stages
        .and_then(|stages| stages.get(stage))
        .map_or(0, |stage| stage.traffic.len())
}

fn found_rows(state: &State) -> usize {
    let found = state.layout.found.as_ref();
    found.map_or(0, |(_, found)| found.best.len())
}

/// Left and right move the window of the enlarged timeline.
fn pan(zoom: &mut Option<usize>, action: Action, last: usize) {
    const STEP: usize = 2;
    const PAGE: usize = 12;
    let Some(at) = zoom else {
        return;
    };
    *at = match action {
        Action::MoveLeft => at.saturating_sub(STEP),
        Action::MoveRight => *at + STEP,
        Action::PageUp | Action::HalfPageUp => at.saturating_sub(PAGE),
        Action::PageDown | Action::HalfPageDown => *at + PAGE,
        Action::Top => 0,
        Action::Bottom => last,
        _ => *at,
    }
    .min(last);
}

/// Left and right go through a stage by cells, up and down through the stages.
fn next_rank(view: &View, rank: usize, depth: usize, action: Action) -> Option<usize> {
    let grid = view.grid()?;
    let pp = grid.coordinates(rank).pp;
    let column = blocks::column(grid, rank);
    let shown = blocks::blocks(grid.degrees(), column, depth);
    let (first, last) = (shown.first, shown.first + shown.len - 1);
    let stages = grid.degrees().pp;
    let (pp, column) = match action {
        Action::MoveLeft if column >= first + shown.each => (pp, column - shown.each),
        Action::MoveRight if column + shown.each <= last => (pp, column + shown.each),
        Action::MoveRight => (pp, last.max(column)),
        Action::MoveLeft => (pp, first.min(column)),
        Action::MoveUp => (pp.saturating_sub(1), column),
        Action::MoveDown => ((pp + 1).min(stages - 1), column),
        Action::HalfPageUp | Action::PageUp => (pp.saturating_sub(4), column),
        Action::HalfPageDown | Action::PageDown => ((pp + 4).min(stages - 1), column),
        Action::Top => (0, first),
        Action::Bottom => (stages - 1, last),
        _ => return None,
    };
    Some(blocks::rank_at(grid, pp, column))
}

fn clamp(state: &mut State) {
    let Some(view) = &state.layout.view else {
        return;
    };
    let world = view.world_size();
    let problems = view.problems.len() + view.held.len();
    let traffic = traffic_rows(state, view);
    let found = found_rows(state);
    let screen = &mut state.layout;
    for (cursor, rows) in [
        (&mut screen.rank, world),
        (&mut screen.problem, problems),
        (&mut screen.traffic, traffic),
        (&mut screen.candidate, found),
    ] {
        *cursor = (*cursor).min(rows.saturating_sub(1));
    }
}
