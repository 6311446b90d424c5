//! The Mapping screen: the tree of layers and tensors, and what is under its cursor.

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::{Room, room};
use crate::app::mapping::{Content, Detail, Model, Pane, Row, detail, model, rows};
use crate::app::preview::count;
use crate::app::{State, Target, list};
use crate::base::{Bytes, DType};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::{bar, wrap};

/// Columns of a fact's name.
const NAME: usize = 13;

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let Some(model) = model(state) else {
        let inner = canvas.pane(area, 0, true, "Mapping", "");
        let text = Span::styled("no valid recipe is selected", canvas.theme.dim);
        canvas.line(inner, 0, text);
        return;
    };
    let rows = rows(&model, &state.mapping);
    match (room(state), state.mapping.focus) {
        (Room::One, Pane::Tree) => tree(state, canvas, area, &model, &rows),
        (Room::One, Pane::Detail) => about(state, canvas, area, &model, &rows),
        (Room::Two, _) => {
            let tall = (area.height * 2 / 5).clamp(6, 14);
            let parts = [Constraint::Fill(1), Constraint::Length(tall)];
            let [top, bottom] = Layout::vertical(parts).areas(area);
            tree(state, canvas, top, &model, &rows);
            about(state, canvas, bottom, &model, &rows);
        }
        (Room::Many, _) => {
            let parts = [Constraint::Fill(11), Constraint::Fill(9)];
            let [left, right] = Layout::horizontal(parts).areas(area);
            tree(state, canvas, left, &model, &rows);
            about(state, canvas, right, &model, &rows);
        }
    }
}

/// The right end of the tab bar: what the model is in numbers.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    let Some(model) = model(state) else {
        return Line::default();
    };
    let parameters: u64 = model.tensors.iter().map(|t| t.shape.elements()).sum();
    let size = Bytes(parameters * dtype(&model).size());
    let text = if state.size.width < 100 {
        format!("{}  {size} ", count(parameters))
    } else {
        format!(
            "{} tensors  {} parameters  {size} ",
            model.tensors.len(),
            count(parameters)
        )
    };
    Line::from(Span::styled(text, theme.dim))
}

fn dtype(model: &Model) -> DType {
    model.config.dtype.unwrap_or(DType::F32)
}

fn tree(state: &State, canvas: &mut Canvas, area: Rect, model: &Model, rows: &[Row]) {
    let theme = canvas.theme;
    let focused = state.mapping.focus == Pane::Tree;
    let title = if state.mapping.query.is_empty() {
        "Layers and tensors".to_owned()
    } else {
        format!("{} of {} tensors", rows.len(), model.tensors.len())
    };
    let right = if state.mapping.query.is_empty() {
        let equal = if state.mapping.collapsed {
            "once"
        } else {
            "each"
        };
        format!("equal layers {equal}")
    } else {
        format!("/{}", state.mapping.query.text)
    };
    let inner = canvas.pane(area, Pane::Tree as usize, focused, title, right);
    if rows.is_empty() {
        canvas.line(inner, 0, Span::styled("no tensor matches", theme.dim));
        return;
    }
    let cursor = state.mapping.cursor.min(rows.len() - 1);
    let height = usize::from(inner.height);
    let first = list::offset(cursor, rows.len(), height);
    for (at, row) in rows.iter().enumerate().skip(first).take(height) {
        let y = (at - first) as u16;
        let columns = columns(model, row, usize::from(inner.width));
        let width = columns.chars().count() as u16;
        let place = Rect {
            width: inner.width.saturating_sub(width),
            ..inner
        };
        canvas.line(place, y, label(row, theme));
        let place = Rect {
            x: inner.right().saturating_sub(width),
            width: width.min(inner.width),
            ..inner
        };
        canvas.line(place, y, Span::styled(columns, theme.dim));
        if at == cursor {
            let style = if focused {
                theme.selection
            } else {
                theme.selection_idle
            };
            canvas.row_style(inner, y, style);
        }
        let line = Rect::new(inner.x, inner.y + y, inner.width, 1);
        canvas.hits.add(line, Target::Row(Pane::Tree as usize, at));
    }
}

fn label<'a>(row: &'a Row, theme: &Theme) -> Line<'a> {
    let indent = "  ".repeat(row.depth);
    let (glyph, style) = match row.content {
        Content::Group { open: true, .. } => ("▾", theme.title),
        Content::Group { open: false, .. } => ("▸", theme.title),
        Content::Same { .. } => ("=", theme.dim),
        Content::Tensor(_) | Content::Tied => (" ", theme.text),
    };
    let mut spans = vec![
        Span::styled(format!(" {indent}{glyph} "), theme.dim),
        Span::styled(row.label.as_str(), style),
    ];
    match &row.content {
        Content::Same { count, to, .. } => {
            spans.push(Span::styled(format!("  {count} same as {to}"), theme.dim));
        }
        Content::Tied => spans.push(Span::styled("  tied to the embedding", theme.dim)),
        _ => {}
    }
    Line::from(spans)
}

/// The right side of a row: as many columns as there is room for.
fn columns(model: &Model, row: &Row, width: usize) -> String {
    let size = Bytes(row.parameters * dtype(model).size());
    let parameters = match row.content {
        Content::Tied => String::new(),
        _ => count(row.parameters),
    };
    let mut text = format!("{parameters:>9} ");
    if width >= 74 {
        let size = if parameters.is_empty() {
            String::new()
        } else {
            size.to_string()
        };
        text = format!("{:>5}{size:>11}{text}", dtype(model).to_string());
    }
    if width >= 46 {
        let middle = match &row.content {
            Content::Tensor(index) => model.tensors[*index].shape.to_string(),
            Content::Group { tensors, .. } => format!("{tensors} tensors"),
            _ => String::new(),
        };
        text = format!("{middle:>15}{text}");
    }
    if width >= 100 {
        let role = match row.content {
            Content::Tensor(index) => model.tensors[index].role.label(),
            _ => "",
        };
        text = format!("{role:<18}{text}");
    }
    text
}

fn about(state: &State, canvas: &mut Canvas, area: Rect, model: &Model, rows: &[Row]) {
    let focused = state.mapping.focus == Pane::Detail;
    let row = rows.get(state.mapping.cursor.min(rows.len().saturating_sub(1)));
    let about = row.map_or_else(Detail::default, |row| {
        detail(model, row, state.mapping.collapsed)
    });
    let inner = canvas.pane(
        area,
        Pane::Detail as usize,
        focused,
        about.title.as_str(),
        "",
    );
    let lines = lines(&about, usize::from(inner.width), canvas.theme);
    let last = lines.len().saturating_sub(usize::from(inner.height));
    let first = state.mapping.scroll.min(last);
    for (y, line) in lines.into_iter().skip(first).enumerate() {
        canvas.line(inner, y as u16, line);
    }
}

fn lines<'a>(about: &'a Detail, width: usize, theme: &Theme) -> Vec<Line<'a>> {
    let mut lines = Vec::new();
    for (name, text) in &about.facts {
        let room = width.saturating_sub(NAME + 2);
        for (i, part) in wrap(text, room).into_iter().enumerate() {
            let name = if i == 0 { *name } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!(" {name:<NAME$}"), theme.dim),
                Span::raw(part),
            ]));
        }
    }
    if about.bars.is_empty() {
        return lines;
    }
    lines.push(Line::default());
    lines.push(Line::styled(format!(" {}", about.bars_title), theme.title));
    let longest = about.bars.iter().map(|bar| bar.label.chars().count()).max();
    let label = longest.unwrap_or(0).clamp(8, 28);
    let room = width.saturating_sub(label + 14);
    for part in &about.bars {
        let name: String = part.label.chars().take(label).collect();
        lines.push(Line::from(vec![
            Span::raw(format!(" {name:<label$} ")),
            Span::styled(format!("{:>9}  ", part.text), theme.dim),
            Span::styled(bar(part.share, room), theme.bar),
        ]));
    }
    lines
}
