//! The table of a map for people.

use std::fmt::Write as _;

use super::Mapped;
use super::row::Row;
use crate::cli::Context;
use crate::cli::output::{Output, Tone};
use crate::cli::progress::columns;
use crate::spec::model_parameters;

/// Heading, table, and how much there is.
pub(super) fn page(mapped: &Mapped, rows: &[Row], context: &Context) -> String {
    let out = &context.out;
    let mut page = heading(mapped, out);
    let widths = widths(rows);
    let line: usize = widths.iter().map(|width| width + 2).sum();
    // Where a person reads and lines would wrap, each side has a line of its own; others get one line a tensor.
    if out.is_terminal && line > columns() {
        page += &two_lines(rows, out);
    } else {
        page += &one_line(rows, widths, out);
    }
    page
}

fn heading(mapped: &Mapped, out: &Output) -> String {
    let config = mapped.config();
    let count = model_parameters(config, mapped.table.style());
    let layout = &mapped.layout;
    let options = &layout.options;
    let mut text = format!(
        "{}  {}  {} parameters in {} tensors\n",
        out.paint(Tone::Heading, &mapped.title),
        config.architecture(),
        grouped(count.total),
        count.tensors
    );
    let mut degrees = vec![
        format!("tp {}", options.tp),
        format!("pp {}", layout.stages.len()),
    ];
    let vpp = layout.stages.iter().map(|s| s.chunks.len()).max();
    if let Some(vpp) = vpp.filter(|&vpp| vpp > 1) {
        degrees.push(format!("vpp {vpp}"));
    }
    if config.text.moe.is_some() {
        degrees.push(format!("ep {}", options.ep));
        degrees.push(format!("etp {}", options.etp));
    }
    let world = layout.world();
    let _ = writeln!(text, "{}  world {world}", degrees.join("  "));
    if layout.vocab_rows != config.text.vocab_size {
        let _ = writeln!(
            text,
            "vocabulary {} padded to {}",
            config.text.vocab_size, layout.vocab_rows
        );
    }
    if layout.stages.len() > 1 {
        for stage in &layout.stages {
            let mut parts: Vec<String> = Vec::new();
            if stage.pp == 0 && config.vision.is_some() {
                parts.push("vision".into());
            }
            if stage.embedding {
                parts.push("embedding".into());
            }
            let chunks = stage.chunks.iter().filter(|chunk| !chunk.is_empty());
            let chunks: Vec<String> = chunks
                .map(|chunk| match chunk.len() {
                    1 => chunk.start.to_string(),
                    _ => format!("{}-{}", chunk.start, chunk.end - 1),
                })
                .collect();
            if !chunks.is_empty() {
                parts.push(format!("layers {}", chunks.join(", ")));
            }
            if stage.final_norm {
                parts.push("final norm".into());
            }
            if stage.mtp > 0 {
                parts.push(format!("mtp {}", stage.mtp));
            }
            if stage.head {
                parts.push("head".into());
            }
            let _ = writeln!(text, "stage {}: {}", stage.pp, parts.join(", "));
        }
    }
    text.push('\n');
    text
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

const HEADINGS: [&str; 8] = [
    "Hugging Face",
    "shape",
    "rule",
    "Megatron",
    "shape",
    "cut",
    "on a rank",
    "held by",
];

fn cells(row: &Row) -> [&str; 8] {
    [
        &row.huggingface,
        &row.huggingface_shapes,
        row.rule,
        &row.megatron,
        &row.shape,
        &row.cut,
        &row.on_rank,
        &row.held_by,
    ]
}

fn widths(rows: &[Row]) -> [usize; 8] {
    let mut widths = HEADINGS.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(cells(row)) {
            *width = (*width).max(cell.chars().count());
        }
    }
    widths
}

/// One line a tensor.
fn one_line(rows: &[Row], widths: [usize; 8], out: &Output) -> String {
    let has_holders = rows.iter().any(|row| !row.held_by.is_empty());
    let line = |cells: [&str; 8]| {
        let shown = if has_holders { 8 } else { 7 };
        let padded: Vec<String> = cells
            .iter()
            .zip(widths)
            .take(shown)
            .map(|(cell, width)| format!("{cell:width$}"))
            .collect();
        padded.join("  ").trim_end().to_owned()
    };
    let mut text = out.paint(Tone::Heading, line(HEADINGS));
    text.push('\n');
    for row in rows {
        text += &line(cells(row));
        text.push('\n');
    }
    text
}

/// Two lines a tensor: one for each side.
fn two_lines(rows: &[Row], out: &Output) -> String {
    let width = |of: &dyn Fn(&Row) -> usize| rows.iter().map(of).max().unwrap_or(0);
    let name = width(&|row| row.huggingface.len().max(row.megatron.len() + 2));
    let shape = width(&|row| row.huggingface_shapes.len().max(row.shape.len()));
    let cut = width(&|row| row.cut.len().max(row.rule.len()));
    let mut text = String::new();
    for row in rows {
        let _ = writeln!(
            text,
            "{}  {:shape$}  {}",
            out.paint(Tone::Name, format_args!("{:name$}", row.huggingface)),
            row.huggingface_shapes,
            out.paint(Tone::Dim, row.rule)
        );
        let held = if row.held_by.is_empty() {
            String::new()
        } else {
            format!("  {}", row.held_by)
        };
        let _ = writeln!(
            text,
            "  {:below$}  {:shape$}  {:cut$}  {}{held}",
            row.megatron,
            row.shape,
            row.cut,
            row.on_rank,
            below = name - 2
        );
    }
    text
}

/// How many tensors have no partner.
pub(super) fn count(mapped: &Mapped, unmapped: usize) -> String {
    let entries = mapped.table.entries().len();
    let tensors = match &mapped.weights {
        Some(directory) => directory.tensors.len(),
        None => model_parameters(mapped.config(), mapped.table.style()).tensors,
    };
    match unmapped {
        0 => format!(
            "every one of {tensors} Hugging Face and {entries} Megatron tensors has its partner"
        ),
        n => format!(
            "{} of {tensors} Hugging Face and {entries} Megatron tensors",
            problems(n)
        ),
    }
}

/// `1 problem`, `2 problems`.
pub(super) fn problems(count: usize) -> String {
    match count {
        1 => "1 problem".into(),
        n => format!("{n} problems"),
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn thousands_are_apart() {
        assert_eq!(super::grouped(873_438_784), "873,438,784");
        assert_eq!(super::grouped(12), "12");
    }
}
