//! The screen as a picture: ranks, memory, and the pipeline over time, as SVG.

use std::fmt::Write as _;

use super::blocks::{blocks, column, highlighted, members, rank_at};
use super::figures::seconds;
use super::knob::degrees_line;
use super::view::View;
use crate::base::{Bytes, Severity};
use crate::plan::{Axis, Schedule, recompute_name};

/// Width of the picture.
const WIDTH: f64 = 1200.0;
/// Left end of what is drawn to scale.
const LEFT: f64 = 130.0;
/// Width of what is drawn to scale.
const ROOM: f64 = 1040.0;
/// Height of a row.
const ROW: f64 = 24.0;
/// Pieces of work narrower than this run together.
const LEAST: f64 = 0.6;

/// Wong's colour-blind safe colours and darker or lighter kin, for the terms of memory in turn.
const TERMS: [&str; 12] = [
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#f0e442", "#d55e00", "#999999",
    "#004d66", "#8c5a00", "#7fd1b9", "#5e3c70",
];

struct Svg {
    body: String,
    y: f64,
}

impl Svg {
    fn text(&mut self, x: f64, class: &str, text: &str) {
        let y = self.y + 16.0;
        let _ = writeln!(
            self.body,
            "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{}</text>",
            escaped(text)
        );
    }

    fn rect(&mut self, x: f64, width: f64, fill: &str, title: &str) {
        let y = self.y + 2.0;
        let _ = writeln!(
            self.body,
            "<rect x=\"{x:.2}\" y=\"{y:.1}\" width=\"{:.2}\" height=\"{:.1}\" fill=\"{fill}\"><title>{}</title></rect>",
            width.max(0.0),
            ROW - 4.0,
            escaped(title)
        );
    }

    fn heading(&mut self, text: &str) {
        self.y += ROW / 2.0;
        self.text(10.0, "h", text);
        self.y += ROW;
    }
}

/// Text that stands between tags.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            '"' => out.push_str("&quot;"),
            // What XML cannot hold.
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// The view as SVG, with the groups of `rank` on an axis coloured; `name` is the recipe's.
pub fn svg(view: &View, name: &str, axis: Axis, rank: usize) -> String {
    let mut svg = Svg {
        body: String::new(),
        y: 8.0,
    };
    let job = &view.job;
    svg.text(10.0, "h", name);
    svg.y += ROW;
    let line = format!(
        "{} {} = {}, micro batch {}, global batch {}, recompute {}",
        job.gpus,
        view.machine.gpu,
        degrees_line(&job.degrees),
        job.batch.micro_batch_size,
        job.batch.global_batch_size,
        recompute_name(&job.megatron.recompute)
    );
    svg.text(10.0, "t", &line);
    svg.y += ROW;
    grid(&mut svg, view, axis, rank);
    memory(&mut svg, view);
    timeline(&mut svg, view);
    problems(&mut svg, view);
    let height = svg.y + ROW / 2.0;
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height:.0}\" viewBox=\"0 0 {WIDTH} {height:.0}\">\n<style>text {{ font: 12px monospace; fill: #222 }} .h {{ font-weight: bold }} .s {{ font-size: 10px }}</style>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n{}</svg>\n",
        svg.body
    )
}

fn grid(svg: &mut Svg, view: &View, axis: Axis, rank: usize) {
    let Ok(plan) = &view.plan else {
        return;
    };
    let grid = &plan.grid;
    let rank = rank.min(grid.world_size().saturating_sub(1));
    let shown = blocks(grid.degrees(), column(grid, rank), 0);
    let what = if shown.each == 1 {
        "ranks".to_owned()
    } else {
        format!("blocks of {} ranks", shown.each)
    };
    svg.heading(&format!(
        "{what} in the order {}; coloured: {axis} group of rank {rank}",
        grid.order()
    ));
    let group = highlighted(grid, axis, rank);
    let cells: Vec<_> = shown.cells().collect();
    let wide = (ROOM / cells.len().max(1) as f64).min(72.0);
    for stage in &plan.stages {
        svg.text(10.0, "t", &format!("pp {}", stage.pp));
        for (at, cell) in cells.iter().enumerate() {
            let columns = group.get(stage.pp).map_or(&[][..], Vec::as_slice);
            let count = members(columns, cell);
            let fill = match count {
                0 => "#dddddd",
                _ => "#56b4e9",
            };
            let first = rank_at(grid, stage.pp, cell.start);
            let x = LEFT + wide * at as f64;
            let title = format!("rank {first}: {count} of {} in the group", cell.len());
            svg.rect(x, wide - 2.0, fill, &title);
            if wide >= 18.0 {
                svg.text(x + 2.0, "s", &first.to_string());
            }
        }
        svg.y += ROW;
    }
}

fn memory(svg: &mut Svg, view: &View) {
    let Some(fullest) = view.fullest() else {
        return;
    };
    let device = view.device();
    let of = device.map_or(String::new(), |device| format!(" of {device}"));
    svg.heading(&format!("memory of a rank by stage{of}"));
    let whole = device
        .unwrap_or(fullest.total)
        .0
        .max(fullest.total.0)
        .max(1) as f64;
    let mut names: Vec<&str> = Vec::new();
    for stage in &view.memory {
        svg.text(10.0, "t", &format!("pp {} {}", stage.stage, stage.total));
        let mut x = LEFT;
        for term in &stage.terms {
            let at = names.iter().position(|name| *name == term.name);
            let at = at.unwrap_or_else(|| {
                names.push(term.name);
                names.len() - 1
            });
            let width = ROOM * term.bytes.0 as f64 / whole;
            let title = format!("{} {}: {}", term.name, term.bytes, term.formula);
            svg.rect(x, width, TERMS[at % TERMS.len()], &title);
            x += width;
        }
        svg.y += ROW;
    }
    if let Some(Bytes(device)) = device {
        let x = LEFT + ROOM * device as f64 / whole;
        let top = svg.y - ROW * view.memory.len() as f64;
        let _ = writeln!(
            svg.body,
            "<line x1=\"{x:.1}\" y1=\"{top:.1}\" x2=\"{x:.1}\" y2=\"{:.1}\" stroke=\"#d00\" stroke-width=\"2\"/>",
            svg.y
        );
    }
    let mut x = LEFT;
    for (at, name) in names.iter().enumerate() {
        let width = 30.0 + 7.5 * name.len() as f64;
        if x + width > WIDTH {
            (x, svg.y) = (LEFT, svg.y + ROW);
        }
        svg.rect(x, 12.0, TERMS[at % TERMS.len()], name);
        svg.text(x + 16.0, "t", name);
        x += width;
    }
    svg.y += ROW;
}

fn timeline(svg: &mut Svg, view: &View) {
    let Some(schedule) = view.schedule.as_ref().filter(|s| s.seconds > 0.0) else {
        return;
    };
    svg.heading(&caption(view, schedule));
    let scale = ROOM / schedule.seconds;
    for (stage, pieces) in schedule.stages.iter().enumerate() {
        svg.text(10.0, "t", &format!("stage {stage}"));
        // Start and end of pieces that run together.
        let mut narrow: Option<(f64, f64)> = None;
        for piece in pieces {
            let (x, width) = (
                LEFT + piece.start * scale,
                (piece.end - piece.start) * scale,
            );
            if width < LEAST {
                narrow = match narrow {
                    Some((start, end)) if x - end < LEAST => Some((start, x + width)),
                    Some((start, end)) => {
                        svg.rect(start, end - start, "#7f9fb0", "forward and backward");
                        Some((x, x + width))
                    }
                    None => Some((x, x + width)),
                };
                continue;
            }
            let (fill, word) = if piece.is_backward {
                ("#e69f00", "backward")
            } else {
                ("#0072b2", "forward")
            };
            let title = format!(
                "{word} of micro-batch {}, chunk {}: {} to {}",
                piece.micro_batch,
                piece.chunk,
                seconds(piece.start),
                seconds(piece.end)
            );
            svg.rect(x, width, fill, &title);
        }
        if let Some((start, end)) = narrow {
            svg.rect(start, end - start, "#7f9fb0", "forward and backward");
        }
        svg.y += ROW;
    }
}

/// What stands over the timeline: schedule, micro-batches, bubble, skew.
pub(super) fn caption(view: &View, schedule: &Schedule) -> String {
    let name = if schedule.is_interleaved {
        "interleaved 1F1B"
    } else {
        "1F1B"
    };
    let all = view.job.micro_batches().unwrap_or(1);
    let of = if schedule.micro_batches == all {
        format!("{all} micro-batches")
    } else {
        format!("{} of {all} micro-batches", schedule.micro_batches)
    };
    let skew = view.plan.as_ref().map_or(1.0, |plan| plan.time.skew);
    format!(
        "{name}, {} stages, {of}, bubble {:.1} %, slowest stage {skew:.2} of the mean, {} drawn",
        schedule.stages.len(),
        100.0 * view.bubble(),
        seconds(schedule.seconds)
    )
}

fn problems(svg: &mut Svg, view: &View) {
    if view.problems.is_empty() {
        return;
    }
    svg.heading("problems");
    for problem in &view.problems {
        let word = match problem.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        svg.text(
            10.0,
            "t",
            &format!("{word}[{}]: {}", problem.code, problem.message),
        );
        svg.y += ROW;
    }
}

#[cfg(test)]
mod tests {
    use super::escaped;

    #[test]
    fn text_is_escaped() {
        assert_eq!(escaped("a<b & \"c\"\u{1b}"), "a&lt;b &amp; &quot;c&quot; ");
    }
}
