//! What trains, how its throughput and utilisation are counted, and what was planned, as a text to read.

use crate::app::dialog::{Note, View};
use crate::app::train::{RECENT, State as Train};
use crate::app::{Dialog, State, Tone};
use crate::base::{Bytes, Flops};
use crate::run::series::Metric;
use crate::telemetry::Throttle;

/// Shows the text.
pub(super) fn show(state: &mut State) {
    let lines = lines(&state.train);
    let view = View {
        title: format!("Details of {}", state.train.info.id),
        lines: lines
            .into_iter()
            .map(|(name, text)| Note::new(Tone::Neutral, format!("{name:<12}{text}")))
            .collect(),
        scroll: 0,
    };
    state.dialogs.push(Dialog::View(view));
}

fn or_unsaid(text: &str) -> &str {
    if text.is_empty() {
        "the trainer did not say"
    } else {
        text
    }
}

/// Tokens a second over the last steps, from all their tokens and all their time.
fn tokens_per_second(train: &Train) -> Option<f64> {
    let table = &train.history.train;
    let last = table.rows().checked_sub(1)?;
    let first = last.saturating_sub(RECENT);
    let tokens = table.tokens(last) - table.tokens(first);
    let seconds = table.fold(Metric::StepSeconds, first + 1..last + 1).sum;
    (last > first && seconds > 0.0).then(|| tokens as f64 / seconds)
}

fn lines(train: &Train) -> Vec<(&'static str, String)> {
    let facts = &train.facts;
    let mut lines = vec![];
    let host = match (facts.host.as_str(), train.is_here()) {
        ("", _) => String::new(),
        (host, true) => format!(" on {host}"),
        (host, false) => format!(" on {host}, not this machine"),
    };
    lines.push(("trains on", format!("{}{host}", or_unsaid(&facts.device))));
    for (rank, device) in facts.devices.iter().enumerate().skip(1) {
        lines.push(("", format!("rank {rank}: {device}")));
    }
    lines.push(("formats", or_unsaid(&facts.precision).to_owned()));
    let devices = facts.gpus().max(1) as f64;
    let rate = tokens_per_second(train);
    let mean = train.recent(Metric::TokensPerSecond);
    if let Some(rate) = rate.or(mean) {
        let mean = mean.map_or_else(String::new, |mean| {
            format!("; mean of single steps {mean:.0}")
        });
        lines.push((
            "tokens/s",
            format!(
                "{rate:.0} over the last {RECENT} steps, {:.0} by device of {devices}{mean}",
                rate / devices
            ),
        ));
    }
    utilisation(train, rate.or(mean), devices, &mut lines);
    memory(train, &mut lines);
    machine(train, &mut lines);
    lines
}

fn utilisation(
    train: &Train,
    rate: Option<f64>,
    devices: f64,
    lines: &mut Vec<(&'static str, String)>,
) {
    let facts = &train.facts;
    if facts.flops_per_token > 0.0 {
        let formula = match facts.flops_formula.as_str() {
            "" => String::new(),
            formula => format!(": {formula}"),
        };
        lines.push((
            "FLOPs",
            format!(
                "{} a token, forward and backward{formula}",
                Flops(facts.flops_per_token)
            ),
        ));
        if let Some(rate) = rate {
            let achieved = Flops(rate * facts.flops_per_token);
            lines.push((
                "achieved",
                format!("{achieved}/s = tokens/s x FLOPs a token"),
            ));
        }
    } else {
        lines.push(("FLOPs", or_unsaid("").to_owned()));
    }
    if facts.peak_flops > 0.0 {
        let name = match facts.peak_name.as_str() {
            "" => String::new(),
            name => format!(": {name}"),
        };
        lines.push((
            "peak",
            format!("{}/s a device{name}", Flops(facts.peak_flops)),
        ));
        if let Some(mfu) = train.recent(Metric::Mfu).filter(|&v| v > 0.0) {
            lines.push((
                "MFU",
                format!(
                    "{:.1} % = achieved / ({devices} x peak), mean of {RECENT} steps",
                    100.0 * mfu
                ),
            ));
        }
    } else {
        lines.push(("peak", "not known, so no utilisation".into()));
    }
    if let Some(hfu) = train.recent(Metric::Hfu).filter(|&v| v > 0.0) {
        lines.push((
            "HFU",
            format!(
                "{:.1} %, with what is computed again counted again",
                100.0 * hfu
            ),
        ));
    }
}

fn memory(train: &Train, lines: &mut Vec<(&'static str, String)>) {
    let use_now = train.summary.memory.as_ref();
    let planned = train.facts.planned_total();
    let planned = planned.or(use_now.map(|m| m.planned_peak).filter(|&p| p > 0));
    let Some(planned) = planned else {
        lines.push(("memory", "not planned".into()));
        return;
    };
    lines.push((
        "memory",
        format!("planned {} at the fullest moment", Bytes(planned)),
    ));
    for term in &train.facts.plan {
        if let Some(bytes) = term.planned {
            lines.push(("", format!("{:<20}{}", term.name, Bytes(bytes))));
        }
    }
    if let Some(memory) = use_now {
        lines.push((
            "",
            format!(
                "measured {}; allocator holds {}, driver counts {} of {}",
                Bytes(memory.peak),
                Bytes(memory.reserved),
                Bytes(memory.driver_used),
                Bytes(memory.driver_total)
            ),
        ));
    }
}

fn machine(train: &Train, lines: &mut Vec<(&'static str, String)>) {
    let machine = &train.machine;
    let Some(now) = &machine.now else {
        return;
    };
    match &now.gpus {
        Err(why) => lines.push(("GPUs", why.clone())),
        Ok(gpus) => {
            for gpu in gpus {
                let name = gpu.name.as_ref().map_or("unnamed", String::as_str);
                let throttles = match &gpu.throttles {
                    Err(refusal) => format!("throttling {refusal}"),
                    Ok(none) if none.is_empty() => "clocks are free".to_owned(),
                    Ok(throttles) => {
                        let names: Vec<_> = throttles.iter().map(|t| Throttle::name(*t)).collect();
                        format!("clocks held back: {}", names.join(", "))
                    }
                };
                lines.push(("GPU", format!("{} {name}: {throttles}", gpu.index)));
            }
        }
    }
    lines.push((
        "sampling",
        format!(
            "the last look at {} took {:.1} ms, off this thread",
            machine.name,
            now.cost.as_secs_f64() * 1e3
        ),
    ));
}
