//! Which rank holds what of the tensor under the cursor.

use std::ops::Range;

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::mapping::{
    CutAxis, Holding, Item, Model, Pane, degrees, degrees_of, holdings, layout, ranges,
};
use crate::app::{State, Target, list};
use crate::base::Bytes;
use crate::mapping::{Layout, Shard};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::fill;

/// Rows that the pane has at least where it needs them: a place with its name.
const LEAST: usize = 8;

/// What the picked place holds.
pub(super) fn picked(state: &State, model: &Model) -> Option<Holding> {
    let layout = layout(state)?.ok()?;
    let mut held = holdings(model, &layout, state.mapping.entry()?);
    let last = held.len().checked_sub(1)?;
    Some(held.swap_remove(state.mapping.rank.min(last)))
}

/// The degrees in words, the one that keys change in brackets, and whose they are: `[tp2] pp1 vpp1 ep1 etp1 of the recipe`.
pub(super) fn degrees_text(state: &State) -> String {
    let degrees = degrees(state);
    let word = |axis: CutAxis| {
        let text = format!("{}{}", axis.name(), axis.of(&degrees));
        if axis == state.mapping.axis {
            format!("[{text}]")
        } else {
            text
        }
    };
    let words: Vec<String> = CutAxis::ALL.into_iter().map(word).collect();
    format!("{} {}", words.join(" "), degrees_of(state))
}

/// Rows that the pane wants of an area: as many as it has lines, and no more than a third.
pub(super) fn tall(state: &State, model: &Model, area: Rect, theme: &Theme) -> u16 {
    let most = usize::from(area.height / 3).max(LEAST);
    let width = usize::from(area.width.saturating_sub(2));
    let lines = lines(state, model, width, most - 2, theme).len();
    (lines + 2).min(most) as u16
}

/// Draws the pane.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect, model: &Model) {
    let pane = Pane::Detail as usize;
    let right = degrees_text(state);
    let inner = canvas.pane(area, pane, false, "Shards", right);
    let (width, height) = (usize::from(inner.width), usize::from(inner.height));
    let lines = lines(state, model, width, height, canvas.theme);
    for (y, (line, place)) in lines.into_iter().take(height).enumerate() {
        let y = y as u16;
        canvas.line(inner, y, line);
        if let Some(place) = place {
            if place == state.mapping.rank && !state.mapping.grid {
                let style = match state.mapping.focus {
                    Pane::Detail => canvas.theme.selection,
                    Pane::Tree => canvas.theme.selection_idle,
                };
                canvas.row_style(inner, y, style);
            }
            let row = Rect::new(inner.x, inner.y + y, inner.width, 1);
            canvas.hits.add(row, Target::Row(pane, place));
        }
    }
}

/// The lines, with the place of those that stand for one; at most `height` of them.
pub(super) fn lines(
    state: &State,
    model: &Model,
    width: usize,
    height: usize,
    theme: &Theme,
) -> Vec<(Line<'static>, Option<usize>)> {
    let text = |text: String, style| (Line::styled(format!(" {text}"), style), None);
    let Some(entry) = state.mapping.entry() else {
        return vec![text("the cursor is on no tensor".into(), theme.dim)];
    };
    let layout = match layout(state) {
        Some(Ok(layout)) => layout,
        Some(Err(why)) => {
            let rows = fill(&why, width.saturating_sub(2));
            return rows.into_iter().map(|row| text(row, theme.error)).collect();
        }
        None => return Vec::new(),
    };
    let held = holdings(model, &layout, entry);
    let Some(last) = held.len().checked_sub(1) else {
        return vec![text("no rank holds it".into(), theme.dim)];
    };
    let cursor = state.mapping.rank.min(last);
    let mut below = Vec::new();
    let place = &held[cursor];
    let ranks = ranges(&layout.ranks_at(place.at));
    let scalar = model.dtype_of(Item::Entry(entry)).size();
    let size = |shape: &crate::base::Shape| Bytes(shape.elements() * scalar);
    let whole = &model.table.entries()[entry].shape;
    below.push(text(
        format!(
            "{}: stage {} of {}, global ranks {ranks} of {}",
            place.at,
            place.at.pp,
            layout.stages.len(),
            layout.world()
        ),
        theme.text,
    ));
    let shape = &place.tensor.shape;
    let name = &place.tensor.name;
    let told = format!("{shape} {} of {} as {name}", size(shape), size(whole));
    for part in fill(&told, width.saturating_sub(2)) {
        below.push(text(part, theme.accent));
    }
    let room = height.saturating_sub(below.len()).max(1);
    let mut lines = if state.mapping.grid {
        grid(&layout, &held, cursor, theme)
    } else {
        bars(model, entry, &held, cursor, (width, room), theme)
    };
    lines.truncate(room);
    lines.extend(below);
    lines
}

/// A bar a place: which part of the rows or columns it holds.
fn bars(
    model: &Model,
    entry: usize,
    held: &[Holding],
    cursor: usize,
    (width, height): (usize, usize),
    theme: &Theme,
) -> Vec<(Line<'static>, Option<usize>)> {
    let scalar = model.dtype_of(Item::Entry(entry)).size();
    let entry = &model.table.entries()[entry];
    let (rows, cols) = entry.matrix();
    let by_cols = matches!(entry.shard, Shard::Row { .. });
    let extent = if by_cols { cols } else { rows };
    // A place's name, its bar, its bytes.
    let label = held
        .iter()
        .map(|h| h.at.to_string().len())
        .max()
        .unwrap_or(0);
    let room = width.saturating_sub(label + 16).clamp(4, 64);
    let dim = if by_cols { "columns" } else { "rows" };
    let end = extent.to_string();
    let head = format!(" {dim:<label$}  0{end:>w$}", w = room.saturating_sub(1));
    let mut lines = vec![(Line::styled(head, theme.dim), None)];
    let shown = height.saturating_sub(1).max(1).min(held.len());
    let first = list::offset(cursor, held.len(), shown);
    for (at, place) in held.iter().enumerate().skip(first).take(shown) {
        let pieces = place.tensor.pieces.iter();
        let parts: Vec<Range<usize>> = pieces
            .map(|piece| {
                if by_cols {
                    piece.cols.clone()
                } else {
                    piece.rows.clone()
                }
            })
            .collect();
        let cell = |x: usize| {
            let middle = (2 * x + 1) * extent / (2 * room);
            if parts.iter().any(|part| part.contains(&middle)) {
                '█'
            } else {
                '░'
            }
        };
        let bar: String = (0..room).map(cell).collect();
        let bytes = Bytes(place.tensor.shape.elements() * scalar);
        let line = Line::from(vec![
            Span::raw(format!(
                "{}{:<label$}  ",
                if at == cursor { "▸" } else { " " },
                place.at.to_string()
            )),
            Span::styled(bar, theme.bar),
            Span::styled(format!(" {bytes:>10}"), theme.dim),
        ]);
        lines.push((line, Some(at)));
    }
    lines
}

/// A row a pipeline stage, a cell a place: whether it holds any of it.
fn grid(
    layout: &Layout,
    held: &[Holding],
    cursor: usize,
    theme: &Theme,
) -> Vec<(Line<'static>, Option<usize>)> {
    let places = layout.coordinates();
    let mut lines = Vec::new();
    for stage in places.chunk_by(|a, b| a.pp == b.pp) {
        let mut spans = vec![Span::styled(
            format!(" stage {:<3}", stage[0].pp),
            theme.dim,
        )];
        let mut first = None;
        for at in stage {
            let place = held.iter().position(|place| place.at == *at);
            first = first.or(place);
            let is_picked = place == Some(cursor);
            let (mark, style) = match place {
                Some(_) => ("■", theme.bar),
                None => ("·", theme.dim),
            };
            let (left, right) = if is_picked { ("[", "]") } else { (" ", " ") };
            spans.push(Span::styled(format!("{left}{mark}{right}"), style));
        }
        lines.push((Line::from(spans), first));
    }
    lines
}
