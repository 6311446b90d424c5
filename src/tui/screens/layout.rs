//! The Layout screen: rank grid with groups and stages, timeline, traffic, comparison, layouts that fit, memory by term, problems.

mod compare;
mod fit;
mod grid;
mod memory;
mod problems;
mod timeline;
mod traffic;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::{Room, room};
use crate::app::State;
use crate::app::layout::{Knob, Pane, View, degrees_line};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let Some(view) = state.layout.view.as_deref() else {
        let inner = canvas.pane(area, 0, true, "Layout", "");
        let text = Span::styled("no valid recipe is selected", canvas.theme.dim);
        canvas.line(inner, 0, text);
        return;
    };
    let screen = &state.layout;
    match room(state) {
        Room::One => pane(state, canvas, area, view, screen.focus),
        Room::Two => {
            let halves = [Constraint::Fill(1), Constraint::Fill(1)];
            let [top, bottom] = Layout::vertical(halves).areas(area);
            let [left, right] = Layout::horizontal(halves).areas(bottom);
            // The timeline and its like take the grid's place while they have the focus.
            let is_tab = Pane::TABS.contains(&screen.focus);
            let first = if is_tab { screen.focus } else { Pane::Grid };
            pane(state, canvas, top, view, first);
            pane(state, canvas, left, view, Pane::Memory);
            pane(state, canvas, right, view, Pane::Problems);
        }
        Room::Many => {
            let parts = [Constraint::Fill(3), Constraint::Fill(2)];
            let [left, right] = Layout::horizontal(parts).areas(area);
            let stages = view.memory.len().clamp(4, 16) as u16;
            let tall = (stages + 5).max(area.height * 2 / 5);
            let parts = [Constraint::Fill(1), Constraint::Length(tall)];
            let [grid, tab] = Layout::vertical(parts).areas(left);
            let lines = (view.problems.len() * 2 + view.held.len() + 2) as u16;
            let tall = lines.clamp(8, area.height * 2 / 5);
            let parts = [Constraint::Fill(1), Constraint::Length(tall)];
            let [memory, problems] = Layout::vertical(parts).areas(right);
            pane(state, canvas, grid, view, Pane::Grid);
            pane(state, canvas, tab, view, screen.tab);
            pane(state, canvas, memory, view, Pane::Memory);
            pane(state, canvas, problems, view, Pane::Problems);
        }
    }
}

/// What `+` and `-` change, with its value.
fn knob(state: &State, view: &View) -> String {
    let knob = state.layout.knob;
    let value = match knob.value(&view.job) {
        Some(value) => value.to_string(),
        None if knob == Knob::Machine => view.machine.name.clone(),
        None if view.job.degrees.sequence_parallel => "on".to_owned(),
        None => "off".to_owned(),
    };
    format!("+- {knob} {value}")
}

fn pane(state: &State, canvas: &mut Canvas, area: Rect, view: &View, pane: Pane) {
    match pane {
        Pane::Grid => grid::draw(state, canvas, area, view),
        Pane::Timeline => timeline::draw(state, canvas, area, view),
        Pane::Traffic => traffic::draw(state, canvas, area, view),
        Pane::Compare => compare::draw(state, canvas, area, view),
        Pane::Fit => fit::draw(state, canvas, area, view),
        Pane::Memory => memory::draw(state, canvas, area, view),
        Pane::Problems => problems::draw(state, canvas, area, view),
    }
}

/// The right end of the tab bar: ranks, degrees, and whether a run could start.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    let Some(view) = state.layout.view.as_deref() else {
        return Line::default();
    };
    let world = view.job.gpus;
    let wide = state.size.width;
    let text = if wide < 100 {
        format!("world {world}")
    } else {
        format!("{world} = {}", degrees_line(&view.job.degrees))
    };
    let mut spans = vec![Span::styled(text, theme.dim), Span::raw("  ")];
    if view.is_scratch {
        spans.push(Span::styled("scratch  ", theme.warning));
    }
    spans.push(match view.errors() {
        0 if !view.fits() => Span::styled("✗ does not fit ", theme.error),
        0 => Span::styled("✓ valid ", theme.ok),
        n => Span::styled(format!("✗ {n} broken "), theme.error),
    });
    Line::from(spans)
}
