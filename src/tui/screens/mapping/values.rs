//! Values of a tensor: numbers and a histogram; how far a verification has come.

use ratatui::text::{Line, Span};

use crate::app::mapping::{Model, Progress, Reading, Report, Values};
use crate::app::preview::grouped;
use crate::app::{Action, State};
use crate::base::Bytes;
use crate::tui::theme::Theme;
use crate::tui::widgets::{bar, number};

/// Heights of a histogram's columns.
const LEVELS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The lines of the pane.
pub(super) fn lines(
    state: &State,
    model: &Model,
    width: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    if let Some((progress, reading)) = &state.mapping.verification {
        lines.extend(verification(*progress, reading, width, theme));
    }
    let text = |text: String, style| Line::styled(format!(" {text}"), style);
    let Some(files) = &model.files else {
        let key = state.keymap.key(Action::OpenModel);
        lines.push(text(
            format!("no files are open; {key} opens a directory"),
            theme.dim,
        ));
        return lines;
    };
    let Some((of, reading)) = &state.mapping.values else {
        let key = state.keymap.key(Action::ValueStatistics);
        lines.push(text(
            format!("{key} reads the tensor under the cursor"),
            theme.dim,
        ));
        return lines;
    };
    let name = files
        .stored
        .get(of.stored)
        .map_or("", |stored| stored.name.as_str());
    lines.push(text(name.to_owned(), theme.title));
    match reading {
        Reading::Going => lines.push(text("reading; esc gives up".into(), theme.running)),
        Reading::Failed(why) => lines.push(text(format!("✗ {why}"), theme.error)),
        Reading::Done(values) => lines.extend(statistics(values, width, theme)),
    }
    lines
}

fn statistics(values: &Values, width: usize, theme: &Theme) -> Vec<Line<'static>> {
    let mut lines = Vec::new();
    let show = |x: f64| number::short(x, number::Unit::Plain);
    if let Some(numbers) = values.numbers {
        lines.push(Line::from(format!(
            " min {}  max {}  mean {}  std {}",
            show(numbers.min),
            show(numbers.max),
            show(numbers.mean),
            show(numbers.std)
        )));
    }
    let counts = |n: u64, style| if n > 0 { style } else { theme.dim };
    lines.push(Line::from(vec![
        Span::styled(
            format!(" {} elements  ", grouped(values.elements)),
            theme.dim,
        ),
        Span::styled(format!("zero {}  ", grouped(values.zeros)), theme.dim),
        Span::styled(
            format!("nan {}  ", grouped(values.nan)),
            counts(values.nan, theme.error),
        ),
        Span::styled(
            format!("inf {}", grouped(values.infinite)),
            counts(values.infinite, theme.error),
        ),
    ]));
    lines.push(Line::styled(
        format!(" {}", histogram(&values.histogram, width.saturating_sub(2))),
        theme.bar,
    ));
    lines
}

/// Columns as high as the bins are full; where there is less room, neighbours are added up.
fn histogram(bins: &[u64], width: usize) -> String {
    if bins.is_empty() || width == 0 {
        return String::new();
    }
    let together = bins.len().div_ceil(width);
    let sums: Vec<u64> = bins
        .chunks(together)
        .map(|bins| bins.iter().sum())
        .collect();
    let most = sums.iter().copied().max().unwrap_or(0).max(1);
    // A bin with one element is not empty.
    let level = |n: u64| ((n as f64 / most as f64 * 8.0).ceil() as usize).min(8);
    sums.into_iter().map(|n| LEVELS[level(n)]).collect()
}

fn verification(
    progress: Progress,
    reading: &Reading<Report>,
    width: usize,
    theme: &Theme,
) -> Vec<Line<'static>> {
    match reading {
        Reading::Going => {
            let share = progress.done as f64 / progress.total.max(1) as f64;
            let text = format!(
                " verifying {} of {}, esc gives up ",
                Bytes(progress.done),
                Bytes(progress.total)
            );
            let room = width.saturating_sub(text.chars().count() + 1);
            vec![Line::from(vec![
                Span::styled(text, theme.running),
                Span::styled(bar(share, room), theme.bar),
            ])]
        }
        Reading::Failed(why) => vec![Line::styled(format!(" ✗ {why}"), theme.error)],
        Reading::Done(report) => {
            let style = if report.different.is_empty() {
                theme.ok
            } else {
                theme.error
            };
            let mut lines = vec![Line::styled(
                format!(
                    " round trip: {} bit-exact, {} rounded, {} different",
                    report.exact,
                    report.rounded.len(),
                    report.different.len()
                ),
                style,
            )];
            let names = report.different.iter().take(3);
            lines.extend(
                names.map(|(name, why)| Line::styled(format!(" ✗ {name}: {why}"), theme.error)),
            );
            lines
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_shows_every_bin_that_is_not_empty() {
        assert_eq!(histogram(&[0, 1, 1000, 500], 10), " ▁█▄");
        assert_eq!(histogram(&[1, 1, 2, 2], 2), "▄█");
        assert_eq!(histogram(&[], 5), "");
        assert_eq!(histogram(&[0, 0], 5), "  ");
    }
}
