//! Boxes over a screen.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};
use tui_input::Input;
use unicode_width::UnicodeWidthStr;

use super::canvas::Canvas;
use super::theme::Theme;
use crate::app::dialog::{Choice, Form, Help, Palette, Value, View};
use crate::app::palette::{self, Line as Entry};
use crate::app::{Dialog, Scope, State, list};

/// Draws a box over the screen's area.
pub(super) fn draw(dialog: &Dialog, state: &State, canvas: &mut Canvas, area: Rect) {
    match dialog {
        Dialog::Help(dialog) => help(dialog, state, canvas, area),
        Dialog::Palette(dialog) => command_palette(dialog, state, canvas, area),
        Dialog::Form(dialog) => form(dialog, canvas, area),
        Dialog::Choice(dialog) => choice(dialog, canvas, area),
        Dialog::View(dialog) => view(dialog, canvas, area),
    }
}

/// An emptied, bordered box in the middle of `area`; returns its inside.
fn open(
    canvas: &mut Canvas,
    area: Rect,
    width: u16,
    height: u16,
    title: &str,
    right: &str,
) -> Rect {
    let width = width.min(area.width);
    let height = height.min(area.height);
    let place = Rect::new(
        area.x + (area.width - width) / 2,
        area.y + (area.height - height) / 2,
        width,
        height,
    );
    canvas.clear(place);
    canvas.pane(place, usize::MAX, true, title, right)
}

/// A line of typed text with its cursor.
fn input_line<'a>(input: &'a Input, width: usize, has_cursor: bool, theme: &Theme) -> Line<'a> {
    let scroll = input.visual_scroll(width.saturating_sub(1));
    let shown: Vec<char> = input.value().chars().skip(scroll).take(width).collect();
    if !has_cursor {
        return Line::from(shown.into_iter().collect::<String>());
    }
    let at = input.cursor().saturating_sub(scroll).min(shown.len());
    let before: String = shown[..at].iter().collect();
    let under = shown.get(at).map_or(" ".to_owned(), ToString::to_string);
    let after: String = shown.get(at + 1..).unwrap_or_default().iter().collect();
    let cursor = theme.text.add_modifier(ratatui::style::Modifier::REVERSED);
    Line::from(vec![
        Span::raw(before),
        Span::styled(under, cursor),
        Span::raw(after),
    ])
}

fn entry_line(entry: &Entry, keys: usize, theme: &Theme) -> Line<'static> {
    let (style, key) = if entry.unavailable.is_some() {
        (theme.dim, theme.dim)
    } else {
        (theme.text, theme.key)
    };
    let why = entry.unavailable.as_ref().map(|why| format!("  ({why})"));
    Line::from(vec![
        Span::styled(format!(" {:<keys$} ", entry.key), key),
        Span::styled(entry.name.clone(), style),
        Span::styled(
            why.unwrap_or_else(|| format!("  {}", entry.action.doc())),
            theme.dim,
        ),
    ])
}

fn entries(canvas: &mut Canvas, area: Rect, entries: &[Entry], selected: usize, headings: bool) {
    let theme = canvas.theme;
    let keys = entries.iter().map(|e| e.key.width()).max().unwrap_or(0);
    let mut rows: Vec<(Line, bool)> = Vec::new();
    let mut scope: Option<Scope> = None;
    let mut cursor = 0;
    for (i, entry) in entries.iter().enumerate() {
        if headings && scope != Some(entry.action.scope()) {
            scope = Some(entry.action.scope());
            let title = entry.action.scope().title();
            rows.push((Line::styled(format!(" {title}"), theme.title), false));
        }
        if i == selected {
            cursor = rows.len();
        }
        rows.push((entry_line(entry, keys, theme), i == selected));
    }
    let height = usize::from(area.height);
    let first = list::offset(cursor, rows.len(), height);
    for (y, (line, is_selected)) in rows.into_iter().skip(first).take(height).enumerate() {
        canvas.line(area, y as u16, line);
        if is_selected {
            canvas.row_style(area, y as u16, theme.selection);
        }
    }
}

/// The lines below the input of a filtered list.
fn below(inner: Rect) -> Rect {
    Rect::new(
        inner.x,
        inner.y + inner.height.min(1),
        inner.width,
        inner.height.saturating_sub(1),
    )
}

fn filter(canvas: &mut Canvas, inner: Rect, input: &Input) {
    let width = usize::from(inner.width.saturating_sub(4));
    let mut line = input_line(input, width, true, canvas.theme);
    line.spans.insert(0, Span::styled(" > ", canvas.theme.key));
    canvas.line(inner, 0, line);
}

fn help(dialog: &Help, state: &State, canvas: &mut Canvas, area: Rect) {
    let lines = palette::help(state, state.screen, dialog.input.value());
    let title = format!("Help, {} screen", state.screen.title());
    let right = "type to filter, enter runs, esc closes";
    let inner = open(
        canvas,
        area,
        96,
        area.height.saturating_sub(2),
        &title,
        right,
    );
    filter(canvas, inner, &dialog.input);
    entries(canvas, below(inner), &lines, dialog.selected, true);
}

fn command_palette(dialog: &Palette, state: &State, canvas: &mut Canvas, area: Rect) {
    let lines = palette::matches(state, dialog.input.value());
    let right = format!("{} actions", lines.len());
    let inner = open(canvas, area, 84, 18, "Command palette", &right);
    filter(canvas, inner, &dialog.input);
    entries(canvas, below(inner), &lines, dialog.selected, false);
}

fn form(form: &Form, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let width = area.width.saturating_sub(4).clamp(area.width.min(40), 96);
    let mut notes: Vec<(String, ratatui::style::Style)> = Vec::new();
    for note in &form.notes {
        for row in wrap(&note.text, usize::from(width.saturating_sub(4))) {
            notes.push((row, theme.tone(note.tone)));
        }
    }
    let errors = form.error.as_ref().map_or_else(Vec::new, |error| {
        wrap(&format!("✗ {error}"), usize::from(width.saturating_sub(4)))
    });
    let height = form.fields.len() + notes.len() + 4 + errors.len().max(1);
    let hint = format!("enter {}, esc closes", form.accept);
    let inner = open(canvas, area, width, height as u16, &form.title, &hint);
    let labels = form
        .fields
        .iter()
        .map(|f| f.label.width())
        .max()
        .unwrap_or(0);
    // The field with the cursor stays visible when the box is too low for all.
    let visible = usize::from(inner.height.saturating_sub(1)).max(1);
    let first = list::offset(
        form.focus,
        form.fields.len(),
        visible.min(form.fields.len().max(1)),
    );
    for (y, (i, field)) in form.fields.iter().enumerate().skip(first).enumerate() {
        let focused = i == form.focus;
        let room = usize::from(inner.width).saturating_sub(labels + 4);
        let mut spans = vec![Span::styled(
            format!(" {:<labels$}  ", field.label),
            if focused { theme.key } else { theme.dim },
        )];
        let help_room = room.saturating_sub(24);
        match &field.value {
            Value::Text(input) => {
                let line = input_line(
                    input,
                    room.min(24.max(input.value().width() + 1)),
                    focused,
                    theme,
                );
                spans.extend(line.spans);
            }
            Value::Toggle(on) => {
                let text = if *on { "[x]" } else { "[ ]" };
                spans.push(Span::styled(
                    text,
                    if focused { theme.selection } else { theme.text },
                ));
            }
            Value::Choice(options, chosen) => {
                for (n, option) in options.iter().enumerate() {
                    let style = if n == *chosen {
                        if focused {
                            theme.selection
                        } else {
                            theme.accent
                        }
                    } else {
                        theme.dim
                    };
                    let text = if n == *chosen {
                        format!("[{option}]")
                    } else {
                        format!(" {option} ")
                    };
                    spans.push(Span::styled(text, style));
                }
            }
        }
        if help_room > 0 && !field.help.is_empty() {
            spans.push(Span::styled(format!("  {}", field.help), theme.dim));
        }
        canvas.line(inner, y as u16, Line::from(spans));
    }
    for (y, (text, style)) in (form.fields.len() as u16 + 1..).zip(notes) {
        canvas.line(inner, y, Span::styled(format!(" {text}"), style));
    }
    // Over notes that have no room beside it: why it is refused matters more.
    let first = inner.height.saturating_sub(errors.len() as u16);
    for (row, text) in (first..).zip(errors) {
        let line = Rect::new(inner.x, inner.y + row, inner.width, 1);
        canvas.clear(line);
        canvas.line(inner, row, Span::styled(format!(" {text}"), theme.error));
    }
}

fn choice(choice: &Choice, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let height = choice.notes.len() + choice.answers.len() + 4;
    let inner = open(canvas, area, 72, height as u16, &choice.title, "esc closes");
    let mut y = 0;
    for note in &choice.notes {
        canvas.line(
            inner,
            y,
            Span::styled(format!(" {}", note.text), theme.tone(note.tone)),
        );
        y += 1;
    }
    y += u16::from(!choice.notes.is_empty());
    for (i, answer) in choice.answers.iter().enumerate() {
        let detail = answer.unavailable.as_ref().unwrap_or(&answer.detail);
        let style = if answer.unavailable.is_some() {
            theme.dim
        } else {
            theme.text
        };
        let line = Line::from(vec![
            Span::styled(format!(" {} ", answer.key), theme.key),
            Span::styled(answer.label.as_str(), style),
            Span::styled(format!("  {detail}"), theme.dim),
        ]);
        canvas.line(inner, y, line);
        if i == choice.selected {
            canvas.row_style(inner, y, theme.selection);
        }
        y += 1;
    }
}

fn view(view: &View, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let width = area.width.saturating_sub(4).max(area.width.min(40));
    let height = (view.lines.len() as u16).saturating_add(2).min(area.height);
    let right = format!("{} lines, esc closes", view.lines.len());
    let inner = open(canvas, area, width, height.max(5), &view.title, &right);
    let last = view.lines.len().saturating_sub(usize::from(inner.height));
    for (y, note) in view
        .lines
        .iter()
        .skip(view.scroll.min(last))
        .take(usize::from(inner.height))
        .enumerate()
    {
        canvas.line(
            inner,
            y as u16,
            Span::styled(note.text.as_str(), theme.tone(note.tone)),
        );
    }
}

/// A text cut between words so that each row fits into `width`.
fn wrap(text: &str, width: usize) -> Vec<String> {
    let mut rows = Vec::new();
    let mut row = String::new();
    for word in text.split_inclusive(' ') {
        if !row.is_empty() && row.width() + word.trim_end().width() > width {
            rows.push(std::mem::take(&mut row));
        }
        row.push_str(word);
    }
    rows.push(row);
    rows
}
