//! What differs between recipes, and what a running trainer takes.

use trestle::recipe::{KEYS, Value, apply_live, diff, parse_live};

use super::load_text;

#[test]
fn a_diff_names_keys_values_and_whether_they_are_live() {
    let before =
        load_text("[model]\nsize = \"toy\"\n[optimizer]\nlr = 1e-3\n[train]\nsteps = 100\n");
    let after = load_text(
        "# a comment\n[optimizer]\nlr = 2e-3\n[model]\nsize = \"toy\"\n[train]\nsteps = 100\nseed = 9\n",
    );
    let changes: Vec<(&str, bool)> = diff(&before, &after)
        .iter()
        .map(|change| (change.key.path, change.is_live()))
        .collect();
    // min_lr follows the peak.
    assert_eq!(
        changes,
        [
            ("train.seed", false),
            ("optimizer.lr", true),
            ("schedule.min_lr", true)
        ]
    );
    assert_eq!(diff(&before, &before), []);
}

#[test]
fn live_values_are_read_like_any_value() {
    assert_eq!(parse_live("optimizer.lr", "1"), Ok(Value::Float(1.0)));
    assert_eq!(
        parse_live("train.eval_interval", "5"),
        Ok(Value::Integer(5))
    );
    let code = |path, text| parse_live(path, text).unwrap_err().code;
    assert_eq!(code("optimizer.lr", "-1"), "E0201");
    assert_eq!(code("optimizer.lr", "quick"), "E0103");
    assert_eq!(code("train.seed", "1"), "E0210");
    assert_eq!(code("optimizer.learning_rate", "1"), "E0102");
}

#[test]
fn a_live_change_keeps_every_rule() {
    let recipe = load_text("[model]\nsize = \"toy\"\n[train]\nsteps = 100\n")
        .recipe
        .unwrap();
    let changed = apply_live(&recipe, "optimizer.lr", "5e-4").unwrap();
    assert_eq!(changed.optimizer.lr, 5e-4);
    assert_eq!(changed.schedule, recipe.schedule);
    // min_lr stands at 3e-5.
    let refused = apply_live(&recipe, "optimizer.lr", "1e-5").unwrap_err();
    assert_eq!(refused.code, "E0333");
    assert!(refused.message.contains("1e-5"), "{}", refused.message);
    let refused = apply_live(&recipe, "train.steps", "3").unwrap_err();
    assert_eq!(refused.code, "E0330");
}

#[test]
fn the_keys_that_users_change_most_are_live() {
    let live: Vec<&str> = KEYS
        .iter()
        .filter(|key| key.live)
        .map(|key| key.path)
        .collect();
    for key in [
        "optimizer.lr",
        "optimizer.clip_grad",
        "mtp.loss_scale",
        "train.steps",
        "train.eval_interval",
        "train.eval_batches",
        "schedule.min_lr",
        "logging.interval",
        "checkpoint.interval",
        "checkpoint.keep",
        "alerts.loss_spike",
        "alerts.throughput_drop",
    ] {
        assert!(live.contains(&key), "{key}");
    }
    assert!(
        !live
            .iter()
            .any(|key| key.starts_with("model.") || key.starts_with("parallel."))
    );
}
