//! The rank grid: one row a pipeline stage, its ranks from left to right, or blocks of them where they are many.

use std::ops::Range;

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::layout::{Pane, View, blocks};
use crate::app::{State, Target};
use crate::plan::{Axis, RankGrid, Stage};
use crate::tui::canvas::Canvas;

/// Columns of the stage's name.
const NAME: u16 = 7;

/// Draws the grid with the groups of the rank under the cursor.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect, view: &View) {
    let screen = &state.layout;
    let focused = screen.focus == Pane::Grid;
    let axis = screen.axis;
    let grid = view.grid();
    let shown = grid.map(|grid| {
        let column = blocks::column(grid, screen.rank);
        blocks::blocks(grid.degrees(), column, screen.depth)
    });
    let what = match shown {
        Some(shown) if shown.each > 1 => format!("blocks of {} ranks", shown.each),
        Some(shown) if shown.depth > 0 => format!("ranks of {} columns", shown.len),
        _ => "Rank grid".to_owned(),
    };
    let inner = canvas.pane(
        area,
        Pane::Grid as usize,
        focused,
        format!("{what} (order {})", view.job.megatron.rank_order),
        super::knob(state, view),
    );
    let (Some(grid), Some(shown)) = (grid, shown) else {
        let why = match &view.plan {
            Err(error) => error.to_string(),
            Ok(_) => format!("{} ranks are too many to be drawn", view.world_size()),
        };
        let wide = usize::from(inner.width).saturating_sub(2);
        for (y, line) in crate::tui::widgets::wrap(&why, wide)
            .into_iter()
            .enumerate()
        {
            let line = Span::styled(format!(" {line}"), canvas.theme.warning);
            canvas.line(inner, y as u16, line);
        }
        return;
    };
    let rank = screen.rank.min(grid.world_size().saturating_sub(1));
    let footer = membership(grid, rank, axis, usize::from(inner.width), canvas);
    let tall = (footer.len() as u16).min(inner.height.saturating_sub(2));
    let body = Rect {
        height: inner.height - tall,
        ..inner
    };
    let stages = view.plan.as_ref().map_or(&[][..], |plan| &plan.stages);
    Cells::new(grid, rank, axis, shown, body).draw(canvas, body, stages);
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
    fn height(self, are_blocks: bool) -> u16 {
        match self {
            // A block says in a line of its own how many of its ranks are in the group.
            Self::Boxes => 5 + u16::from(are_blocks),
            Self::Lines => 2,
            Self::Numbers => 1,
        }
    }
}

/// Where each rank's or block's cell lies.
struct Cells<'a> {
    grid: &'a RankGrid,
    rank: usize,
    axis: Axis,
    /// Columns of the group by stage, sorted.
    group: Vec<Vec<usize>>,
    columns: Vec<Range<usize>>,
    each: usize,
    /// Left ends of a stage's cells, from the left end of the first.
    left: Vec<u16>,
    /// Columns inside a cell's borders.
    wide: u16,
    form: Form,
    /// Lines of headers: data, context and tensor parallel.
    headers: Vec<Axis>,
}

impl<'a> Cells<'a> {
    fn new(grid: &'a RankGrid, rank: usize, axis: Axis, shown: blocks::Blocks, area: Rect) -> Self {
        let degrees = grid.degrees();
        let each = shown.each.max(1);
        let headers: Vec<Axis> = [
            (Axis::Dp, degrees.tp * degrees.cp * degrees.dp),
            (Axis::Cp, degrees.tp * degrees.cp),
            (Axis::Tp, degrees.tp),
        ]
        .into_iter()
        // A coordinate that changes inside a cell names none.
        .filter(|&(axis, span)| degrees.of(axis) > 1 && each < span)
        .map(|(axis, _)| axis)
        .collect();
        let room = area.height.saturating_sub(headers.len() as u16);
        let stages = u16::try_from(degrees.pp).unwrap_or(u16::MAX);
        let form = [Form::Boxes, Form::Lines]
            .into_iter()
            .find(|form| stages.saturating_mul(form.height(each > 1)) <= room + 1)
            .unwrap_or(Form::Numbers);
        let digits = grid.world_size().saturating_sub(1).to_string().len().max(2);
        let wide = if each > 1 && form == Form::Boxes {
            digits.max(2 * each.to_string().len() + 1)
        } else {
            digits
        };
        let wide = wide as u16;
        let cells: Vec<Range<usize>> = shown.cells().collect();
        let mut left = Vec::with_capacity(cells.len());
        let mut x: u16 = 0;
        for (at, cell) in cells.iter().enumerate() {
            if at > 0 {
                x = x.saturating_add(wide + 3);
                let start = cell.start;
                if each == 1 {
                    x = x.saturating_add(u16::from(start % degrees.tp == 0));
                    x = x.saturating_add(u16::from(start % (degrees.tp * degrees.cp) == 0));
                }
            }
            left.push(x);
        }
        Self {
            group: blocks::highlighted(grid, axis, rank),
            grid,
            rank,
            axis,
            columns: cells,
            each,
            left,
            wide,
            form,
            headers,
        }
    }

    fn draw(&self, canvas: &mut Canvas, area: Rect, stages: &[Stage]) {
        let headers = self.headers.len() as u16;
        let here = blocks::column(self.grid, self.rank);
        // The window is moved so that the rank under the cursor is inside.
        let room = area.width.saturating_sub(NAME + 1);
        let end = |cell: usize| self.left[cell].saturating_add(self.wide + 2);
        let under = self.columns.iter().position(|cell| cell.contains(&here));
        let at = under.map_or(0, |cell| self.left[cell]);
        let all = self.columns.len().checked_sub(1).map_or(0, end);
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
        let height = self.form.height(self.each > 1);
        let pp = self.grid.degrees().pp;
        let fit = usize::from((body.height + 1) / height).max(1);
        let first = crate::app::list::offset(self.grid.coordinates(self.rank).pp, pp, fit);
        for stage in first..pp.min(first + fit) {
            let y = (stage - first) as u16 * height;
            let middle = y + u16::from(self.form == Form::Boxes);
            canvas.line(
                body,
                middle,
                Span::styled(format!(" pp {stage}"), canvas.theme.dim),
            );
            for (cell, columns) in self.columns.iter().enumerate() {
                if self.left[cell] < shift || end(cell) > shift + room {
                    continue;
                }
                let x = body.x + NAME + self.left[cell] - shift;
                self.cell(canvas, body, x, y, stage, columns);
            }
            let text = stages.get(stage).map(describe).unwrap_or_default();
            let below = match self.form {
                Form::Boxes => y + height - 2,
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
        let d = self.grid.degrees();
        let place_of = |column: usize| match axis {
            Axis::Tp => column % d.tp,
            Axis::Cp => column / d.tp % d.cp,
            _ => column / d.tp / d.cp,
        };
        let style = if axis == self.axis {
            canvas.theme.accent
        } else {
            canvas.theme.dim
        };
        canvas.line(area, y, Span::styled(format!(" {axis}"), style));
        let mut last = None;
        for (cell, columns) in self.columns.iter().enumerate() {
            // Also where a slower axis changes, since the faster one starts again.
            let key = (place_of(columns.start), self.slower(axis, columns.start));
            if last == Some(key) || self.left[cell] < shift {
                continue;
            }
            last = Some(key);
            let x = NAME + self.left[cell] - shift;
            if x + self.wide + 2 > area.width {
                break;
            }
            let place = Rect {
                x: area.x + x,
                width: (self.wide + 2).min(area.width - x),
                ..area
            };
            let text = format!("{:>1$}", key.0, usize::from(self.wide) + 1);
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

    fn cell(
        &self,
        canvas: &mut Canvas,
        body: Rect,
        x: u16,
        y: u16,
        stage: usize,
        columns: &Range<usize>,
    ) {
        let theme = canvas.theme;
        let group = self.group.get(stage).map_or(&[][..], Vec::as_slice);
        let count = blocks::members(group, columns);
        let first = blocks::rank_at(self.grid, stage, columns.start);
        let at = self.grid.coordinates(self.rank);
        let here = at.pp == stage && columns.contains(&blocks::column(self.grid, self.rank));
        let member = count > 0;
        let style = match (here, member) {
            (true, _) => theme.selection,
            (false, true) => theme.accent,
            (false, false) => theme.text,
        };
        let border = if member { theme.accent } else { theme.border };
        let width = usize::from(self.wide);
        let number = format!("{first:>width$}");
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
            if self.each > 1 {
                let share = format!("{count}/{}", columns.len());
                let share = if member { share } else { String::new() };
                let share = format!("{share:>width$}");
                lines.push(inside(ends[5], share, ends[5], border, border));
            }
            lines.push(text(ends[3], ends[4]));
        } else {
            let (l, r) = if member { ("[", "]") } else { (" ", " ") };
            lines.push(inside(l, number, r, border, style));
        }
        let tall = lines.len() as u16;
        let place = Rect::new(x, body.y + y, self.wide + 2, tall).intersection(body);
        for (i, line) in lines.into_iter().enumerate() {
            canvas.line(place, i as u16, line);
        }
        // A click on the block under the cursor keeps the rank.
        let rank = if here { self.rank } else { first };
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
        .filter(|chunk| !chunk.is_empty())
        .map(|chunk| match chunk.len() {
            1 => chunk.start.to_string(),
            _ => format!("{}-{}", chunk.start, chunk.end.saturating_sub(1)),
        })
        .collect();
    let mut parts = vec![match chunks[..] {
        [] => "no layers".to_owned(),
        _ => format!("layers {}", chunks.join(", ")),
    }];
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
