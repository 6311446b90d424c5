//! Facts of a row, the order of rows drawn, bars of its parts.

use ratatui::style::Style;
use ratatui::text::{Line, Span};

use crate::app::mapping::{Detail, FactTone, Group, Holding, Part};
use crate::tui::theme::Theme;
use crate::tui::widgets::{bar, fill};

/// Columns of a fact's name.
const NAME: usize = 12;

/// The text of a row; `held` is what the picked rank has of the tensor.
pub(super) fn lines(
    about: &Detail,
    held: Option<&Holding>,
    width: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    for fact in &about.facts {
        let room = width.saturating_sub(NAME + 2);
        let style = match fact.tone {
            FactTone::Plain => theme.text,
            FactTone::Good => theme.ok,
            FactTone::Bad => theme.error,
        };
        if fact.name == "rule" {
            lines.extend(order(&about.order, held, width, theme));
        }
        for (i, part) in fill(&fact.text, room).into_iter().enumerate() {
            let name = if i == 0 { fact.name } else { "" };
            lines.push(Line::from(vec![
                Span::styled(format!(" {name:<NAME$} "), theme.dim),
                Span::styled(part, style),
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

/// The order of rows: `g0: q0 q1 gate0 gate1 k0 v0 | g1: ...`. What the picked rank holds is marked.
fn order(
    groups: &[Group],
    held: Option<&Holding>,
    width: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let is_held = |part: &Part| {
        let pieces = held.map_or(&[][..], |held| held.tensor.pieces.as_slice());
        pieces
            .iter()
            .any(|piece| piece.rows.start < part.rows.end && part.rows.start < piece.rows.end)
    };
    let mut words: Vec<(String, Style)> = Vec::new();
    for (number, group) in groups.iter().enumerate() {
        if number > 0 {
            words.push(("|".into(), theme.dim));
        }
        if !group.label.is_empty() {
            words.push((format!("{}:", group.label), theme.dim));
        }
        for part in &group.parts {
            let style = theme.series[part.colour % theme.series.len()];
            // Sections are few and long: their rows say more than their place.
            let text = if group.label.is_empty() {
                format!("{} {}..{}", part.label, part.rows.start, part.rows.end)
            } else {
                part.label.clone()
            };
            if is_held(part) {
                words.push((
                    text,
                    style.add_modifier(ratatui::style::Modifier::UNDERLINED),
                ));
            } else {
                words.push((text, style));
            }
        }
    }
    let mut lines: Vec<Line> = Vec::new();
    let mut taken = usize::MAX;
    for (text, style) in words {
        let len = text.chars().count() + 1;
        if taken.saturating_add(len) > width {
            let name = if lines.is_empty() { "rows" } else { "" };
            lines.push(Line::from(Span::styled(
                format!(" {name:<NAME$} "),
                theme.dim,
            )));
            taken = NAME + 2;
        }
        if let Some(line) = lines.last_mut() {
            line.spans.push(Span::styled(text, style));
            line.spans.push(Span::raw(" "));
        }
        taken += len;
    }
    lines
}
