//! What happens on the Recipes screen.

pub(super) mod bridge;
mod diff;
pub mod live;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::app::dialog::{Dialog, Field, Form, Note, Purpose, View};
use crate::app::recipes::{Message, Outcome, Pane, Revision, Valid};
use crate::app::search::Query;
use crate::app::{Action, Effect, State, Tone, launch, list};
use crate::base::{Place, Severity};

/// Actions of the status line.
pub const HINTS: &[Action] = &[
    Action::ApplyLive,
    Action::Launch,
    Action::DiffRecipes,
    Action::EditRecipe,
    Action::ApplyFix,
    Action::NewRecipe,
    Action::GoMapping,
    Action::GoLayout,
    Action::CheckAll,
];

/// Why an action cannot run now.
pub fn unavailable(state: &State, action: Action) -> Option<String> {
    let recipes = &state.recipes;
    let Some(entry) = recipes.selected() else {
        return match action {
            Action::Launch
            | Action::LaunchBridge
            | Action::EditRecipe
            | Action::ApplyFix
            | Action::NewRecipe
            | Action::MarkRecipe
            | Action::DiffRecipes
            | Action::ApplyLive
            | Action::NextProblem
            | Action::PreviousProblem
            | Action::Copy => Some("no recipe is selected".into()),
            Action::Export => Some("nothing to export here".into()),
            _ => None,
        };
    };
    match action {
        Action::Launch if recipes.focus != Pane::Problems => {
            if entry.is_valid() && entry.good.is_some() {
                return None;
            }
            let checked = entry.checked.as_ref();
            // Errors of its plan can be accepted by name in the dialog.
            if checked.is_some_and(|checked| checked.megatron.is_some()) {
                return None;
            }
            let errors = checked.map_or(0, super::super::recipes::Checked::errors);
            Some(match (&entry.unreadable, errors) {
                (Some(why), _) => why.clone(),
                (None, 0) => "the recipe is not validated yet".into(),
                (None, 1) => "the recipe has an error".into(),
                (None, n) => format!("the recipe has {n} errors"),
            })
        }
        Action::ApplyFix => {
            let problem = recipes.selected_problem();
            match problem {
                None => Some("no problem is selected".into()),
                Some(problem) if problem.fix.is_none() => {
                    Some("the selected problem has no mechanical fix".into())
                }
                Some(_) => None,
            }
        }
        Action::NextProblem | Action::PreviousProblem if recipes.selected_problem().is_none() => {
            Some("the recipe has no problem".into())
        }
        Action::LaunchBridge => bridge::unavailable(state),
        Action::DiffRecipes => diff::unavailable(state),
        Action::ApplyLive => live::unavailable(state),
        Action::Export => Some("nothing to export here".into()),
        _ => None,
    }
}

/// Carries out an action of the screen.
pub fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match action {
        Action::Launch | Action::Open if state.recipes.focus == Pane::Problems => {
            jump(state);
            state.recipes.focus = Pane::Source;
        }
        Action::LaunchBridge => return bridge::open(state),
        Action::Launch | Action::Open if is_for_bridge(state) => return bridge::open(state),
        Action::Launch | Action::Open => {
            // What was free at the last launch says nothing about now.
            state.recipes.machine = None;
            let form = state.recipes.selected().and_then(|e| launch::form(e, None));
            if let Some(form) = form {
                state.dialogs.push(Dialog::Form(form));
                return vec![Effect::LookAtMachine];
            }
        }
        Action::NextPane => turn(state, 1),
        Action::PreviousPane => turn(state, Pane::ALL.len() - 1),
        Action::EditRecipe => return edit(state),
        Action::ApplyFix => return fix(state),
        Action::NewRecipe => new_recipe(state),
        Action::MarkRecipe => {
            let cursor = state.recipes.cursor;
            if let Some(entry) = state.recipes.entries.get_mut(cursor) {
                entry.marked = !entry.marked;
            }
        }
        Action::DiffRecipes => diff::show(state),
        Action::ApplyLive => live::ask(state),
        Action::CheckAll => {
            let mut effects = vec![Effect::ListRecipes];
            effects.extend(
                state
                    .recipes
                    .entries
                    .iter()
                    .map(|entry| Effect::CheckRecipe(entry.path.clone())),
            );
            return effects;
        }
        Action::NextProblem => problem(state, 1),
        Action::PreviousProblem => problem(state, usize::MAX),
        Action::Copy => {
            if let Some(entry) = state.recipes.selected() {
                return vec![Effect::Copy(entry.path.display().to_string())];
            }
        }
        Action::NextMatch => return step(state, Action::MoveDown),
        Action::PreviousMatch => return step(state, Action::MoveUp),
        Action::Back => state.recipes.focus = Pane::List,
        Action::MoveLeft => state.recipes.focus = Pane::List,
        Action::MoveRight if state.recipes.focus == Pane::List => {
            state.recipes.focus = Pane::Source;
        }
        _ => return step(state, action),
    }
    vec![]
}

/// Whether the selected recipe is one for Megatron-Bridge.
fn is_for_bridge(state: &State) -> bool {
    let checked = state.recipes.selected().and_then(|e| e.checked.as_ref());
    checked.is_some_and(|checked| checked.megatron.is_some())
}

/// The present filter.
pub fn query(state: &State) -> Option<&Query> {
    Some(&state.recipes.query)
}

/// A new filter.
pub fn search(state: &mut State, query: Query) -> Vec<Effect> {
    state.recipes.query = query;
    let visible = state.recipes.visible();
    if !visible.contains(&state.recipes.cursor)
        && let Some(&first) = visible.first()
    {
        select(state, first);
    }
    vec![]
}

/// A click in a pane, on a row of it.
pub fn click(state: &mut State, pane: usize, row: Option<usize>) -> Vec<Effect> {
    if let Some(pane) = Pane::ALL.get(pane) {
        state.recipes.focus = *pane;
        match (pane, row) {
            (Pane::List, Some(row)) if row < state.recipes.entries.len() => select(state, row),
            (Pane::Source, Some(row)) => state.recipes.line = row.max(1),
            (Pane::Problems, Some(row)) => {
                state.recipes.problem_cursor = row;
                jump(state);
            }
            _ => {}
        }
    }
    vec![]
}

/// A form of the screen was filled in.
pub fn accept(state: &mut State, form: &Form) -> Result<Vec<Effect>, String> {
    match &form.purpose {
        Purpose::Launch(path) => {
            let at = state.recipes.find(path).ok_or("the recipe is gone")?;
            let (entry, sample) = (&state.recipes.entries[at], state.recipes.machine.as_ref());
            let request = launch::request(path.clone(), form, entry, sample)?;
            Ok(vec![Effect::Launch(request)])
        }
        Purpose::NewRecipe(base) => {
            let name = form.text(0).trim();
            if name.is_empty() || name.starts_with('.') {
                return Err("a recipe needs a file name".into());
            }
            let name = if Path::new(name).extension().is_some_and(|e| e == "toml") {
                name.to_owned()
            } else {
                format!("{name}.toml")
            };
            let path = state.recipes.folder.join(&name);
            let depth = Path::new(&name).components().count() - 1;
            let base = base.strip_prefix(&state.recipes.folder).unwrap_or(base);
            let extends = format!("{}{}", "../".repeat(depth), base.display());
            let text = format!("extends = {}\n", toml::Value::String(extends));
            state.recipes.wanted = Some(path.clone());
            Ok(vec![Effect::CreateFile { path, text }])
        }
        Purpose::Screen(_, launch::bridge::ABOUT, _) => bridge::accept(state, form),
        Purpose::Screen(..) => Ok(vec![]),
    }
}

/// An answer of a choice of the screen was chosen.
pub fn choose(state: &mut State, purpose: &Purpose, answer: usize) -> Vec<Effect> {
    match purpose {
        Purpose::Screen(_, launch::bridge::ABOUT, _) => bridge::choose(state, answer),
        _ => live::choose(state, purpose, answer),
    }
}

/// Takes up what the outside world tells.
pub fn message(state: &mut State, message: Message) -> Vec<Effect> {
    match message {
        Message::Listed(Ok(paths)) => state
            .recipes
            .take_list(paths)
            .into_iter()
            .map(Effect::CheckRecipe)
            .collect(),
        Message::Listed(Err(why)) => {
            state.recipes.problem = Some(why);
            state.recipes.listed = true;
            vec![]
        }
        Message::Checked(outcome) => checked(state, *outcome),
        Message::Changed(paths) => changed(state, &paths),
        Message::Created(path) => {
            state.say(Tone::Good, format!("wrote {}", path.display()));
            state.recipes.wanted = Some(path);
            vec![Effect::ListRecipes]
        }
        Message::Looked(sample) => {
            state.recipes.machine = Some(*sample);
            let recipes = &state.recipes;
            for dialog in &mut state.dialogs {
                if let Dialog::Form(form) = dialog
                    && let Purpose::Launch(path) = &form.purpose
                    && let Some(at) = recipes.find(path)
                {
                    form.notes = launch::notes(&recipes.entries[at], recipes.machine.as_ref());
                }
            }
            vec![]
        }
    }
}

/// Files that changed: the folder is listed again, and every recipe made of one of them is read again.
fn changed(state: &mut State, paths: &[PathBuf]) -> Vec<Effect> {
    let mut effects = vec![Effect::ListRecipes];
    for entry in &state.recipes.entries {
        let files = entry.checked.as_ref().map_or(&[][..], |c| &c.files);
        if paths.contains(&entry.path) || files.iter().any(|file| paths.contains(file)) {
            effects.push(Effect::CheckRecipe(entry.path.clone()));
        }
    }
    effects
}

fn checked(state: &mut State, outcome: Outcome) -> Vec<Effect> {
    let wall_ms = state.wall_ms;
    let Some(at) = state.recipes.find(&outcome.path) else {
        return vec![];
    };
    let outside = state.recipes.outside();
    let entry = &mut state.recipes.entries[at];
    let first = entry.checked.is_none() && entry.unreadable.is_none();
    match outcome.checked {
        Ok(mut checked) => {
            checked
                .problems
                .sort_by_key(|p| (std::cmp::Reverse(p.severity), place_order(&p.place)));
            entry.checked = Some(checked);
            entry.unreadable = None;
        }
        Err(why) => entry.unreadable = Some(why),
    }
    if let Some(Valid {
        recipe,
        preview,
        live,
    }) = outcome.valid
    {
        let number = entry.good.as_ref().map_or(1, |good| good.number + 1);
        entry.good = Some(Revision {
            number,
            recipe: Arc::new(recipe),
            preview,
            live,
        });
    }
    if !first {
        state.recipes.saved_ms = Some(wall_ms);
    }
    if at == state.recipes.cursor {
        let lines = state.recipes.entries[at]
            .checked
            .as_ref()
            .map_or(1, |c| c.text.lines().count().max(1));
        let problems = state.recipes.entries[at]
            .checked
            .as_ref()
            .map_or(0, |c| c.problems.len());
        state.recipes.line = state.recipes.line.clamp(1, lines);
        state.recipes.problem_cursor = state.recipes.problem_cursor.min(problems.saturating_sub(1));
    }
    if at == state.recipes.cursor {
        let differ = live::differences(state).len();
        if differ > 0 {
            let keys = if differ == 1 {
                "key differs"
            } else {
                "keys differ"
            };
            let key = state.keymap.key(Action::ApplyLive);
            state.say(
                Tone::Neutral,
                format!("{differ} live-editable {keys} from the running trainer: apply? {key}"),
            );
        }
    }
    let now = state.recipes.outside();
    if now == outside {
        vec![]
    } else {
        vec![Effect::WatchFolders(now)]
    }
}

fn place_order(place: &Place) -> (u8, usize) {
    match place {
        Place::File { span, .. } => (0, span.start),
        Place::CommandLine { .. } => (1, 0),
        Place::Default => (2, 0),
    }
}

/// Puts the cursor on another recipe, at its first error if it has one.
fn select(state: &mut State, at: usize) {
    if at == state.recipes.cursor {
        return;
    }
    state.recipes.cursor = at;
    state.recipes.line = 1;
    state.recipes.problem_cursor = 0;
    if let Some(problem) = state.recipes.selected_problem()
        && problem.severity == Severity::Error
    {
        jump(state);
    }
}

/// Puts the source's cursor on the selected problem.
fn jump(state: &mut State) {
    let line = state
        .recipes
        .selected_problem()
        .zip(state.recipes.selected())
        .and_then(|(problem, entry)| entry.place(problem));
    if let Some((line, _)) = line {
        state.recipes.line = line;
    }
}

fn problem(state: &mut State, by: usize) {
    let len = state
        .recipes
        .selected()
        .and_then(|e| e.checked.as_ref())
        .map_or(0, |c| c.problems.len());
    if len > 0 {
        let at = state.recipes.problem_cursor;
        state.recipes.problem_cursor = if by == usize::MAX {
            (at + len - 1) % len
        } else {
            (at + by) % len
        };
        jump(state);
    }
}

fn turn(state: &mut State, by: usize) {
    let at = Pane::ALL
        .iter()
        .position(|p| *p == state.recipes.focus)
        .unwrap_or(0);
    state.recipes.focus = Pane::ALL[(at + by) % Pane::ALL.len()];
}

/// A vertical movement in the focused pane.
fn step(state: &mut State, action: Action) -> Vec<Effect> {
    let half = state.half_page();
    let checked = state.recipes.selected().and_then(|e| e.checked.as_ref());
    let lines = checked.map_or(1, |c| c.text.lines().count().max(1));
    let problems = checked.map_or(0, |c| c.problems.len());
    match state.recipes.focus {
        Pane::List => {
            let visible = state.recipes.visible();
            let at = visible
                .iter()
                .position(|&i| i == state.recipes.cursor)
                .unwrap_or(0);
            if let Some(moved) = list::moved(at, visible.len(), action, half)
                && let Some(&to) = visible.get(moved)
            {
                select(state, to);
            }
        }
        Pane::Source => {
            if let Some(moved) = list::moved(state.recipes.line - 1, lines, action, half) {
                state.recipes.line = moved + 1;
            }
        }
        Pane::Problems => {
            if let Some(moved) = list::moved(state.recipes.problem_cursor, problems, action, half) {
                state.recipes.problem_cursor = moved;
                jump(state);
            }
        }
        Pane::Preview => {}
    }
    vec![]
}

/// Opens the editor: at the selected problem, or at the cursor's line while the source has the focus.
fn edit(state: &State) -> Vec<Effect> {
    let Some(entry) = state.recipes.selected() else {
        return vec![];
    };
    let (mut path, mut line, mut column) = (entry.path.clone(), state.recipes.line, 1);
    if state.recipes.focus != Pane::Source
        && let Some(problem) = state.recipes.selected_problem()
        && let Place::File { path: file, at, .. } = &problem.place
    {
        (path, line, column) = (file.clone(), at.line, at.column);
    }
    vec![Effect::OpenEditor { path, line, column }]
}

fn fix(state: &mut State) -> Vec<Effect> {
    let Some(fix) = state.recipes.selected_problem().and_then(|p| p.fix.clone()) else {
        return vec![];
    };
    let expected = state
        .recipes
        .selected()
        .filter(|entry| entry.path == fix.path)
        .and_then(|entry| entry.checked.as_ref())
        .and_then(|checked| checked.text.get(fix.span.clone()))
        .map(str::to_owned);
    state.say(Tone::Neutral, fix.title.clone());
    vec![Effect::ApplyFix { fix, expected }]
}

fn new_recipe(state: &mut State) {
    let Some(entry) = state.recipes.selected() else {
        return;
    };
    let stem = entry.name.trim_end_matches(".toml");
    let taken = |name: &str| {
        state
            .recipes
            .entries
            .iter()
            .any(|e| e.name == format!("{name}.toml"))
    };
    let name = (2..10_000)
        .map(|n| format!("{stem}-{n}"))
        .find(|name| !taken(name))
        .unwrap_or_default();
    let form = Form {
        title: format!("New recipe from {}", entry.name),
        fields: vec![Field::text("file", &name, "below the recipes' folder")],
        focus: 0,
        notes: vec![Note::new(
            Tone::Neutral,
            format!(
                "extends = \"{}\"; values written there take the base's place",
                entry.name
            ),
        )],
        accept: "write".into(),
        error: None,
        purpose: Purpose::NewRecipe(entry.path.clone()),
    };
    state.dialogs.push(Dialog::Form(form));
}

fn view(title: String, lines: Vec<Note>) -> Dialog {
    Dialog::View(View {
        title,
        lines,
        scroll: 0,
    })
}
