//! A layout's numbers side by side with another's.

use crate::base::Bytes;
use crate::plan::{Job, LinkKind, Machine, MemoryEstimate, Plan, Problem, recompute_name};

use super::knob::degrees_line;

/// A layout's numbers.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Its degrees in a line.
    pub degrees: String,
    /// GPUs, their kind, batch sizes and recompute in a line.
    pub setup: String,
    /// Names, values and how they are written.
    pub rows: Vec<Row>,
}

/// One number of a layout.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its value; none where the layout has no such thing.
    pub value: f64,
    /// What it counts.
    pub unit: Unit,
}

/// What a number counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Seconds.
    Seconds,
    /// A share of 1.
    Share,
    /// A plain number, in whole.
    Count,
    /// A plain number with decimals.
    Number,
}

impl Unit {
    /// A value in words.
    pub fn text(self, value: f64) -> String {
        match self {
            Self::Bytes => Bytes(value.max(0.0) as u64).to_string(),
            Self::Seconds => seconds(value),
            Self::Share => format!("{:.1} %", 100.0 * value),
            Self::Count => format!("{value:.0}"),
            Self::Number => format!("{value:.2}"),
        }
    }

    /// A difference in words, with its sign; an equals sign where there is none that would show.
    pub fn difference(self, by: f64) -> String {
        let text = self.text(by.abs());
        if text == self.text(0.0) {
            "=".into()
        } else if by < 0.0 {
            format!("-{text}")
        } else {
            format!("+{text}")
        }
    }
}

/// Seconds with a unit that suits them: `12.3 ms`.
pub fn seconds(value: f64) -> String {
    if !value.is_finite() {
        "?".into()
    } else if value >= 100.0 {
        format!("{value:.0} s")
    } else if value >= 1.0 {
        format!("{value:.2} s")
    } else if value >= 1e-3 {
        format!("{:.1} ms", value * 1e3)
    } else {
        format!("{:.0} us", value * 1e6)
    }
}

impl Figures {
    /// The numbers of a job with its plan and the bubble; the problems alone where there is none.
    pub(super) fn of(
        job: &Job,
        machine: &Machine,
        problems: &[Problem],
        memory: &[MemoryEstimate],
        plan: Option<(&Plan, f64)>,
    ) -> Self {
        let mut rows = Vec::new();
        let mut add = |name: &str, value: f64, unit| {
            rows.push(Row {
                name: name.to_owned(),
                value,
                unit,
            });
        };
        let errors = super::errors(problems);
        add("errors", errors as f64, Unit::Count);
        add("GPUs", job.gpus as f64, Unit::Count);
        if let Some(count) = job.micro_batches() {
            add("micro-batches", count as f64, Unit::Count);
        }
        let fullest = memory.iter().max_by_key(|stage| stage.total);
        if let Some(fullest) = fullest {
            add("memory of the fullest", fullest.total.0 as f64, Unit::Bytes);
            let share = fullest.total.0 as f64 / machine.memory().0.max(1) as f64;
            add("of a GPU", share, Unit::Share);
            for term in &fullest.terms {
                add(term.name, term.bytes.0 as f64, Unit::Bytes);
            }
        }
        if let Some((plan, bubble)) = plan {
            let worst = plan.worst.iter().max().copied().unwrap_or(Bytes(0));
            add("worst routing", worst.0 as f64, Unit::Bytes);
            let time = &plan.time;
            add("step", time.seconds, Unit::Seconds);
            add("bubble", bubble, Unit::Share);
            add("skew", time.skew, Unit::Number);
            add("optimizer", time.optimizer, Unit::Seconds);
            add(
                "data parallel, not hidden",
                time.data_parallel,
                Unit::Seconds,
            );
            add("TFLOP/s a GPU", time.tflops_per_gpu, Unit::Number);
            for (name, link) in [
                ("sent over NVLink", LinkKind::NvLink),
                ("sent over InfiniBand", LinkKind::Infiniband),
            ] {
                let most = time.stages.iter().map(|stage| {
                    let over = stage.traffic.iter().filter(|item| item.link == link);
                    over.map(|item| item.bytes.0 as f64).sum::<f64>()
                });
                add(name, most.fold(0.0, f64::max), Unit::Bytes);
            }
        }
        Self {
            degrees: degrees_line(&job.degrees),
            setup: format!(
                "{} {}, micro batch {}, global batch {}, recompute {}",
                job.gpus,
                machine.name,
                job.batch.micro_batch_size,
                job.batch.global_batch_size,
                recompute_name(&job.megatron.recompute)
            ),
            rows,
        }
    }

    /// The number of a name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.rows
            .iter()
            .find(|row| row.name == name)
            .map(|row| row.value)
    }
}

/// A line of a comparison: a number before and now.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    /// Its name.
    pub name: String,
    /// What it counts.
    pub unit: Unit,
    /// In the marked layout.
    pub marked: Option<f64>,
    /// In the present one.
    pub now: Option<f64>,
}

/// Every number of either layout, in the order of the present one; what only the marked one has comes last.
pub fn compare(marked: &Figures, now: &Figures) -> Vec<Compared> {
    let mut list: Vec<Compared> = now
        .rows
        .iter()
        .map(|row| Compared {
            name: row.name.clone(),
            unit: row.unit,
            marked: marked.get(&row.name),
            now: Some(row.value),
        })
        .collect();
    let gone = marked
        .rows
        .iter()
        .filter(|row| now.get(&row.name).is_none());
    list.extend(gone.map(|row| Compared {
        name: row.name.clone(),
        unit: row.unit,
        marked: Some(row.value),
        now: None,
    }));
    list
}
