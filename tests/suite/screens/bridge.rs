//! Launching through Megatron-Bridge from the screens, and jobs on the Runs screen.

use std::path::PathBuf;

use trestle::app::launch::bridge::{
    BridgeRequest, Effect as Bridge, Found, Looked, Message as Told, Place,
};
use trestle::app::runs::{Effect as Runs, Message as Listed};
use trestle::app::{Dialog, Effect, Message, Screen};
use trestle::base::Severity;
use trestle::event::{JobEntry, JobState, Launched, QueueState, RunInfo};
use trestle::run::{RunDirectory, Status, Summary};

use super::fixture::Bench;
use super::recipes::for_bridge;

fn looked(request: &BridgeRequest, refused: bool) -> Message {
    let found = Found {
        severity: if refused {
            Severity::Error
        } else {
            Severity::Warning
        },
        code: "weights".into(),
        message: "fine-tuning needs weights to start from, and the recipe names none".into(),
        hint: Some("trestle convert import Qwen/Qwen3.5-2B /runs/pretrained/2b".into()),
    };
    Message::Bridge(Told::Looked(Ok(Box::new(Looked {
        request: request.clone(),
        profile: "h100".into(),
        facts: vec!["ranks     1 = tp 1 x cp 1 x dp 1 x pp 1".into()],
        refused: if refused {
            vec!["weights".into()]
        } else {
            vec![]
        },
        found: vec![found],
        script: Ok("#!/usr/bin/env bash\n#SBATCH --nodes=1\n".into()),
    }))))
}

/// Fills the dialog in and returns what is looked at.
fn asked(bench: &mut Bench) -> BridgeRequest {
    assert_eq!(bench.press("enter"), [Effect::Bridge(Bridge::Profiles)]);
    // Before the profiles are read nothing can be asked.
    assert!(bench.press("enter").is_empty());
    assert!(bench.text().contains("not read yet"), "{}", bench.text());
    let names = vec!["a100".to_owned(), "h100".to_owned()];
    bench.send(Message::Bridge(Told::Profiles(Ok(names))));
    assert!(bench.text().contains("[a100]"), "{}", bench.text());
    let effects = bench.press("tab right tab m y enter");
    let [Effect::Bridge(Bridge::Look(request))] = &effects[..] else {
        panic!("{effects:?}");
    };
    request.clone()
}

#[test]
fn a_job_is_looked_at_shown_and_started() {
    let mut bench = for_bridge(120, 36);
    let request = asked(&mut bench);
    assert_eq!(
        (request.place, request.profile.as_deref()),
        (Place::Slurm, Some("h100"))
    );
    assert_eq!(request.name.as_deref(), Some("my"));
    bench.send(looked(&request, false));
    let text = bench.text();
    assert!(
        text.contains("warning[weights]") && text.contains("Launch on slurm, profile h100"),
        "{text}"
    );
    bench.press("s");
    assert!(
        bench.text().contains("#SBATCH --nodes=1"),
        "{}",
        bench.text()
    );
    bench.press("q");
    let effects = bench.press("l");
    assert_eq!(effects, [Effect::Bridge(Bridge::Start(request))]);
    let run = PathBuf::from("/home/runs/my-1");
    let effects = bench.send(Message::Bridge(Told::Started(Ok((
        run.clone(),
        "my-1 is job 41".into(),
    )))));
    assert_eq!(effects, [Effect::Runs(Runs::List)]);
    assert_eq!(bench.state.screen, Screen::Runs);
    // The run is under the cursor as soon as it is listed.
    bench.send(Message::Runs(Listed::Listed(vec![
        run_with("other-1", None),
        run_with("my-1", None),
    ])));
    assert_eq!(bench.state.runs.selected().unwrap().0.path, run);
}

#[test]
fn errors_have_to_be_accepted_by_name() {
    let mut bench = for_bridge(120, 36);
    let request = asked(&mut bench);
    bench.send(looked(&request, true));
    assert!(bench.press("l").is_empty());
    assert!(
        bench.text().contains("it cannot start: weights"),
        "{}",
        bench.text()
    );
    let effects = bench.press("a");
    let [Effect::Bridge(Bridge::Start(started))] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(started.accept, ["weights"]);
    bench.send(Message::Bridge(Told::Started(Err(
        "sbatch: invalid partition".into(),
    ))));
    assert_eq!(bench.state.screen, Screen::Recipes);
    assert!(
        bench.text().contains("invalid partition"),
        "{}",
        bench.text()
    );
}

#[test]
fn a_recipe_of_our_own_names_upstreams() {
    let mut bench = Bench::new(120, 36);
    assert_eq!(bench.press("b"), [Effect::Bridge(Bridge::Profiles)]);
    assert!(bench.text().contains("upstream"), "{}", bench.text());
    bench.send(Message::Bridge(Told::Profiles(Err(
        "cannot read profiles.toml".into(),
    ))));
    assert!(
        bench.text().contains("cannot read profiles.toml"),
        "{}",
        bench.text()
    );
    // Whoever closed the dialog is not called back.
    bench.press("esc");
    bench.press("5");
    bench.send(looked(&BridgeRequest::default(), false));
    assert!(bench.state.dialogs.is_empty());
}

fn run_with(id: &str, state: Option<QueueState>) -> (RunDirectory, Summary) {
    let status = match state.as_ref().map(|s| s.state) {
        None | Some(JobState::Pending) => Status::Queued,
        Some(JobState::TimedOut) => Status::Failed {
            error: "ended at its time limit".into(),
        },
        Some(_) => Status::Running,
    };
    let start = JobEntry::Submitted {
        job: "41".into(),
        profile: "h100".into(),
        at_ms: 0,
    };
    let mut summary = Summary::default();
    summary.status = status;
    summary.launched = Some(Launched { start, state });
    let info = RunInfo {
        id: id.into(),
        name: id.into(),
        ..RunInfo::default()
    };
    let path = PathBuf::from("/home/runs").join(id);
    (RunDirectory { path, info }, summary)
}

fn with_job(state: QueueState) -> Bench {
    let mut bench = Bench::new(140, 30);
    bench.press("5");
    bench.send(Message::Runs(Listed::Listed(vec![run_with(
        "my-1",
        Some(state),
    )])));
    bench
}

#[test]
fn a_job_that_waits_says_why_and_can_be_cancelled() {
    let waits = QueueState {
        reason: Some("AssocGrpGRES".into()),
        start: Some("2026-11-25T08:00:00".into()),
        ..QueueState::new(JobState::Pending)
    };
    let mut bench = with_job(waits);
    let text = bench.text();
    assert!(text.contains("queued"), "{text}");
    assert!(
        text.contains("job 41 waits in the queue (AssocGrpGRES: the account's share is used up), expected to start 2026-11-25T08:00:00; S stops it"),
        "{text}"
    );
    // It can neither be submitted twice nor deleted.
    assert!(bench.press("R").is_empty());
    assert!(
        bench.text().contains("its job is not over"),
        "{}",
        bench.text()
    );
    assert!(bench.press("D").is_empty());
    assert!(bench.state.dialogs.is_empty());
    bench.press("S");
    assert!(matches!(
        bench.state.dialogs.last(),
        Some(Dialog::Choice(_))
    ));
    assert!(bench.press("n").is_empty());
    bench.press("S");
    let run = PathBuf::from("/home/runs/my-1");
    let end = |at_once| {
        [Effect::Runs(Runs::EndJob {
            run: run.clone(),
            at_once,
        })]
    };
    assert_eq!(bench.press("c"), end(true));
    bench.press("S");
    assert_eq!(bench.press("s"), end(false));
}

#[test]
fn a_job_that_is_over_can_be_submitted_again() {
    let mut bench = with_job(QueueState::new(JobState::TimedOut));
    assert!(
        bench.text().contains("R submits it again"),
        "{}",
        bench.text()
    );
    assert!(bench.press("S").is_empty());
    assert!(bench.text().contains("its job is over"), "{}", bench.text());
    assert_eq!(
        bench.press("R"),
        [Effect::Runs(Runs::Resubmit("/home/runs/my-1".into()))]
    );
}
