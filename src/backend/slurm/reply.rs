//! Reads what Slurm's programs print.

use crate::backend::tool::Answer;
use crate::event::{JobState, QueueState};

/// What Slurm's word, in its long form, means.
fn state(word: &str) -> JobState {
    // `CANCELLED by 1000`, and `COMPLETING` flags after a plus sign.
    match word.split([' ', '+']).next().unwrap_or_default() {
        "PENDING" | "CONFIGURING" | "RESV_DEL_HOLD" | "SPECIAL_EXIT" => JobState::Pending,
        "RUNNING" | "SIGNALING" | "STAGE_OUT" | "RESIZING" => JobState::Running,
        "COMPLETING" => JobState::Completing,
        "REQUEUED" | "REQUEUE_FED" | "REQUEUE_HOLD" => JobState::Requeued,
        "SUSPENDED" | "STOPPED" => JobState::Suspended,
        "COMPLETED" => JobState::Completed,
        "FAILED" | "BOOT_FAIL" => JobState::Failed,
        "TIMEOUT" | "DEADLINE" => JobState::TimedOut,
        "CANCELLED" | "REVOKED" => JobState::Cancelled,
        "PREEMPTED" => JobState::Preempted,
        "NODE_FAIL" => JobState::NodeFailed,
        "OUT_OF_MEMORY" => JobState::OutOfMemory,
        _ => JobState::Other,
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
        state: state(fields[0].trim()),
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
        state: state(fields[0]),
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
