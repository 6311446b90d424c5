//! Keys as plain data, with the names that the keymap file and the help use.

use std::fmt;
use std::str::FromStr;

/// What was pressed, modifiers aside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// A character as typed; shift is already in it.
    Char(char),
    /// Return.
    Enter,
    /// Escape.
    Esc,
    /// Tab.
    Tab,
    /// Shift and tab.
    BackTab,
    /// Backspace.
    Backspace,
    /// Delete.
    Delete,
    /// Left arrow.
    Left,
    /// Right arrow.
    Right,
    /// Up arrow.
    Up,
    /// Down arrow.
    Down,
    /// Home.
    Home,
    /// End.
    End,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// A function key.
    F(u8),
}

/// A key press.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    /// Which key.
    pub code: Code,
    /// Whether control was held.
    pub ctrl: bool,
    /// Whether alt was held.
    pub alt: bool,
}

impl Key {
    /// A key without modifiers.
    pub const fn plain(code: Code) -> Self {
        Self {
            code,
            ctrl: false,
            alt: false,
        }
    }

    /// A character without modifiers.
    pub const fn char(c: char) -> Self {
        Self::plain(Code::Char(c))
    }

    /// A character with control.
    pub const fn ctrl(c: char) -> Self {
        Self {
            code: Code::Char(c),
            ctrl: true,
            alt: false,
        }
    }

    /// Reads a chord: keys separated by spaces, as in `g g`.
    pub fn chord(text: &str) -> Result<Vec<Self>, UnknownKey> {
        let keys: Vec<Self> = text
            .split_whitespace()
            .map(Self::from_str)
            .collect::<Result<_, _>>()?;
        if keys.is_empty() {
            return Err(UnknownKey(text.to_owned()));
        }
        Ok(keys)
    }
}

/// A text that names no key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no key; examples: a, A, space, enter, ctrl-p, f5, `g g`")]
pub struct UnknownKey(pub String);

const NAMED: [(&str, Code); 17] = [
    ("space", Code::Char(' ')),
    ("enter", Code::Enter),
    ("esc", Code::Esc),
    ("tab", Code::Tab),
    ("S-tab", Code::BackTab),
    ("backtab", Code::BackTab),
    ("backspace", Code::Backspace),
    ("delete", Code::Delete),
    ("left", Code::Left),
    ("right", Code::Right),
    ("up", Code::Up),
    ("down", Code::Down),
    ("home", Code::Home),
    ("end", Code::End),
    ("pgup", Code::PageUp),
    ("pgdn", Code::PageDown),
    ("pagedown", Code::PageDown),
];

impl FromStr for Key {
    type Err = UnknownKey;

    fn from_str(text: &str) -> Result<Self, UnknownKey> {
        let unknown = || UnknownKey(text.to_owned());
        let mut key = Self::plain(Code::Esc);
        let mut rest = text;
        loop {
            if let Some(after) = rest.strip_prefix("ctrl-").filter(|r| !r.is_empty()) {
                key.ctrl = true;
                rest = after;
            } else if let Some(after) = rest.strip_prefix("alt-").filter(|r| !r.is_empty()) {
                key.alt = true;
                rest = after;
            } else {
                break;
            }
        }
        let mut chars = rest.chars();
        key.code = match (chars.next(), chars.next()) {
            (Some(c), None) => Code::Char(c),
            _ => {
                if let Some((_, code)) = NAMED.iter().find(|(name, _)| *name == rest) {
                    *code
                } else {
                    let number = rest.strip_prefix('f').ok_or_else(unknown)?;
                    match number.parse() {
                        Ok(n @ 1..=24) => Code::F(n),
                        _ => return Err(unknown()),
                    }
                }
            }
        };
        Ok(key)
    }
}

impl fmt::Display for Key {
    /// Short, as a hint line shows it: `^P`, `enter`, `S-tab`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.alt {
            f.write_str("alt-")?;
        }
        match self.code {
            Code::Char(c) if self.ctrl && c != ' ' => write!(f, "^{}", c.to_ascii_uppercase()),
            code => {
                if self.ctrl {
                    f.write_str("ctrl-")?;
                }
                if let Some((name, _)) = NAMED.iter().find(|(_, named)| *named == code) {
                    return f.write_str(name);
                }
                match code {
                    Code::Char(c) => write!(f, "{c}"),
                    Code::F(n) => write!(f, "f{n}"),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// A chord as a hint shows it: `gg` for two characters, else the keys side by side.
pub fn display(chord: &[Key]) -> String {
    chord.iter().map(Key::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_and_shown() {
        for (text, shown) in [
            ("a", "a"),
            ("A", "A"),
            ("ctrl-p", "^P"),
            ("space", "space"),
            ("S-tab", "S-tab"),
            ("f5", "f5"),
            ("alt-x", "alt-x"),
            ("-", "-"),
            ("pgdn", "pgdn"),
        ] {
            assert_eq!(text.parse::<Key>().map(|k| k.to_string()), Ok(shown.into()));
        }
        assert!("f99".parse::<Key>().is_err());
        assert!("entr".parse::<Key>().is_err());
        assert_eq!(Key::chord("g g").map(|c| display(&c)), Ok("gg".into()));
    }
}
