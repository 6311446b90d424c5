//! The table of a map for people.

use std::fmt::Write as _;

use super::Mapped;
use super::row::Row;
use crate::cli::output::{Output, Tone};
use crate::cli::progress::columns;
use crate::mapping::{Audit, View};
use crate::spec::model_parameters;

/// Heading and table.
pub(super) fn page(mapped: &Mapped, rows: &[Row], out: &Output) -> String {
    // Where nobody reads along there is no width to fit.
    let columns = if out.is_terminal {
        columns()
    } else {
        usize::MAX
    };
    heading(mapped, out) + &table(rows, columns, out)
}

/// One line a tensor, or where that is wider than the terminal a line for each side.
fn table(rows: &[Row], columns: usize, out: &Output) -> String {
    let widths = widths(rows);
    let gaps = 2 * (widths.len() - 1);
    if widths.iter().sum::<usize>() + gaps > columns {
        two_lines(rows, out)
    } else {
        one_line(rows, widths, out)
    }
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

/// What is no problem but should be known: tensors that are read in another way than they lie there, or not at all.
pub(super) fn remarks(mapped: &Mapped, audit: &Audit) -> Vec<String> {
    let mut list = Vec::new();
    if let Some(&first) = audit.transposed.first() {
        let view = View::huggingface(&mapped.table);
        list.push(format!(
            "{} tensors of experts lie transposed, `{}` the first; they are turned when read",
            audit.transposed.len(),
            view.tensors[first].name
        ));
    }
    if let (Some(&first), Some(directory)) = (audit.repeats.first(), &mapped.weights) {
        list.push(format!(
            "`{}` repeats the embedding, to which it is tied, and is not read",
            directory.tensors[first].name
        ));
    }
    list
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::ColorChoice;

    fn rows() -> Vec<Row> {
        let row = |names: [&str; 2], held_by: &str| Row {
            huggingface: names[0].into(),
            huggingface_shapes: "[8, 4] [2, 4]".into(),
            rule: "gated qkv",
            megatron: names[1].into(),
            shape: "[12, 4]".into(),
            cut: "column / 2".into(),
            on_rank: "[6, 4]".into(),
            held_by: held_by.into(),
        };
        vec![
            row(["a.{q,k,v}.weight", "b.linear_qkv.weight"], "ranks 0-1"),
            row(["a.norm", "b.layernorm.weight"], "ranks 2-3"),
        ]
    }

    #[test]
    fn a_narrow_terminal_has_a_line_for_each_side() {
        let out = Output::stdout(ColorChoice::Never);
        assert_eq!(
            table(&rows(), 60, &out),
            "\
a.{q,k,v}.weight       [8, 4] [2, 4]  gated qkv
  b.linear_qkv.weight  [12, 4]        column / 2  [6, 4]  ranks 0-1
a.norm                 [8, 4] [2, 4]  gated qkv
  b.layernorm.weight   [12, 4]        column / 2  [6, 4]  ranks 2-3
"
        );
        let wide = "\
Hugging Face      shape          rule       Megatron             shape    cut         on a rank  held by
a.{q,k,v}.weight  [8, 4] [2, 4]  gated qkv  b.linear_qkv.weight  [12, 4]  column / 2  [6, 4]     ranks 0-1
a.norm            [8, 4] [2, 4]  gated qkv  b.layernorm.weight   [12, 4]  column / 2  [6, 4]     ranks 2-3
";
        let longest = wide.lines().map(str::len).max().unwrap_or(0);
        assert_eq!(table(&rows(), longest, &out), wide);
        assert_ne!(table(&rows(), longest - 1, &out), wide);
    }

    #[test]
    fn thousands_are_apart() {
        assert_eq!(grouped(873_438_784), "873,438,784");
        assert_eq!(grouped(12), "12");
    }
}
