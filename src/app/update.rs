//! Advances the state by one message and names the work that follows.

mod dialog;
pub mod layout;
pub mod logs;
pub mod mapping;
pub mod recipes;
pub mod runs;
mod search;
pub mod train;

use super::dialog::{Help, Palette};
use super::{
    Action, Background, Dialog, Effect, Key, Message, Mouse, Resolution, Scope, Screen, Search,
    State, Target, Tone,
};

/// Advances the state by one message and names the work that follows.
pub fn update(state: &mut State, message: Message) -> Vec<Effect> {
    if let Message::Tick { now_ms, wall_ms } = message {
        return tick(state, now_ms, wall_ms);
    }
    state.dirty = true;
    let effects = take(state, message);
    mapping::refresh(state);
    layout::refresh(state);
    effects
}

fn take(state: &mut State, message: Message) -> Vec<Effect> {
    match message {
        Message::Key(key) => on_key(state, key),
        Message::Paste(text) => {
            dialog::paste(state, &text);
            vec![]
        }
        Message::Mouse(mouse, target) => on_mouse(state, mouse, target),
        Message::Resize(size) => {
            state.size = size;
            vec![]
        }
        Message::Action(action) => run(state, action),
        Message::Say(tone, text) => {
            state.say(tone, text);
            vec![]
        }
        Message::Terminate => vec![Effect::Quit],
        Message::Launched(Ok(run)) => {
            let name = run
                .file_name()
                .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
            state.say(Tone::Good, format!("started {name}"));
            go(state, Screen::Train);
            train::open(state, run)
        }
        Message::Launched(Err(why)) => {
            state.say(Tone::Bad, why);
            vec![]
        }
        Message::Bridge(message) => recipes::bridge::message(state, message),
        Message::Recipes(message) => recipes::message(state, message),
        Message::Mapping(message) => mapping::message(state, message),
        Message::Layout(message) => layout::message(state, message),
        Message::Train(message) => train::message(state, message),
        Message::Runs(message) => runs::message(state, message),
        Message::Logs(message) => logs::message(state, message),
        Message::Tick { .. } => vec![],
    }
}

/// What has to be done before the first message.
pub fn start(_state: &State) -> Vec<Effect> {
    vec![Effect::ListRecipes, Effect::Runs(super::runs::Effect::List)]
}

fn tick(state: &mut State, now_ms: u64, wall_ms: i64) -> Vec<Effect> {
    let seconds = state.wall_ms.div_euclid(1000);
    (state.now_ms, state.wall_ms) = (now_ms, wall_ms);
    if state.toast.as_ref().is_some_and(|t| t.until_ms <= now_ms) {
        state.toast = None;
        state.dirty = true;
    }
    let ticking = state.train.needs_ticks() || state.runs.needs_ticks();
    if ticking && wall_ms.div_euclid(1000) != seconds {
        state.dirty = true;
    }
    runs::tick(state)
}

fn on_key(state: &mut State, key: Key) -> Vec<Effect> {
    if let Some(effects) = dialog::key(state, key) {
        return effects;
    }
    if let Some(effects) = search::key(state, key) {
        return effects;
    }
    let mut keys = std::mem::take(&mut state.pending);
    keys.push(key);
    match state.keymap.resolve(state.screen, &keys) {
        Resolution::Action(action) => run(state, action),
        Resolution::Pending => {
            state.pending = keys;
            vec![]
        }
        // A key that does not complete the chord may still mean something alone.
        Resolution::Nothing if keys.len() > 1 => on_key(state, key),
        Resolution::Nothing => vec![],
    }
}

fn on_mouse(state: &mut State, mouse: Mouse, target: Target) -> Vec<Effect> {
    if !state.dialogs.is_empty() {
        let action = match mouse {
            Mouse::Click => return vec![],
            Mouse::WheelUp => Key::plain(super::Code::Up),
            Mouse::WheelDown => Key::plain(super::Code::Down),
        };
        return dialog::key(state, action).unwrap_or_default();
    }
    match (mouse, target) {
        (Mouse::Click, Target::Tab(screen)) => run(state, screen.action()),
        (Mouse::Click, Target::Hint(action)) => run(state, action),
        (Mouse::Click, Target::Pane(pane) | Target::Row(pane, _)) => {
            let row = match target {
                Target::Row(_, row) => Some(row),
                _ => None,
            };
            click(state, pane, row)
        }
        (Mouse::WheelUp | Mouse::WheelDown, Target::Pane(pane) | Target::Row(pane, _)) => {
            let effects = click(state, pane, None);
            let action = if mouse == Mouse::WheelUp {
                Action::MoveUp
            } else {
                Action::MoveDown
            };
            [effects, run(state, action)].concat()
        }
        _ => vec![],
    }
}

fn click(state: &mut State, pane: usize, row: Option<usize>) -> Vec<Effect> {
    match state.screen {
        Screen::Recipes => recipes::click(state, pane, row),
        Screen::Mapping => mapping::click(state, pane, row),
        Screen::Layout => layout::click(state, pane, row),
        Screen::Train => train::click(state, pane, row),
        Screen::Runs => runs::click(state, pane, row),
        Screen::Logs => logs::click(state, pane, row),
    }
}

/// Why `action` cannot run now; `None` if it can.
pub fn unavailable(state: &State, action: Action) -> Option<String> {
    if let Scope::On(screen) = action.scope()
        && screen != state.screen
    {
        return Some(format!("on the {} screen", screen.title()));
    }
    match action {
        Action::GoLayout if super::layout::subject(state).is_none() => {
            Some("no valid recipe is selected".into())
        }
        Action::NextMatch | Action::PreviousMatch if !has_query(state) => {
            Some("nothing is searched for".into())
        }
        _ => match state.screen {
            Screen::Recipes => recipes::unavailable(state, action),
            Screen::Mapping => mapping::unavailable(state, action),
            Screen::Layout => layout::unavailable(state, action),
            Screen::Train => train::unavailable(state, action),
            Screen::Runs => runs::unavailable(state, action),
            Screen::Logs => logs::unavailable(state, action),
        },
    }
}

fn has_query(state: &State) -> bool {
    search::query(state).is_some_and(|query| !query.is_empty())
}

/// Actions that the status line offers, those that can run now.
pub fn hints(state: &State) -> Vec<Action> {
    let wanted = match state.screen {
        Screen::Recipes => recipes::HINTS,
        Screen::Mapping => mapping::HINTS,
        Screen::Layout => layout::HINTS,
        Screen::Train => train::HINTS,
        Screen::Runs => runs::HINTS,
        Screen::Logs => logs::HINTS,
    };
    wanted
        .iter()
        .copied()
        .filter(|&action| unavailable(state, action).is_none())
        .collect()
}

/// Carries an action out, or says why it cannot run.
pub fn run(state: &mut State, action: Action) -> Vec<Effect> {
    if let Some(why) = unavailable(state, action) {
        state.say(Tone::Neutral, format!("{}: {why}", action.name()));
        return vec![];
    }
    match action {
        Action::GoRecipes => go(state, Screen::Recipes),
        Action::GoMapping => go(state, Screen::Mapping),
        Action::GoLayout => go(state, Screen::Layout),
        Action::GoTrain => go(state, Screen::Train),
        Action::GoRuns => {
            go(state, Screen::Runs);
            return vec![Effect::Runs(super::runs::Effect::List)];
        }
        Action::GoLogs => go(state, Screen::Logs),
        Action::Palette => state.dialogs.push(Dialog::Palette(Palette::default())),
        Action::Help => state.dialogs.push(Dialog::Help(Help::default())),
        Action::Maximise => state.maximised = !state.maximised,
        Action::Search => {
            let before = search::query(state).cloned().unwrap_or_default();
            state.search = Some(Search {
                input: before.text.clone().into(),
                mode: before.mode,
                before,
            });
        }
        Action::Back => return back(state),
        Action::SwitchTheme => {
            state.background = match state.background {
                Background::Dark => Background::Light,
                Background::Light => Background::Dark,
            };
        }
        Action::SwitchMouse => {
            state.mouse = !state.mouse;
            return vec![Effect::Mouse(state.mouse)];
        }
        Action::Redraw => return vec![Effect::Redraw],
        Action::Suspend => return vec![Effect::Suspend],
        Action::Quit => return vec![Effect::Quit],
        _ => return act(state, action),
    }
    vec![]
}

fn act(state: &mut State, action: Action) -> Vec<Effect> {
    match state.screen {
        Screen::Recipes => recipes::act(state, action),
        Screen::Mapping => mapping::act(state, action),
        Screen::Layout => layout::act(state, action),
        Screen::Train => train::act(state, action),
        Screen::Runs => runs::act(state, action),
        Screen::Logs => logs::act(state, action),
    }
}

fn go(state: &mut State, screen: Screen) {
    state.screen = screen;
    state.maximised = false;
    state.search = None;
    state.dialogs.clear();
}

/// Back one level: a search's effect, a maximised pane, then what the screen makes of it.
fn back(state: &mut State) -> Vec<Effect> {
    if has_query(state) {
        return search::set(state, super::search::Query::default());
    }
    if state.maximised {
        state.maximised = false;
        return vec![];
    }
    act(state, Action::Back)
}
