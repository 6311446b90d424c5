//! The Mapping screen: the leading tree, what is under its cursor, shards, values.

mod shards;
mod tensor;
mod values;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::{Room, room};
use crate::app::mapping::{Content, Item, Model, Origin, Pane, Row, Side, Standing, kind_name};
use crate::app::preview::count;
use crate::app::{Action, State, Target, list};
use crate::base::Bytes;
use crate::mapping::Place;
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;

/// Lines about shards where they stand below the tensor.
const SHARDS: usize = 20;

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let Some(model) = state.mapping.model() else {
        let inner = canvas.pane(area, 0, true, "Mapping", "");
        let key = state.keymap.key(Action::OpenModel);
        let text = match &state.mapping.opening {
            Some(origin) => format!("opening {}", origin_name(origin)),
            None => format!("no valid recipe is selected; {key} opens a model or a directory"),
        };
        canvas.line(inner, 0, Span::styled(text, canvas.theme.dim));
        return;
    };
    match (room(state), state.mapping.focus) {
        (Room::One, Pane::Tree) => tree(state, canvas, area, model),
        (Room::One, Pane::Detail) => everything(state, canvas, area, model),
        (Room::Two, _) => {
            let tall = (area.height / 2).clamp(6, 14);
            let parts = [Constraint::Fill(1), Constraint::Length(tall)];
            let [top, bottom] = Layout::vertical(parts).areas(area);
            tree(state, canvas, top, model);
            everything(state, canvas, bottom, model);
        }
        (Room::Many, _) => {
            let parts = [Constraint::Fill(5), Constraint::Fill(6)];
            let [left, right] = Layout::horizontal(parts).areas(area);
            tree(state, canvas, left, model);
            let width = usize::from(right.width.saturating_sub(2));
            let values = values::lines(state, model, width, canvas.theme);
            // What is read has room to come; without files there is one line to say so.
            let least = if model.files.is_some() { 4 } else { 1 };
            let tall = [
                Constraint::Fill(1),
                Constraint::Length(shards::tall(state, model, right, canvas.theme)),
                Constraint::Length(values.len().max(least) as u16 + 2),
            ];
            let [top, middle, bottom] = Layout::vertical(tall).areas(right);
            about(state, canvas, top, model);
            shards::draw(state, canvas, middle, model);
            let inner = canvas.pane(bottom, Pane::Detail as usize, false, "Values", "");
            put(canvas, inner, values, 0);
        }
    }
}

/// The right end of the tab bar: how many tensors each side has, and how they stand.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    let Some(model) = state.mapping.model() else {
        return Line::default();
    };
    let counts = model.counts();
    let bad = |n: usize, style| if n > 0 { style } else { theme.dim };
    if state.size.width < 100 {
        let text = format!("{} ▸ {} ", counts.huggingface, counts.megatron);
        let wrong = counts.missing + counts.unmapped;
        return Line::from(vec![
            Span::styled(text, theme.dim),
            Span::styled(format!("✗ {wrong} "), bad(wrong, theme.error)),
        ]);
    }
    let (missing, unmapped) = (counts.missing, counts.unmapped);
    Line::from(vec![
        Span::styled(
            format!("hf {} ▸ mcore {}  ", counts.huggingface, counts.megatron),
            theme.dim,
        ),
        Span::styled(format!("✓ {}  ", counts.fine), theme.ok),
        Span::styled(format!("! {missing} init  "), bad(missing, theme.warning)),
        Span::styled(
            format!("✗ {unmapped} unmapped "),
            bad(unmapped, theme.error),
        ),
    ])
}

/// What a model comes from, for people.
fn origin_name(origin: &Origin) -> String {
    match origin {
        Origin::Published { name, .. } => name.clone(),
        Origin::Path { path, .. } => path.display().to_string(),
    }
}

fn tree(state: &State, canvas: &mut Canvas, area: Rect, model: &Model) {
    let theme = canvas.theme;
    let screen = &state.mapping;
    let focused = screen.focus == Pane::Tree;
    let title = match &screen.opening {
        Some(origin) => format!("opening {}", origin_name(origin)),
        None => format!("{} side, {}", screen.side.name(), model.name),
    };
    let names = model.tree(screen.side).names.len();
    let right = if !screen.query.is_empty() {
        format!("/{}  {} of {names}", screen.query.text, screen.len())
    } else if screen.unmapped {
        "unmapped only".to_owned()
    } else {
        let equal = if screen.collapsed { "once" } else { "each" };
        format!("{names}, equal ones {equal}")
    };
    let inner = canvas.pane(area, Pane::Tree as usize, focused, title, right);
    let len = screen.len();
    if len == 0 {
        let text = if screen.unmapped {
            "every tensor has its partner"
        } else {
            "no tensor matches"
        };
        canvas.line(inner, 0, Span::styled(text, theme.dim));
        return;
    }
    let cursor = screen.cursor.min(len - 1);
    let height = usize::from(inner.height);
    let first = list::offset(cursor, len, height);
    for at in first..(first + height).min(len) {
        let Some(row) = screen.row(at) else {
            continue;
        };
        let y = (at - first) as u16;
        let columns = columns(model, screen.side, &row, usize::from(inner.width), theme);
        let width = columns.width() as u16;
        let place = Rect {
            width: inner.width.saturating_sub(width),
            ..inner
        };
        canvas.line(place, y, label(model, screen.side, &row, theme));
        let place = Rect {
            x: inner.right().saturating_sub(width.min(inner.width)),
            width: width.min(inner.width),
            ..inner
        };
        canvas.line(place, y, columns);
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

fn label(model: &Model, side: Side, row: &Row, theme: &Theme) -> Line<'static> {
    let indent = "  ".repeat(row.depth);
    let (glyph, style) = match row.content {
        Content::Group { open: true, .. } => ("▾", theme.title),
        Content::Group { open: false, .. } => ("▸", theme.title),
        Content::Same { .. } => ("=", theme.dim),
        Content::Tensor(_) => (" ", theme.text),
    };
    let mut spans = vec![Span::styled(format!(" {indent}{glyph} "), theme.dim)];
    if let Content::Same { node, count, .. } = row.content {
        let to = model.tree(side).label(node);
        spans.push(Span::styled(format!("{count} same as {to}: "), theme.dim));
    }
    spans.push(Span::styled(row.label.clone(), style));
    match row.content {
        Content::Tensor(name) => {
            let is_embedding = match model.item(side, name) {
                Item::Entry(entry) => model.table.entries()[entry].place == Place::Embedding,
                Item::Source(source) => {
                    let entries = model.entries_of(source);
                    let mut places = entries.iter().map(|&e| model.table.entries()[e].place);
                    places.any(|place| place == Place::Embedding)
                }
                Item::Extra(_) => false,
            };
            if is_embedding && model.table.config().text.tie_word_embeddings {
                spans.push(Span::styled("  tied: the head too", theme.dim));
            }
        }
        Content::Same { .. } => {}
        Content::Group { node, .. } => {
            if let Some(kind) = layer_kind(model, side, node) {
                spans.push(Span::styled(format!("  {kind}"), theme.dim));
            }
        }
    }
    Line::from(spans)
}

/// What a decoder layer is, if the node is one.
fn layer_kind(model: &Model, side: Side, node: u32) -> Option<&'static str> {
    let tree = model.tree(side);
    let layer: usize = tree.label(node).parse().ok()?;
    let path = tree.path(tree.node(node).parent);
    let is_decoder = match side {
        Side::Megatron => path == format!("{}decoder.layers", model.table.megatron_prefix()),
        Side::HuggingFace => path == format!("{}layers", model.table.config().text_prefix()),
    };
    let kinds = &model.table.config().text.layer_types;
    is_decoder.then(|| kinds.get(layer).map(|&kind| kind_name(kind)))?
}

/// The glyph and style of a standing.
fn glyph(standing: Standing, theme: &Theme) -> Span<'static> {
    match standing {
        Standing::Fine => Span::styled("✓ ", theme.ok),
        Standing::Missing => Span::styled("! ", theme.warning),
        Standing::Wrong | Standing::Extra => Span::styled("✗ ", theme.error),
    }
}

/// The right side of a row: as many columns as there is room for, and how it stands.
fn columns(model: &Model, side: Side, row: &Row, width: usize, theme: &Theme) -> Line<'static> {
    let tree = model.tree(side);
    let (middle, parameters, mark) = match row.content {
        Content::Tensor(name) => {
            let item = model.item(side, name);
            let shape = model.shape(item);
            let kind = match item {
                Item::Entry(entry) if width >= 90 => model.table.entries()[entry].kind().label(),
                _ => "",
            };
            (
                format!("{kind}  {shape}"),
                shape.elements(),
                glyph(model.standing(item), theme),
            )
        }
        Content::Group { node, .. } => {
            let node = tree.node(node);
            let mark = match node.problems {
                0 => Span::styled("✓ ", theme.ok),
                _ => Span::styled("✗ ", theme.error),
            };
            (format!("{} tensors", node.tensors), node.parameters, mark)
        }
        Content::Same {
            node, parameters, ..
        } => {
            let mark = match tree.node(node).problems {
                0 => Span::styled("✓ ", theme.ok),
                _ => Span::styled("✗ ", theme.error),
            };
            (String::new(), parameters, mark)
        }
    };
    let mut text = String::new();
    if width >= 62 {
        text = format!("{:>9} ", count(parameters));
    }
    if width >= 80 {
        let size = Bytes(parameters * model.dtype().size()).to_string();
        text = format!("{size:>11}{text}");
    }
    if width >= 46 {
        text = format!("{middle:>15}{text}");
    }
    Line::from(vec![Span::styled(format!("{text} "), theme.dim), mark])
}

fn put(canvas: &mut Canvas, inner: Rect, lines: Vec<Line>, scroll: usize) {
    let last = lines.len().saturating_sub(usize::from(inner.height));
    for (y, line) in lines.into_iter().skip(scroll.min(last)).enumerate() {
        canvas.line(inner, y as u16, line);
    }
}

/// What is under the cursor, as a pane of its own.
fn about(state: &State, canvas: &mut Canvas, area: Rect, model: &Model) {
    let screen = &state.mapping;
    let about = screen.detail().unwrap_or_default();
    let focused = screen.focus == Pane::Detail;
    let inner = canvas.pane(
        area,
        Pane::Detail as usize,
        focused,
        about.title.as_str(),
        "",
    );
    let held = shards::picked(state, model);
    let lines = tensor::lines(
        &about,
        held.as_ref(),
        usize::from(inner.width),
        canvas.theme,
    );
    put(canvas, inner, lines, screen.scroll);
}

/// What is under the cursor with shards and values below, as one text.
fn everything(state: &State, canvas: &mut Canvas, area: Rect, model: &Model) {
    let screen = &state.mapping;
    let theme = canvas.theme;
    let about = screen.detail().unwrap_or_default();
    let focused = screen.focus == Pane::Detail;
    let inner = canvas.pane(
        area,
        Pane::Detail as usize,
        focused,
        about.title.as_str(),
        "",
    );
    let width = usize::from(inner.width);
    let held = shards::picked(state, model);
    let mut lines = tensor::lines(&about, held.as_ref(), width, theme);
    if screen.entry().is_some() {
        lines.push(Line::default());
        lines.push(Line::styled(
            format!(" shards, {}", shards::degrees_text(state)),
            theme.title,
        ));
        lines.extend(
            shards::lines(state, model, width, SHARDS, theme)
                .into_iter()
                .map(|(line, _)| line),
        );
    }
    if model.files.is_some() {
        lines.push(Line::default());
        lines.push(Line::styled(" values", theme.title));
        lines.extend(values::lines(state, model, width, theme));
    }
    put(canvas, inner, lines, screen.scroll);
}
