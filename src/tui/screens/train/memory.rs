//! Memory of the device that trains: term by term beside its plan, the allocator's and the driver's sums.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::{number, numbers};
use crate::app::train::{Pane, State as Train};
use crate::event::{MEMORY_TERMS, MemoryUse};
use crate::run::series::Metric;
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::number::{Unit, part_of, short};
use crate::tui::widgets::stack::{FILLS, stack};

/// Deviations from the plan from here on are pointed at, in percent.
const FAR: f64 = 10.0;

/// A term with what is known of it.
struct Term<'a> {
    name: &'a str,
    planned: Option<u64>,
    measured: Option<u64>,
}

/// Draws the pane.
pub(super) fn draw(train: &Train, canvas: &mut Canvas, area: Rect) {
    let focused = train.focus == Pane::Memory;
    let Some(memory) = &train.summary.memory else {
        return plain(train, canvas, area);
    };
    let right = if memory.driver_total > 0 {
        format!("peak {}", part_of(memory.peak, memory.driver_total))
    } else {
        format!("peak {}", bytes(memory.peak))
    };
    let title = format!("memory {}", memory.device);
    let inner = canvas.pane(
        area,
        number(Pane::Memory),
        focused,
        title.trim_end().to_owned(),
        right,
    );
    let terms = terms(train, memory);
    let sums = sums(train, memory, canvas.theme);
    let height = usize::from(inner.height);
    // The sums say most, then the bars, then as many terms as have room.
    let bars = usize::from(height >= sums.len() + 2) * 2;
    let room = height.saturating_sub(sums.len() + bars);
    let listed = if room > terms.len() {
        terms.len()
    } else {
        room.saturating_sub(1)
    };
    let mut row = 0;
    if bars > 0 {
        stacked(memory, &terms, canvas, inner);
        row += 2;
    }
    if listed > 0 {
        let name_width = terms
            .iter()
            .map(|t| t.name.chars().count())
            .max()
            .unwrap_or(0);
        let name_width = name_width
            .min(usize::from(inner.width).saturating_sub(27))
            .max(6);
        let head = format!(
            "  {:<name_width$} {:>8} {:>8} {:>6}",
            "", "now", "plan", "diff"
        );
        canvas.line(inner, row, Span::styled(head, canvas.theme.dim));
        row += 1;
        for (i, term) in terms.iter().take(listed).enumerate() {
            canvas.line(inner, row, line(term, i, name_width, canvas.theme));
            row += 1;
        }
    }
    for sum in sums {
        canvas.line(inner, row, sum);
        row += 1;
    }
}

/// Terms in the order in which they are shown, those with other names behind.
fn terms<'a>(train: &'a Train, memory: &'a MemoryUse) -> Vec<Term<'a>> {
    let mut terms: Vec<Term> = memory
        .terms
        .iter()
        .map(|term| Term {
            name: &term.name,
            planned: term.planned.or_else(|| train.facts.planned(&term.name)),
            measured: term.measured,
        })
        .collect();
    for term in &train.facts.plan {
        if terms.iter().all(|t| t.name != term.name) {
            terms.push(Term {
                name: &term.name,
                planned: term.planned,
                measured: None,
            });
        }
    }
    let order = |name: &str| MEMORY_TERMS.iter().position(|t| *t == name);
    terms.sort_by_key(|term| order(term.name).unwrap_or(MEMORY_TERMS.len()));
    terms
}

fn bytes(value: u64) -> String {
    short(value as f64, Unit::Bytes)
}

/// How far a measured number is from its plan, in percent; `None` without a plan.
fn difference(measured: u64, planned: u64) -> Option<f64> {
    (planned > 0).then(|| 100.0 * (measured as f64 - planned as f64) / planned as f64)
}

fn difference_span(measured: Option<u64>, planned: Option<u64>, theme: &Theme) -> Span<'static> {
    match measured.zip(planned).and_then(|(m, p)| difference(m, p)) {
        Some(percent) if percent.abs() >= FAR => {
            Span::styled(format!("{percent:>+5.0}%"), theme.warning)
        }
        Some(percent) => Span::styled(format!("{percent:>+5.1}%"), theme.dim),
        None => Span::styled(format!("{:>6}", "-"), theme.dim),
    }
}

fn fill(index: usize, theme: &Theme) -> (char, Style) {
    (
        FILLS[index % FILLS.len()],
        theme.series[index % theme.series.len()],
    )
}

fn line(term: &Term, index: usize, name_width: usize, theme: &Theme) -> Line<'static> {
    let (glyph, style) = fill(index, theme);
    let name: String = term.name.chars().take(name_width).collect();
    let known = |value: Option<u64>| value.map_or_else(|| "-".into(), bytes);
    Line::from(vec![
        Span::styled(format!("{glyph} "), style),
        Span::raw(format!("{name:<name_width$} {:>8}", known(term.measured))),
        Span::styled(format!(" {:>8} ", known(term.planned)), theme.dim),
        difference_span(term.measured, term.planned, theme),
    ])
}

/// What is in use and what was planned, each as a bar of its terms on the same scale.
fn stacked(memory: &MemoryUse, terms: &[Term], canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let measured: Vec<f64> = terms
        .iter()
        .map(|t| t.measured.unwrap_or(0) as f64)
        .collect();
    let planned: Vec<f64> = terms
        .iter()
        .map(|t| t.planned.unwrap_or(0) as f64)
        .collect();
    let whole = match memory.driver_total {
        0 => measured.iter().sum::<f64>().max(planned.iter().sum()),
        total => total as f64,
    };
    for (row, (name, parts)) in [("now", &measured), ("plan", &planned)]
        .into_iter()
        .enumerate()
    {
        let width = usize::from(area.width).saturating_sub(8);
        if parts.iter().sum::<f64>() == 0.0 {
            let text = format!(
                " {name:<4} {}",
                if row == 0 { "not measured" } else { "none" }
            );
            canvas.line(area, row as u16, Span::styled(text, theme.dim));
            continue;
        }
        let columns = stack(parts, whole, width);
        let mut spans = vec![
            Span::styled(format!(" {name:<4} "), theme.dim),
            Span::styled("▕", theme.dim),
        ];
        for (index, &count) in columns.iter().enumerate() {
            let (glyph, style) = fill(index, theme);
            spans.push(Span::styled(glyph.to_string().repeat(count), style));
        }
        let rest = width - columns.iter().sum::<usize>();
        spans.push(Span::styled(" ".repeat(rest), theme.dim));
        spans.push(Span::styled("▏", theme.dim));
        canvas.line(area, row as u16, Line::from(spans));
    }
}

/// The peak beside its plan; what the allocator and the driver count.
fn sums(train: &Train, memory: &MemoryUse, theme: &Theme) -> Vec<Line<'static>> {
    let planned = Some(memory.planned_peak).filter(|&p| p > 0);
    let planned = planned.or_else(|| train.facts.planned_total());
    let mut lines = vec![Line::from(vec![
        Span::raw(format!(" peak {}", bytes(memory.peak))),
        Span::styled(
            planned.map_or_else(String::new, |p| format!("  plan {}", bytes(p))),
            theme.dim,
        ),
        match planned {
            Some(_) => difference_span(Some(memory.peak), planned, theme),
            None => Span::styled("  no plan", theme.dim),
        },
    ])];
    if memory.reserved == 0 && memory.driver_total == 0 {
        // On a CPU the process is what the system counts.
        let resident = train.history.train.last(Metric::Rss).unwrap_or(0.0);
        let text = format!(" resident {}", short(resident.into(), Unit::Bytes));
        lines.push(Line::from(Span::styled(text, theme.dim)));
    } else {
        let held = match memory.reserved {
            0 => "-".into(),
            held => bytes(held),
        };
        let driver = match memory.driver_total {
            0 => "-".into(),
            total => part_of(memory.driver_used, total),
        };
        lines.push(Line::from(Span::styled(
            format!(" held {held}  driver {driver}"),
            theme.dim,
        )));
    }
    if let Some(text) = spread(memory) {
        lines.push(Line::from(Span::styled(text, theme.dim)));
    }
    lines
}

/// How far the peaks of the ranks are apart, where several told theirs.
fn spread(memory: &MemoryUse) -> Option<String> {
    let least = memory.ranks.iter().min_by_key(|r| (r.peak, r.rank))?;
    let most = memory.ranks.iter().max_by_key(|r| (r.peak, r.rank))?;
    Some(format!(
        " {} ranks: {} ({}) to {} ({})",
        memory.ranks.len(),
        bytes(least.peak),
        least.rank,
        bytes(most.peak),
        most.rank,
    ))
}

/// Without terms: bytes after the step, peak in the step, and resident in the process, each beside the largest of them.
fn plain(train: &Train, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let table = &train.history.train;
    let last = |metric| f64::from(table.last(metric).unwrap_or(0.0));
    let planned = train.facts.planned_total();
    let rows = [
        ("allocated", Some(last(Metric::Allocated))),
        ("peak", Some(last(Metric::Peak))),
        ("plan", planned.map(|p| p as f64)),
        ("RSS", Some(last(Metric::Rss))),
    ];
    let highest = table.fold(Metric::Peak, 0..table.rows()).max;
    let right = if highest.is_finite() {
        format!("highest {}", short(highest.into(), Unit::Bytes))
    } else {
        String::new()
    };
    let focused = train.focus == Pane::Memory;
    let inner = canvas.pane(area, number(Pane::Memory), focused, "memory", right);
    let rows: Vec<_> = rows
        .into_iter()
        .filter_map(|(n, v)| Some((n, v?)))
        .collect();
    let whole = rows.iter().map(|(_, v)| *v).fold(0.0, f64::max);
    for (row, (name, value)) in rows.into_iter().enumerate() {
        let head = format!(" {name:<9} {:>9} ", short(value, Unit::Bytes));
        let share = value / whole.max(1.0);
        numbers::bar(canvas, inner, row as u16, head, share, theme.bar);
    }
}
