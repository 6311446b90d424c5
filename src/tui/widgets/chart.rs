//! Line charts that are drawn from all values at once.
//!
//! Each dot column is a bucket of the run: its mean, or smoothed mean, is the line, and its minimum and maximum the band under it, so an
//! outlier is never lost. Values that are not finite are marked on the axis. Later lines cover earlier ones.

mod grid;
mod scale;

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::Span;

use super::number::{Unit, duration, short};
use crate::app::chart::{Scale, View};
use crate::run::series::{Axis, Bucket, Metric, Table};
use crate::tui::canvas::Canvas;
use grid::Grid;
use scale::Spacing;

/// Columns left of the plot for the texts of y.
const GUTTER: u16 = 7;

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drawing {
    /// A line, smoothed as the view says, over the band of its values.
    Line,
    /// A smoothed line alone.
    Plain,
    /// The same of values that no longer count; never read out.
    Ghost,
    /// A glyph at each value.
    Points,
}

/// A metric of a table in a chart.
#[derive(Debug, Clone, Copy)]
pub struct Series<'a> {
    /// Where the values are.
    pub table: &'a Table,
    /// Which of them.
    pub metric: Metric,
    /// Colour.
    pub style: Style,
    /// How it is drawn.
    pub drawing: Drawing,
}

/// A sign on the x axis.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    /// Where.
    pub x: f64,
    /// What it looks like.
    pub glyph: char,
    /// Colour.
    pub style: Style,
}

/// A chart of some series over the same x.
#[derive(Debug)]
pub struct Chart<'a> {
    /// Earlier ones are covered by later ones.
    pub series: Vec<Series<'a>>,
    /// How it looks at them.
    pub view: &'a View,
    /// The first and last x of all the run.
    pub range: (f64, f64),
    /// What y measures.
    pub unit: Unit,
    /// Signs on the x axis.
    pub marks: &'a [Mark],
    /// Whether the value at the cursor is written out.
    pub readout: bool,
}

/// The columns of the plot in a pane's inside of this width.
pub fn plot_columns(width: u16) -> u16 {
    width.saturating_sub(GUTTER)
}

impl Chart<'_> {
    /// How much x a column covers in a pane's inside of this width, in words: `1 col = 87 steps`.
    pub fn column_text(&self, width: u16) -> String {
        let (start, end) = self.view.window(self.range);
        let columns = f64::from(plot_columns(width).max(1));
        let step = (end - start) / columns;
        match (self.view.scale, self.view.axis) {
            (Scale::LogLog, _) => String::new(),
            (_, Axis::Time) => format!("1 col = {}", duration(step)),
            (_, Axis::Step) => steps_text(step),
            (_, Axis::Tokens) => format!("1 col = {} tokens", short(step, Unit::Count)),
        }
    }

    /// Values that are not finite in the window, over all series.
    pub fn not_finite(&self) -> u32 {
        let (start, end) = self.view.window(self.range);
        let count = |s: &Series| {
            let buckets = s.table.buckets(s.metric, self.view.axis, &[start, end]);
            buckets.iter().map(|b| b.node.not_finite).sum::<u32>()
        };
        self.series.iter().map(count).sum()
    }

    /// Draws into the inside of a pane.
    pub fn draw(&self, canvas: &mut Canvas, area: Rect) {
        let area = area.intersection(canvas.buf.area);
        if area.width <= GUTTER + 4 || area.height < 2 {
            return;
        }
        let plot = Rect::new(
            area.x + GUTTER,
            area.y,
            area.width - GUTTER,
            area.height - 1,
        );
        let (columns, rows) = (usize::from(plot.width), usize::from(plot.height));
        let (start, end) = self.view.window(self.range);
        let log_x = self.view.scale == Scale::LogLog;
        let start = if log_x { start.max(1.0) } else { start };
        let x = Spacing::new(start, end, log_x);
        let dots = 2 * columns;
        let edges: Vec<f64> = (0..=dots)
            .map(|i| x.value(i as f64 / dots as f64))
            .collect();
        let buckets: Vec<Vec<Bucket>> = self
            .series
            .iter()
            .map(|s| s.table.buckets(s.metric, self.view.axis, &edges))
            .collect();
        let Some((low, high)) = self.extent(&buckets) else {
            let text = if self.range.1 > self.range.0 {
                "no values here"
            } else {
                "no values yet"
            };
            canvas.line(plot, plot.height / 2, Span::styled(text, canvas.theme.dim));
            return;
        };
        let log_y = self.view.scale != Scale::Linear;
        let y = Spacing::new(low, high, log_y);
        let mut grid = Grid::new(columns, rows);
        let height = grid.height();
        let place = |value: f64| {
            let share = y.share(value).clamp(-1.0, 2.0);
            ((1.0 - share) * (height as f64 - 1.0)).round() as i64
        };
        for (series, buckets) in self.series.iter().zip(&buckets) {
            if series.drawing == Drawing::Line && self.view.band {
                grid.layer(canvas.theme.dim);
                for (i, bucket) in buckets.iter().enumerate().filter(|(_, b)| b.node.count > 0) {
                    let (top, bottom) =
                        (place(bucket.node.max.into()), place(bucket.node.min.into()));
                    // Every other dot, so that the line stands out without colour, too.
                    (top..=bottom)
                        .filter(|y| (y + i as i64) % 2 == 0)
                        .for_each(|y| grid.dot(i as i64, y));
                    grid.dot(i as i64, top);
                    grid.dot(i as i64, bottom);
                }
            }
            if series.drawing == Drawing::Points {
                continue;
            }
            grid.layer(series.style);
            let mut before = None;
            for (i, bucket) in buckets.iter().enumerate() {
                let Some(mean) = bucket.smoothed.mean() else {
                    continue;
                };
                let here = (i as i64, place(mean));
                grid.line(before.unwrap_or(here), here);
                before = Some(here);
            }
        }
        self.axes(canvas, area, plot, &x, &y);
        let cursor = self
            .view
            .cursor
            .map(|c| x.share(c))
            .filter(|s| (0.0..=1.0).contains(s));
        let cursor = cursor.map(|share| ((share * columns as f64) as usize).min(columns - 1));
        if let Some(column) = cursor {
            for row in (0..rows).filter(|&row| grid.is_empty(column, row)) {
                let place = (plot.x + column as u16, plot.y + row as u16);
                canvas.buf[place]
                    .set_char('│')
                    .set_style(canvas.theme.accent);
            }
        }
        grid.render(plot, canvas.buf);
        let mut put = |column: usize, row: u16, glyph: char, style: Style| {
            let column = (column as u16).min(plot.width - 1);
            canvas.buf[(plot.x + column, plot.y + row)]
                .set_char(glyph)
                .set_style(style);
        };
        for (series, buckets) in self.series.iter().zip(&buckets) {
            for (i, bucket) in buckets.iter().enumerate() {
                if series.drawing == Drawing::Points
                    && let Some(mean) = bucket.node.mean()
                {
                    let row = (place(mean) / 4).clamp(0, rows as i64 - 1);
                    put(i / 2, row as u16, '◆', series.style);
                }
            }
        }
        let bottom = plot.height - 1;
        for mark in self.marks {
            let share = x.share(mark.x);
            if (0.0..=1.0).contains(&share) {
                put(
                    (share * columns as f64) as usize,
                    bottom,
                    mark.glyph,
                    mark.style,
                );
            }
        }
        for buckets in &buckets {
            for (i, _) in buckets
                .iter()
                .enumerate()
                .filter(|(_, b)| b.node.not_finite > 0)
            {
                put(i / 2, bottom, '▼', canvas.theme.error);
            }
        }
        if let (true, Some(column)) = (self.readout, cursor) {
            self.write_readout(canvas, plot, column);
        }
    }

    /// The smallest and largest value that is drawn.
    fn extent(&self, buckets: &[Vec<Bucket>]) -> Option<(f64, f64)> {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        let log = self.view.scale != Scale::Linear;
        let mut take = |value: f64| {
            if value.is_finite() && !(log && value <= 0.0) {
                low = low.min(value);
                high = high.max(value);
            }
        };
        for (series, buckets) in self.series.iter().zip(buckets) {
            for bucket in buckets.iter().filter(|b| b.node.count > 0) {
                let shows_all = series.drawing == Drawing::Line && self.view.band;
                if shows_all {
                    take(bucket.node.min.into());
                    take(bucket.node.max.into());
                } else if series.drawing == Drawing::Points {
                    bucket.node.mean().map(&mut take);
                }
                bucket.smoothed.mean().map(&mut take);
            }
        }
        (low <= high).then_some((low, high))
    }

    fn axes(&self, canvas: &mut Canvas, area: Rect, plot: Rect, x: &Spacing, y: &Spacing) {
        let dim = canvas.theme.dim;
        let mut last_row = None;
        for (value, text) in y.ticks(usize::from(plot.height / 3).max(2), self.unit) {
            let share = y.share(value);
            if !(0.0..=1.0).contains(&share) {
                continue;
            }
            let row = ((1.0 - share) * f64::from(plot.height * 4 - 1)).round() as u16 / 4;
            if last_row == Some(row) {
                continue;
            }
            last_row = Some(row);
            let text: String = text
                .replace(' ', "")
                .chars()
                .take(usize::from(GUTTER) - 1)
                .collect();
            let text = format!("{text:>6} ");
            canvas.line(
                Rect {
                    width: GUTTER,
                    ..area
                },
                row,
                Span::styled(text, dim),
            );
        }
        let unit = match self.view.axis {
            Axis::Step | Axis::Tokens => Unit::Count,
            Axis::Time => Unit::Seconds,
        };
        let row = area.height - 1;
        let mut free = 0;
        for (value, text) in x.ticks(usize::from(plot.width / 12).max(1), unit) {
            let width = text.chars().count() as u16;
            let at = (x.share(value) * f64::from(plot.width)) as u16;
            let at = at
                .saturating_sub(width / 2)
                .min(plot.width.saturating_sub(width));
            if at < free || width > plot.width {
                continue;
            }
            free = at + width + 1;
            canvas.line(
                Rect::new(plot.x + at, area.y, width, area.height),
                row,
                Span::styled(text, dim),
            );
        }
    }

    /// Writes what lies under the cursor, beside it.
    fn write_readout(&self, canvas: &mut Canvas, plot: Rect, column: usize) {
        let Some(cursor) = self.view.cursor else {
            return;
        };
        let Some(first) = self.series.iter().rev().find(|s| is_read(s)) else {
            return;
        };
        let table = first.table;
        let row = nearest(table, self.view.axis, cursor);
        let (start, end) = self.view.window(self.range);
        let half = (end - start) / f64::from(plot.width) / 2.0;
        let around = table.buckets(
            first.metric,
            self.view.axis,
            &[cursor - half, cursor + half],
        );
        let mut lines = vec![format!(
            "step {} · {} tok",
            table.step(row),
            short(table.tokens(row) as f64, Unit::Count)
        )];
        for series in self.series.iter().rev().filter(|s| is_read(s)) {
            let at = nearest(series.table, self.view.axis, cursor);
            let Some(raw) = series.table.value(series.metric, at) else {
                continue;
            };
            let smooth = series.table.fold_smoothed(series.metric, at..at + 1).mean();
            let smooth = smooth.map_or_else(|| "-".into(), |v| short(v, self.unit));
            let raw = short(raw.into(), self.unit);
            lines.push(if self.view.smoothing() > 0.0 {
                format!("{}: ema {smooth} raw {raw}", series.metric)
            } else {
                format!("{}: {raw}", series.metric)
            });
        }
        if let Some(bucket) = around.first().filter(|b| b.node.count > 1) {
            let (low, high) = (
                short(bucket.node.min.into(), self.unit),
                short(bucket.node.max.into(), self.unit),
            );
            lines.push(format!("band {low}-{high} (n={})", bucket.node.count));
        }
        let width = lines.iter().map(|l| l.chars().count()).max().unwrap_or(0) as u16;
        let column = column as u16;
        let left = if column + 2 + width <= plot.width {
            column + 2
        } else {
            column.saturating_sub(width + 1)
        };
        let place = Rect::new(
            plot.x + left,
            plot.y,
            width.min(plot.width.saturating_sub(left)),
            plot.height,
        );
        for (i, line) in lines.into_iter().enumerate() {
            canvas.line(place, i as u16, Span::styled(line, canvas.theme.text));
        }
    }
}

/// How many steps a column covers, or how many columns a step.
fn steps_text(steps: f64) -> String {
    let steps = steps.max(0.0);
    if steps >= 1.5 {
        format!("1 col = {} steps", short(steps.round(), Unit::Count))
    } else if steps > 0.95 {
        "1 col = 1 step".into()
    } else if steps > 0.0 {
        let columns = 1.0 / steps;
        let digits = usize::from(columns < 9.95);
        format!("1 step = {columns:.digits$} cols")
    } else {
        String::new()
    }
}

/// Whether the value of a series at the cursor is written out.
fn is_read(series: &Series) -> bool {
    matches!(series.drawing, Drawing::Line | Drawing::Plain) && series.table.rows() > 0
}

/// The row of `table` nearest to `x`; 0 without rows.
pub fn nearest(table: &Table, axis: Axis, x: f64) -> usize {
    let above = table.row_at(axis, x).min(table.rows().saturating_sub(1));
    let Some(below) = above.checked_sub(1) else {
        return above;
    };
    if table.x(axis, above) - x < x - table.x(axis, below) {
        above
    } else {
        below
    }
}

#[cfg(test)]
mod tests {
    use super::steps_text;

    #[test]
    fn a_column_is_never_said_to_be_more_than_it_is() {
        for (steps, text) in [
            (87.3, "1 col = 87 steps"),
            (1.5, "1 col = 2 steps"),
            (1.2, "1 col = 1 step"),
            (0.125, "1 step = 8.0 cols"),
            (0.04, "1 step = 25 cols"),
            (0.0, ""),
        ] {
            assert_eq!(steps_text(steps), text);
        }
    }
}
