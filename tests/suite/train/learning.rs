//! What training does to the numbers.

use super::{Place, events, exact, finished, names, records, steps};
use trestle::event::{Event, layout};
use trestle::train;

#[test]
fn the_losses_fall_and_every_event_is_there() {
    let place = Place::new();
    let run = place.run(&["train.steps=60"]);
    let outcome = train::run(&run.path).expect("trains");
    assert!(outcome.completed);
    assert_eq!(outcome.step, 60);
    let steps = steps(&run.path);
    assert_eq!(steps.len(), 60);
    let (first, last) = (&steps[&1], &steps[&60]);
    assert!((first.loss - 4096f64.ln()).abs() < 0.2, "{}", first.loss);
    assert!(
        last.loss < first.loss - 3.0,
        "{} -> {}",
        first.loss,
        last.loss
    );
    assert!(last.mtp[0].loss < first.mtp[0].loss - 2.0, "{:?}", last.mtp);
    assert!(last.mtp[0].total > 0 && last.mtp[0].correct > 0);
    assert_eq!(last.tokens, 60 * 4 * 32);
    let events = events(&run.path);
    let Event::Started {
        segment: 0,
        step: 0,
        total_steps: 60,
        parameters,
        mtp_parameters,
        flops_per_token,
        peak_flops,
        mtp_depth: 1,
        resumed_from: None,
        ..
    } = &events[0]
    else {
        panic!("{:?}", events[0]);
    };
    assert!(parameters > mtp_parameters && *mtp_parameters > 0);
    assert!(*flops_per_token > 0.0 && *peak_flops > 0.0);
    for (_, step) in steps {
        // Evaluation and checkpoint lie between steps; everything else is the step.
        let between = |part: &str| ["eval", "checkpoint"].contains(&part);
        let inside = step.parts.iter().filter(|(part, _)| !between(part));
        let sum: f64 = inside.map(|(_, seconds)| seconds).sum();
        assert!((sum - step.step_seconds).abs() < 1e-6 + 0.01 * step.step_seconds);
        let mfu = step.tokens_per_second * flops_per_token / peak_flops;
        assert!((step.mfu - mfu).abs() < 1e-9);
        assert!((step.hfu - step.mfu).abs() < 1e-12, "nothing is recomputed");
        assert!(step.rss > 0);
        for phase in ["data", "forward", "loss", "backward", "optimizer", "other"] {
            assert!(step.parts.contains_key(phase), "{phase}: {:?}", step.parts);
        }
        assert_eq!(
            step.parts.contains_key("eval"),
            step.step % 10 == 1 && step.step > 1
        );
    }
    let evals: Vec<(u64, f64)> = events
        .iter()
        .filter_map(|event| match event {
            Event::Eval { step, loss, .. } => Some((*step, *loss)),
            _ => None,
        })
        .collect();
    assert_eq!(
        evals.iter().map(|e| e.0).collect::<Vec<_>>(),
        [10, 20, 30, 40, 50, 60]
    );
    assert!(evals[5].1 < evals[0].1);
    assert!(
        matches!(events.last(), Some(Event::Finished { reason, step: 60, .. }) if reason == "completed")
    );
}

#[test]
fn the_rate_of_each_update_is_the_schedule_one_step_before() {
    let place = Place::new();
    for kind in ["constant", "linear", "cosine", "wsd"] {
        let kind = format!("schedule.kind={kind}");
        let run = place.run(&[
            &kind,
            "train.steps=12",
            "schedule.decay_steps=10",
            "schedule.wsd_decay_steps=4",
            "schedule.min_lr=1e-3",
            "checkpoint.interval=0",
            "train.eval_interval=0",
        ]);
        train::run(&run.path).expect("trains");
        let loaded = trestle::recipe::load(
            &run.path.join(layout::RECIPE),
            &[],
            &|p: &std::path::Path| std::fs::read_to_string(p),
        );
        let recipe = loaded.recipe.expect("valid");
        for (step, record) in steps(&run.path) {
            let expected = train::learning_rate(&recipe.schedule, recipe.optimizer.lr, step - 1);
            assert_eq!(record.lr, expected, "{kind}, step {step}");
        }
        assert_eq!(steps(&run.path)[&1].lr, 0.0);
    }
}

#[test]
fn accumulated_micro_batches_give_the_gradient_of_the_whole_batch() {
    let place = Place::new();
    let losses = |micro: &str| {
        let run = place.run(&[
            micro,
            "train.global_batch_size=8",
            "train.per_token_loss=true",
            "data.packing=concat",
            "train.steps=6",
            "train.eval_interval=0",
            "checkpoint.interval=0",
        ]);
        train::run(&run.path).expect("trains");
        steps(&run.path)
    };
    let (whole, parts) = (
        losses("train.micro_batch_size=8"),
        losses("train.micro_batch_size=2"),
    );
    for (step, whole) in &whole {
        let parts = &parts[step];
        let near = |a: f64, b: f64| (a - b).abs() <= 2e-5 * a.abs();
        assert!(
            near(whole.loss, parts.loss),
            "step {step}: {} and {}",
            whole.loss,
            parts.loss
        );
        assert!(
            (whole.grad_norm - parts.grad_norm).abs() <= 1e-3 * whole.grad_norm,
            "step {step}: {} and {}",
            whole.grad_norm,
            parts.grad_norm
        );
        assert_eq!(whole.mtp[0].total, parts.mtp[0].total);
    }
}

#[test]
fn without_mtp_there_is_no_mtp_loss_and_lambda_does_not_count() {
    let place = Place::new();
    let run = |lambda: &str| {
        let run = place.run(&[
            "model.mtp_num_hidden_layers=0",
            lambda,
            "train.steps=4",
            "train.eval_interval=0",
            "checkpoint.interval=0",
        ]);
        train::run(&run.path).expect("trains");
        run
    };
    let (a, b) = (run("mtp.loss_scale=0.1"), run("mtp.loss_scale=0.9"));
    for (step, record) in steps(&a.path) {
        assert!(record.mtp.is_empty());
        assert_eq!(record.mtp_loss_scale, 0.0);
        assert_eq!(exact(&record), exact(&steps(&b.path)[&step]));
    }
}

#[test]
fn non_finite_steps_are_skipped_counted_kept_and_end_the_run() {
    let place = Place::new();
    // A rate this large makes the weights overflow after the first update.
    let run = place.run(&[
        "optimizer.lr=1e30",
        "schedule.kind=constant",
        "schedule.warmup_steps=0",
        "optimizer.clip_grad=0.0",
        "train.max_non_finite=3",
        "checkpoint.interval=1",
        "train.eval_interval=0",
    ]);
    let error = train::run(&run.path).expect_err("three in a row are too many");
    assert!(
        matches!(
            error,
            train::TrainError::NonFinite {
                step: 4,
                in_a_row: 3
            }
        ),
        "{error}"
    );
    let steps = steps(&run.path);
    assert!(!steps[&1].skipped);
    for step in 2..=4 {
        assert!(steps[&step].skipped, "{:?}", steps[&step]);
    }
    let bad = names(&run.path.join(layout::BAD_BATCHES));
    assert!(
        bad.iter().any(|name| name.starts_with("step-2.")),
        "{bad:?}"
    );
    let file = run.path.join(layout::BAD_BATCHES).join(&bad[0]);
    let batch = candle_core::safetensors::load(&file, &candle_core::Device::Cpu).expect("a batch");
    assert_eq!(batch["input_ids"].dims(), [1, 64]);
    let events = events(&run.path);
    let hashes: Vec<&str> = events
        .iter()
        .filter_map(|event| match event {
            Event::Checkpoint { weights_hash, .. } => Some(weights_hash.as_str()),
            _ => None,
        })
        .collect();
    assert!(
        hashes.len() >= 2 && hashes.iter().all(|hash| *hash == hashes[0]),
        "{hashes:?}"
    );
    let warnings = events
        .iter()
        .filter(|event| matches!(event, Event::Warning { code, .. } if code == "non_finite"))
        .count();
    assert_eq!(warnings, 3);
    assert!(matches!(
        events.last(),
        Some(Event::Failed {
            step: 4,
            hint: Some(_),
            ..
        })
    ));
}

#[test]
fn two_runs_of_one_recipe_are_equal_and_time_is_their_only_difference() {
    let place = Place::new();
    let sets = ["train.steps=8", "train.threads=2"];
    let (a, b) = (place.run(&sets), place.run(&sets));
    train::run(&a.path).expect("trains");
    train::run(&b.path).expect("trains");
    assert_eq!(finished(&a.path), finished(&b.path));
    let (a_steps, b_steps) = (steps(&a.path), steps(&b.path));
    for (step, record) in &a_steps {
        assert_eq!(exact(record), exact(&b_steps[step]), "step {step}");
    }
    assert_eq!(records(&a.path).len(), records(&b.path).len());
}
