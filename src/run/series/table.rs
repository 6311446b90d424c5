//! Rows of a run in columns, with what a chart asks of them.

use std::ops::Range;
use std::sync::OnceLock;

use super::metric::{FIXED, Metric, Row};
use super::pyramid::{Node, Pyramid, raw};
use super::smooth::Smooth;
use super::{ABSENT, Values, is_absent};

/// What a chart's x means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Axis {
    /// Updates done.
    #[default]
    Step,
    /// Training tokens seen.
    Tokens,
    /// Seconds since the run's first row; a clock that goes backwards stands still here.
    Time,
}

/// Rows up to which a range is read value by value.
const FEW: usize = 256;

/// What lies between two x.
#[derive(Debug, Clone, PartialEq)]
pub struct Bucket {
    /// Rows covered.
    pub rows: Range<usize>,
    /// Their values.
    pub node: Node,
    /// Their smoothed values.
    pub smoothed: Node,
}

/// A column with what was derived from it so far. It ends with its last value: the rows after that do not have the number, so that a metric that no
/// row has takes no room.
#[derive(Debug, Clone, Default)]
struct Column {
    values: Values<f32>,
    pyramid: OnceLock<Pyramid>,
    smoothed: OnceLock<(Smooth, Pyramid)>,
}

impl Column {
    fn of(values: Values<f32>) -> Self {
        Self {
            values,
            ..Self::default()
        }
    }

    /// Makes it as long as the rows before the next one.
    fn fill(&mut self, rows: usize) {
        for _ in self.values.len()..rows {
            self.values.push(ABSENT);
        }
    }

    /// Brings what was derived up to date with a grown column.
    fn grow(&mut self) {
        if let Some(pyramid) = self.pyramid.get_mut() {
            pyramid.grow(&self.values);
        }
        if let Some((smooth, pyramid)) = self.smoothed.get_mut() {
            smooth.grow(&self.values);
            pyramid.grow(&smooth.values);
        }
    }

    fn split_off(&mut self, length: usize) -> Self {
        let cut = self.values.split_off(length);
        if let Some(pyramid) = self.pyramid.get_mut() {
            pyramid.cut(&self.values);
        }
        // The state of the smoothing at an earlier row is not kept.
        self.smoothed = OnceLock::new();
        Self::of(cut)
    }

    /// What is known about some rows. A few are read as they are, so that numbers of the last steps need no pyramid.
    fn fold(&self, rows: Range<usize>) -> Node {
        let rows = rows.start.min(self.values.len())..rows.end.min(self.values.len());
        if rows.is_empty() {
            return Node::EMPTY;
        }
        if self.pyramid.get().is_none() && rows.len() <= FEW {
            return raw(&self.values, rows);
        }
        self.pyramid().fold(&self.values, rows)
    }

    fn pyramid(&self) -> &Pyramid {
        self.pyramid.get_or_init(|| Pyramid::over(&self.values))
    }

    fn smoothed(&self, decay: f32) -> &(Smooth, Pyramid) {
        self.smoothed.get_or_init(|| {
            let smooth = Smooth::over(&self.values, decay);
            let pyramid = Pyramid::over(&smooth.values);
            (smooth, pyramid)
        })
    }
}

/// Rows in the order of their steps, each step once.
#[derive(Debug, Clone, Default)]
pub struct Table {
    pub(in crate::run) step: Values<u64>,
    pub(in crate::run) tokens: Values<u64>,
    pub(in crate::run) time_ms: Values<i64>,
    columns: Vec<Column>,
    smoothing: f32,
}

impl Table {
    /// A table over columns that are already there; `None` if one has more rows than there are steps.
    pub(in crate::run) fn of(
        step: Values<u64>,
        tokens: Values<u64>,
        time_ms: Values<i64>,
        columns: Vec<Values<f32>>,
    ) -> Option<Self> {
        let rows = step.len();
        let even = tokens.len() == rows
            && time_ms.len() == rows
            && columns.iter().all(|c| c.len() <= rows);
        even.then(|| Self {
            step,
            tokens,
            time_ms,
            columns: columns.into_iter().map(Column::of).collect(),
            smoothing: 0.0,
        })
    }

    /// The columns' values.
    pub(in crate::run) fn columns(&self) -> impl Iterator<Item = &Values<f32>> {
        self.columns.iter().map(|c| &c.values)
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.step.len()
    }

    /// Whether any row has the metric.
    pub fn has(&self, metric: Metric) -> bool {
        self.columns.get(metric.column()).is_some_and(|c| {
            let has = |node: Node| node.count + node.not_finite > 0;
            let end = c.values.len();
            has(c.fold(end.saturating_sub(FEW)..end)) || has(c.fold(0..end))
        })
    }

    /// MTP depths that any row has.
    pub fn mtp_depth(&self) -> usize {
        self.columns.len().saturating_sub(FIXED.len()) / 2
    }

    /// The step of a row.
    pub fn step(&self, row: usize) -> u64 {
        self.step.get(row)
    }

    /// The tokens seen at a row.
    pub fn tokens(&self, row: usize) -> u64 {
        self.tokens.get(row)
    }

    /// The time of a row in milliseconds since the Unix epoch, never smaller than that of the row before.
    pub fn time_ms(&self, row: usize) -> i64 {
        self.time_ms.get(row)
    }

    /// The metric of a row; `None` where it is absent, NaN where it is not finite.
    pub fn value(&self, metric: Metric, row: usize) -> Option<f32> {
        let column = self.columns.get(metric.column())?;
        (row < column.values.len())
            .then(|| column.values.get(row))
            .filter(|&v| !is_absent(v))
    }

    /// The last finite value of the metric.
    pub fn last(&self, metric: Metric) -> Option<f32> {
        // Nearly always one of the last rows has it.
        let end = self.rows();
        let near = self.fold(metric, end.saturating_sub(FEW)..end);
        if near.count > 0 {
            return Some(near.last);
        }
        let all = self.fold(metric, 0..end);
        (all.count > 0).then_some(all.last)
    }

    /// What is known about a metric over a range of rows.
    pub fn fold(&self, metric: Metric, rows: Range<usize>) -> Node {
        self.columns
            .get(metric.column())
            .map_or(Node::EMPTY, |c| c.fold(rows))
    }

    /// The smoothed metric over a range of rows.
    pub fn fold_smoothed(&self, metric: Metric, rows: Range<usize>) -> Node {
        if self.smoothing == 0.0 {
            return self.fold(metric, rows);
        }
        self.columns.get(metric.column()).map_or(Node::EMPTY, |c| {
            let (smooth, pyramid) = c.smoothed(self.smoothing);
            let end = smooth.values.len();
            let rows = rows.start.min(end)..rows.end.min(end);
            if rows.is_empty() {
                return Node::EMPTY;
            }
            pyramid.fold(&smooth.values, rows)
        })
    }

    /// Share of the past in the smoothed value, in `0..1`; 0 is no smoothing.
    pub fn smoothing(&self) -> f32 {
        self.smoothing
    }

    /// Sets the share of the past in the smoothed value.
    pub fn set_smoothing(&mut self, decay: f32) {
        let decay = if decay.is_finite() {
            decay.clamp(0.0, 0.9999)
        } else {
            0.0
        };
        if decay != self.smoothing {
            self.smoothing = decay;
            for column in &mut self.columns {
                column.smoothed = OnceLock::new();
            }
        }
    }

    /// The x of a row.
    pub fn x(&self, axis: Axis, row: usize) -> f64 {
        match axis {
            Axis::Step => self.step.get(row) as f64,
            Axis::Tokens => self.tokens.get(row) as f64,
            Axis::Time => (self.time_ms.get(row) - self.time_ms.get(0)) as f64 / 1000.0,
        }
    }

    /// The x of the first and of the last row.
    pub fn x_range(&self, axis: Axis) -> Option<(f64, f64)> {
        let last = self.rows().checked_sub(1)?;
        Some((self.x(axis, 0), self.x(axis, last)))
    }

    /// The first row whose x is not below `x`; the number of rows if there is none.
    pub fn row_at(&self, axis: Axis, x: f64) -> usize {
        match axis {
            Axis::Step => self.step.partition_point(|v| (v as f64) < x),
            Axis::Tokens => self.tokens.partition_point(|v| (v as f64) < x),
            Axis::Time => {
                let Some(start) = (self.rows() > 0).then(|| self.time_ms.get(0)) else {
                    return 0;
                };
                self.time_ms
                    .partition_point(|v| ((v - start) as f64 / 1000.0) < x)
            }
        }
    }

    /// The metric between each two neighbouring `edges`, the lower one included, the upper one not except for the last.
    ///
    /// Costs `O(edges * log rows)` whatever the range.
    pub fn buckets(&self, metric: Metric, axis: Axis, edges: &[f64]) -> Vec<Bucket> {
        let mut rows: Vec<usize> = edges.iter().map(|&x| self.row_at(axis, x)).collect();
        if let (Some(row), Some(&x)) = (rows.last_mut(), edges.last()) {
            while *row < self.rows() && self.x(axis, *row) <= x {
                *row += 1;
            }
        }
        rows.windows(2)
            .map(|w| {
                let rows = w[0]..w[1].max(w[0]);
                Bucket {
                    node: self.fold(metric, rows.clone()),
                    smoothed: self.fold_smoothed(metric, rows.clone()),
                    rows,
                }
            })
            .collect()
    }

    /// Appends a row. The caller sees to it that its step is above the last one's.
    pub(in crate::run) fn push(&mut self, row: &Row) {
        let at = self.rows();
        self.step.push(row.step);
        self.tokens
            .push(row.tokens.max(self.tokens.last().unwrap_or(0)));
        self.time_ms
            .push(row.time_ms.max(self.time_ms.last().unwrap_or(i64::MIN)));
        self.widen(row.mtp.len());
        let mtp = row
            .mtp
            .iter()
            .flat_map(|&(loss, acceptance)| [loss, acceptance]);
        let values = row.fixed.iter().copied().chain(mtp);
        for (column, value) in self.columns.iter_mut().zip(values) {
            if !is_absent(value) {
                column.fill(at);
                column.values.push(value);
            }
        }
    }

    /// Makes room for `depths` MTP depths; rows from before do not have them.
    fn widen(&mut self, depths: usize) {
        while self.columns.len() < FIXED.len() + 2 * depths {
            self.columns.push(Column::default());
        }
    }

    /// Appends rows of another table, whose steps are above the last one's and rise.
    pub(in crate::run) fn append(&mut self, other: &Self, rows: Range<usize>) {
        if rows.is_empty() {
            return;
        }
        self.widen(other.mtp_depth());
        let at = self.rows();
        other.step.slices(rows.clone(), |s| self.step.extend(s));
        let mut tokens = self.tokens.last().unwrap_or(0);
        other.tokens.slices(rows.clone(), |s| {
            for &value in s {
                tokens = tokens.max(value);
                self.tokens.push(tokens);
            }
        });
        let mut time = self.time_ms.last().unwrap_or(i64::MIN);
        other.time_ms.slices(rows.clone(), |s| {
            for &value in s {
                time = time.max(value);
                self.time_ms.push(time);
            }
        });
        for (column, from) in self.columns.iter_mut().zip(&other.columns) {
            let end = rows.end.min(from.values.len());
            if rows.start < end {
                column.fill(at);
                from.values
                    .slices(rows.start..end, |s| column.values.extend(s));
            }
        }
        self.refresh();
    }

    /// Brings pyramids and smoothing up to date after rows were pushed.
    pub(in crate::run) fn refresh(&mut self) {
        for column in &mut self.columns {
            column.grow();
        }
    }

    /// Takes off the rows with a step above `step` and returns them.
    pub(in crate::run) fn rewind(&mut self, step: u64) -> Self {
        let keep = self.step.partition_point(|s| s <= step);
        Self {
            step: self.step.split_off(keep),
            tokens: self.tokens.split_off(keep),
            time_ms: self.time_ms.split_off(keep),
            columns: self.columns.iter_mut().map(|c| c.split_off(keep)).collect(),
            smoothing: self.smoothing,
        }
    }

    /// Rows in memory rather than in a mapped file.
    pub(in crate::run) fn grown(&self) -> usize {
        self.step.grown()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A table whose loss is `values`.
    fn table(values: &[f32]) -> Table {
        let mut table = Table::default();
        for (i, &value) in values.iter().enumerate() {
            let mut row = Row {
                step: i as u64 + 1,
                mtp: vec![],
                ..Row::default()
            };
            row.fixed[Metric::Loss.column()] = value;
            table.widen(1);
            table.push(&row);
        }
        table.refresh();
        table
    }

    #[test]
    fn few_rows_need_no_pyramid_and_say_the_same() {
        let mut values = vec![1.5; 2000];
        values[1990] = f32::NAN;
        values[1995] = 7.0;
        let table = table(&values);
        let few = table.fold(Metric::Loss, 1950..2000);
        assert!(table.columns[Metric::Loss.column()].pyramid.get().is_none());
        table.fold(Metric::Loss, 0..2000);
        assert!(table.columns[Metric::Loss.column()].pyramid.get().is_some());
        assert_eq!(table.fold(Metric::Loss, 1950..2000), few);
        assert_eq!((few.count, few.not_finite, few.max), (49, 1, 7.0));
        let beyond = table.fold(Metric::Loss, 3000..4000);
        assert_eq!((beyond.count, beyond.not_finite), (0, 0));
    }

    #[test]
    fn the_last_value_is_found_however_far_back() {
        let mut values = vec![f32::NAN; 2000];
        values[3] = 2.5;
        let table = table(&values);
        assert_eq!(table.last(Metric::Loss), Some(2.5));
        assert!(table.has(Metric::Loss) && !table.has(Metric::GradNorm));
        assert_eq!(table.last(Metric::GradNorm), None);
    }
}
