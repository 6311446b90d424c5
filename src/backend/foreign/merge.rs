//! The lines of several files in the order in which they were said, as far as their times tell.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::line::Line;

/// Joins the lines of several files, each with its name. Within a file their order is kept; a line without a time goes with the one before it in
/// its file, and lines before a file's first time with that. A file without any time, as one of errors alone, comes after the file whose name is
/// most like its own.
pub(super) fn merge(files: Vec<(String, Vec<Line>)>) -> impl Iterator<Item = Line> {
    let ends: Vec<(String, i64)> = files
        .iter()
        .filter_map(|(name, lines)| Some((name.clone(), lines.iter().rev().find_map(time)?)))
        .collect();
    let end_of_partner = |name: &str| {
        let nearest = ends
            .iter()
            .max_by_key(|(other, end)| (common(name, other), *end));
        nearest.map_or(i64::MAX, |(_, end)| *end)
    };
    let timed: Vec<bool> = files
        .iter()
        .map(|(_, lines)| lines.iter().any(|l| time(l).is_some()))
        .collect();
    let mut files: Vec<_> = files
        .into_iter()
        .map(|(name, lines)| {
            let first = lines
                .iter()
                .find_map(time)
                .unwrap_or_else(|| end_of_partner(&name));
            let times = times(&lines, first);
            lines.into_iter().zip(times).peekable()
        })
        .collect();
    let mut heap = BinaryHeap::new();
    for (i, file) in files.iter_mut().enumerate() {
        if let Some((_, time)) = file.peek() {
            heap.push(Reverse((*time, !timed[i], i)));
        }
    }
    std::iter::from_fn(move || {
        let Reverse((_, _, i)) = heap.pop()?;
        let (line, _) = files[i].next()?;
        if let Some((_, time)) = files[i].peek() {
            heap.push(Reverse((*time, !timed[i], i)));
        }
        Some(line)
    })
}

/// How many bytes two names have in common at their beginnings.
fn common(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// When each line was said.
fn times(lines: &[Line], mut now: i64) -> Vec<i64> {
    let times = lines.iter().map(|line| {
        now = time(line).unwrap_or(now);
        now
    });
    times.collect()
}

fn time(line: &Line) -> Option<i64> {
    match line {
        Line::Iteration(it) => Some(it.time_ms),
        Line::Stage { time_ms, .. } => Some(*time_ms),
        Line::Validation { time_ms, .. } | Line::Cancelled { time_ms, .. } => *time_ms,
        _ => None,
    }
}
