//! What can be changed on the screen, and what a change does to the rest of a job.

use std::fmt;

use super::subject::FULL;
use crate::plan::{
    Axis, Degrees, Job, Machine, MegatronRecompute, RankOrder, RecomputePart, machine,
};

/// A number that can be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Knob {
    /// Tensor parallel.
    Tp,
    /// Context parallel.
    Cp,
    /// Expert parallel.
    Ep,
    /// Tensor parallel of the experts.
    Etp,
    /// Data parallel.
    Dp,
    /// Pipeline parallel.
    Pp,
    /// Virtual stages.
    Vpp,
    /// Sequences of a micro-batch.
    MicroBatch,
    /// Sequences of a step.
    GlobalBatch,
    /// GPUs of the job.
    Gpus,
    /// Kind of GPU.
    Machine,
    /// Whether the sequence is cut over tensor parallel.
    SequenceParallel,
}

impl Knob {
    /// Every one, in the order that they are gone through.
    pub const ALL: [Self; 12] = [
        Self::Tp,
        Self::Cp,
        Self::Ep,
        Self::Etp,
        Self::Dp,
        Self::Pp,
        Self::Vpp,
        Self::MicroBatch,
        Self::GlobalBatch,
        Self::Gpus,
        Self::Machine,
        Self::SequenceParallel,
    ];

    /// The axis of the grid that it is about.
    pub fn axis(self) -> Option<Axis> {
        match self {
            Self::Tp => Some(Axis::Tp),
            Self::Cp => Some(Axis::Cp),
            Self::Ep | Self::Etp => Some(Axis::Ep),
            Self::Dp => Some(Axis::Dp),
            Self::Pp => Some(Axis::Pp),
            _ => None,
        }
    }

    /// Its name on the screen.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tp => "tp",
            Self::Cp => "cp",
            Self::Ep => "ep",
            Self::Etp => "etp",
            Self::Dp => "dp",
            Self::Pp => "pp",
            Self::Vpp => "vpp",
            Self::MicroBatch => "micro batch",
            Self::GlobalBatch => "global batch",
            Self::Gpus => "GPUs",
            Self::Machine => "machine",
            Self::SequenceParallel => "sequence parallel",
        }
    }

    /// The largest value that the screen tries; none for what is no number.
    pub fn most(self) -> Option<usize> {
        match self {
            Self::Tp | Self::Cp | Self::Ep | Self::Etp | Self::Pp | Self::Vpp => Some(1 << 10),
            Self::Dp | Self::Gpus => Some(1 << 15),
            Self::MicroBatch => Some(1 << 12),
            Self::GlobalBatch => Some(1 << 20),
            Self::Machine | Self::SequenceParallel => None,
        }
    }

    /// Its number in a job; none for what is no number.
    pub fn value(self, job: &Job) -> Option<usize> {
        let d = &job.degrees;
        match self {
            Self::Tp => Some(d.tp),
            Self::Cp => Some(d.cp),
            Self::Ep => Some(d.ep),
            Self::Etp => Some(d.etp),
            Self::Dp => Some(d.dp),
            Self::Pp => Some(d.pp),
            Self::Vpp => Some(d.vpp),
            Self::MicroBatch => Some(job.batch.micro_batch_size),
            Self::GlobalBatch => Some(job.batch.global_batch_size),
            Self::Gpus => Some(job.gpus),
            Self::Machine | Self::SequenceParallel => None,
        }
    }

    /// Gives it another number; the rest of the job follows.
    ///
    /// Where GPUs are given (`has_gpus`), data parallelism is what the other degrees leave of them; else the GPUs follow from the degrees. Nothing
    /// is refused: what cannot be shows as a problem.
    pub fn set(self, job: &mut Job, value: usize, has_gpus: bool) {
        let had_tp = job.degrees.tp;
        match self {
            Self::Tp => job.degrees.tp = value,
            Self::Cp => job.degrees.cp = value,
            Self::Ep => job.degrees.ep = value,
            Self::Etp => job.degrees.etp = value,
            Self::Dp => job.degrees.dp = value,
            Self::Pp => job.degrees.pp = value,
            Self::Vpp => job.degrees.vpp = value,
            Self::MicroBatch => job.batch.micro_batch_size = value,
            Self::GlobalBatch => job.batch.global_batch_size = value,
            Self::Gpus => *job = job.clone().with_gpus(value),
            Self::Machine | Self::SequenceParallel => {}
        }
        match self {
            Self::Tp | Self::Cp | Self::Pp if has_gpus => {
                *job = job.clone().with_gpus(job.gpus);
            }
            Self::Tp | Self::Cp | Self::Pp | Self::Dp => {
                job.gpus = job.degrees.world_size();
            }
            _ => {}
        }
        if self == Self::Tp {
            // Without tensor parallelism there is nothing to cut over.
            let sp = &mut job.degrees.sequence_parallel;
            *sp = value > 1 && (*sp || had_tp <= 1);
        }
    }
}

impl fmt::Display for Knob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// The next recompute mode: nothing, all, parts. `own` is the recipe's, whose parts come back.
pub fn next_recompute(now: &MegatronRecompute, own: &MegatronRecompute) -> MegatronRecompute {
    match now {
        MegatronRecompute::None => match own {
            full @ MegatronRecompute::Full { .. } => full.clone(),
            _ => FULL,
        },
        MegatronRecompute::Full { .. } => match own {
            parts @ MegatronRecompute::Selective(_) => parts.clone(),
            _ => MegatronRecompute::Selective(vec![RecomputePart::CoreAttention]),
        },
        MegatronRecompute::Selective(_) => MegatronRecompute::None,
    }
}

/// The next order of ranks.
pub fn next_order(now: RankOrder) -> RankOrder {
    if now == RankOrder::PIPELINE_LAST {
        RankOrder::DATA_LAST
    } else {
        RankOrder::PIPELINE_LAST
    }
}

/// The machine after `now`, or before it.
pub fn turned(now: &Machine, forward: bool) -> &'static Machine {
    let all = machine::machines();
    let at = all.iter().position(|machine| machine.name == now.name);
    let by = if forward { 1 } else { all.len() - 1 };
    &all[(at.unwrap_or(0) + by) % all.len()]
}

/// The degrees in a line: `tp2 cp2 dp2 pp2 vpp2 ep4 etp2 SP`, those that are 1 left out; `tp1` where all are.
pub fn degrees_line(d: &Degrees) -> String {
    let mut parts: Vec<String> = [
        ("tp", d.tp),
        ("cp", d.cp),
        ("dp", d.dp),
        ("pp", d.pp),
        ("vpp", d.vpp),
        ("ep", d.ep),
        ("etp", d.etp),
    ]
    .into_iter()
    .filter(|&(_, degree)| degree != 1)
    .map(|(name, degree)| format!("{name}{degree}"))
    .collect();
    if parts.is_empty() {
        parts.push("tp1".into());
    }
    if d.sequence_parallel {
        parts.push("SP".into());
    }
    parts.join(" ")
}
