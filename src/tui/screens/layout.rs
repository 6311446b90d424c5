//! The Layout screen: rank grid with groups and stages, memory by term, rules.

mod grid;

use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::text::{Line, Span};

use super::{Room, room};
use crate::app::layout::{Pane, Plan, plan, what_if};
use crate::app::{State, Target, list};
use crate::base::{Bytes, Severity};
use crate::plan::{Axis, Degrees, MemoryEstimate, NOT_MODELLED, Storage};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::{bar, wrap};

/// Draws the screen.
pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect) {
    let Some(plan) = plan(state) else {
        let inner = canvas.pane(area, 0, true, "Layout", "");
        let text = Span::styled("no valid recipe is selected", canvas.theme.dim);
        canvas.line(inner, 0, text);
        return;
    };
    match (room(state), state.layout.focus) {
        (Room::One, Pane::Grid) => grid::draw(state, canvas, area, &plan),
        (Room::One, Pane::Memory) => memory(state, canvas, area, &plan),
        (Room::One, Pane::Rules) => rules(state, canvas, area, &plan),
        (Room::Two, _) => {
            let halves = [Constraint::Fill(1), Constraint::Fill(1)];
            let [top, bottom] = Layout::vertical(halves).areas(area);
            let [left, right] = Layout::horizontal(halves).areas(bottom);
            grid::draw(state, canvas, top, &plan);
            memory(state, canvas, left, &plan);
            rules(state, canvas, right, &plan);
        }
        (Room::Many, _) => {
            let parts = [Constraint::Fill(3), Constraint::Fill(2)];
            let [left, right] = Layout::horizontal(parts).areas(area);
            let tall = (plan.rules().len() as u16 + 2).min(area.height / 2);
            let parts = [Constraint::Fill(1), Constraint::Length(tall)];
            let [top, bottom] = Layout::vertical(parts).areas(right);
            grid::draw(state, canvas, left, &plan);
            memory(state, canvas, top, &plan);
            rules(state, canvas, bottom, &plan);
        }
    }
}

/// The right end of the tab bar: ranks, degrees, and whether a run could start.
pub(super) fn status<'a>(state: &'a State, theme: &Theme) -> Line<'a> {
    let Some(plan) = plan(state) else {
        return Line::default();
    };
    let d = plan.degrees;
    let text = if state.size.width < 100 {
        format!("world {}", d.world_size())
    } else {
        degrees(&d)
    };
    let mut spans = vec![Span::styled(text, theme.dim), Span::raw("  ")];
    if plan.is_scratch {
        spans.push(Span::styled("scratch  ", theme.warning));
    }
    spans.push(match plan.errors() {
        0 => Span::styled("✓ valid ", theme.ok),
        n => Span::styled(format!("✗ {n} broken "), theme.error),
    });
    Line::from(spans)
}

/// The degrees in a line: `world 16 = tp2 cp2 dp2 pp2 SP`.
fn degrees(d: &Degrees) -> String {
    let mut parts = vec![format!("world {} =", d.world_size())];
    let always = [Axis::Tp, Axis::Cp, Axis::Dp, Axis::Pp];
    parts.extend(always.map(|axis| format!("{axis}{}", d.of(axis))));
    if d.vpp > 1 {
        parts.push(format!("vpp{}", d.vpp));
    }
    if d.ep > 1 {
        parts.push(format!("ep{}", d.ep));
    }
    if d.sequence_parallel {
        parts.push("SP".into());
    }
    parts.join(" ")
}

fn memory(state: &State, canvas: &mut Canvas, area: Rect, plan: &Plan) {
    let theme = canvas.theme;
    let focused = state.layout.focus == Pane::Memory;
    let storage = match plan.storage() {
        Storage::LocalF32 => "f32 on CPU",
        Storage::MixedBf16 => "bf16, f32 optimizer",
    };
    let stages = plan.memory();
    let fullest = stages.iter().rev().max_by_key(|estimate| estimate.total);
    let right = fullest.map_or(String::new(), |estimate| estimate.total.to_string());
    let title = format!("Memory of a rank, {storage}");
    let inner = canvas.pane(area, Pane::Memory as usize, focused, title, right);
    let Some(fullest) = fullest else {
        let text = "the layers do not divide into stages";
        canvas.line(inner, 0, Span::styled(text, theme.warning));
        return;
    };
    let lines = memory_lines(plan, &stages, fullest, usize::from(inner.width), theme);
    let last = lines.len().saturating_sub(usize::from(inner.height));
    let first = state.layout.scroll.min(last);
    for (y, line) in lines.into_iter().skip(first).enumerate() {
        canvas.line(inner, y as u16, line);
    }
}

fn memory_lines(
    plan: &Plan,
    stages: &[MemoryEstimate],
    fullest: &MemoryEstimate,
    width: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let per_stage = plan.degrees.world_size() / stages.len().max(1);
    let ranks = |stage: usize| match per_stage {
        1 => format!("rank {stage}"),
        _ => format!(
            "ranks {}-{}",
            stage * per_stage,
            (stage + 1) * per_stage - 1
        ),
    };
    let share = |bytes: Bytes| bytes.0 as f64 / fullest.total.0.max(1) as f64;
    let formulas = width >= 100;
    let room = if formulas {
        20
    } else {
        width.saturating_sub(31)
    };
    let line = |name: String, bytes: Bytes| {
        vec![
            Span::raw(format!(" {name:<16} {:>10}  ", bytes.to_string())),
            Span::styled(bar(share(bytes), room), theme.bar),
        ]
    };
    let mut lines = Vec::new();
    if stages.len() > 1 {
        let text = format!(" fullest: pp {}, {}", fullest.stage, ranks(fullest.stage));
        lines.push(Line::styled(text, theme.dim));
    }
    for term in &fullest.terms {
        let mut spans = line(term.name.to_owned(), term.bytes);
        if formulas {
            let filled: usize = spans.iter().map(Span::width).sum();
            let gap = " ".repeat(52usize.saturating_sub(filled));
            spans.push(Span::styled(format!("{gap}{}", term.formula), theme.dim));
        }
        lines.push(Line::from(spans));
    }
    let total = format!(" {:<16} {:>10}", "total", fullest.total.to_string());
    lines.push(Line::styled(total, theme.title));
    if stages.len() > 1 {
        lines.push(Line::default());
        for stage in stages {
            lines.push(Line::from(line(
                format!("pp {} {}", stage.stage, ranks(stage.stage)),
                stage.total,
            )));
        }
    }
    lines.push(Line::default());
    lines.push(Line::styled(" what if", theme.title));
    for what in what_if(plan) {
        let difference = what.total.0 as i128 - fullest.total.0 as i128;
        let sign = if difference < 0 { "-" } else { "+" };
        let by = Bytes(difference.unsigned_abs() as u64);
        let (glyph, style) = if what.is_legal {
            ("✓", theme.ok)
        } else {
            ("✗", theme.error)
        };
        lines.push(Line::from(vec![
            Span::raw(format!(
                " {:<18} {:>10}  ",
                what.change,
                what.total.to_string()
            )),
            Span::styled(format!("{sign}{by:<10} "), theme.dim),
            Span::styled(glyph, style),
        ]));
    }
    lines.push(Line::default());
    lines.push(Line::styled(
        format!(" not counted: {NOT_MODELLED}"),
        theme.dim,
    ));
    lines
}

fn rules(state: &State, canvas: &mut Canvas, area: Rect, plan: &Plan) {
    let theme = canvas.theme;
    let focused = state.layout.focus == Pane::Rules;
    let rules = plan.rules();
    let broken = rules.iter().filter(|rule| rule.violation.is_some()).count();
    let right = format!("{} hold", rules.len() - broken);
    let inner = canvas.pane(area, Pane::Rules as usize, focused, "Rules checked", right);
    let cursor = state.layout.rule.min(rules.len().saturating_sub(1));
    // What is wrong with the rule under the cursor stands below in full.
    let message = rules.get(cursor).and_then(|rule| rule.violation.as_ref());
    let mut below = message.map_or_else(Vec::new, |violation| {
        wrap(
            &violation.message,
            usize::from(inner.width).saturating_sub(2),
        )
    });
    below.truncate(usize::from(inner.height) / 2);
    let height = usize::from(inner.height) - below.len();
    for (i, line) in below.into_iter().enumerate() {
        let line = Span::styled(format!(" {line}"), theme.dim);
        canvas.line(inner, (height + i) as u16, line);
    }
    let first = list::offset(cursor, rules.len(), height);
    for (at, rule) in rules.iter().enumerate().skip(first).take(height) {
        let y = (at - first) as u16;
        let mut spans = Vec::new();
        match &rule.violation {
            None => {
                spans.push(Span::styled(" ✓ ", theme.ok));
                spans.push(Span::raw(rule.statement.as_str()));
            }
            Some(violation) => {
                let (glyph, style) = match violation.severity {
                    Severity::Error => (" ✗ ", theme.error),
                    Severity::Warning => (" ! ", theme.warning),
                };
                spans.push(Span::styled(glyph, style));
                if !violation.nearest.is_empty() {
                    let near = format!("{} ", violation.nearest.join(", "));
                    spans.push(Span::styled("nearest ", theme.dim));
                    spans.push(Span::styled(near, theme.accent));
                }
                spans.push(Span::raw(violation.message.as_str()));
            }
        }
        canvas.line(inner, y, Line::from(spans));
        if at == cursor && focused {
            canvas.row_style(inner, y, theme.selection);
        }
        let row = Rect::new(inner.x, inner.y + y, inner.width, 1);
        canvas.hits.add(row, Target::Row(Pane::Rules as usize, at));
    }
}
