//! The whole frame: tab bar, screen, status line, boxes.

use ratatui::buffer::Buffer;
use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use super::canvas::{Canvas, Hits};
use super::theme::Theme;
use super::{ascii, dialogs, screens};
use crate::app::{Action, Screen, State, Target, update};

/// The smallest size that a screen is drawn at.
const SMALLEST: (u16, u16) = (30, 6);

/// Draws the state; what lies where is noted for the mouse.
pub fn draw(state: &State, theme: &Theme, area: Rect, buf: &mut Buffer, hits: &mut Hits) {
    hits.clear();
    let area = area.intersection(buf.area);
    let mut canvas = Canvas { buf, theme, hits };
    if area.width < SMALLEST.0 || area.height < SMALLEST.1 {
        too_small(&mut canvas, area);
    } else {
        let middle = Rect::new(area.x, area.y + 1, area.width, area.height - 2);
        tabs(&mut canvas, state, Rect::new(area.x, area.y, area.width, 1));
        screens::draw(state, &mut canvas, middle);
        let bottom = Rect::new(area.x, area.bottom() - 1, area.width, 1);
        status_line(&mut canvas, state, bottom);
        for dialog in &state.dialogs {
            dialogs::draw(dialog, state, &mut canvas, middle);
        }
    }
    if theme.ascii {
        ascii::transliterate(buf);
    }
}

fn too_small(canvas: &mut Canvas, area: Rect) {
    let (w, h) = SMALLEST;
    let text = format!("needs {w}x{h}, have {}x{}", area.width, area.height);
    canvas.line(
        area,
        area.height / 2,
        Span::styled(text, canvas.theme.warning),
    );
}

fn tabs(canvas: &mut Canvas, state: &State, area: Rect) {
    let theme = canvas.theme;
    let wide = area.width >= 72;
    let mut x = area.x + 1;
    for (i, screen) in Screen::ALL.into_iter().enumerate() {
        let active = screen == state.screen;
        let text = match (wide || active, active) {
            (true, true) => format!("[{} {}]", i + 1, screen.title()),
            (true, false) => format!(" {} {} ", i + 1, screen.title()),
            (false, _) => format!(" {} ", i + 1),
        };
        let width = text.chars().count() as u16;
        if x + width > area.right() {
            break;
        }
        let style = if active { theme.tab_active } else { theme.text };
        canvas.buf.set_string(x, area.y, &text, style);
        canvas
            .hits
            .add(Rect::new(x, area.y, width, 1), Target::Tab(screen));
        x += width + u16::from(wide);
    }
    let status = screens::status(state, theme);
    let room = area.right().saturating_sub(x + 1);
    let width = (status.width() as u16).min(room);
    let place = Rect::new(area.right() - width.min(area.width), area.y, width, 1);
    canvas.line(place, 0, status);
}

/// The status line: the search box, or a short message and what can be done now.
fn status_line(canvas: &mut Canvas, state: &State, area: Rect) {
    let theme = canvas.theme;
    if let Some(search) = &state.search {
        let mode = format!(" [{}] tab switches ", search.mode.name());
        let width = (mode.len() as u16).min(area.width / 2);
        let room = area.width - width;
        let value = search.input.value();
        let scroll = search
            .input
            .visual_scroll(usize::from(room.saturating_sub(4)));
        let shown: String = value.chars().skip(scroll).collect();
        canvas.line(
            Rect::new(area.x, area.y, room, 1),
            0,
            Line::from(vec![
                Span::styled(" /", theme.key),
                Span::raw(shown),
                Span::styled("▏", theme.accent),
            ]),
        );
        let right = Rect::new(area.right() - width, area.y, width, 1);
        canvas.line(right, 0, Span::styled(mode, theme.dim));
        return;
    }
    let fixed = [Action::Help, Action::Palette, Action::Search, Action::Quit];
    let mut right = Vec::new();
    for action in fixed {
        right.push((action, state.keymap.key(action), action.name().to_owned()));
    }
    let width_of = |items: &[(Action, String, String)]| -> usize {
        items
            .iter()
            .map(|(_, k, n)| k.chars().count() + n.chars().count() + 3)
            .sum()
    };
    while right.len() > 1 && width_of(&right) + 20 > usize::from(area.width) {
        right.remove(right.len() - 2);
    }
    let right_width = (width_of(&right) as u16).min(area.width);
    let left = Rect::new(area.x, area.y, area.width - right_width, 1);
    if let Some(toast) = &state.toast {
        let text = format!(" {}", toast.text);
        canvas.line(left, 0, Span::styled(text, theme.tone(toast.tone)));
    } else if !state.pending.is_empty() {
        let keys: String = state.pending.iter().map(ToString::to_string).collect();
        canvas.line(left, 0, Span::styled(format!(" {keys}-"), theme.accent));
    } else {
        let hints = update::hints(state);
        let items: Vec<_> = hints
            .into_iter()
            .map(|a| (a, state.keymap.key(a), a.name().to_owned()))
            .filter(|(_, key, _)| !key.is_empty())
            .collect();
        put(canvas, left, &items);
    }
    let place = Rect::new(area.right() - right_width, area.y, right_width, 1);
    put(canvas, place, &right);
}

/// Writes "key name" pairs that fit whole, each one clickable.
fn put(canvas: &mut Canvas, area: Rect, items: &[(Action, String, String)]) {
    let mut x = area.x + 1;
    for (action, key, name) in items {
        let width = (key.chars().count() + name.chars().count() + 1) as u16;
        if x + width > area.right() {
            break;
        }
        let line = Line::from(vec![
            Span::styled(key.clone(), canvas.theme.key),
            Span::raw(" "),
            Span::styled(name.clone(), canvas.theme.dim),
        ]);
        let place = Rect::new(x, area.y, width, 1);
        canvas.line(place, 0, line);
        canvas.hits.add(place, Target::Hint(*action));
        x += width + 2;
    }
}
