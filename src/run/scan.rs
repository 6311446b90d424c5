//! Reading millions of event lines fast: a scanner for step lines, serde for all others.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use memchr::{memchr, memchr_iter, memrchr};
use rayon::prelude::*;

use super::RunError;
use super::error::Context;
use super::series::{FIXED, Row, Table, extra_column};
use crate::event::{Event, Record, VERSION, parse_line};

/// Bytes that one task reads at a time.
const PIECE: u64 = 2 << 20;
/// Pieces in flight; bounds the memory.
const GROUP: usize = 8;
/// Within how many bytes of a border a newline is looked for at a time.
const BORDER: usize = 16 << 10;

/// What some whole lines say.
#[derive(Debug, Default)]
pub(super) struct Piece {
    /// The steps, in order.
    pub(super) steps: Table,
    /// All other records, each with the number of steps before it.
    pub(super) others: Vec<(usize, Record)>,
    /// Lines that are no records.
    pub(super) bad_lines: usize,
}

/// Reads the complete lines of the file from byte `from` on and hands them to `take` in order; returns where the last one ends.
pub(super) fn scan(
    path: &Path,
    file: &File,
    from: u64,
    mut take: impl FnMut(Piece),
) -> Result<u64, RunError> {
    let length = file.metadata().context("read", path)?.len();
    let mut borders = vec![from];
    let mut at = from;
    while at < length {
        let border = if length - at > PIECE {
            line_end_after(file, at + PIECE, length).context("read", path)?
        } else {
            length
        };
        borders.push(border);
        at = border;
    }
    let mut end = from;
    let pieces: Vec<(u64, u64)> = borders.windows(2).map(|w| (w[0], w[1])).collect();
    for group in pieces.chunks(GROUP) {
        let read: Vec<std::io::Result<(Piece, u64)>> = group
            .par_iter()
            .map(|&(start, end)| {
                let mut bytes = vec![0; (end - start) as usize];
                file.read_exact_at(&mut bytes, start)?;
                let whole = memrchr(b'\n', &bytes).map_or(0, |i| i + 1);
                Ok((parse(&bytes[..whole]), start + whole as u64))
            })
            .collect();
        for result in read {
            let (piece, piece_end) = result.context("read", path)?;
            take(piece);
            end = piece_end;
        }
    }
    Ok(end)
}

/// The end of the first line that ends at or after byte `at`.
fn line_end_after(file: &File, mut at: u64, length: u64) -> std::io::Result<u64> {
    let mut bytes = [0; BORDER];
    while at < length {
        let count = file.read_at(&mut bytes, at)?;
        if count == 0 {
            break;
        }
        if let Some(i) = memchr(b'\n', &bytes[..count]) {
            return Ok(at + i as u64 + 1);
        }
        at += count as u64;
    }
    Ok(length)
}

/// Reads whole lines.
fn parse(bytes: &[u8]) -> Piece {
    let mut piece = Piece::default();
    let mut row = Row::default();
    let mut start = 0;
    for end in memchr_iter(b'\n', bytes) {
        let line = &bytes[start..end];
        start = end + 1;
        if line.is_empty() {
            continue;
        }
        if scan_step(line, &mut row).is_some() {
            piece.steps.push(&row);
            continue;
        }
        match std::str::from_utf8(line).map(parse_line) {
            Ok(Ok(record)) => match &record.event {
                Event::Step(step) => piece.steps.push(&Row::of_step(record.time_ms, step)),
                _ => piece.others.push((piece.steps.rows(), record)),
            },
            _ => piece.bad_lines += 1,
        }
    }
    piece
}

/// Reads a step line as our writer makes it; `None` for everything else, which serde has to look at.
fn scan_step(line: &[u8], row: &mut Row) -> Option<()> {
    let mut text = Scanner(line);
    let mut is_step = false;
    let mut has_step = false;
    row.fixed = Row::default().fixed;
    row.mtp.clear();
    text.byte(b'{')?;
    loop {
        match text.key()? {
            b"v" => {
                let version = text.integer()?;
                if version == 0 || version > u64::from(VERSION) {
                    return None;
                }
            }
            b"seq" => {
                text.integer()?;
            }
            b"time_ms" => row.time_ms = text.integer()? as i64,
            b"type" => {
                text.literal(b"\"step\"")?;
                is_step = true;
            }
            b"step" => {
                row.step = text.integer()?;
                has_step = true;
            }
            b"tokens" => row.tokens = text.integer()?,
            b"loss" => row.fixed[0] = text.number()?,
            b"mtp" => text.depths(&mut row.mtp)?,
            b"grad_norm" => row.fixed[1] = text.number()?,
            b"lr" => row.fixed[2] = text.number()?,
            b"mtp_loss_scale" => row.fixed[3] = text.number()?,
            b"step_seconds" => row.fixed[4] = text.number()?,
            b"parts" => text.parts(&mut row.fixed)?,
            b"tokens_per_second" => row.fixed[5] = text.number()?,
            b"mfu" => row.fixed[6] = text.number()?,
            b"allocated" => row.fixed[7] = text.number()?,
            b"peak" => row.fixed[8] = text.number()?,
            b"rss" => row.fixed[9] = text.number()?,
            b"skipped" => text.boolean()?,
            b"hfu" => row.fixed[14] = text.number()?,
            b"memory" => text.pass_over()?,
            b"extra" => text.extra(&mut row.fixed)?,
            b"graphs" => {
                text.integer()?;
            }
            _ => return None,
        }
        if text.more()? {
            continue;
        }
        break;
    }
    (text.0.is_empty() && is_step && has_step).then_some(())
}

/// The rest of a line. Every reader takes what it names off the front, or says `None`.
struct Scanner<'a>(&'a [u8]);

impl<'a> Scanner<'a> {
    #[inline]
    fn byte(&mut self, byte: u8) -> Option<()> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        (first == byte).then_some(())
    }

    #[inline]
    fn literal(&mut self, literal: &[u8]) -> Option<()> {
        self.0 = self.0.strip_prefix(literal)?;
        Some(())
    }

    /// A key with its colon.
    #[inline]
    fn key(&mut self) -> Option<&'a [u8]> {
        self.byte(b'"')?;
        let end = self.0.iter().take(32).position(|&b| b == b'"')?;
        let key = &self.0[..end];
        self.0 = &self.0[end + 1..];
        self.byte(b':')?;
        Some(key)
    }

    /// A comma, or the end of the object.
    #[inline]
    fn more(&mut self) -> Option<bool> {
        let (&first, rest) = self.0.split_first()?;
        self.0 = rest;
        match first {
            b',' => Some(true),
            b'}' => Some(false),
            _ => None,
        }
    }

    #[inline]
    fn boolean(&mut self) -> Option<()> {
        self.literal(b"false").or_else(|| self.literal(b"true"))
    }

    /// An integer without sign, exactly.
    #[inline]
    fn integer(&mut self) -> Option<u64> {
        let (value, digits) = self.digits(0)?;
        (digits > 0).then_some(value)
    }

    /// Digits appended to `value`, and how many there were.
    #[inline]
    fn digits(&mut self, mut value: u64) -> Option<(u64, usize)> {
        let mut count = 0;
        for &byte in self.0 {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 {
                break;
            }
            value = value.checked_mul(10)?.checked_add(u64::from(digit))?;
            count += 1;
        }
        self.0 = &self.0[count..];
        Some((value, count))
    }

    /// A number, or `null` for one that is not finite.
    #[inline]
    fn number(&mut self) -> Option<f32> {
        match self.0.first()? {
            b'n' => {
                self.literal(b"null")?;
                return Some(f32::NAN);
            }
            b'-' => {
                self.byte(b'-')?;
                return self.number().map(|v| -v);
            }
            _ => {}
        }
        let before = self.0;
        self.decimal().or_else(|| {
            // More digits than a u64 holds, or a large exponent: slowly, then.
            let is_of_number =
                |b: &u8| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'E' | b'+' | b'-');
            let end = before.iter().position(|b| !is_of_number(b))?;
            let value: f64 = std::str::from_utf8(&before[..end]).ok()?.parse().ok()?;
            self.0 = &before[end..];
            Some(value as f32)
        })
    }

    /// A decimal number of at most 19 digits and a small exponent, within one unit in the last place of f64.
    #[inline]
    fn decimal(&mut self) -> Option<f32> {
        let (mut mantissa, digits) = self.digits(0)?;
        if digits == 0 {
            return None;
        }
        let mut exponent = 0;
        if self.0.first() == Some(&b'.') {
            self.0 = &self.0[1..];
            let (value, digits) = self.digits(mantissa)?;
            mantissa = value;
            exponent = -(digits as i32);
        }
        if matches!(self.0.first(), Some(b'e' | b'E')) {
            self.0 = &self.0[1..];
            let negative = match self.0.first()? {
                b'-' => {
                    self.0 = &self.0[1..];
                    true
                }
                b'+' => {
                    self.0 = &self.0[1..];
                    false
                }
                _ => false,
            };
            let (value, _) = self.digits(0)?;
            let value = i32::try_from(value).ok()?;
            exponent += if negative { -value } else { value };
        }
        let power = POWERS.get(exponent.unsigned_abs() as usize)?;
        let value = mantissa as f64;
        Some(if exponent < 0 {
            value / power
        } else {
            value * power
        } as f32)
    }

    /// An object whose contents nobody draws, however nested; strings with escapes are left to serde.
    #[inline]
    fn pass_over(&mut self) -> Option<()> {
        let mut depth = 0_usize;
        let mut quoted = false;
        for (i, &byte) in self.0.iter().enumerate() {
            match byte {
                b'\\' => return None,
                b'"' => quoted = !quoted,
                b'{' | b'[' if !quoted => depth += 1,
                b'}' | b']' if !quoted => depth = depth.checked_sub(1)?,
                _ => {}
            }
            if depth == 0 {
                self.0 = &self.0[i + 1..];
                return (byte == b'}').then_some(());
            }
        }
        None
    }

    fn depths(&mut self, depths: &mut Vec<(f32, f32)>) -> Option<()> {
        self.byte(b'[')?;
        if self.0.first() == Some(&b']') {
            return self.byte(b']');
        }
        loop {
            let (mut loss, mut correct, mut total) = (0.0, 0, 0);
            self.byte(b'{')?;
            loop {
                match self.key()? {
                    b"loss" => loss = self.number()?,
                    b"correct" => correct = self.integer()?,
                    b"total" => total = self.integer()?,
                    _ => return None,
                }
                if !self.more()? {
                    break;
                }
            }
            let acceptance = 100.0 * correct as f64 / total.max(1) as f64;
            depths.push((loss, acceptance as f32));
            let (&next, rest) = self.0.split_first()?;
            self.0 = rest;
            match next {
                b',' => {}
                b']' => return Some(()),
                _ => return None,
            }
        }
    }

    fn extra(&mut self, fixed: &mut [f32; FIXED.len()]) -> Option<()> {
        self.byte(b'{')?;
        if self.0.first() == Some(&b'}') {
            return self.byte(b'}');
        }
        loop {
            let column = extra_column(self.key()?);
            let value = self.number()?;
            if let Some(column) = column {
                fixed[column] = value;
            }
            if !self.more()? {
                return Some(());
            }
        }
    }

    fn parts(&mut self, fixed: &mut [f32; FIXED.len()]) -> Option<()> {
        self.byte(b'{')?;
        if self.0.first() == Some(&b'}') {
            return self.byte(b'}');
        }
        loop {
            let slot = match self.key()? {
                b"forward_backward" => Some(10),
                b"optimizer" => Some(11),
                b"data" => Some(12),
                b"other" => Some(13),
                b"forward" => Some(15),
                b"backward" => Some(16),
                b"eval" => Some(17),
                b"checkpoint" => Some(18),
                b"loss" => Some(19),
                _ => None,
            };
            let value = self.number()?;
            if let Some(slot) = slot {
                fixed[slot] = value;
            }
            if !self.more()? {
                return Some(());
            }
        }
    }
}

/// Powers of ten that f64 holds exactly.
const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::event::{DepthStep, MemoryTerm, MemoryUse, StepRecord};

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            4 => 0.0..20.0f64,
            2 => prop::num::f64::NORMAL,
            1 => Just(f64::NAN),
            1 => Just(0.0),
            1 => (0u32..1000).prop_map(f64::from),
        ]
    }

    proptest! {
        #[test]
        fn the_scanner_reads_what_serde_reads(
            numbers in prop::collection::vec(number(), 10),
            whole in prop::collection::vec(0u64..1 << 50, 6),
            depth in 0usize..4,
            parts in prop::collection::vec(number(), 9),
            extra in prop::collection::vec(number(), 0..13),
        ) {
            let names = ["forward_backward", "data", "surprise", "forward", "backward", "eval", "checkpoint", "other", "loss"];
            let term = MemoryTerm { name: "a }]{ b".chars().take(whole[1] as usize % 8).collect(), planned: Some(whole[2]), measured: None };
            let memory = MemoryUse { terms: vec![term; depth], peak: whole[3], ..MemoryUse::default() };
            let step = StepRecord {
                step: whole[0],
                tokens: whole[1],
                loss: numbers[0],
                mtp: vec![DepthStep { loss: numbers[1], correct: whole[2], total: whole[3] }; depth],
                grad_norm: numbers[2],
                lr: numbers[3],
                mtp_loss_scale: numbers[4],
                step_seconds: numbers[5],
                parts: names.iter().map(|&n| n.to_owned()).zip(parts).collect(),
                tokens_per_second: numbers[6],
                mfu: numbers[7],
                allocated: whole[4],
                peak: whole[5],
                rss: whole[0],
                hfu: numbers[8],
                memory: (whole[4] % 2 == 0).then_some(memory),
                graphs: whole[5] % 3,
                skipped: depth == 1,
                extra: crate::event::EXTRAS.iter().chain(&["task accuracy"]).skip(depth).map(|&n| n.to_owned()).zip(extra).collect(),
            };
            let record = Record { v: VERSION, seq: 3, time_ms: 1_700_000_000_123, event: Event::Step(Box::new(step)) };
            let line = record.to_line();
            let mut row = Row::default();
            prop_assert!(scan_step(line.trim_end().as_bytes(), &mut row).is_some(), "{line}");
            let Event::Step(read) = parse_line(&line).unwrap().event else { panic!("not a step") };
            let slow = Row::of_step(1_700_000_000_123, &read);
            prop_assert_eq!((row.step, row.tokens, row.time_ms), (slow.step, slow.tokens, slow.time_ms));
            let pairs = row.fixed.iter().zip(&slow.fixed);
            let depths = |row: &Row| -> Vec<f32> { row.mtp.iter().flat_map(|d| [d.0, d.1]).collect() };
            prop_assert_eq!(row.mtp.len(), slow.mtp.len());
            for (fast, slow) in pairs.chain(depths(&row).iter().zip(&depths(&slow))) {
                // Two roundings at most, from f64 and to f32.
                let near = (fast - slow).abs() <= slow.abs() * 1.2e-7;
                prop_assert!(fast.to_bits() == slow.to_bits() || near || fast.is_nan() && slow.is_nan(), "{} {}", fast, slow);
            }
        }

        #[test]
        fn a_cut_line_is_never_a_step(cut in 0usize..200) {
            let record = Record { v: VERSION, seq: 3, time_ms: 5, event: Event::Step(Box::default()) };
            let line = record.to_line();
            let line = &line.as_bytes()[..cut.min(line.len() - 2)];
            prop_assert!(scan_step(line, &mut Row::default()).is_none());
        }
    }

    #[test]
    fn other_lines_are_left_to_serde() {
        for line in [
            r#"{"v":2,"seq":0,"time_ms":0,"type":"step","step":1}"#,
            r#"{"v":1,"seq":0,"time_ms":0,"type":"paused","step":1}"#,
            r#"{"v":1,"seq":0,"time_ms":0,"type":"step","step":-1}"#,
            r#"{"v":1,"seq":0,"time_ms":0,"type":"step","step":1}x"#,
            r#"{"v":1, "seq":0,"time_ms":0,"type":"step","step":1}"#,
        ] {
            assert!(
                scan_step(line.as_bytes(), &mut Row::default()).is_none(),
                "{line}"
            );
        }
    }
}
