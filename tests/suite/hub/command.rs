//! `trestle fetch` as a user runs it.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::server::{COMMIT, File, ID, Manner, Server, toy};

/// The program with nothing of the Hub in its environment but what a test sets.
fn trestle(server: &Server, folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trestle"));
    command.args(arguments).current_dir(folder);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy().to_uppercase();
        let is_ours = ["HF_", "HUGGING", "TRANSFORMERS_", "SSL_CERT"]
            .iter()
            .any(|prefix| text.starts_with(prefix));
        if is_ours || text.ends_with("_PROXY") {
            command.env_remove(name);
        }
    }
    command
        .env("HOME", folder)
        .env("HF_HOME", folder.join("hf"))
        .env("HF_ENDPOINT", server.endpoint());
    command
}

fn run(command: &mut Command) -> Output {
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn fetch_prints_the_folder_and_finds_it_again_offline() {
    let server = Server::start(toy(50_000), Manner::default());
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let snapshot = here.join(format!("hf/hub/models--Qwen--Toy/snapshots/{COMMIT}"));

    let output = run(&mut trestle(
        &server,
        here,
        &["fetch", ID, "--dry-run", "--json"],
    ));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["files"].as_array().unwrap().len(), 5);
    assert_eq!(json["needed"], json["bytes"]);
    assert!(!here.join("hf").exists(), "a dry run writes nothing");

    let output = run(&mut trestle(&server, here, &["fetch", ID]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(text(&output.stdout), format!("{}\n", snapshot.display()));
    let said = text(&output.stderr);
    assert!(said.contains("model-1.safetensors  48.8 KiB\n"), "{said}");

    let output = run(&mut trestle(&server, here, &["fetch", ID, "--dry-run"]));
    let said = text(&output.stdout);
    assert!(said.contains("0 B to download"), "{said}");

    let before = server.requests().len();
    let mut offline = trestle(&server, here, &["fetch", ID, "--json"]);
    let output = run(offline.env("HF_HUB_OFFLINE", "1"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["path"], snapshot.display().to_string());
    assert_eq!(json["received"], 0);
    assert_eq!(server.requests().len(), before, "nothing was asked");

    fs::remove_file(snapshot.join("model-2.safetensors")).unwrap();
    let mut offline = trestle(&server, here, &["fetch", ID]);
    let output = run(offline.env("HF_HUB_OFFLINE", "1"));
    assert_eq!(output.status.code(), Some(4));
    let said = text(&output.stderr);
    assert!(said.contains("model-2.safetensors is missing"), "{said}");
}

#[test]
fn a_name_that_the_hub_lacks_gets_a_likely_one() {
    let server = Server::start(toy(1000), Manner::default());
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let output = run(&mut trestle(&server, here, &["fetch", "Qwen/Qwen3.5-08B"]));
    assert_eq!(output.status.code(), Some(4));
    let said = text(&output.stderr);
    assert!(
        said.contains("did you mean Qwen/Qwen3.5-0.8B?") && said.contains("Qwen/Qwen3.5-08B"),
        "{said}"
    );
    let output = run(&mut trestle(&server, here, &["fetch", "../etc/passwd"]));
    assert_eq!(output.status.code(), Some(2));
    let said = text(&output.stderr);
    assert!(said.contains("is no Hub id"), "{said}");
}

#[test]
fn a_token_is_read_from_its_file_and_not_printed() {
    let manner = Manner {
        token: Some("hf_secret"),
        ..Manner::default()
    };
    let server = Server::start(toy(1000), manner);
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let output = run(trestle(&server, here, &["fetch", ID]).env("HF_TOKEN", "hf_other"));
    assert_eq!(output.status.code(), Some(1));
    let said = text(&output.stderr) + &text(&output.stdout);
    assert!(
        said.contains("status 401") && said.contains("hint: the token is not enough"),
        "{said}"
    );
    assert!(!said.contains("hf_other"), "{said}");

    fs::create_dir_all(here.join("hf")).unwrap();
    fs::write(here.join("hf/token"), "hf_secret\n").unwrap();
    let output = run(&mut trestle(&server, here, &["fetch", ID]));
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// A server with a golden's config and weights.
fn golden_server() -> Server {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/mapping/dense");
    let file = |name: &str, large| File {
        contents: fs::read(golden.join(name)).unwrap(),
        large,
    };
    let files = [
        ("config.json".to_owned(), file("config.json", false)),
        ("model.safetensors".to_owned(), file("hf.safetensors", true)),
    ];
    Server::start(files.into(), Manner::default())
}

#[test]
fn commands_take_the_id_of_a_fetched_model() {
    let server = golden_server();
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let run = |arguments: &[&str]| {
        let output = run(&mut trestle(&server, here, arguments));
        let said = text(&output.stdout) + &text(&output.stderr);
        (output.status.code(), said)
    };
    for (arguments, hint) in [
        (["inspect", ID], "hint: download it: trestle fetch Qwen/Toy"),
        (
            ["inspect", "Qwen/Qwen3.5-4B"],
            "hint: download them: trestle fetch Qwen/Qwen3.5-4B",
        ),
        (
            ["inspect", "0.8b"],
            "hint: download them: trestle fetch Qwen/Qwen3.5-0.8B",
        ),
        (
            ["map", "Qwen/Qwen3.5-08B"],
            "hint: did you mean Qwen/Qwen3.5-0.8B?",
        ),
        (["map", "nothing"], "hint: sizes: qwen3_5-0_8b, "),
    ] {
        let (code, said) = run(&arguments);
        assert_eq!(code, Some(4), "{said}");
        assert!(said.contains(hint), "{said}");
    }
    // The geometry of a published size needs no file.
    assert_eq!(run(&["map", "Qwen/Qwen3.5-4B"]).0, Some(0));

    let (code, said) = run(&["fetch", ID, "--include", "*.json"]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = run(&["inspect", ID]);
    assert_eq!(code, Some(4), "{said}");
    assert!(
        said.contains("lacks model.safetensors")
            && said.contains("hint: download the rest: trestle fetch Qwen/Toy"),
        "{said}"
    );
    let (code, said) = run(&["fetch", ID]);
    assert_eq!(code, Some(0), "{said}");
    for command in ["inspect", "map"] {
        let (code, said) = run(&[command, ID]);
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains("mtp.fc.weight"), "{command}: {said}");
    }
}

/// A fetch of a server that drips, under way.
fn begin(server: &Server, folder: &Path, partial: &Path) -> Child {
    let mut command = trestle(server, folder, &["fetch", ID]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let child = command.spawn().unwrap();
    let begin = Instant::now();
    while fs::metadata(partial).map_or(0, |data| data.len()) < 40_000 {
        assert!(begin.elapsed() < Duration::from_secs(20), "nothing came");
        thread::sleep(Duration::from_millis(5));
    }
    child
}

#[test]
fn a_download_that_was_killed_goes_on_where_it_was() {
    use rustix::process::{Pid, Signal, kill_process};
    let manner = Manner {
        drip: Duration::from_millis(20),
        ..Manner::default()
    };
    let name = "model-1.safetensors";
    for signal in [Signal::KILL, Signal::INT] {
        let server = Server::start(toy(400_000), manner.clone());
        let folder = tempfile::tempdir().unwrap();
        let here = folder.path();
        let blobs = here.join("hf/hub/models--Qwen--Toy/blobs");
        let partial = blobs.join(format!("{}.incomplete", server.etag(name)));
        let child = begin(&server, here, &partial);
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        if signal == Signal::INT {
            assert_eq!(output.status.code(), Some(1), "{said}");
            assert!(said.contains("what was downloaded is kept"), "{said}");
        }
        let there = fs::metadata(&partial).unwrap().len();
        assert!((40_000..400_000).contains(&there), "{there}");

        let output = run(&mut trestle(&server, here, &["fetch", ID]));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let requests = server.requests_for(name);
        let range = format!("bytes={there}-");
        assert_eq!(requests[1].header("range"), Some(range.as_str()));
        let snapshot = text(&output.stdout);
        let contents = fs::read(Path::new(snapshot.trim()).join(name)).unwrap();
        assert!(contents == server.contents(name));
    }
}
