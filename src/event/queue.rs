//! Jobs beyond this machine's trainer: what was started for a run, and how it fares in a queue.
//!
//! `jobs.jsonl` in the run directory has a line for every start and every change of state, appended by whoever sees it.

use serde::{Deserialize, Serialize};

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

    /// In words: how it fares, why it waits, its nodes, when it starts, what it ended with.
    pub fn words(&self) -> String {
        let reason = self.reason.as_ref().map_or(String::new(), |reason| {
            let limit = self.limit().map_or(String::new(), |l| format!(": {l}"));
            format!(" ({reason}{limit})")
        });
        let nodes = self.nodes.as_ref().map(|nodes| format!(" on {nodes}"));
        let start = match (self.state, &self.start) {
            (JobState::Pending, Some(start)) => format!(", expected to start {start}"),
            (JobState::Running, Some(start)) => format!(" since {start}"),
            _ => String::new(),
        };
        let failed = self.exit_code.filter(|code| *code != 0);
        let code = failed.map(|code| format!(", exit code {code}"));
        [
            self.state.words(),
            &reason,
            nodes.as_deref().unwrap_or_default(),
            &start,
            code.as_deref().unwrap_or_default(),
        ]
        .concat()
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

/// A line of `jobs.jsonl`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobEntry {
    /// A job went into Slurm's queue.
    Submitted {
        /// Its number.
        job: String,
        /// The profile it was made with.
        profile: String,
        /// Milliseconds since the Unix epoch.
        at_ms: i64,
    },
    /// torchrun was started on a machine.
    Started {
        /// Its process group there.
        pid: u32,
        /// When the machine started that process, in ticks since its boot: a later process of the same number has another value.
        started: u64,
        /// The machine.
        host: String,
        /// Milliseconds since the Unix epoch.
        at_ms: i64,
    },
    /// A job in another state than before.
    State {
        /// Its number.
        job: String,
        /// How it fares.
        #[serde(flatten)]
        state: QueueState,
        /// Milliseconds since the Unix epoch.
        at_ms: i64,
    },
}

impl JobEntry {
    /// The entries of a file's text, oldest first. Lines that cannot be read are left out; a torn last one is normal.
    pub fn lines(text: &str) -> impl DoubleEndedIterator<Item = Self> {
        text.lines()
            .filter_map(|line| serde_json::from_str(line).ok())
    }

    /// What the start is called where its states are noted: the job's number, or the process.
    pub fn job(&self) -> String {
        match self {
            Self::Submitted { job, .. } | Self::State { job, .. } => job.clone(),
            Self::Started { pid, .. } => pid.to_string(),
        }
    }
}

/// The last start of a run and what is known of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Launched {
    /// What was started.
    pub start: JobEntry,
    /// How it fared when somebody asked last; nobody may have asked yet.
    pub state: Option<QueueState>,
}

impl Launched {
    /// What the text of `jobs.jsonl` says; `None` without a start.
    pub fn of(text: &str) -> Option<Self> {
        let mut launched: Option<Self> = None;
        for entry in JobEntry::lines(text) {
            match (&mut launched, entry) {
                (Some(launched), JobEntry::State { job, state, .. }) => {
                    if job == launched.start.job() {
                        launched.state = Some(state);
                    }
                }
                (None, JobEntry::State { .. }) => {}
                (_, start) => launched = Some(Self { start, state: None }),
            }
        }
        launched
    }

    /// Whether nothing will follow.
    pub fn is_over(&self) -> bool {
        self.state
            .as_ref()
            .is_some_and(|state| state.state.is_final())
    }

    /// In a line: the job, how it fares, why it waits, where it is and when it starts.
    pub fn words(&self) -> String {
        let name = match &self.start {
            JobEntry::Submitted { job, .. } | JobEntry::State { job, .. } => format!("job {job}"),
            JobEntry::Started { pid, host, .. } => format!("process {pid} on {host}"),
        };
        match &self.state {
            Some(state) => format!("{name} {}", state.words()),
            None => format!("{name} was started; nobody asked how it fares yet"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = r#"{"kind":"submitted","job":"7","profile":"h100","at_ms":1}
{"kind":"state","job":"7","state":"timed_out","reason":null,"nodes":"n1","start":null,"exit_code":null,"at_ms":2}
{"kind":"submitted","job":"8","profile":"h100","at_ms":3}
{"kind":"state","job":"7","state":"failed","reason":null,"nodes":null,"start":null,"exit_code":1,"at_ms":4}
"#;

    #[test]
    fn the_last_start_counts_and_only_its_own_states() {
        let launched = Launched::of(TEXT).expect("two starts");
        assert_eq!(launched.start.job(), "8");
        assert_eq!(launched.state, None);
        let line = r#"{"kind":"state","job":"8","state":"pending","reason":"AssocGrpGRES","nodes":null,"start":"tomorrow","exit_code":null,"at_ms":5}"#;
        let launched =
            Launched::of(&format!("{TEXT}{line}\n{{\"kind\":\"sta")).expect("two starts");
        assert_eq!(
            launched.words(),
            "job 8 waits in the queue (AssocGrpGRES: the account's share is used up), expected to start tomorrow"
        );
        assert!(!launched.is_over());
        assert_eq!(Launched::of("torn"), None);
    }
}
