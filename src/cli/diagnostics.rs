//! Prints the problems of a recipe the way compilers do: message, place, the line itself, a way out.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use super::output::{Tone, paint};
use super::{Exit, Failure};
use crate::base::{Diagnostic, LineColumn, Place, Severity};
use crate::recipe::{Loaded, Recipe, load};

/// Loads a recipe for a subcommand that needs a valid one. Problems go to standard error, warnings too.
pub(super) fn load_valid(
    path: &Path,
    sets: &[String],
    color: bool,
) -> Result<(Recipe, Loaded), Failure> {
    let mut loaded = load(path, sets, &|path| fs::read_to_string(path));
    if let Some(recipe) = loaded.recipe.take() {
        for diagnostic in &loaded.diagnostics {
            print_to_stderr(&problem(diagnostic, color));
        }
        loaded.recipe = Some(recipe.clone());
        return Ok((recipe, loaded));
    }
    if let Some(megatron) = loaded.megatron.as_ref().filter(|_| loaded.is_valid()) {
        return Err(super::train::not_ours(path, &megatron.recipe));
    }
    print_to_stderr(&report(&loaded, color));
    Err(Failure::said(Exit::Recipe))
}

/// Writes to standard error.
pub(super) fn print_to_stderr(text: &str) {
    use std::io::Write as _;
    // Nobody is left to tell if standard error is closed.
    let _ = std::io::stderr().write_all(text.as_bytes());
}

/// All problems of a recipe and a line that sums them up.
pub(super) fn report(loaded: &Loaded, color: bool) -> String {
    let mut text = String::new();
    for diagnostic in &loaded.diagnostics {
        text += &problem(diagnostic, color);
    }
    let path = loaded.path.display();
    let (errors, warnings) = (loaded.errors(), loaded.warnings());
    let mut counts = Vec::new();
    if errors > 0 {
        counts.push(counted(errors, "error"));
    }
    if warnings > 0 {
        counts.push(counted(warnings, "warning"));
    }
    let summary = match (errors, &counts[..]) {
        (0, []) => paint(color, Tone::Good, "valid"),
        (0, counts) => format!(
            "{}, {}",
            paint(color, Tone::Good, "valid"),
            paint(color, Tone::Warning, counts.join(", "))
        ),
        (_, counts) => paint(color, Tone::Error, counts.join(", ")),
    };
    let _ = writeln!(text, "{path}: {summary}");
    text
}

fn counted(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

/// One problem, an empty line after it.
pub(super) fn problem(diagnostic: &Diagnostic, color: bool) -> String {
    let (word, tone) = match diagnostic.severity {
        Severity::Error => ("error", Tone::Error),
        Severity::Warning => ("warning", Tone::Warning),
    };
    let head = paint(color, tone, format!("{word}[{}]", diagnostic.code));
    let mut text = format!("{head}: {}\n", diagnostic.message);
    let arrow = paint(color, Tone::Dim, "-->");
    let _ = writeln!(text, "  {arrow} {}", diagnostic.place);
    if let Place::File { path, span, at } = &diagnostic.place {
        text += &excerpt(path, span.len(), *at, color).unwrap_or_default();
    }
    let dim = |word: &str| paint(color, Tone::Dim, word);
    if !diagnostic.nearest.is_empty() {
        let nearest = diagnostic.nearest.join(", ");
        let _ = writeln!(text, "  {} {nearest}", dim("nearest:"));
    }
    if let Some(hint) = &diagnostic.hint {
        let _ = writeln!(text, "  {} {hint}", dim("hint:"));
    }
    text.push('\n');
    text
}

/// The line with a mark under the span.
fn excerpt(path: &Path, bytes: usize, at: LineColumn, color: bool) -> Option<String> {
    if bytes == 0 {
        return None;
    }
    let content = fs::read_to_string(path).ok()?;
    let line = content.lines().nth(at.line - 1)?;
    let marked = line.chars().skip(at.column - 1);
    let length = marked
        .scan(0, |used, c| {
            *used += c.len_utf8();
            Some(*used)
        })
        .take_while(|used| *used <= bytes)
        .count()
        .max(1);
    let number = at.line.to_string();
    let indent = " ".repeat(number.len());
    let bar = paint(color, Tone::Dim, "|");
    // Tabs stay tabs, so that the mark stands under its text.
    let pad: String = line
        .chars()
        .take(at.column - 1)
        .map(|c| if c == '\t' { '\t' } else { ' ' })
        .collect();
    let mark = paint(color, Tone::Error, "^".repeat(length));
    let number = paint(color, Tone::Dim, number);
    Some(format!(
        "  {number} {bar} {line}\n  {indent} {bar} {pad}{mark}\n"
    ))
}
