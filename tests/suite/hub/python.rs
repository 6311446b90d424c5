//! The cache as Python's `huggingface_hub` and `transformers` see it.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;

use serde_json::Value;
use trestle::base::Bytes;
use trestle::hub::{self, ModelId};

use super::server::{File, ID, Manner, Server, fetch, options, toy};
use crate::interop::{python, script, skip};

/// What the script says with its cache in `home`; `offline` keeps it from asking the server.
fn ask(python: &Path, what: &str, home: &Path, server: &Server, offline: bool) -> Value {
    let mut command = Command::new(python);
    command
        .arg(script("hub_cache.py"))
        .args([what, ID])
        .env("HF_HOME", home)
        .env("HF_ENDPOINT", server.endpoint())
        .env("NO_PROXY", "127.0.0.1")
        .env("HF_HUB_OFFLINE", if offline { "1" } else { "0" })
        .env("HF_HUB_DISABLE_TELEMETRY", "1");
    for name in ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_TOKEN"] {
        command.env_remove(name);
    }
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn python_finds_what_we_fetched_and_we_find_what_it_fetched() {
    let python = match python("huggingface_hub, transformers") {
        Ok(python) => python,
        Err(reason) => return skip("huggingface_hub did not look at our cache", &reason),
    };
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mapping/dense");
    let mut files = toy(50_000);
    let config = File {
        contents: fs::read(golden.join("config.json")).unwrap(),
        large: false,
    };
    files.insert("config.json".into(), config);
    let server = Server::start(files, Manner::default());

    let ours = tempfile::tempdir().unwrap();
    let (snapshot, progress) = fetch(&server.environment(ours.path(), None)).unwrap();
    let found = ask(&python, "find", ours.path(), &server, true);
    assert_eq!(found["snapshot"], snapshot.display().to_string());
    assert_eq!(found["model_type"], "qwen3_5_text");
    assert_eq!(found["hidden_size"], 32);
    assert_eq!(found["warnings"], serde_json::json!([]));
    assert_eq!(found["files"].as_array().unwrap().len(), 5);
    assert_eq!(found["refs"], serde_json::json!(["main"]));
    assert_eq!(found["bytes"], progress.total.0);

    let theirs = tempfile::tempdir().unwrap();
    let environment = server.environment(theirs.path(), None);
    let fetched = ask(&python, "fetch", theirs.path(), &server, false);
    let id: ModelId = ID.parse().unwrap();
    let found = hub::find(&environment.cache, &id).unwrap();
    assert_eq!(fetched["snapshot"], found.display().to_string());
    let plan = hub::plan(&id, &options(), &environment, &AtomicBool::new(false)).unwrap();
    for file in &plan.files {
        let is_weights = file.name.contains("safetensors") && !file.name.contains("index");
        assert_eq!(file.is_whole, !is_weights, "{}", file.name);
    }
    assert_eq!(plan.needed(), Bytes(100_000));
}
