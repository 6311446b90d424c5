//! What happens on the Layout screen.

use crate::app::dialog::{Form, Purpose};
use crate::app::layout::{Message, Pane, Scratch, plan};
use crate::app::search::Query;
use crate::app::{Action, Effect, Screen, State, Tone, list, recipes};
use crate::base::Diagnostic;
use crate::plan::{Axis, Degrees};

/// Largest degree that the screen tries out.
const LARGEST: usize = 1024;

/// Actions of the status line.
pub const HINTS: &[Action] = &[
    Action::HighlightTp,
    Action::HighlightPp,
    Action::HighlightCp,
    Action::HighlightDp,
    Action::HighlightEp,
    Action::AxisMore,
    Action::AxisLess,
    Action::ResetLayout,
    Action::GoRecipes,
];

/// Why an action cannot run now.
pub fn unavailable(state: &State, action: Action) -> Option<String> {
    let Some(plan) = plan(state) else {
        return match action {
            Action::AxisMore
            | Action::AxisLess
            | Action::MoreMicrobatches
            | Action::FewerMicrobatches
            | Action::MoreStages
            | Action::FewerStages
            | Action::ResetLayout => Some("no valid recipe is selected".into()),
            _ => later(action),
        };
    };
    let axis = state.layout.axis;
    let is_one = |what: &str, n: usize| (n == 1).then(|| format!("{what} is 1 already"));
    match action {
        Action::AxisMore if plan.degrees.of(axis) >= LARGEST => {
            Some(format!("{axis} is {} already", plan.degrees.of(axis)))
        }
        Action::AxisLess => is_one(axis.name(), plan.degrees.of(axis)),
        Action::FewerMicrobatches => is_one("the number of micro-batches", plan.micro_batches()),
        Action::FewerStages => is_one("vpp", plan.degrees.vpp),
        Action::ResetLayout if !plan.is_scratch => Some("nothing is changed".into()),
        _ => later(action),
    }
}

/// What this version does not do yet.
fn later(action: Action) -> Option<String> {
    match action {
        Action::RankOrder => Some("other rank orders are not in this version".into()),
        Action::SwitchSchedule => Some("the schedule is not in this version".into()),
        Action::WriteLayout => {
            Some("writing to the recipe is not in this version; E on Recipes edits it".into())
        }
        Action::Export | Action::Copy => Some("nothing to take along here".into()),
        _ => None,
    }
}

/// Carries out an action of the screen.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::HighlightTp => state.layout.axis = Axis::Tp,
        Action::HighlightPp => state.layout.axis = Axis::Pp,
        Action::HighlightCp => state.layout.axis = Axis::Cp,
        Action::HighlightDp => state.layout.axis = Axis::Dp,
        Action::HighlightEp => state.layout.axis = Axis::Ep,
        Action::AxisMore => axis(state, |degree| 2 * degree),
        Action::AxisLess => axis(state, |degree| degree.div_ceil(2)),
        Action::MoreMicrobatches => change(state, |scratch| scratch.micro_batches += 1),
        Action::FewerMicrobatches => change(state, |scratch| scratch.micro_batches -= 1),
        Action::MoreStages => change(state, |scratch| scratch.degrees.vpp += 1),
        Action::FewerStages => change(state, |scratch| scratch.degrees.vpp -= 1),
        Action::ResetLayout => {
            state.layout.scratch = None;
            clamp(state);
        }
        Action::NextPane => turn(state, 1),
        Action::PreviousPane => turn(state, Pane::ALL.len() - 1),
        Action::Back => state.layout.focus = Pane::Grid,
        Action::Open if state.layout.focus == Pane::Rules => jump(state),
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

/// A click in a pane, on a rank or rule of it.
pub fn click(state: &mut State, pane: usize, row: Option<usize>) -> Vec<Effect> {
    if let Some(&pane) = Pane::ALL.get(pane) {
        state.layout.focus = pane;
        match (pane, row) {
            (Pane::Grid, Some(rank)) => state.layout.rank = rank,
            (Pane::Rules, Some(rule)) => state.layout.rule = rule,
            _ => {}
        }
        clamp(state);
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

/// From a broken rule to the recipe's problem about the same key.
fn jump(state: &mut State) {
    let Some(plan) = plan(state) else {
        return;
    };
    let rules = plan.rules();
    let Some(violation) = rules
        .get(state.layout.rule)
        .and_then(|r| r.violation.as_ref())
    else {
        return;
    };
    let checked = state
        .recipes
        .selected()
        .and_then(|entry| entry.checked.as_ref());
    let problem = checked.and_then(|checked| {
        let about = |problem: &Diagnostic| problem.key.as_deref() == Some(violation.key);
        checked.problems.iter().position(about)
    });
    match problem {
        Some(problem) => {
            state.recipes.problem_cursor = problem;
            state.recipes.focus = recipes::Pane::Problems;
            state.screen = Screen::Recipes;
        }
        None => state.say(
            Tone::Neutral,
            format!("{} is not in the recipe", violation.key),
        ),
    }
}

fn turn(state: &mut State, by: usize) {
    let at = state.layout.focus as usize + by;
    state.layout.focus = Pane::ALL[at % Pane::ALL.len()];
}

fn step(state: &mut State, action: Action) {
    let Some(plan) = plan(state) else {
        return;
    };
    let half_page = state.half_page();
    match state.layout.focus {
        Pane::Grid => {
            let world = plan.degrees.world_size();
            state.layout.rank = next_rank(state.layout.rank, &plan.degrees, world, action);
        }
        Pane::Rules => {
            let len = plan.rules().len();
            if let Some(rule) = list::moved(state.layout.rule, len, action, half_page) {
                state.layout.rule = rule;
            }
        }
        Pane::Memory => {
            if let Some(scroll) = list::moved(state.layout.scroll, 64, action, half_page) {
                state.layout.scroll = scroll;
            }
        }
    }
    clamp(state);
}

/// Left and right go through a stage, up and down through the stages.
fn next_rank(rank: usize, degrees: &Degrees, world: usize, action: Action) -> usize {
    let stage = world / degrees.pp.max(1);
    let last = world.saturating_sub(1);
    match action {
        Action::MoveLeft => rank.saturating_sub(1),
        Action::MoveRight => (rank + 1).min(last),
        Action::MoveUp | Action::HalfPageUp | Action::PageUp => {
            rank.checked_sub(stage).unwrap_or(rank)
        }
        Action::MoveDown | Action::HalfPageDown | Action::PageDown if rank + stage <= last => {
            rank + stage
        }
        Action::Top => 0,
        Action::Bottom => last,
        _ => rank,
    }
}

fn clamp(state: &mut State) {
    if let Some(plan) = plan(state) {
        let (world, rules) = (plan.degrees.world_size(), plan.rules().len());
        state.layout.rank = state.layout.rank.min(world.saturating_sub(1));
        state.layout.rule = state.layout.rule.min(rules.saturating_sub(1));
    }
}

fn axis(state: &mut State, new: impl Fn(usize) -> usize) {
    let axis = state.layout.axis;
    change(state, |scratch| {
        let degree = new(scratch.degrees.of(axis));
        scratch.degrees = scratch.degrees.with(axis, degree);
    });
}

/// Changes the scratch layout, which begins as what is shown.
fn change(state: &mut State, change: impl Fn(&mut Scratch)) {
    let (Some(plan), Some(entry)) = (plan(state), state.recipes.selected()) else {
        return;
    };
    let mut scratch = Scratch {
        recipe: entry.path.clone(),
        degrees: plan.degrees,
        micro_batches: plan.micro_batches(),
    };
    change(&mut scratch);
    state.layout.scratch = Some(scratch);
    clamp(state);
}
