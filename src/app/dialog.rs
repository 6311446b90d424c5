//! Boxes over a screen: help, palette, forms, choices, texts to read.

use std::path::PathBuf;

use tui_input::Input;

use super::{Key, Screen, Tone};

/// A box over the screen.
#[derive(Debug, Clone)]
pub enum Dialog {
    /// Keys of the screen.
    Help(Help),
    /// Every action, by name.
    Palette(Palette),
    /// Questions with typed answers.
    Form(Form),
    /// One question with a few answers.
    Choice(Choice),
    /// A text to read.
    View(View),
}

/// The help overlay.
#[derive(Debug, Clone, Default)]
pub struct Help {
    /// Filter.
    pub input: Input,
    /// The chosen row.
    pub selected: usize,
}

/// The palette.
#[derive(Debug, Clone, Default)]
pub struct Palette {
    /// Filter.
    pub input: Input,
    /// The chosen row.
    pub selected: usize,
}

/// Who gets a form's or a choice's answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Purpose {
    /// Launch the recipe of this file.
    Launch(PathBuf),
    /// Write a new recipe that extends this file.
    NewRecipe(PathBuf),
    /// The screen decides; the text says what it is about (a run's folder, a key).
    Screen(Screen, &'static str, PathBuf),
}

/// What a field holds.
#[derive(Debug, Clone)]
pub enum Value {
    /// A typed text.
    Text(Input),
    /// On or off.
    Toggle(bool),
    /// One of a few.
    Choice(Vec<String>, usize),
}

/// One line of a form.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its name.
    pub label: String,
    /// What it holds.
    pub value: Value,
    /// What belongs there.
    pub help: String,
}

impl Field {
    /// A typed text.
    pub fn text(label: &str, value: &str, help: &str) -> Self {
        Self {
            label: label.into(),
            value: Value::Text(Input::new(value.into())),
            help: help.into(),
        }
    }

    /// On or off.
    pub fn toggle(label: &str, on: bool, help: &str) -> Self {
        Self {
            label: label.into(),
            value: Value::Toggle(on),
            help: help.into(),
        }
    }

    /// One of a few.
    pub fn choice(label: &str, options: &[&str], chosen: usize) -> Self {
        Self {
            label: label.into(),
            value: Value::Choice(options.iter().map(|&o| o.to_owned()).collect(), chosen),
            help: String::new(),
        }
    }
}

/// A line of explanation in a form or a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// How it is coloured.
    pub tone: Tone,
    /// The line.
    pub text: String,
}

impl Note {
    /// A line.
    pub fn new(tone: Tone, text: impl Into<String>) -> Self {
        Self {
            tone,
            text: text.into(),
        }
    }
}

/// Questions with typed answers.
#[derive(Debug, Clone)]
pub struct Form {
    /// Title.
    pub title: String,
    /// The questions.
    pub fields: Vec<Field>,
    /// The question with the cursor.
    pub focus: usize,
    /// Explanation below.
    pub notes: Vec<Note>,
    /// The word for accepting.
    pub accept: String,
    /// Why the last try to accept was refused.
    pub error: Option<String>,
    /// Who gets the answers.
    pub purpose: Purpose,
}

impl Form {
    /// The answer of a text or choice field; empty for others.
    pub fn text(&self, field: usize) -> &str {
        match self.fields.get(field).map(|f| &f.value) {
            Some(Value::Text(input)) => input.value(),
            Some(Value::Choice(options, chosen)) => options.get(*chosen).map_or("", |o| o),
            _ => "",
        }
    }

    /// Whether a toggle is on.
    pub fn is_on(&self, field: usize) -> bool {
        matches!(
            self.fields.get(field).map(|f| &f.value),
            Some(Value::Toggle(true))
        )
    }
}

/// One answer of a choice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The key that chooses it.
    pub key: Key,
    /// What it does.
    pub label: String,
    /// What it costs.
    pub detail: String,
    /// Why it cannot be chosen, if it cannot.
    pub unavailable: Option<String>,
}

impl Answer {
    /// An answer that can be chosen.
    pub fn new(key: char, label: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            key: Key::char(key),
            label: label.into(),
            detail: detail.into(),
            unavailable: None,
        }
    }
}

/// One question with a few answers; a confirmation is a choice of two.
#[derive(Debug, Clone)]
pub struct Choice {
    /// Title; names the object.
    pub title: String,
    /// Explanation.
    pub notes: Vec<Note>,
    /// The answers.
    pub answers: Vec<Answer>,
    /// The answer under the cursor.
    pub selected: usize,
    /// Who gets the answer's number.
    pub purpose: Purpose,
}

/// A text to read.
#[derive(Debug, Clone)]
pub struct View {
    /// Title.
    pub title: String,
    /// Its lines.
    pub lines: Vec<Note>,
    /// The first line shown.
    pub scroll: usize,
}
