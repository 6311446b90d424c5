//! What happens on the Mapping screen.

mod open;
mod walk;

use crate::app::dialog::{Dialog, View};
use crate::app::mapping::{
    Content, CutAxis, Effect as Work, Item, Message, Pane, Progress, Reading, Shared, ValuesOf,
    degrees, holdings, layout, read_element, trace_lines,
};
use crate::app::search::Query;
use crate::app::{Action, Effect, Screen, State, Tone, list};

pub use open::{accept, choose};

/// Largest degree that the screen tries out.
const LARGEST: usize = 1024;

/// Actions of the status line.
pub const HINTS: &[Action] = &[
    Action::OtherSide,
    Action::NextUnmapped,
    Action::CollapseLayers,
    Action::OpenModel,
    Action::CutAxis,
    Action::TraceElement,
    Action::ValueStatistics,
    Action::VerifyRoundTrip,
    Action::Copy,
];

/// Why an action cannot run now.
pub fn unavailable(state: &State, action: Action) -> Option<String> {
    let screen = &state.mapping;
    let Some(model) = screen.model() else {
        return match action {
            Action::OpenModel => None,
            Action::Open | Action::Copy | Action::Export | Action::Search => {
                Some("no valid recipe is selected, and no model is open".into())
            }
            _ if action.scope() == crate::app::Scope::On(Screen::Mapping) => {
                Some("no valid recipe is selected, and no model is open".into())
            }
            _ => None,
        };
    };
    let degree = screen.axis.of(&degrees(state));
    let name = screen.axis.name();
    let no_files = || Some("no files are open; the open model key opens a directory".to_owned());
    match action {
        Action::UnmappedOnly | Action::NextUnmapped | Action::PreviousUnmapped => {
            if model.files.is_none() {
                no_files()
            } else if model.problems().is_empty() {
                Some("every tensor has its partner".into())
            } else {
                None
            }
        }
        Action::CutMore if degree >= LARGEST => Some(format!("{name} is {degree} already")),
        Action::CutLess if degree == 1 => Some(format!("{name} is 1 already")),
        Action::ResetCut if screen.cut.is_none() => Some("nothing is changed".into()),
        Action::TraceElement => layout(state)?.err(),
        Action::ValueStatistics => values_of(state).err(),
        Action::VerifyRoundTrip if model.files.is_none() => no_files(),
        Action::VerifyRoundTrip if matches!(screen.verification, Some((_, Reading::Going))) => {
            Some("a verification is at work; the back key gives it up".into())
        }
        Action::VerifyRoundTrip if !model.problems().is_empty() => {
            Some("the files have problems; the next problem key lists them".into())
        }
        Action::VerifyRoundTrip => layout(state)?.err(),
        _ => None,
    }
}

/// Which stored tensor `i` reads: that of the item under the cursor, of several the first, or the next one when asked again.
fn values_of(state: &State) -> Result<ValuesOf, String> {
    let screen = &state.mapping;
    let model = screen.model().ok_or("no model is open")?;
    let Some(files) = &model.files else {
        return Err("no files are open; the open model key opens a directory".into());
    };
    let item = screen.item().ok_or("the cursor is on no tensor")?;
    let stored = model.stored_of(item);
    let at = |stored| ValuesOf {
        path: files.path.clone(),
        stored,
    };
    let before = screen.values.as_ref().map(|(of, _)| of.stored);
    let next = before
        .and_then(|before| stored.iter().position(|&s| s == before))
        .map_or(0, |at| (at + 1) % stored.len().max(1));
    stored
        .get(next)
        .map(|&stored| at(stored))
        .ok_or_else(|| "the files do not have it".to_owned())
}

/// Carries out an action of the screen.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::OpenModel => open::choose_model(state),
        Action::OtherSide => other_side(state),
        Action::NextPane | Action::PreviousPane => {
            state.mapping.focus = match state.mapping.focus {
                Pane::Tree => Pane::Detail,
                Pane::Detail => Pane::Tree,
            };
        }
        Action::Back => return back(state),
        Action::CollapseLayers => {
            walk::keep(state, |screen| screen.collapse(!screen.collapsed));
        }
        Action::UnmappedOnly => walk::keep(state, |screen| screen.unmapped = !screen.unmapped),
        Action::NextUnmapped => next_problem(state, 1),
        Action::PreviousUnmapped => next_problem(state, -1),
        Action::ShardGrid => state.mapping.grid = !state.mapping.grid,
        Action::CutAxis => state.mapping.axis = state.mapping.axis.next(),
        Action::CutMore => change(state, |degree| 2 * degree),
        Action::CutLess => change(state, |degree| degree.div_ceil(2)),
        Action::ResetCut => (state.mapping.cut, state.mapping.rank) = (None, 0),
        Action::TraceElement => open::ask_element(state),
        Action::Export => open::ask_export(state),
        Action::ValueStatistics => return read_values(state),
        Action::VerifyRoundTrip => return verify(state),
        Action::Copy => {
            let name = state
                .mapping
                .present()
                .map(|row| full_name(state, &row.content, &row.label));
            return name.map(Effect::Copy).into_iter().collect();
        }
        _ if state.mapping.focus == Pane::Detail => scroll(state, action),
        Action::Open => walk::toggle(state, None),
        Action::MoveRight => walk::right(state),
        Action::MoveLeft => walk::left(state),
        Action::NextMatch => walk::step(state, Action::MoveDown),
        Action::PreviousMatch => walk::step(state, Action::MoveUp),
        _ => walk::step(state, action),
    }
    vec![]
}

/// The present search.
pub fn query(state: &State) -> Option<&Query> {
    Some(&state.mapping.query)
}

/// A new search; when it is over, the tree opens at the tensor that was found.
pub fn search(state: &mut State, query: Query) -> Vec<Effect> {
    let found = state
        .mapping
        .present()
        .filter(|_| !state.mapping.query.is_empty());
    state.mapping.query = query;
    (state.mapping.scroll, state.mapping.rank) = (0, 0);
    if !state.mapping.query.is_empty() {
        state.mapping.cursor = 0;
    } else if let Some(Content::Tensor(name)) = found.map(|row| row.content) {
        walk::reveal(state, name);
    }
    vec![]
}

/// A click in a pane, on a row of it.
pub fn click(state: &mut State, pane: usize, row: Option<usize>) -> Vec<Effect> {
    if pane == Pane::Detail as usize {
        state.mapping.focus = Pane::Detail;
        if let Some(rank) = row {
            state.mapping.rank = rank;
        }
        return vec![];
    }
    state.mapping.focus = Pane::Tree;
    if let Some(row) = row {
        if row == state.mapping.cursor {
            walk::toggle(state, None);
        } else {
            walk::go(state, row.min(state.mapping.len().saturating_sub(1)));
        }
    }
    vec![]
}

/// Makes the screen fit the selected recipe and its own filters; called after every message.
pub(super) fn refresh(state: &mut State) {
    if state.screen != Screen::Mapping {
        return;
    }
    let selected = state.recipes.selected();
    let selected = selected.and_then(|entry| Some((&entry.path, &entry.good.as_ref()?.recipe)));
    state.mapping.refresh(selected);
}

/// Takes up what the outside world tells.
pub fn message(state: &mut State, message: Message) -> Vec<Effect> {
    match message {
        Message::Opened(origin, result) => {
            // What was asked for before the last question is not wanted any more.
            if state.mapping.opening.as_ref() != Some(&origin) {
                return vec![];
            }
            state.mapping.opening = None;
            let going = at_work(state);
            match result {
                Ok(model) => {
                    let problems = model.0.problems().len();
                    if problems > 0 {
                        let key = state.keymap.key(Action::NextUnmapped);
                        let many = if problems == 1 { "" } else { "s" };
                        let text = format!("{problems} problem{many}; {key} goes through them");
                        state.say(Tone::Bad, text);
                    }
                    // A directory's own names lead.
                    state.mapping.side = model.0.files_side().unwrap_or(state.mapping.side);
                    state.mapping.opened = Some(model);
                    state.mapping.query = Query::default();
                    state.mapping.adopt();
                    // What was at work was about the model before.
                    return going.into_iter().map(Effect::Mapping).collect();
                }
                Err(why) => state.say(Tone::Bad, why),
            }
        }
        Message::Values(of, result) => {
            if let Some((wanted, reading)) = &mut state.mapping.values
                && *wanted == of
            {
                match result {
                    Ok(Some(values)) => *reading = Reading::Done(values),
                    // It was given up, and the screen knows; what it waits for now was asked for later.
                    Ok(None) => {}
                    Err(why) => *reading = Reading::Failed(why),
                }
            }
        }
        Message::Verifying(progress) => {
            if let Some((so_far, _)) = &mut state.mapping.verification {
                *so_far = progress;
            }
        }
        Message::Verified(result) => {
            let Some((_, reading)) = &mut state.mapping.verification else {
                return vec![];
            };
            match result {
                Ok(Some(report)) => {
                    let (tone, text) = if report.different.is_empty() {
                        (
                            Tone::Good,
                            format!("{} tensors came back with the same bits", report.exact),
                        )
                    } else {
                        (
                            Tone::Bad,
                            format!("{} tensors did not come back", report.different.len()),
                        )
                    };
                    *reading = Reading::Done(report);
                    state.say(tone, text);
                }
                Ok(None) => {}
                Err(why) => {
                    *reading = Reading::Failed(why.clone());
                    state.say(Tone::Bad, why);
                }
            }
        }
    }
    vec![]
}

/// Gives up what is going on; else goes back to the tree.
fn back(state: &mut State) -> Vec<Effect> {
    match at_work(state).into_iter().next() {
        Some(Work::StopValues) => {
            state.mapping.values = None;
            vec![Effect::Mapping(Work::StopValues)]
        }
        Some(stop) => {
            state.mapping.verification = None;
            vec![Effect::Mapping(stop)]
        }
        None => {
            state.mapping.focus = Pane::Tree;
            vec![]
        }
    }
}

/// What stops the work that goes on in the background.
fn at_work(state: &State) -> Vec<Work> {
    let mut list = Vec::new();
    if matches!(state.mapping.values, Some((_, Reading::Going))) {
        list.push(Work::StopValues);
    }
    if matches!(state.mapping.verification, Some((_, Reading::Going))) {
        list.push(Work::StopVerify);
    }
    list
}

/// The full name of what a row stands for.
fn full_name(state: &State, content: &Content, label: &str) -> String {
    let Some(model) = state.mapping.model() else {
        return label.to_owned();
    };
    let tree = model.tree(state.mapping.side);
    match content {
        Content::Tensor(name) => tree.names.get(*name as usize).to_owned(),
        Content::Group { node, .. } => tree.path(*node),
        Content::Same { .. } => label.to_owned(),
    }
}

/// Lets the other side lead, with the cursor on the partner of what it was on.
fn other_side(state: &mut State) {
    let screen = &mut state.mapping;
    let partner = screen.item().and_then(|item| {
        let model = screen.model()?;
        match item {
            Item::Entry(entry) => model.sources_of(entry).first().copied(),
            Item::Source(source) => model.entries_of(source).first().map(|&entry| entry as u32),
            Item::Extra(_) => None,
        }
    });
    screen.lead(screen.side.other());
    if screen.query.is_empty()
        && let Some(partner) = partner
    {
        walk::reveal(state, partner);
    }
}

/// Goes to the next problem of the files, or the one before, round and round.
fn next_problem(state: &mut State, by: isize) {
    let screen = &state.mapping;
    let Some(model) = screen.model().cloned() else {
        return;
    };
    let problems = model.problems();
    let len = problems.len() as isize;
    let at = match screen.problem {
        Some(at) => (at as isize + by).rem_euclid(len.max(1)),
        None if by < 0 => len - 1,
        None => 0,
    } as usize;
    let (Some(problem), Some(side)) = (problems.get(at), model.files_side()) else {
        return;
    };
    let text = format!("{} of {}: {problem}", at + 1, problems.len());
    let name = model.named_by(problem);
    state.mapping.problem = Some(at);
    state.mapping.lead(side);
    state.mapping.query = Query::default();
    if let Some(name) = name {
        walk::reveal(state, name);
    }
    state.say(Tone::Bad, text);
}

fn change(state: &mut State, new: impl Fn(usize) -> usize) {
    let degrees = degrees(state);
    let axis: CutAxis = state.mapping.axis;
    state.mapping.cut = Some(axis.with(degrees, new(axis.of(&degrees))));
    state.mapping.rank = 0;
}

fn read_values(state: &mut State) -> Vec<Effect> {
    let Ok(of) = values_of(state) else {
        return vec![];
    };
    state.mapping.values = Some((of.clone(), Reading::Going));
    vec![Effect::Mapping(Work::Values(of))]
}

fn verify(state: &mut State) -> Vec<Effect> {
    let (Some(model), Some(Ok(layout))) = (state.mapping.model().cloned(), layout(state)) else {
        return vec![];
    };
    state.mapping.verification = Some((Progress::default(), Reading::Going));
    let model = Shared(model);
    vec![Effect::Mapping(Work::Verify { model, layout })]
}

/// Movements in the detail: lines up and down, ranks left and right.
fn scroll(state: &mut State, action: Action) {
    let places = || -> Option<usize> {
        let layout = layout(state)?.ok()?;
        let model = state.mapping.model()?;
        Some(holdings(model, &layout, state.mapping.entry()?).len())
    };
    match action {
        Action::MoveLeft if state.mapping.rank == 0 => state.mapping.focus = Pane::Tree,
        Action::MoveLeft => state.mapping.rank -= 1,
        Action::MoveRight => {
            let last = places().unwrap_or(1).saturating_sub(1);
            state.mapping.rank = (state.mapping.rank + 1).min(last);
        }
        _ => {
            // The view shows no line past the last one.
            if let Some(scroll) = list::moved(state.mapping.scroll, 64, action, state.half_page()) {
                state.mapping.scroll = scroll;
            }
        }
    }
}

/// Shows the way of a typed element.
fn trace(state: &mut State, text: &str) -> Result<(), String> {
    let model = state.mapping.model().cloned().ok_or("no model is open")?;
    let layout = layout(state).ok_or("no model is open")??;
    let present = match state.mapping.item() {
        Some(Item::Entry(entry)) => model.table.entries()[entry].name.clone(),
        Some(Item::Source(source)) => model.huggingface.tensors[source].name.clone(),
        _ => String::new(),
    };
    let (name, index) = read_element(text, &present)?;
    let trace = model
        .table
        .trace(&name, &index, &layout)
        .map_err(|error| error.to_string())?;
    state.dialogs.push(Dialog::View(View {
        title: format!("Element of {name}"),
        lines: trace_lines(&trace),
        scroll: 0,
    }));
    Ok(())
}

/// A word for the export's name.
fn export_name(state: &State) -> String {
    let name = state
        .mapping
        .model()
        .map_or("", |model| model.name.as_str());
    let plain = |c: char| {
        if c.is_alphanumeric() || matches!(c, '-' | '_' | '.') {
            c
        } else {
            '-'
        }
    };
    let name: String = name.chars().map(plain).collect();
    format!("{}-mapping.csv", name.trim_matches(['-', '.']))
}
