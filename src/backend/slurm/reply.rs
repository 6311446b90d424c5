//! Reads what Slurm's programs print.

use serde::{Deserialize, Serialize};

use crate::backend::tool::Answer;

/// Where a job stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobState {
    /// In the queue.
    Pending,
    /// At work.
    Running,
    /// Ended and being cleaned up after.
    Completing,
    /// On its way back into the queue.
    Requeued,
    /// Held on its nodes without working.
    Suspended,
    /// Ended with 0.
    Completed,
    /// Ended with an error.
    Failed,
    /// Ended by its time limit.
    TimedOut,
    /// Ended by somebody.
    Cancelled,
    /// Ended for a job of higher priority.
    Preempted,
    /// Ended with its node.
    NodeFailed,
    /// Ended for want of memory.
    OutOfMemory,
    /// Slurm does not answer; the job may be well.
    Unreachable,
    /// Slurm answers and knows no such job, nor did it leave a word.
    Vanished,
    /// In a state that we have no word for.
    Other,
}

impl JobState {
    /// Whether nothing will follow.
    pub fn is_final(self) -> bool {
        !matches!(
            self,
            Self::Pending
                | Self::Running
                | Self::Completing
                | Self::Requeued
                | Self::Suspended
                | Self::Unreachable
                | Self::Other
        )
    }

    /// Words for people.
    pub fn words(self) -> &'static str {
        match self {
            Self::Pending => "waits in the queue",
            Self::Running => "runs",
            Self::Completing => "is ending",
            Self::Requeued => "goes back into the queue",
            Self::Suspended => "is suspended",
            Self::Completed => "is done",
            Self::Failed => "failed",
            Self::TimedOut => "ended at its time limit",
            Self::Cancelled => "was cancelled",
            Self::Preempted => "was preempted",
            Self::NodeFailed => "ended with its node",
            Self::OutOfMemory => "ran out of memory",
            Self::Unreachable => "cannot be asked about: Slurm does not answer",
            Self::Vanished => "is unknown to Slurm and left no exit code",
            Self::Other => "is in a state without a name here",
        }
    }

    /// Slurm's word, long form.
    fn of(word: &str) -> Self {
        // `CANCELLED by 1000`, and `COMPLETING` flags after a plus sign.
        match word.split([' ', '+']).next().unwrap_or_default() {
            "PENDING" | "CONFIGURING" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => Self::Pending,
            "RUNNING" | "SIGNALING" | "STAGE_OUT" | "RESIZING" => Self::Running,
            "COMPLETING" => Self::Completing,
            "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" => Self::Requeued,
            "SUSPENDED" | "STOPPED" => Self::Suspended,
            "COMPLETED" => Self::Completed,
            "FAILED" | "BOOT_FAIL" => Self::Failed,
            "TIMEOUT" | "DEADLINE" => Self::TimedOut,
            "CANCELLED" | "REVOKED" => Self::Cancelled,
            "PREEMPTED" => Self::Preempted,
            "NODE_FAIL" => Self::NodeFailed,
            "OUT_OF_MEMORY" => Self::OutOfMemory,
            _ => Self::Other,
        }
    }
}

/// How a job fares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Where it stands.
    pub state: JobState,
    /// Why it waits, in Slurm's word (`Resources`, `QOSMaxJobsPerUserLimit`), or why Slurm could not be asked.
    pub reason: Option<String>,
    /// Its nodes, as Slurm writes them.
    pub nodes: Option<String>,
    /// When it started, or while it waits when Slurm expects it to; local time of the cluster.
    pub start: Option<String>,
    /// What its script ended with.
    pub exit_code: Option<i32>,
}

impl QueueState {
    /// A state and nothing else.
    pub fn new(state: JobState) -> Self {
        Self {
            state,
            reason: None,
            nodes: None,
            start: None,
            exit_code: None,
        }
    }

    /// What a reason means that names a limit of the user's, not a want of machines.
    pub fn limit(&self) -> Option<&'static str> {
        let reason = self.reason.as_deref()?;
        let limits = [
            ("QOSMax", "a limit of the quality of service is reached"),
            ("QOSGrp", "a limit of the quality of service is reached"),
            ("AssocMax", "a limit of the account is reached"),
            ("AssocGrp", "the account's share is used up"),
            (
                "PartitionTimeLimit",
                "the time limit is longer than the partition allows",
            ),
            (
                "PartitionNodeLimit",
                "the partition does not have so many nodes",
            ),
            ("PartitionConfig", "the partition does not allow such a job"),
            ("BadConstraints", "no node has what the constraint asks for"),
            ("InvalidAccount", "the account is not valid"),
            ("InvalidQOS", "the quality of service is not valid"),
            ("JobHeldUser", "it is held; `scontrol release` lets it go"),
            ("JobHeldAdmin", "an administrator holds it"),
            (
                "ReqNodeNotAvail",
                "nodes are down, reserved or kept for maintenance",
            ),
        ];
        limits
            .iter()
            .find(|(start, _)| reason.starts_with(start))
            .map(|(_, meaning)| *meaning)
    }
}

fn known(text: &str) -> Option<String> {
    let text = text.trim();
    let nothing = ["", "N/A", "None", "Unknown", "(null)", "None assigned"];
    (!nothing.contains(&text)).then(|| text.to_owned())
}

/// The number in the answer of `sbatch --parsable`: `12` or `12;cluster`.
pub(super) fn job_number(out: &str) -> Option<String> {
    let line = out.lines().map(str::trim).rfind(|line| !line.is_empty())?;
    let number = line.split(';').next()?;
    (!number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())).then(|| number.to_owned())
}

/// A line of `squeue --format=%T|%r|%N|%S|%V`.
pub(super) fn squeue(out: &str) -> Option<QueueState> {
    let line = out.lines().find(|line| line.matches('|').count() >= 4)?;
    let fields: Vec<&str> = line.split('|').collect();
    Some(QueueState {
        state: JobState::of(fields[0].trim()),
        reason: known(fields[1]),
        nodes: known(fields[2]),
        start: known(fields[3]),
        exit_code: None,
    })
}

/// The last line of `sacct`; a job that was queued again has several.
pub(super) fn sacct(out: &str) -> Option<QueueState> {
    let line = out
        .lines()
        .rfind(|line| line.matches('|').count() >= 4 && !line.starts_with('|'))?;
    let fields: Vec<&str> = line.split('|').collect();
    Some(QueueState {
        state: JobState::of(fields[0]),
        reason: None,
        nodes: known(fields[2]),
        start: known(fields[3]),
        exit_code: fields[1].split(':').next().and_then(|c| c.parse().ok()),
    })
}

/// `ExitCode=3:0` of `scontrol show job`.
pub(super) fn exit_code(out: &str) -> Option<i32> {
    let word = out
        .split_whitespace()
        .find_map(|word| word.strip_prefix("ExitCode="))?;
    word.split(':').next()?.parse().ok()
}

/// What a program said about its failure, on one line.
pub(super) fn reason(answer: &Answer) -> String {
    let lines: Vec<&str> = answer
        .error
        .lines()
        .chain(answer.out.lines())
        .map(|line| {
            let line = line.trim();
            line.split_once(": error: ").map_or(line, |(_, rest)| rest)
        })
        .filter(|line| !line.is_empty())
        .take(4)
        .collect();
    if lines.is_empty() {
        "no reason was given".to_owned()
    } else {
        lines.join("; ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_squeue_and_sacct_are_read() {
        let waits = squeue("PENDING|Resources||2026-11-24T18:00:00|2026-11-24T16:00:00\n");
        let waits = waits.expect("a line");
        assert_eq!(waits.state, JobState::Pending);
        assert_eq!(waits.reason.as_deref(), Some("Resources"));
        assert_eq!(waits.start.as_deref(), Some("2026-11-24T18:00:00"));
        assert_eq!(waits.nodes, None);
        assert_eq!(squeue("\nslurm_load_jobs error: torn"), None);
        let ended =
            sacct("NODE_FAIL|1:0|n1|2026-11-24T16:00:00|x\nCANCELLED by 7|0:15|n2|Unknown|x\n");
        let ended = ended.expect("lines");
        assert_eq!(ended.state, JobState::Cancelled);
        assert_eq!(
            (ended.exit_code, ended.start, ended.nodes.as_deref()),
            (Some(0), None, Some("n2"))
        );
    }

    #[test]
    fn numbers_come_from_plain_and_federated_answers() {
        assert_eq!(job_number("12\n").as_deref(), Some("12"));
        assert_eq!(job_number("note\n12;alpha\n").as_deref(), Some("12"));
        assert_eq!(job_number("Submitted batch job"), None);
        assert_eq!(job_number(""), None);
    }

    #[test]
    fn limits_are_told_from_a_want_of_machines() {
        let mut state = QueueState::new(JobState::Pending);
        state.reason = Some("Resources".to_owned());
        assert_eq!(state.limit(), None);
        state.reason = Some("AssocGrpGRES".to_owned());
        assert_eq!(state.limit(), Some("the account's share is used up"));
    }
}
