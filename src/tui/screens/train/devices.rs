//! GPUs and host: what they do now and did in the last minutes.

use ratatui::layout::Rect;
use ratatui::style::Style;
use ratatui::text::{Line, Span};

use super::number;
use crate::app::train::{Machine, Pane, State as Train, Track, Tracks};
use crate::telemetry::{Gpu, Reading, Refusal};
use crate::tui::canvas::Canvas;
use crate::tui::theme::Theme;
use crate::tui::widgets::number::{Unit, part_of, short};
use crate::tui::widgets::stack::spark;

/// Columns below which a row of a GPU has no history.
const NARROW: u16 = 52;
/// Rows of a GPU that is shown with its history.
const LARGE: usize = 6;

/// Rows that the pane could fill.
pub(super) fn rows(train: &Train) -> u16 {
    let gpus = train.machine.devices().len();
    let rows = match gpus {
        0 => 4,
        1 => LARGE + 2,
        n => n + 3,
    };
    rows as u16
}

/// Draws the pane.
pub(super) fn draw(train: &Train, canvas: &mut Canvas, area: Rect) {
    let theme = canvas.theme;
    let machine = &train.machine;
    let gpus = machine.devices();
    let rows = usize::from(area.height).saturating_sub(2);
    // The host has the last row.
    let room = rows.saturating_sub(1);
    let large = !gpus.is_empty() && room >= gpus.len() * LARGE;
    let shown = if large {
        gpus.len()
    } else {
        gpus.len().min(room.saturating_sub(1))
    };
    let title = match gpus.len() {
        0 => "machine",
        1 => "GPU",
        _ => "GPUs",
    };
    let right = if !train.is_here() {
        format!("of {}, not of the run's {}", machine.name, train.facts.host)
    } else if shown < gpus.len() {
        format!("{shown} of {} shown", gpus.len())
    } else {
        String::new()
    };
    let focused = train.focus == Pane::Devices;
    let inner = canvas.pane(area, number(Pane::Devices), focused, title, right);
    let Some(now) = &machine.now else {
        canvas.line(inner, 0, Span::styled(" not asked yet", theme.dim));
        return;
    };
    let mut row = 0;
    if let Err(why) = &now.gpus {
        canvas.line(inner, row, Span::styled(format!(" {why}"), theme.dim));
        row += 1;
    }
    let trainer = train.summary.pid.filter(|_| train.is_here());
    for (gpu, tracks) in gpus.iter().zip(&machine.gpus).take(shown) {
        if large {
            row = large_gpu(gpu, tracks, trainer, canvas, inner, row);
        } else {
            if row == 0 {
                let head = if inner.width < NARROW {
                    " #  util        memory  power  temp"
                } else {
                    " #  util                memory      power   temp"
                };
                canvas.line(inner, row, Span::styled(head, theme.dim));
                row += 1;
            }
            canvas.line(inner, row, small_gpu(gpu, tracks, inner.width, theme));
            row += 1;
        }
    }
    host(train, machine, canvas, inner, row);
}

/// A reading, or a word for why there is none.
fn word<T>(reading: &Reading<T>, text: impl FnOnce(&T) -> String) -> String {
    match reading {
        Ok(value) => text(value),
        Err(Refusal::Unsupported) => "n/a".into(),
        Err(Refusal::NotPermitted) => "denied".into(),
        Err(Refusal::Lost) => "lost".into(),
        Err(Refusal::Other(_)) => "-".into(),
    }
}

fn power(gpu: &Gpu) -> String {
    match (&gpu.power_watts, &gpu.power_limit_watts) {
        (Ok(power), Ok(limit)) => format!("{power:.0}/{limit:.0} W"),
        (power, _) => word(power, |p| format!("{p:.0} W")),
    }
}

/// What holds the clocks back, with the style it deserves; `None` if nothing is wrong.
fn throttles(gpu: &Gpu, theme: &Theme) -> Option<(String, Style)> {
    let Ok(throttles) = &gpu.throttles else {
        let why = word(&gpu.throttles, |_| String::new());
        return Some((format!("throttling {why}"), theme.dim));
    };
    let names: Vec<&str> = throttles.iter().map(|t| t.name()).collect();
    if names.is_empty() {
        return None;
    }
    let style = if throttles.iter().any(|t| t.is_bad()) {
        theme.warning
    } else {
        theme.dim
    };
    Some((names.join(", "), style))
}

/// A GPU over several rows, each with its last minutes; returns the row after it.
fn large_gpu(
    gpu: &Gpu,
    tracks: &Tracks,
    trainer: Option<u32>,
    canvas: &mut Canvas,
    area: Rect,
    mut row: u16,
) -> u16 {
    let theme = canvas.theme;
    let name = word(&gpu.name, Clone::clone);
    let name = name.strip_prefix("NVIDIA ").unwrap_or(&name).to_owned();
    let mut head = vec![
        Span::styled(format!(" {} ", gpu.index), theme.title),
        Span::styled(name, theme.title),
    ];
    if let Some((text, style)) = throttles(gpu, theme) {
        let bad = style == theme.warning;
        let sign = if bad { "! " } else { "" };
        head.push(Span::styled(format!("  {sign}{text}"), style));
    }
    canvas.line(area, row, Line::from(head));
    row += 1;
    let clocks = format!("{} MHz", word(&gpu.sm_clock_mhz, ToString::to_string));
    let lines: [(&str, String, &Track); 4] = [
        (
            "util",
            word(&gpu.utilization_percent, |u| format!("{u} %")),
            &tracks.utilization,
        ),
        (
            "memory",
            word(&gpu.memory, |m| part_of(m.used.0, m.total.0)),
            &tracks.memory,
        ),
        ("power", power(gpu), &tracks.power),
        ("SM clock", clocks, &tracks.clock),
    ];
    for (name, value, track) in lines {
        canvas.line(area, row, history_line(name, &value, track, area, theme));
        row += 1;
    }
    let rate = |reading: &Reading<crate::base::Bytes>| {
        word(reading, |b| format!("{:.1}", b.0 as f64 / 1e9))
    };
    let holders = match &gpu.holders {
        Ok(holders) => match (trainer, holders.len()) {
            (Some(pid), n) if holders.iter().any(|h| h.pid == pid) => match n {
                1 => "this run's".into(),
                n => format!("this run's and {} more", n - 1),
            },
            (_, 1) => format!("pid {}", holders[0].pid),
            (_, 0) => "free".into(),
            (_, n) => format!("{n} processes"),
        },
        Err(_) => word(&gpu.holders, |_| String::new()),
    };
    let text = format!(
        " {}  mem {} MHz  PCIe {}/{} GB/s  {holders}",
        word(&gpu.temperature_celsius, |t| format!("{t} °C")),
        word(&gpu.memory_clock_mhz, ToString::to_string),
        rate(&gpu.pcie_sent),
        rate(&gpu.pcie_received),
    );
    canvas.line(area, row, Span::styled(text, theme.dim));
    row + 1
}

/// A reading with as much of its history as the width leaves room for.
fn history_line(
    name: &str,
    value: &str,
    track: &Track,
    area: Rect,
    theme: &Theme,
) -> Line<'static> {
    let room = usize::from(area.width).saturating_sub(26);
    Line::from(vec![
        Span::styled(format!(" {name:<8}"), theme.dim),
        Span::raw(format!(" {value:>13}  ")),
        Span::styled(spark(track.last(room)), theme.bar),
    ])
}

/// A GPU in a row.
fn small_gpu(gpu: &Gpu, tracks: &Tracks, width: u16, theme: &Theme) -> Line<'static> {
    let wide = width >= 70;
    let mut spans = vec![
        Span::styled(format!("{:>2} ", gpu.index), theme.title),
        Span::raw(format!(
            "{:>5} ",
            word(&gpu.utilization_percent, |u| format!("{u} %"))
        )),
    ];
    let memory = word(&gpu.memory, |m| part_of(m.used.0, m.total.0));
    let temperature = word(&gpu.temperature_celsius, |t| format!("{t} °C"));
    if width < NARROW {
        let power = word(&gpu.power_watts, |p| format!("{p:.0} W"));
        spans.push(Span::raw(format!(
            "{memory:>13} {power:>6} {temperature:>5}"
        )));
    } else {
        let line = spark(tracks.utilization.last(8));
        spans.push(Span::styled(format!("{line:<8} "), theme.bar));
        let power = power(gpu);
        spans.push(Span::raw(format!(
            "{memory:>13} {power:>10} {temperature:>6}"
        )));
    }
    if wide {
        let clock = word(&gpu.sm_clock_mhz, |c| format!("{c} MHz"));
        spans.push(Span::styled(format!("  {clock:>8}"), theme.dim));
    }
    if let Some((text, style)) = throttles(gpu, theme) {
        let is_bad = style == theme.warning;
        match (is_bad, width < NARROW) {
            (true, true) => spans.push(Span::styled(" !", style)),
            (true, false) => spans.push(Span::styled(format!("  ! {text}"), style)),
            (false, _) if wide => spans.push(Span::styled(format!("  {text}"), style)),
            (false, _) => {}
        }
    }
    Line::from(spans)
}

/// Processors and memory of the host and the trainer's part of them.
fn host(train: &Train, machine: &Machine, canvas: &mut Canvas, area: Rect, row: u16) {
    let theme = canvas.theme;
    let Some(now) = &machine.now else {
        return;
    };
    let mut row = row;
    if let Some(host) = &now.host {
        let memory = part_of(host.memory_used.0, host.memory_total.0);
        let cpu = format!("{:.0} %", host.cpu_percent);
        if machine.devices().is_empty() && row + 1 < area.height {
            let lines = [
                ("cpu", cpu, &machine.cpu),
                ("memory", memory, &machine.memory),
            ];
            for (name, value, track) in lines {
                canvas.line(area, row, history_line(name, &value, track, area, theme));
                row += 1;
            }
        } else {
            let text = format!(" host cpu {cpu} of {}  memory {memory}", host.cores);
            canvas.line(area, row, Span::styled(text, theme.dim));
            row += 1;
        }
    }
    if let Some(process) = now.process.filter(|_| train.is_here()) {
        let text = format!(
            " trainer  {:.1} cores, {} resident",
            f64::from(process.cpu_percent) / 100.0,
            short(process.resident.0 as f64, Unit::Bytes)
        );
        canvas.line(area, row, Span::styled(text, theme.dim));
    }
}
