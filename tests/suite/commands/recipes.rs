//! check, show, keys.

use serde_json::Value;

use super::{snapshot, trestle};

const BROKEN: &str = "tests/suite/recipe/invalid/divisibility.toml";

fn json(arguments: &[&str]) -> Value {
    serde_json::from_slice(&trestle(arguments).stdout).unwrap()
}

#[test]
fn check_points_at_every_problem() {
    snapshot!(
        "check_problems",
        [
            "check",
            BROKEN,
            "tests/suite/recipe/valid/own_geometry.toml"
        ]
    );
    snapshot!(
        "check_unknown_keys",
        ["check", "tests/suite/recipe/invalid/unknown_keys.toml"]
    );
}

#[test]
fn check_points_at_the_command_line() {
    snapshot!(
        "check_set",
        [
            "check",
            "recipes/demo.toml",
            "--set",
            "train.global_batch_size=12",
            "--set",
            "optimizer.rl=1",
        ]
    );
    snapshot!(
        "check_warning",
        [
            "check",
            "recipes/demo-mtp0.toml",
            "--set",
            "mtp.loss_scale=0.2"
        ]
    );
    snapshot!("check_missing", ["check", "no-such-recipe.toml"]);
}

#[test]
fn check_as_json_has_the_same_problems() {
    let checked = json(&["check", BROKEN, "recipes/demo.toml", "--json"]);
    assert_eq!(checked[0]["valid"], false);
    assert_eq!(checked[1]["valid"], true);
    let problems = checked[0]["diagnostics"].as_array().unwrap();
    assert_eq!(
        checked[0]["errors"].as_u64().unwrap() as usize
            + checked[0]["warnings"].as_u64().unwrap() as usize,
        problems.len()
    );
    let batch = problems.iter().find(|p| p["code"] == "E0326").unwrap();
    assert_eq!(batch["place"]["at"]["line"], 13);
    assert_eq!(batch["key"], "train.global_batch_size");
    assert_eq!(batch["fix"]["replacement"], "64");
    assert_eq!(trestle(&["check", BROKEN, "--json"]).status.code(), Some(3));
}

#[test]
fn show_aligns_values_with_their_origins() {
    snapshot!(
        "show",
        [
            "show",
            "tests/suite/recipe/valid/every_section.toml",
            "--set",
            "optimizer.lr=2e-3"
        ]
    );
}

#[test]
fn show_as_json_names_file_line_and_base() {
    let shown = json(&["show", "recipes/demo-mtp2.toml", "--json"]);
    let find = |key: &str| {
        let rows = shown.as_array().unwrap();
        rows.iter().find(|row| row["key"] == key).unwrap().clone()
    };
    let depth = find("model.mtp_num_hidden_layers");
    assert_eq!(
        (&depth["value"], &depth["base"]),
        (&Value::from(2), &Value::from(1))
    );
    assert_eq!(depth["origin"]["path"], "recipes/demo-mtp2.toml");
    assert_eq!(find("optimizer.beta1")["origin"]["kind"], "default");
    assert_eq!(find("optimizer.lr")["live"], true);
}

#[test]
fn show_as_toml_is_a_recipe_with_the_same_values() {
    let text = trestle(&["show", "recipes/qwen3_5-4b.toml", "--toml"]).stdout;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("resolved.toml");
    std::fs::write(&path, &text).unwrap();
    let again = trestle(&["show", path.to_str().unwrap(), "--toml"]);
    assert_eq!(
        String::from_utf8(again.stdout).unwrap(),
        String::from_utf8(text).unwrap()
    );
}

#[test]
fn show_of_an_invalid_recipe_says_why_on_standard_error() {
    let output = trestle(&["show", BROKEN]);
    assert_eq!(output.status.code(), Some(3));
    assert!(output.stdout.is_empty());
    assert!(String::from_utf8_lossy(&output.stderr).contains("error[E0326]"));
}

#[test]
fn keys_are_listed_from_the_table() {
    snapshot!("keys_schedule", ["keys", "schedule"]);
    snapshot!("keys_markdown", ["keys", "mtp", "--md"]);
    snapshot!("keys_none", ["keys", "nothing"]);
    let listed = json(&["keys", "--json"]);
    assert_eq!(
        listed.as_array().unwrap().len(),
        trestle::recipe::KEYS.len()
    );
    assert!(
        listed
            .as_array()
            .unwrap()
            .iter()
            .any(|key| key["live"] == true)
    );
}

#[test]
fn the_workbenchs_actions_are_listed_from_its_table() {
    let listed = json(&["keys", "--ui", "--json"]);
    assert_eq!(
        listed.as_array().unwrap().len(),
        trestle::app::Action::ALL.len()
    );
    let text = String::from_utf8(trestle(&["keys", "--ui"]).stdout).unwrap();
    for action in trestle::app::Action::ALL {
        assert!(text.contains(&action.id()), "{}", action.id());
    }
}

#[test]
fn colours_come_on_demand_only() {
    let has_escape = |arguments: &[&str]| trestle(arguments).stdout.contains(&0x1b);
    assert!(!has_escape(&["check", "recipes/demo.toml"]));
    assert!(has_escape(&[
        "check",
        "recipes/demo.toml",
        "--color",
        "always"
    ]));
    assert!(has_escape(&["--color", "always", "keys"]));
}

#[test]
fn check_all_lists_every_published_recipe_and_what_stops_it() {
    let rows = json(&["check", "--all", "--json"]);
    let rows = rows.as_array().unwrap();
    assert_eq!(rows.len(), 36);
    let stuck = rows.iter().filter(|row| row["can_start"] == false);
    assert_eq!(stuck.count(), 10);
    let row = rows
        .iter()
        .find(|row| row["name"] == "qwen35_vl_397b_a17b_sft_128gpu_h100_bf16_config")
        .unwrap();
    assert_eq!(row["gpus"], 128);
    assert_eq!(row["starts_on"].as_array().unwrap().len(), 0);
    let problems = row["problems"].as_array().unwrap();
    let problem = problems.iter().find(|p| p["severity"] == "error").unwrap();
    assert_eq!(problem["code"], "global-batch");
    assert!(problem["reason"].as_str().unwrap().contains("64"));
    assert_eq!(problem["fixes"][0]["key"], "train.global_batch_size");
    let path = problem["span"]["path"].as_str().unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    let bytes = |end: &str| problem["span"]["span"][end].as_u64().unwrap() as usize;
    assert_eq!(&text[bytes("start")..bytes("end")], "32");
    // What the issue asks of every object.
    for row in rows {
        assert!(row["name"].is_string() && row["path"].is_string());
        for problem in row["problems"].as_array().unwrap() {
            for part in ["code", "severity", "span", "reason", "fixes"] {
                assert!(!problem[part].is_null(), "{part} of {problem}");
            }
        }
        let errors = row["problems"].as_array().unwrap().iter();
        let stops = errors.filter(|p| p["severity"] == "error");
        assert_eq!(row["can_start"] == false, stops.count() > 0, "{row}");
    }
}

#[test]
fn check_all_is_one_table() {
    let output = trestle(&["check", "--all"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 38);
    let column = lines[0].find("verdict").unwrap();
    let verdicts = lines[1..37].iter().map(|line| &line[column..]);
    let stuck = verdicts.filter(|rest| rest.starts_with("cannot start"));
    assert_eq!(stuck.count(), 10);
    assert_eq!(lines[37], "36 recipes: 26 can start, 10 cannot");
    let row = lines
        .iter()
        .find(|line| line.contains("397b_a17b_sft_128gpu"));
    assert!(row.unwrap().ends_with("train.global_batch_size = 64"));
}

#[test]
fn our_own_trainer_refuses_a_recipe_for_megatron_bridge() {
    let path = "recipes/megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml";
    let output = trestle(&["train", path]);
    assert_eq!(output.status.code(), Some(3));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("trestle launch"), "{text}");
}
