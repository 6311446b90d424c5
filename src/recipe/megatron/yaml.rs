//! A recipe as the YAML that Bridge's `--dry-run` prints, and back.
//!
//! What is about the job and not an option of Bridge (its name, GPUs, model) stands in comments at the top, `# trestle: KEY = VALUE`,
//! so that [`from_yaml`] gives the same recipe again. A dump of Bridge has no such lines; its model is found by `model.hf_model_id`, the
//! rest by the published recipe that it is most like.

mod import;
mod leaves;
mod node;
mod write;

use std::path::{Path, PathBuf};

use super::Megatron;
use crate::base::{Diagnostic, LineColumn, Place, Severity};

pub use import::from_yaml;
pub use write::to_yaml;

/// What starts a line about the job.
const ABOUT: &str = "# trestle: ";

/// A recipe that an import may extend.
#[derive(Debug, Clone)]
pub struct Published {
    /// How the import names it in `extends`.
    pub path: PathBuf,
    /// What it says.
    pub recipe: Megatron,
}

/// What a dump does not say and who imports it may know.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Upstream's name of the recipe.
    pub recipe: Option<String>,
    /// GPUs of the job.
    pub gpus: Option<usize>,
}

/// A recipe that was read from YAML.
#[derive(Debug, Clone, PartialEq)]
pub struct Imported {
    /// The recipe as TOML.
    pub toml: String,
    /// The published recipe that it extends.
    pub extends: Option<PathBuf>,
    /// What could not be taken over as it stands.
    pub warnings: Vec<Diagnostic>,
}

/// A text with its file's name.
#[derive(Debug, Clone, Copy)]
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

/// A range of characters, as the YAML reader counts them, and where it starts for people.
#[derive(Debug, Clone, Copy, PartialEq)]
struct At {
    start: usize,
    end: usize,
    line_column: LineColumn,
}

impl At {
    const TOP: Self = Self {
        start: 0,
        end: 0,
        line_column: LineColumn { line: 1, column: 1 },
    };
}

impl Source<'_> {
    /// Why a text is refused.
    fn refusal(self, code: &'static str, at: At, message: impl Into<String>) -> Box<Diagnostic> {
        Box::new(self.diagnostic(Severity::Error, code, at, message.into()))
    }

    /// Costs a walk over the text.
    fn diagnostic(
        self,
        severity: Severity,
        code: &'static str,
        at: At,
        message: String,
    ) -> Diagnostic {
        let byte = |character: usize| {
            let found = self.text.char_indices().nth(character);
            found.map_or(self.text.len(), |(byte, _)| byte)
        };
        let start = byte(at.start);
        Diagnostic {
            severity,
            code,
            message,
            place: Place::File {
                path: self.path.into(),
                span: start..byte(at.end).max(start),
                at: at.line_column,
            },
            key: None,
            hint: None,
            nearest: Vec::new(),
            fix: None,
        }
    }
}
