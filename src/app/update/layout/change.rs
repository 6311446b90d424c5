//! Scratch changes of a layout.

use crate::app::layout::{
    Knob, Pane, Scratch, State as Layout, View, degrees_line, next_order, next_recompute, turned,
};
use crate::app::{Action, State, Tone};
use crate::plan::{self, Job, Machine};

/// Why a change cannot be made now.
pub(super) fn cannot(screen: &Layout, view: &View, action: Action) -> Option<String> {
    let knob = screen.knob;
    let value = knob.value(&view.job);
    match action {
        Action::AxisMore => match (value, knob.most()) {
            (Some(value), Some(most)) if value >= most => {
                Some(format!("{knob} is {value} already"))
            }
            _ => None,
        },
        Action::AxisLess => value
            .filter(|&value| value <= 1)
            .map(|value| format!("{knob} is {value} already")),
        Action::FewerMicrobatches => {
            let all = micro_batches(&view.job);
            (all <= 1).then(|| format!("the number of micro-batches is {all} already"))
        }
        Action::MoreStages if view.job.degrees.vpp >= 1 << 10 => Some("vpp is 1024 already".into()),
        Action::FewerStages => {
            let vpp = view.job.degrees.vpp;
            (vpp <= 1).then(|| format!("vpp is {vpp} already"))
        }
        Action::SwitchSchedule if view.job.degrees.pp < 2 => {
            Some("pp is 1: one stage has no schedule".into())
        }
        Action::MendProblem => {
            let problem = view.problems.get(screen.problem);
            match problem {
                None => Some("no problem is under the cursor".into()),
                Some(problem) if first_fix(view, screen.problem).is_none() => {
                    Some(format!("no change is known that mends {}", problem.code))
                }
                Some(_) => None,
            }
        }
        _ => None,
    }
}

/// The smallest fix of a problem that a plan knows.
fn first_fix(view: &View, problem: usize) -> Option<(&plan::Fix, Job)> {
    let fixes = &view.problems.get(problem)?.fixes;
    fixes
        .iter()
        .find_map(|fix| Some((fix, plan::mended(&view.job, fix)?)))
}

fn micro_batches(job: &Job) -> usize {
    let step = job.batch.micro_batch_size.saturating_mul(job.degrees.dp);
    (job.batch.global_batch_size / step.max(1)).max(1)
}

/// Makes the change of an action; false if it is none.
pub(super) fn act(state: &mut State, action: Action) -> bool {
    let knob = state.layout.knob;
    match action {
        Action::AxisMore => turn(state, knob, true),
        Action::AxisLess => turn(state, knob, false),
        Action::CycleRecompute => change(state, |view, job| {
            job.megatron.recompute =
                next_recompute(&job.megatron.recompute, &view.base.megatron.recompute);
        }),
        Action::RankOrder => {
            change(state, |_, job| {
                job.megatron.rank_order = next_order(job.megatron.rank_order);
            });
        }
        Action::MoreMicrobatches => by_micro_batches(state, |count| count + 1),
        Action::FewerMicrobatches => by_micro_batches(state, |count| count - 1),
        Action::MoreStages => change(state, |_, job| job.degrees.vpp += 1),
        Action::FewerStages => change(state, |_, job| job.degrees.vpp -= 1),
        Action::SwitchSchedule => change(state, |view, job| {
            let own = view.base.degrees.vpp.max(2);
            let vpp = &mut job.degrees.vpp;
            *vpp = if *vpp > 1 { 1 } else { own };
        }),
        Action::MendProblem => mend(state),
        Action::ResetLayout => {
            state.layout.scratch = None;
            state.layout.stamp += 1;
        }
        _ => return false,
    }
    true
}

fn by_micro_batches(state: &mut State, new: impl Fn(usize) -> usize) {
    change(state, |_, job| {
        let step = job.batch.micro_batch_size.saturating_mul(job.degrees.dp);
        job.batch.global_batch_size = new(micro_batches(job)).saturating_mul(step);
    });
}

/// Doubles or halves what a knob is about.
fn turn(state: &mut State, knob: Knob, more: bool) {
    match knob {
        Knob::Machine => {
            let machine = state.layout.view.as_ref().map(|v| turned(v.machine, more));
            if let Some(machine) = machine {
                set_machine(state, machine);
            }
        }
        Knob::SequenceParallel => change(state, |_, job| job.degrees.sequence_parallel = more),
        _ => change(state, |view, job| {
            let Some(value) = knob.value(job) else {
                return;
            };
            let value = if more {
                value.saturating_mul(2).max(1)
            } else {
                value.div_ceil(2)
            };
            let value = knob.most().map_or(value, |most| value.min(most));
            knob.set(job, value, view.subject.has_gpus());
        }),
    }
}

/// Gives a knob a value.
pub(super) fn set(state: &mut State, knob: Knob, value: usize) {
    change(state, |view, job| {
        knob.set(job, value, view.subject.has_gpus());
    });
}

/// Cuts the sequence over tensor parallel, or does not.
pub(super) fn set_sequence_parallel(state: &mut State, on: bool) {
    change(state, |_, job| job.degrees.sequence_parallel = on);
}

/// Takes the other machine.
pub(super) fn set_machine(state: &mut State, machine: &'static Machine) {
    change(state, |_, _| {});
    if let Some(scratch) = &mut state.layout.scratch {
        scratch.machine = Some(machine);
    }
}

fn mend(state: &mut State) {
    let Some(view) = &state.layout.view else {
        return;
    };
    let Some((fix, job)) = first_fix(view, state.layout.problem) else {
        return;
    };
    let text = crate::recipe::change(fix);
    change(state, |_, now| *now = job.clone());
    state.say(Tone::Neutral, text);
}

/// Makes the layout under the cursor of those that were found the scratch one.
pub(super) fn take_candidate(state: &mut State) {
    let found = state.layout.found.as_ref();
    let Some((search, candidate)) = found.and_then(|(search, found)| {
        let candidate = found.best.get(state.layout.candidate)?;
        Some((search.clone(), candidate.clone()))
    }) else {
        return;
    };
    let is_here = state.layout.view.as_ref().is_some_and(|view| {
        view.job.model == search.job.model
            && view.job.batch.global_batch_size == search.job.batch.global_batch_size
            && view.job.batch.seq_length == search.job.batch.seq_length
    });
    if !is_here {
        let key = state.keymap.key(Action::FitLayouts);
        let text = format!("these were found for another recipe or batch; {key} searches again");
        state.say(Tone::Neutral, text);
        return;
    }
    let line = degrees_line(&candidate.degrees);
    change(state, |view, job| {
        job.degrees = candidate.degrees;
        job.gpus = search.gpus;
        job.batch.micro_batch_size = candidate.micro_batch_size;
        // The same mode by another spelling is no change.
        let own = &view.base.megatron.recompute;
        job.megatron.recompute =
            if plan::recompute_name(own) == plan::recompute_name(&candidate.recompute) {
                own.clone()
            } else {
                candidate.recompute.clone()
            };
        job.megatron
            .pipeline_layout
            .clone_from(&candidate.pipeline_layout);
        job.megatron.first_stage_layers = None;
        job.megatron.last_stage_layers = None;
        if candidate.degrees.cp > 1 && job.model.vision.is_some() {
            job.megatron.per_token_loss = true;
            job.megatron.average_in_collective = false;
        }
    });
    state.say(Tone::Neutral, format!("tries {line}"));
    state.layout.tab = Pane::Fit;
}

/// Changes the scratch layout, which begins as what is shown.
fn change(state: &mut State, change: impl Fn(&View, &mut Job)) {
    let screen = &mut state.layout;
    let Some(view) = &screen.view else {
        return;
    };
    let mut job = view.job.clone();
    change(view, &mut job);
    let machine = screen
        .scratch
        .as_ref()
        .filter(|scratch| scratch.recipe == view.subject.path)
        .and_then(|scratch| scratch.machine);
    screen.scratch = Some(Scratch {
        recipe: view.subject.path.clone(),
        base: view.base.clone(),
        job,
        machine,
    });
    screen.stamp += 1;
}
