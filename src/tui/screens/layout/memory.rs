//! Memory of the rank under the cursor by term, of every stage, and what changes would do, against what a GPU has.

use ratatui::layout::Rect;
use ratatui::text::{Line, Span};

use crate::app::State;
use crate::app::layout::{Pane, View, WhatIf, seconds};
use crate::base::Bytes;
use crate::plan::NOT_MODELLED;
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::{bar, wrap};

/// Columns in front of a bar.
const BEFORE: usize = 34;

pub(super) fn draw(state: &State, canvas: &mut Canvas, area: Rect, view: &View) {
    let theme = canvas.theme;
    let focused = state.layout.focus == Pane::Memory;
    let right = match (view.fullest(), view.device()) {
        (Some(fullest), Some(device)) => {
            format!("{} of {device}, {}", fullest.total, view.machine.name)
        }
        (Some(fullest), None) => format!("{}, f32 on CPU", fullest.total),
        (None, _) => view.machine.name.clone(),
    };
    let inner = canvas.pane(area, Pane::Memory as usize, focused, "Memory", right);
    let width = usize::from(inner.width);
    let lines = match &view.plan {
        Err(error) => wrap(&error.to_string(), width.saturating_sub(2))
            .into_iter()
            .map(|line| Line::styled(format!(" {line}"), theme.warning))
            .collect(),
        Ok(_) => lines(state, view, width, theme),
    };
    let last = lines.len().saturating_sub(usize::from(inner.height));
    let first = state.layout.scroll.min(last);
    for (y, line) in lines.into_iter().skip(first).enumerate() {
        canvas.line(inner, y as u16, line);
    }
}

/// Which ranks a stage has.
fn ranks(view: &View, stage: usize) -> String {
    let stages = view.memory.len().max(1);
    let each = view.world_size() / stages;
    match each {
        _ if !view.job.megatron.rank_order.is_pipeline_last() => format!("{each} ranks"),
        1 => format!("rank {stage}"),
        _ => format!("ranks {}-{}", stage * each, (stage + 1) * each - 1),
    }
}

fn lines(state: &State, view: &View, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let stage = view.stage_of(state.layout.rank);
    let Some(shown) = view.memory_of(stage) else {
        return Vec::new();
    };
    let largest = view.fullest().map_or(Bytes(1), |fullest| fullest.total);
    let device = view.device();
    // Bars are as long as a GPU's memory; what goes beyond is cut and said.
    let whole = device.unwrap_or(largest).0.max(1) as f64;
    let formulas = width >= 100;
    let room = if formulas {
        20
    } else {
        width.saturating_sub(BEFORE + 1)
    };
    let line = |name: String, bytes: Bytes| {
        let share = bytes.0 as f64 / whole;
        let style = if share > 1.0 { theme.error } else { theme.bar };
        vec![
            Span::raw(format!(" {name:<21} {:>9}  ", bytes.to_string())),
            Span::styled(bar(share, room), style),
        ]
    };
    let mut lines = Vec::new();
    if view.memory.len() > 1 {
        let fullest = view.fullest().is_some_and(|fullest| fullest.stage == stage);
        let which = if fullest { ", the fullest" } else { "" };
        let text = format!(" pp {stage}, {}{which}", ranks(view, stage));
        lines.push(Line::styled(text, theme.dim));
    }
    for term in &shown.terms {
        let mut spans = line(term.name.to_owned(), term.bytes);
        if formulas {
            let filled: usize = spans.iter().map(Span::width).sum();
            let gap = " ".repeat((BEFORE + 22).saturating_sub(filled));
            spans.push(Span::styled(format!("{gap}{}", term.formula), theme.dim));
        }
        lines.push(Line::from(spans));
    }
    let mut total = line("total".into(), shown.total);
    total[0] = total[0].clone().style(theme.title);
    lines.push(Line::from(total));
    if let Some(over) = device.and_then(|device| shown.total.0.checked_sub(device.0))
        && over > 0
    {
        let text = format!(" {} more than a GPU has", Bytes(over));
        lines.push(Line::styled(text, theme.error));
    }
    if let (Ok(plan), false, true) = (&view.plan, view.is_ours, view.job.model.text.moe.is_some())
        && let Some(&worst) = plan.worst.get(stage)
    {
        lines.push(Line::from(line("worst routing".into(), worst)));
    }
    if view.memory.len() > 1 {
        lines.push(Line::default());
        for estimate in &view.memory {
            let name = format!("pp {} {}", estimate.stage, ranks(view, estimate.stage));
            let mut spans = line(name, estimate.total);
            if estimate.stage == stage {
                spans[0] = spans[0].clone().style(theme.accent);
            }
            lines.push(Line::from(spans));
        }
    }
    lines.push(Line::default());
    lines.push(Line::styled(" what if", theme.title));
    lines.extend(view.what_if.iter().map(|what| what_if(what, view, theme)));
    lines.push(Line::default());
    lines.push(Line::styled(
        format!(" not counted: {NOT_MODELLED}"),
        theme.dim,
    ));
    lines
}

fn what_if(what: &WhatIf, view: &View, theme: &Theme) -> Line<'static> {
    let now = view
        .fullest()
        .map_or(0, |fullest| i128::from(fullest.total.0));
    let Some(total) = what.total else {
        return Line::from(vec![
            Span::raw(format!(" {:<23}", what.change)),
            Span::styled("✗ no plan", theme.error),
        ]);
    };
    let difference = i128::from(total.0) - now;
    let sign = if difference < 0 { "-" } else { "+" };
    let by = Bytes(u64::try_from(difference.unsigned_abs()).unwrap_or(u64::MAX));
    let (glyph, style) = if what.is_legal {
        ("✓", theme.ok)
    } else {
        ("✗", theme.error)
    };
    let step = what.seconds.filter(|_| !view.is_ours).map(seconds);
    Line::from(vec![
        Span::raw(format!(" {:<23}", what.change)),
        Span::styled(glyph, style),
        Span::styled(format!(" {sign}{:<10}", by.to_string()), theme.dim),
        Span::styled(step.unwrap_or_default(), theme.dim),
    ])
}
