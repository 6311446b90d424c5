//! What is wrong with a text, where, and what would be right.

use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;

/// A byte range in a text.
pub type Span = Range<usize>;

/// A place for people: line and column, both counted from 1, columns in characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct LineColumn {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
}

impl LineColumn {
    /// The place of byte `offset` in `text`; an offset past the end is the end.
    pub fn of(text: &str, offset: usize) -> Self {
        let mut end = offset.min(text.len());
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &text[..end];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Self {
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }
}

impl fmt::Display for LineColumn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.line, self.column)
    }
}

/// Where a value or a problem stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Place {
    /// In a file.
    File {
        /// The file, as the user named it.
        path: PathBuf,
        /// Byte range in the file's text.
        span: Span,
        /// The span's start for people.
        at: LineColumn,
    },
    /// On the command line, as the text after `--set`.
    CommandLine {
        /// The argument as it was given.
        argument: String,
    },
    /// Nobody wrote it: the built-in default, or derived from other values.
    Default,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, at, .. } => write!(f, "{}:{at}", path.display()),
            Self::CommandLine { argument } => write!(f, "--set {argument}"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// How bad a problem is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// The run can start; the user should know.
    Warning,
    /// The run cannot start.
    Error,
}

/// A change of a text that would mend a problem.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fix {
    /// What the fix does, as an imperative: "replace with `sequence_parallel`".
    pub title: String,
    /// The file to change.
    pub path: PathBuf,
    /// Bytes to replace.
    pub span: Span,
    /// The new text.
    pub replacement: String,
}

/// One problem of a recipe: code, place, reason with the numbers that disagree, and a way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// Error or warning.
    pub severity: Severity,
    /// A stable code such as `E0102`.
    pub code: &'static str,
    /// What is wrong, with the two values that disagree.
    pub message: String,
    /// Where.
    pub place: Place,
    /// The dotted key it is about, if it is about one.
    pub key: Option<String>,
    /// How to get out of it, in words.
    pub hint: Option<String>,
    /// The nearest legal values, if they can be listed.
    pub nearest: Vec<String>,
    /// A mechanical fix, if there is one.
    pub fix: Option<Fix>,
}

impl fmt::Display for Diagnostic {
    /// Compiler style: `error[E0102]: message`, place, hint.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(
            f,
            "{severity}[{}]: {}\n  {}",
            self.code, self.message, self.place
        )?;
        if !self.nearest.is_empty() {
            write!(f, "\n  nearest: {}", self.nearest.join(", "))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, "\n  hint: {hint}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_start_at_one() {
        let text = "a = 1\nbé = 2\n";
        assert_eq!(LineColumn::of(text, 0), LineColumn { line: 1, column: 1 });
        let two = text.find('2').expect("there is a two");
        assert_eq!(LineColumn::of(text, two), LineColumn { line: 2, column: 6 });
        assert_eq!(LineColumn::of(text, 999), LineColumn { line: 3, column: 1 });
    }
}
