//! Which keys mean which action: the table's defaults, changed by the user's keymap file.

use serde::Deserialize;

use super::Screen;
use super::action::{Action, Scope};
use super::key::{self, Key};

/// What a sequence of keys means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Resolution {
    /// This action.
    Action(Action),
    /// The beginning of a chord.
    Pending,
    /// Nothing.
    Nothing,
}

/// All bindings.
#[derive(Debug, Clone, PartialEq)]
pub struct Keymap {
    bindings: Vec<(Scope, Vec<Key>, Action)>,
}

impl Default for Keymap {
    fn default() -> Self {
        let mut keymap = Self {
            bindings: Vec::new(),
        };
        for &action in Action::ALL {
            for chord in action.default_chords() {
                keymap.bindings.push((action.scope(), chord, action));
            }
        }
        keymap
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Keys {
    One(String),
    Many(Vec<String>),
}

impl Keymap {
    /// The defaults with the changes of a keymap file: `action_id = "key"` or `action_id = ["key", "g g"]`; an empty list unbinds.
    /// Problems come back as sentences; the lines that are right still count.
    pub fn from_toml(text: &str) -> (Self, Vec<String>) {
        let mut keymap = Self::default();
        let mut problems = Vec::new();
        let table: toml::Table = match toml::from_str(text) {
            Ok(table) => table,
            Err(error) => return (keymap, vec![error.message().to_owned()]),
        };
        for (id, value) in table {
            let Some(action) = Action::from_id(&id) else {
                problems.push(format!(
                    "unknown action `{id}`; `trestle keys --ui` lists them"
                ));
                continue;
            };
            let keys = match value.try_into() {
                Ok(Keys::One(key)) => vec![key],
                Ok(Keys::Many(keys)) => keys,
                Err(_) => {
                    problems.push(format!("{id}: expected a key or a list of keys"));
                    continue;
                }
            };
            match keys
                .iter()
                .map(|k| Key::chord(k))
                .collect::<Result<Vec<_>, _>>()
            {
                Ok(chords) => keymap.rebind(action, chords),
                Err(unknown) => problems.push(format!("{id}: {unknown}")),
            }
        }
        (keymap, problems)
    }

    /// Gives `action` these chords instead of its present ones; another action of the scope that had one of them loses it.
    fn rebind(&mut self, action: Action, chords: Vec<Vec<Key>>) {
        let scope = action.scope();
        self.bindings
            .retain(|(s, chord, a)| *a != action && !(*s == scope && chords.contains(chord)));
        for chord in chords {
            self.bindings.push((scope, chord, action));
        }
    }

    /// What `keys` mean on `screen`: the screen's own bindings come before the global ones.
    pub fn resolve(&self, screen: Screen, keys: &[Key]) -> Resolution {
        let mut pending = false;
        for scope in [Scope::On(screen), Scope::Global] {
            for (_, chord, action) in self.bindings.iter().filter(|(s, _, _)| *s == scope) {
                if chord == keys {
                    return Resolution::Action(*action);
                }
                pending |= chord.len() > keys.len() && chord.starts_with(keys);
            }
        }
        if pending {
            Resolution::Pending
        } else {
            Resolution::Nothing
        }
    }

    /// The chords of an action, shown.
    pub fn keys(&self, action: Action) -> Vec<String> {
        self.bindings
            .iter()
            .filter(|(_, _, a)| *a == action)
            .map(|(_, chord, _)| key::display(chord))
            .collect()
    }

    /// The first chord of an action, shown; empty if it has none.
    pub fn key(&self, action: Action) -> String {
        self.keys(action).into_iter().next().unwrap_or_default()
    }
}

/// The action table as text for `trestle keys --ui`: scope, keys, name, what it does; Markdown tables if `markdown`.
pub fn reference(keymap: &Keymap, markdown: bool) -> String {
    use std::fmt::Write as _;
    let mut text = String::new();
    let mut scope = None;
    for &action in Action::ALL {
        if scope != Some(action.scope()) {
            scope = Some(action.scope());
            let title = action.scope().title();
            let _ = if markdown {
                write!(
                    text,
                    "\n## {title}\n\n| keys | action | what it does |\n|---|---|---|\n"
                )
            } else {
                let gap = if text.is_empty() { "" } else { "\n" };
                writeln!(text, "{gap}{title}")
            };
        }
        let keys = keymap.keys(action).join(" ");
        let _ = if markdown {
            let keys = keys.replace('|', "\\|");
            writeln!(text, "| `{keys}` | `{}` | {} |", action.id(), action.doc())
        } else {
            writeln!(text, "  {keys:<12} {:<20} {}", action.id(), action.doc())
        };
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_key_chords_wait_for_their_second_key() {
        let keymap = Keymap::default();
        let g = Key::char('g');
        assert_eq!(keymap.resolve(Screen::Logs, &[g]), Resolution::Pending);
        assert_eq!(
            keymap.resolve(Screen::Logs, &[g, g]),
            Resolution::Action(Action::Top)
        );
        assert_eq!(
            keymap.resolve(Screen::Logs, &[g, Key::char('x')]),
            Resolution::Nothing
        );
    }

    #[test]
    fn the_screen_comes_before_the_global_meaning() {
        let keymap = Keymap::default();
        let enter = [Key::plain(super::key::Code::Enter)];
        assert_eq!(
            keymap.resolve(Screen::Recipes, &enter),
            Resolution::Action(Action::Launch)
        );
        assert_eq!(
            keymap.resolve(Screen::Runs, &enter),
            Resolution::Action(Action::Open)
        );
    }

    #[test]
    fn a_keymap_file_rebinds_and_says_what_it_did_not_understand() {
        let (keymap, problems) = Keymap::from_toml(
            "pause_run = [\"p\", \"space\"]\nquit = \"ctrl-q\"\nstop_run = []\nnonsense = \"x\"\nhelp = \"f99\"\n",
        );
        assert_eq!(keymap.keys(Action::PauseRun), ["p", "space"]);
        assert_eq!(keymap.key(Action::Quit), "^Q");
        assert_eq!(keymap.key(Action::StopRun), "");
        assert_eq!(keymap.key(Action::Help), "?");
        assert_eq!(problems.len(), 2, "{problems:?}");
        let (same, problems) = Keymap::from_toml("quit = ");
        assert_eq!(same, Keymap::default());
        assert_eq!(problems.len(), 1);
    }
}
