//! The table of tensors.

use std::fmt::Write;

use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::found::Found;
use super::{LookedAt, numbers};
use crate::base::Bytes;
use crate::checkpoint::StoredTensor;
use crate::cli::output::{Output, Tone};
use crate::cli::progress::columns;

/// Columns of statistics, each ten characters wide.
const STATISTICS: [&str; 7] = ["min", "max", "mean", "std", "zeros", "nan", "inf"];

/// Widths of the columns, and where text comes from.
pub(super) struct Table<'a> {
    found: &'a Found,
    out: &'a Output,
    has_statistics: bool,
    name: usize,
    shape: usize,
    file: usize,
}

impl<'a> Table<'a> {
    pub(super) fn new(
        found: &'a Found,
        tensors: &[&StoredTensor],
        has_statistics: bool,
        out: &'a Output,
    ) -> Self {
        let mut table = Self {
            found,
            out,
            has_statistics,
            name: 4,
            shape: 5,
            file: 4,
        };
        for tensor in tensors {
            table.name = table.name.max(printable(&tensor.name).width());
            table.shape = table.shape.max(tensor.shape.to_string().len());
            table.file = table.file.max(table.place(tensor).width());
        }
        if out.is_terminal {
            table.fit(columns());
        }
        table
    }

    /// Shortens files, then names, until a line fits.
    fn fit(&mut self, columns: usize) {
        let rest = self.shape + 2 + 7 + 2 + 10 + 2 + 2 + self.statistics_width();
        let excess = |table: &Self| (table.name + table.file + rest).saturating_sub(columns);
        self.file -= excess(self).min(self.file.saturating_sub(12));
        self.name -= excess(self).min(self.name.saturating_sub(24));
    }

    fn statistics_width(&self) -> usize {
        if self.has_statistics {
            STATISTICS.len() * 11
        } else {
            0
        }
    }

    pub(super) fn heading(&self) -> String {
        let mut text = format!(
            "{:name$}  {:shape$}  {:<7}  {:>10}",
            "name",
            "shape",
            "dtype",
            "bytes",
            name = self.name,
            shape = self.shape
        );
        if self.has_statistics {
            for column in STATISTICS {
                let _ = write!(text, " {column:>10}");
            }
        }
        text.push_str("  file");
        format!("{}\n", self.out.paint(Tone::Heading, text))
    }

    /// Adds the lines of a tensor.
    pub(super) fn line(&self, text: &mut String, tensor: &StoredTensor, looked_at: &LookedAt) {
        let name = padded(&shortened(&printable(&tensor.name), self.name), self.name);
        let _ = write!(
            text,
            "{}  {:shape$}  {:<7}  {:>10}",
            self.out.paint(Tone::Name, name),
            tensor.shape.to_string(),
            tensor.dtype.safetensors_name(),
            Bytes(tensor.bytes()).to_string(),
            shape = self.shape
        );
        if let Some(s) = &looked_at.statistics {
            for value in [s.min, s.max, s.mean, s.std] {
                let _ = write!(text, " {:>10}", numbers::value(value));
            }
            let _ = write!(text, " {:>10}", s.zeros);
            for odd in [s.nan, s.positive_infinity + s.negative_infinity] {
                let count = format!("{odd:>10}");
                let count = match odd {
                    0 => count,
                    _ => self.out.paint(Tone::Warning, count),
                };
                let _ = write!(text, " {count}");
            }
        }
        let file = shortened(&self.place(tensor), self.file);
        let _ = writeln!(text, "  {}", self.out.paint(Tone::Dim, file));
        if let Some(hash) = &looked_at.blake3 {
            let _ = writeln!(text, "  blake3 {hash}");
        }
        if let Some(s) = &looked_at.statistics
            && !s.histogram.is_empty()
        {
            let (min, max) = (numbers::value(s.min), numbers::value(s.max));
            let _ = writeln!(text, "  {min} |{}| {max}", numbers::bars(&s.histogram));
        }
    }

    /// The file of a tensor, or how many.
    fn place(&self, tensor: &StoredTensor) -> String {
        let files = self.found.files_of(tensor);
        let place = match files[..] {
            [] => "-".to_owned(),
            [file] => printable(file),
            _ => format!("{} files", files.len()),
        };
        match tensor.extents.len() {
            0 | 1 => place,
            chunks => format!("{place}, {chunks} chunks"),
        }
    }
}

/// A name without what would disturb a terminal.
pub(super) fn printable(name: &str) -> String {
    if name.is_empty() {
        return "\"\"".to_owned();
    }
    if name.chars().any(char::is_control) {
        name.escape_debug().to_string()
    } else {
        name.to_owned()
    }
}

fn padded(text: &str, width: usize) -> String {
    format!("{text}{}", " ".repeat(width.saturating_sub(text.width())))
}

/// At most `width` columns of a text, with its middle left out.
fn shortened(text: &str, width: usize) -> String {
    if text.width() <= width {
        return text.to_owned();
    }
    let kept = width.saturating_sub(3);
    let start = taken(text.chars(), kept / 3);
    let end: String = taken(text.chars().rev(), kept - start.width())
        .chars()
        .rev()
        .collect();
    format!("{start}...{end}")
}

/// The first characters that fit into `width` columns.
fn taken(chars: impl Iterator<Item = char>, width: usize) -> String {
    let mut left = width;
    chars
        .take_while(|c| {
            let needed = c.width().unwrap_or(0);
            let fits = needed <= left;
            left = left.saturating_sub(needed);
            fits
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_lose_their_middle_and_keep_their_width() {
        assert_eq!(shortened("model.norm.weight", 20), "model.norm.weight");
        let name = "model.language_model.layers.17.linear_attn.in_proj_qkv.weight";
        let short = shortened(name, 30);
        assert_eq!(short, "model.lan...in_proj_qkv.weight");
        let wide = "\u{6a21}\u{578b}".repeat(20);
        assert!(shortened(&wide, 21).width() <= 21);
        assert_eq!(padded("ab", 4), "ab  ");
    }

    #[test]
    fn control_characters_do_not_reach_the_terminal() {
        assert_eq!(printable("a\x1b[2J"), "a\\u{1b}[2J");
        assert_eq!(printable("na\u{ef}ve"), "na\u{ef}ve");
        assert_eq!(printable(""), "\"\"");
    }
}
