//! `launch` and `plan` of recipes for Megatron-Bridge.

use std::path::Path;

use super::trestle;
use trestle::recipe::published_paths;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn every_published_recipe_is_planned_on_its_own_gpus() {
    for path in published_paths() {
        let path = Path::new("recipes").join(path);
        let output = trestle(&["plan", &path.to_string_lossy(), "--json"]);
        let plan: serde_json::Value = serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|_| panic!("{}: {}", path.display(), text(&output.stderr)));
        let problems = plan["problems"].as_array().unwrap();
        let stops = problems.iter().any(|p| p["severity"] == "error");
        assert_eq!(output.status.code(), Some(if stops { 3 } else { 0 }));
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        if plan["memory"].is_array() {
            assert!(name.contains(&format!("_{}gpu_", plan["gpus"])), "{name}");
            let hardware = plan["machine"]["name"].as_str().unwrap().to_lowercase();
            assert!(
                name.contains(&format!("_{hardware}_")),
                "{name}: {hardware}"
            );
        } else {
            assert!(stops, "{name} has neither a plan nor a reason");
        }
    }
}

#[test]
fn a_degree_of_a_published_recipe_changes_within_its_gpus() {
    let path = "recipes/megatron/qwen35_vl_9b_sft_4gpu_h100_bf16.toml";
    let output = trestle(&["plan", path, "--tp", "2", "--json"]);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&plan["gpus"], &plan["degrees"]["dp"]),
        (&4.into(), &2.into())
    );
    let output = trestle(&["plan", path, "--set", "megatron.gpu=4"]);
    assert_eq!(output.status.code(), Some(3));
    assert!(
        text(&output.stdout).contains("megatron.gpus"),
        "{}",
        text(&output.stdout)
    );
}
