//! The user's file of profiles: what is right in it, and what is wrong with place and reason.

use std::path::Path;

use trestle::backend::profile::{self, Style};

#[test]
fn a_profile_says_what_a_site_asks_for() {
    let text = r#"
[h100]
partition = "batch"
account = "team"
container = "nemo:26.08"
mounts = ["/lustre:/lustre"]
modules = ["cuda/12.9"]
environment = ["HF_TOKEN"]
gpus_per_node = 4
time_limit = "1-00:00:00"
style = "torchrun"
bridge = "/opt/Megatron-Bridge"
python = ["uv", "run", "--no-sync", "python"]

[plain]
bridge = "/b"
"#;
    let (profiles, problems) = profile::read(Path::new("profiles.toml"), text);
    assert_eq!(problems, []);
    assert_eq!(profiles.len(), 2);
    let h100 = profiles.iter().find(|p| p.name == "h100").unwrap();
    assert_eq!(h100.partition.as_deref(), Some("batch"));
    assert_eq!((h100.gpus_per_node, h100.style), (4, Style::Torchrun));
    assert_eq!(h100.python.len(), 4);
    let plain = profiles.iter().find(|p| p.name == "plain").unwrap();
    assert_eq!((plain.gpus_per_node, plain.style), (8, Style::Srun));
}

#[test]
fn every_problem_is_named_at_once_with_its_place() {
    let text = r#"stray = 1
[bad]
partiton = "batch"
account = "team; rm -rf /"
gpus_per_node = 0
time_limit = "4 hours"
environment = ["HF_TOKEN=hf_secret"]
style = "mpirun"
bridge = "relative"
exclusive = "yes"
sbatch = ["-x"]
mounts = "/a:/b"
[good]
bridge = "/b"
"#;
    let (profiles, problems) = profile::read(Path::new("profiles.toml"), text);
    let names: Vec<&str> = profiles.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(names, ["good"]);
    let mut text: Vec<String> = problems.iter().map(ToString::to_string).collect();
    text.sort();
    let text = text.join("\n");
    assert!(!text.contains("hf_secret"), "{text}");
    insta::with_settings!({ snapshot_path => "snapshots", prepend_module_to_snapshot => false, omit_expression => true }, {
        insta::assert_snapshot!("profile_problems", text);
    });
}

#[test]
fn broken_toml_is_a_problem_and_no_panic() {
    for text in [
        "[",
        "a = ",
        "\u{0}",
        "[x]\na = 1\na = 2",
        "[x]\ngpus_per_node = 99999999999999999999",
    ] {
        let (profiles, problems) = profile::read(Path::new("p.toml"), text);
        assert!(profiles.is_empty() && !problems.is_empty(), "{text:?}");
    }
    assert_eq!(profile::read(Path::new("p.toml"), ""), (vec![], vec![]));
}
