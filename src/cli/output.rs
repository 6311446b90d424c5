//! Standard output, with or without colours.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};

/// When to use colours.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum ColorChoice {
    /// On a terminal, unless `NO_COLOR` is set or `TERM` is `dumb`.
    #[default]
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

impl ColorChoice {
    fn on(self, is_terminal: bool) -> bool {
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Auto => {
                is_terminal
                    && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty())
                    && std::env::var_os("TERM").is_none_or(|v| v != "dumb")
            }
        }
    }
}

/// Whether text on standard error may have colours.
pub(super) fn stderr_has_color(choice: ColorChoice) -> bool {
    choice.on(io::stderr().is_terminal())
}

/// What a piece of text means; [`Output::paint`] gives it a colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// A heading.
    Heading,
    /// A name: of a key, a run, a file.
    Name,
    /// Less important.
    Dim,
    /// Good.
    Good,
    /// Look at this.
    Warning,
    /// Wrong.
    Error,
}

/// `text` in the colour of its meaning, if `color`.
pub(super) fn paint(color: bool, tone: Tone, text: impl Display) -> String {
    if !color {
        return text.to_string();
    }
    let code = match tone {
        Tone::Heading => "1",
        Tone::Name => "36",
        Tone::Dim => "2",
        Tone::Good => "32",
        Tone::Warning => "1;33",
        Tone::Error => "1;31",
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Standard output.
#[derive(Debug)]
pub struct Output {
    /// Whether text may have colours.
    pub color: bool,
    /// Whether a person is likely reading along.
    pub is_terminal: bool,
}

impl Output {
    /// The process's standard output.
    pub fn stdout(choice: ColorChoice) -> Self {
        let is_terminal = io::stdout().is_terminal();
        Self {
            color: choice.on(is_terminal),
            is_terminal,
        }
    }

    /// `text` in the colour of its meaning.
    pub fn paint(&self, tone: Tone, text: impl Display) -> String {
        paint(self.color, tone, text)
    }

    /// Writes `text` as it is and flushes.
    #[expect(
        clippy::unused_self,
        reason = "whoever prints needs the output, not the process's handle"
    )]
    pub fn write(&self, text: impl Display) -> io::Result<()> {
        let mut out = io::stdout().lock();
        write!(out, "{text}")?;
        out.flush()
    }

    /// Writes `text` and a line end, and flushes.
    pub fn line(&self, text: impl Display) -> io::Result<()> {
        self.write(format_args!("{text}\n"))
    }

    /// Writes `value` as indented JSON.
    pub fn json(&self, value: &impl serde::Serialize) -> io::Result<()> {
        self.line(serde_json::to_string_pretty(value)?)
    }
}
