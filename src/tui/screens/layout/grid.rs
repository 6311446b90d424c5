//! The rank grid: one row a pipeline stage, its ranks from left to right.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::layout::{Pane, Plan};
use crate::app::{State, Target};
use crate::plan::{Axis, RankGrid, Stage};
use crate::tui::canvas::Canvas;

/// Columns of the stage's name.
const NAME: u16 = 7;

/// Draws the grid with the groups of the rank under the cursor.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect, plan: &Plan) {
    let focused = state.layout.focus == Pane::Grid;
    let axis = state.layout.axis;
    let inner = canvas.pane(
        area,
        Pane::Grid as usize,
        focused,
        "Rank grid (order tp-cp-ep-dp-pp)",
        format!("highlight {axis} {}", plan.degrees.of(axis)),
    );
    let Some(grid) = plan.grid() else {
        let text = "the experts do not fit the ranks of a stage";
        canvas.line(inner, 0, Span::styled(text, canvas.theme.warning));
        return;
    };
    let rank = state.layout.rank.min(grid.world_size().saturating_sub(1));
    let footer = membership(&grid, rank, axis, usize::from(inner.width), canvas);
    let tall = (footer.len() as u16).min(inner.height.saturating_sub(2));
    let body = Rect {
        height: inner.height - tall,
        ..inner
    };
    Cells::new(&grid, rank, axis, body).draw(canvas, body, &plan.stages());
    for (i, line) in footer.into_iter().take(usize::from(tall)).enumerate() {
        canvas.line(inner, body.height + i as u16, line);
    }
}

/// Which ranks share a group with `rank`, axis by axis, in lines that fit.
fn membership<'a>(
    grid: &RankGrid,
    rank: usize,
    highlighted: Axis,
    width: usize,
    canvas: &Canvas,
) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    let mut spans = vec![Span::styled(format!(" rank {rank}:"), canvas.theme.title)];
    let mut taken = spans[0].width();
    for axis in [Axis::Tp, Axis::Cp, Axis::Dp, Axis::Pp, Axis::Ep] {
        let text = format!("  {axis} {}", set(&grid.group(axis, rank)));
        if taken + text.len() > width && spans.len() > 1 {
            lines.push(Line::from(std::mem::take(&mut spans)));
            spans.push(Span::raw("   "));
            taken = 3;
        }
        taken += text.len();
        let style = if axis == highlighted {
            canvas.theme.accent
        } else {
            canvas.theme.text
        };
        spans.push(Span::styled(text, style));
    }
    lines.push(Line::from(spans));
    lines
}

/// A group's ranks, the middle of long ones left out.
fn set(ranks: &[usize]) -> String {
    let text = |ranks: &[usize]| -> String {
        let list: Vec<String> = ranks.iter().map(usize::to_string).collect();
        list.join(",")
    };
    match ranks {
        [a, b, _, .., last] if ranks.len() > 4 => format!("{{{a},{b}..{last}}}"),
        _ => format!("{{{}}}", text(ranks)),
    }
}

/// How a stage is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    /// Boxes, the stage's layers below, a line between stages.
    Boxes,
    /// One line of numbers, the layers below.
    Lines,
    /// One line of numbers.
    Numbers,
}

impl Form {
    fn height(self) -> u16 {
        match self {
            Self::Boxes => 5,
            Self::Lines => 2,
            Self::Numbers => 1,
        }
    }
}

/// Where each rank's cell lies.
struct Cells<'a> {
    grid: &'a RankGrid,
    rank: usize,
    axis: Axis,
    group: Vec<usize>,
    /// Left ends of a stage's cells, from the left end of the first.
    left: Vec<u16>,
    digits: u16,
    form: Form,
    /// Lines of headers: data, context and tensor parallel.
    headers: Vec<Axis>,
}

impl<'a> Cells<'a> {
    fn new(grid: &'a RankGrid, rank: usize, axis: Axis, area: Rect) -> Self {
        let degrees = grid.degrees();
        let headers: Vec<Axis> = [Axis::Dp, Axis::Cp, Axis::Tp]
            .into_iter()
            .filter(|&axis| degrees.of(axis) > 1)
            .collect();
        let room = area.height.saturating_sub(headers.len() as u16);
        let stages = u16::try_from(degrees.pp).unwrap_or(u16::MAX);
        let form = [Form::Boxes, Form::Lines]
            .into_iter()
            .find(|form| stages.saturating_mul(form.height()) <= room + 1)
            .unwrap_or(Form::Numbers);
        let digits = grid.world_size().saturating_sub(1).to_string().len().max(2) as u16;
        let mut left = Vec::new();
        let mut x: u16 = 0;
        for column in 0..degrees.tp * degrees.cp * degrees.dp {
            if column > 0 {
                x = x.saturating_add(digits + 3);
                x = x.saturating_add(u16::from(column % degrees.tp == 0));
                x = x.saturating_add(u16::from(column % (degrees.tp * degrees.cp) == 0));
            }
            left.push(x);
        }
        Self {
            group: grid.group(axis, rank),
            grid,
            rank,
            axis,
            left,
            digits,
            form,
            headers,
        }
    }

    fn draw(&self, canvas: &mut Canvas, area: Rect, stages: &[Stage]) {
        let headers = self.headers.len() as u16;
        let columns = self.left.len();
        // The window is moved so that the rank under the cursor is inside.
        let room = area.width.saturating_sub(NAME + 1);
        let end = |column: usize| self.left[column] + self.digits + 2;
        let all = end(columns - 1);
        let at = self.left[self.rank % columns];
        let shift = if all <= room {
            0
        } else {
            at.saturating_sub(room / 2).min(all - room)
        };
        for (y, &axis) in self.headers.iter().enumerate() {
            self.header(canvas, area, y as u16, axis, shift);
        }
        let body = Rect {
            y: area.y + headers.min(area.height),
            height: area.height.saturating_sub(headers),
            ..area
        };
        let height = self.form.height();
        let pp = self.grid.degrees().pp;
        let fit = usize::from((body.height + 1) / height).max(1);
        let first = crate::app::list::offset(self.rank / columns, pp, fit);
        for stage in first..pp.min(first + fit) {
            let y = (stage - first) as u16 * height;
            let middle = y + u16::from(self.form == Form::Boxes);
            canvas.line(
                body,
                middle,
                Span::styled(format!(" pp {stage}"), canvas.theme.dim),
            );
            for column in 0..columns {
                if self.left[column] < shift || end(column) > shift + room {
                    continue;
                }
                let x = body.x + NAME + self.left[column] - shift;
                self.cell(canvas, body, x, y, stage * columns + column);
            }
            let text = stages.get(stage).map(describe).unwrap_or_default();
            let below = match self.form {
                Form::Boxes => y + 3,
                Form::Lines => y + 1,
                Form::Numbers => continue,
            };
            let place = Rect {
                x: body.x + NAME.min(body.width),
                width: body.width.saturating_sub(NAME),
                ..body
            };
            canvas.line(place, below, Span::styled(text, canvas.theme.dim));
        }
    }

    /// Names the coordinate where it changes.
    fn header(&self, canvas: &mut Canvas, area: Rect, y: u16, axis: Axis, shift: u16) {
        let place_of = |column: usize| {
            let at = self.grid.coordinates(column);
            match axis {
                Axis::Tp => at.tp,
                Axis::Cp => at.cp,
                _ => at.dp,
            }
        };
        let style = if axis == self.axis {
            canvas.theme.accent
        } else {
            canvas.theme.dim
        };
        canvas.line(area, y, Span::styled(format!(" {axis}"), style));
        let mut last = None;
        for column in 0..self.left.len() {
            // Also where a slower axis changes, since the faster one starts again.
            let key = (place_of(column), self.slower(axis, column));
            if last == Some(key) || self.left[column] < shift {
                continue;
            }
            last = Some(key);
            let x = NAME + self.left[column] - shift;
            if x + self.digits + 2 > area.width {
                break;
            }
            let place = Rect {
                x: area.x + x,
                width: (self.digits + 2).min(area.width - x),
                ..area
            };
            let text = format!("{:>1$}", key.0, usize::from(self.digits) + 1);
            canvas.line(place, y, Span::styled(text, style));
        }
    }

    fn slower(&self, axis: Axis, column: usize) -> usize {
        let degrees = self.grid.degrees();
        match axis {
            Axis::Tp => column / degrees.tp,
            Axis::Cp => column / (degrees.tp * degrees.cp),
            _ => 0,
        }
    }

    fn cell(&self, canvas: &mut Canvas, body: Rect, x: u16, y: u16, rank: usize) {
        let theme = canvas.theme;
        let member = self.group.contains(&rank);
        let here = rank == self.rank;
        let style = match (here, member) {
            (true, _) => theme.selection,
            (false, true) => theme.accent,
            (false, false) => theme.text,
        };
        let border = if member { theme.accent } else { theme.border };
        let width = usize::from(self.digits);
        let number = format!("{rank:>width$}");
        let ends = match (member, theme.ascii) {
            (true, true) => ["#", "#", "#", "#", "#", "#"],
            (true, false) => ["┏", "━", "┓", "┗", "┛", "┃"],
            (false, _) => ["┌", "─", "┐", "└", "┘", "│"],
        };
        let mut lines: Vec<Line> = Vec::new();
        if self.form == Form::Boxes {
            let side = ends[1].repeat(width);
            let text = |l: &str, r: &str| Line::styled(format!("{l}{side}{r}"), border);
            lines.push(text(ends[0], ends[2]));
            lines.push(inside(ends[5], number, ends[5], border, style));
            lines.push(text(ends[3], ends[4]));
        } else {
            let (l, r) = if member { ("[", "]") } else { (" ", " ") };
            lines.push(inside(l, number, r, border, style));
        }
        let tall = lines.len() as u16;
        let place = Rect::new(x, body.y + y, self.digits + 2, tall).intersection(body);
        for (i, line) in lines.into_iter().enumerate() {
            canvas.line(place, i as u16, line);
        }
        canvas
            .hits
            .add(place, Target::Row(Pane::Grid as usize, rank));
    }
}

fn inside<'t>(left: &str, number: String, right: &str, border: Style, style: Style) -> Line<'t> {
    Line::from(vec![
        Span::styled(left.to_owned(), border),
        Span::styled(number, style),
        Span::styled(right.to_owned(), border),
    ])
}

/// What a stage holds.
fn describe(stage: &Stage) -> String {
    let chunks: Vec<String> = stage
        .chunks
        .iter()
        .map(|chunk| match chunk.len() {
            1 => chunk.start.to_string(),
            _ => format!("{}-{}", chunk.start, chunk.end.saturating_sub(1)),
        })
        .collect();
    let mut parts = vec![format!("layers {}", chunks.join(", "))];
    if stage.embedding {
        parts.push("embedding".into());
    }
    if stage.mtp > 0 {
        parts.push(format!("mtp {}", stage.mtp));
    }
    if stage.head {
        parts.push("head".into());
    }
    parts.join(" + ")
}
