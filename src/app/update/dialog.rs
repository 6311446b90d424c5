//! Keys of the boxes over a screen.

use tui_input::{Input, InputRequest};

use super::search::request;
use super::{layout, logs, mapping, recipes, runs, train};
use crate::app::dialog::{Choice, Dialog, Form, Help, Palette, Purpose, Value, View};
use crate::app::{Action, Code, Effect, Key, Screen, State, list, palette};

/// A key while a box is open; `None` if none is.
pub(super) fn key(state: &mut State, key: Key) -> Option<Vec<Effect>> {
    let dialog = state.dialogs.pop()?;
    if key.code == Code::Esc || key == Key::ctrl('c') {
        return Some(vec![]);
    }
    Some(match dialog {
        Dialog::Help(help) => help_key(state, help, key),
        Dialog::Palette(palette) => palette_key(state, palette, key),
        Dialog::Form(form) => form_key(state, form, key),
        Dialog::Choice(choice) => choice_key(state, choice, key),
        Dialog::View(view) => view_key(state, view, key),
    })
}

/// Pasted text goes to the field that has the cursor; line ends become spaces.
pub(super) fn paste(state: &mut State, text: &str) {
    let text = text.replace(['\n', '\r', '\t'], " ");
    let input = match state.dialogs.last_mut() {
        Some(Dialog::Help(help)) => Some(&mut help.input),
        Some(Dialog::Palette(palette)) => Some(&mut palette.input),
        Some(Dialog::Form(form)) => match form.fields.get_mut(form.focus).map(|f| &mut f.value) {
            Some(Value::Text(input)) => Some(input),
            _ => None,
        },
        Some(_) => None,
        None => state.search.as_mut().map(|search| &mut search.input),
    };
    if let Some(input) = input {
        for c in text.chars().filter(|c| !c.is_control()) {
            input.handle(InputRequest::InsertChar(c));
        }
    }
    if state.dialogs.is_empty()
        && let Some(search) = &state.search
    {
        let query = crate::app::search::Query {
            text: search.input.value().to_owned(),
            mode: search.mode,
        };
        super::search::set(state, query);
    }
}

/// The cursor after a key that moves in a list, while letters go to a filter.
fn list_move(cursor: usize, len: usize, key: Key) -> Option<usize> {
    let action = match (key.code, key.ctrl) {
        (Code::Up, _) | (Code::Char('p'), true) => Action::MoveUp,
        (Code::Down, _) | (Code::Char('n'), true) => Action::MoveDown,
        (Code::PageUp, _) => Action::HalfPageUp,
        (Code::PageDown, _) => Action::HalfPageDown,
        _ => return None,
    };
    list::moved(cursor, len, action, 10)
}

fn edit(input: &mut Input, key: Key) -> bool {
    request(key).is_some_and(|request| input.handle(request).is_some_and(|c| c.value))
}

fn help_key(state: &mut State, mut help: Help, key: Key) -> Vec<Effect> {
    let lines = palette::help(state, state.screen, help.input.value());
    if key.code == Code::Enter {
        if let Some(line) = lines.get(help.selected) {
            return super::run(state, line.action);
        }
    } else if let Some(cursor) = list_move(help.selected, lines.len(), key) {
        help.selected = cursor;
    } else if key == Key::char('?') || (key == Key::char('q') && help.input.value().is_empty()) {
        return vec![];
    } else if edit(&mut help.input, key) {
        help.selected = 0;
    }
    state.dialogs.push(Dialog::Help(help));
    vec![]
}

fn palette_key(state: &mut State, mut palette: Palette, key: Key) -> Vec<Effect> {
    let lines = palette::matches(state, palette.input.value());
    if key.code == Code::Enter {
        if let Some(line) = lines.get(palette.selected) {
            return super::run(state, line.action);
        }
    } else if let Some(cursor) = list_move(palette.selected, lines.len(), key) {
        palette.selected = cursor;
    } else if edit(&mut palette.input, key) {
        palette.selected = 0;
    }
    state.dialogs.push(Dialog::Palette(palette));
    vec![]
}

fn form_key(state: &mut State, mut form: Form, key: Key) -> Vec<Effect> {
    let len = form.fields.len().max(1);
    match key.code {
        Code::Enter => return accept(state, form),
        Code::Tab | Code::Down => form.focus = (form.focus + 1) % len,
        Code::BackTab | Code::Up => form.focus = (form.focus + len - 1) % len,
        _ => {
            let value = form.fields.get_mut(form.focus).map(|f| &mut f.value);
            match value {
                Some(Value::Text(input)) => {
                    edit(input, key);
                    form.error = None;
                }
                Some(Value::Toggle(on)) => {
                    if matches!(key.code, Code::Char(' ') | Code::Left | Code::Right) {
                        *on = !*on;
                    }
                }
                Some(Value::Choice(options, chosen)) if !options.is_empty() => {
                    let n = options.len();
                    match key.code {
                        Code::Char(' ') | Code::Right => *chosen = (*chosen + 1) % n,
                        Code::Left => *chosen = (*chosen + n - 1) % n,
                        _ => {}
                    }
                }
                _ => {}
            }
        }
    }
    state.dialogs.push(Dialog::Form(form));
    vec![]
}

/// Gives the form to its screen; refused, it stays open and says why.
fn accept(state: &mut State, mut form: Form) -> Vec<Effect> {
    let answer = match &form.purpose {
        Purpose::Launch(_) | Purpose::NewRecipe(_) => recipes::accept(state, &form),
        Purpose::Screen(screen, ..) => match screen {
            Screen::Recipes => recipes::accept(state, &form),
            Screen::Mapping => mapping::accept(state, &form),
            Screen::Layout => layout::accept(state, &form),
            Screen::Train => train::accept(state, &form),
            Screen::Runs => runs::accept(state, &form),
            Screen::Logs => logs::accept(state, &form),
        },
    };
    match answer {
        Ok(effects) => effects,
        Err(why) => {
            form.error = Some(why);
            state.dialogs.push(Dialog::Form(form));
            vec![]
        }
    }
}

fn choice_key(state: &mut State, mut choice: Choice, key: Key) -> Vec<Effect> {
    let by_key = choice.answers.iter().position(|a| a.key == key);
    let chosen = by_key.or((key.code == Code::Enter).then_some(choice.selected));
    if let Some(chosen) = chosen
        && let Some(answer) = choice.answers.get(chosen)
    {
        if answer.unavailable.is_none() {
            let Purpose::Screen(screen, ..) = choice.purpose else {
                return vec![];
            };
            return match screen {
                Screen::Recipes => recipes::choose(state, &choice.purpose, chosen),
                Screen::Mapping => mapping::choose(state, &choice.purpose, chosen),
                Screen::Layout => layout::choose(state, &choice.purpose, chosen),
                Screen::Train => train::choose(state, &choice.purpose, chosen),
                Screen::Runs => runs::choose(state, &choice.purpose, chosen),
                Screen::Logs => logs::choose(state, &choice.purpose, chosen),
            };
        }
        choice.selected = chosen;
    } else {
        let key = match key.code {
            Code::Char('k') | Code::BackTab => Key::plain(Code::Up),
            Code::Char('j') | Code::Tab => Key::plain(Code::Down),
            Code::Char('q') => return vec![],
            _ => key,
        };
        if let Some(cursor) = list_move(choice.selected, choice.answers.len(), key) {
            choice.selected = cursor;
        }
    }
    state.dialogs.push(Dialog::Choice(choice));
    vec![]
}

fn view_key(state: &mut State, mut view: View, key: Key) -> Vec<Effect> {
    let action = match (key.code, key.ctrl) {
        (Code::Char('q') | Code::Enter, _) => return vec![],
        (Code::Up | Code::Char('k'), _) => Action::MoveUp,
        (Code::Down | Code::Char('j'), _) => Action::MoveDown,
        (Code::Char('g') | Code::Home, _) => Action::Top,
        (Code::Char('G') | Code::End, _) => Action::Bottom,
        (Code::PageUp, _) | (Code::Char('u'), true) => Action::HalfPageUp,
        (Code::PageDown | Code::Char(' '), _) | (Code::Char('d'), true) => Action::HalfPageDown,
        _ => Action::Back,
    };
    let half = state.half_page();
    if let Some(scroll) = list::moved(view.scroll, view.lines.len(), action, half) {
        view.scroll = scroll;
    }
    state.dialogs.push(Dialog::View(view));
    vec![]
}
