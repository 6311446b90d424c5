//! Downloads that go well, and what they leave in the cache.

use std::fs;
use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Duration;

use trestle::base::Bytes;
use trestle::hub::{self, HubError, ModelId, Options, Stage};

use super::server::{COMMIT, Fault, ID, Manner, Server, fetch, fetch_with, options, toy};

#[test]
fn a_model_lands_in_the_cache_as_huggingface_hub_lays_it_out() {
    let server = Server::start(toy(100_000), Manner::default());
    let folder = tempfile::tempdir().unwrap();
    let environment = server.environment(folder.path(), None);
    let (snapshot, progress) = fetch(&environment).unwrap();

    let model = environment.cache.join("models--Qwen--Toy");
    assert_eq!(snapshot, model.join("snapshots").join(COMMIT));
    assert_eq!(fs::read_to_string(model.join("refs/main")).unwrap(), COMMIT);
    let mut names: Vec<String> = fs::read_dir(&snapshot)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "config.json",
            "model-1.safetensors",
            "model-2.safetensors",
            "model.safetensors.index.json",
            "tokenizer.json"
        ]
    );
    for name in &names {
        let link = fs::read_link(snapshot.join(name)).unwrap();
        let blob = format!("../../blobs/{}", server.etag(name));
        assert_eq!(link.to_str(), Some(blob.as_str()));
        assert_eq!(
            fs::read(snapshot.join(name)).unwrap(),
            server.contents(name)
        );
    }
    assert_eq!(fs::read_dir(model.join("blobs")).unwrap().count(), 5);
    assert_eq!(progress.done, progress.total);
    assert_eq!(progress.received, progress.total);
    assert!(progress.files.iter().all(|f| f.stage == Stage::Done));

    let id: ModelId = ID.parse().unwrap();
    assert_eq!(hub::find(&environment.cache, &id), Some(snapshot.clone()));
    assert!(hub::missing(&snapshot).is_empty());

    // The second time only the list is asked for.
    let before = server.requests().len();
    let (again, progress) = fetch(&environment).unwrap();
    assert_eq!((again, progress.received), (snapshot, Bytes(0)));
    assert_eq!(server.requests().len(), before + 1);
}

#[test]
fn a_list_without_sums_is_completed_from_the_headers() {
    let manner = Manner {
        bare_list: true,
        ..Manner::default()
    };
    let server = Server::start(toy(10_000), manner);
    let folder = tempfile::tempdir().unwrap();
    let (snapshot, _) = fetch(&server.environment(folder.path(), None)).unwrap();
    for name in ["config.json", "model-1.safetensors"] {
        let link = fs::read_link(snapshot.join(name)).unwrap();
        assert!(link.ends_with(server.etag(name)), "{}", link.display());
    }
    let heads = server.requests();
    let heads = heads.iter().filter(|request| request.method == "HEAD");
    assert!(heads.clone().all(|request| !request.store));
    assert_eq!(heads.count(), 5);
}

#[test]
fn only_files_that_match_are_downloaded() {
    let server = Server::start(toy(10_000), Manner::default());
    let folder = tempfile::tempdir().unwrap();
    let environment = server.environment(folder.path(), None);
    let some = Options {
        include: vec!["*.json".into()],
        exclude: vec!["tokenizer*".into()],
        ..options()
    };
    let (snapshot, _) = fetch_with(&some, &environment).unwrap();
    assert_eq!(fs::read_dir(&snapshot).unwrap().count(), 2);
    assert_eq!(
        hub::missing(&snapshot),
        ["model-1.safetensors", "model-2.safetensors"]
    );
    let none = Options {
        include: vec!["*.gguf".into()],
        ..options()
    };
    let error = fetch_with(&none, &environment).unwrap_err();
    assert!(matches!(error, HubError::NothingWanted { files: 7, .. }));
}

#[test]
fn a_revision_may_be_a_commit() {
    let server = Server::start(toy(1000), Manner::default());
    let folder = tempfile::tempdir().unwrap();
    let environment = server.environment(folder.path(), None);
    let cancel = AtomicBool::new(false);
    let id: ModelId = format!("{ID}@{COMMIT}").parse().unwrap();
    let plan = hub::plan(&id, &options(), &environment, &cancel).unwrap();
    hub::fetch(&plan, &options(), &environment, &cancel, &mut |_| {}).unwrap();
    assert!(hub::find(&environment.cache, &id).is_some());
    let model = environment.cache.join("models--Qwen--Toy");
    assert!(!model.join("refs").exists(), "a commit needs no ref");

    let id: ModelId = format!("{ID}@v9").parse().unwrap();
    let error = hub::plan(&id, &options(), &environment, &cancel).unwrap_err();
    assert!(
        error.to_string().contains("has no revision v9 of Qwen/Toy"),
        "{error}"
    );
}

#[test]
fn a_broken_connection_is_continued_where_it_broke() {
    let server = Server::start(toy(300_000), Manner::default());
    server.fault(
        "model-1.safetensors",
        [Fault::CutAfter(70_000), Fault::CutAfter(50_000)],
    );
    let folder = tempfile::tempdir().unwrap();
    let (snapshot, progress) = fetch(&server.environment(folder.path(), None)).unwrap();
    let name = "model-1.safetensors";
    assert_eq!(
        fs::read(snapshot.join(name)).unwrap(),
        server.contents(name)
    );
    let requests = server.requests_for(name);
    let ranges: Vec<_> = requests.iter().map(|r| r.header("range")).collect();
    assert_eq!(ranges, [None, Some("bytes=70000-"), Some("bytes=120000-")]);
    assert_eq!(progress.received, progress.total, "no byte came twice");
}

#[test]
fn a_server_without_ranges_sends_all_of_it_again() {
    let manner = Manner {
        no_ranges: true,
        ..Manner::default()
    };
    let server = Server::start(toy(100_000), manner);
    server.fault("model-1.safetensors", [Fault::CutAfter(70_000)]);
    let folder = tempfile::tempdir().unwrap();
    let (snapshot, progress) = fetch(&server.environment(folder.path(), None)).unwrap();
    let name = "model-1.safetensors";
    assert_eq!(
        fs::read(snapshot.join(name)).unwrap(),
        server.contents(name)
    );
    assert_eq!(progress.received.0, progress.total.0 + 70_000);
}

#[test]
fn what_another_process_left_is_used_if_it_is_right() {
    let server = Server::start(toy(100_000), Manner::default());
    let folder = tempfile::tempdir().unwrap();
    let environment = server.environment(folder.path(), None);
    let blobs = environment.cache.join("models--Qwen--Toy/blobs");
    fs::create_dir_all(&blobs).unwrap();
    let partial = |name: &str| blobs.join(format!("{}.incomplete", server.etag(name)));
    let (right, wrong) = ("model-1.safetensors", "model-2.safetensors");
    fs::write(partial(right), &server.contents(right)[..60_000]).unwrap();
    fs::write(partial(wrong), vec![7; 60_000]).unwrap();
    // Whole, but without its name yet.
    fs::write(partial("tokenizer.json"), "{}").unwrap();

    let (snapshot, progress) = fetch(&environment).unwrap();
    for name in [right, wrong, "tokenizer.json"] {
        assert_eq!(
            fs::read(snapshot.join(name)).unwrap(),
            server.contents(name),
            "{name}"
        );
    }
    let ranges = |name| {
        let requests = server.requests_for(name);
        let ranges = requests
            .iter()
            .map(|r| r.header("range").map(str::to_owned));
        ranges.collect::<Vec<_>>()
    };
    let rest = Some("bytes=60000-".to_owned());
    assert_eq!(
        ranges(wrong),
        [rest.clone(), None],
        "once more from its start"
    );
    assert_eq!(ranges(right), [rest]);
    assert!(ranges("tokenizer.json").is_empty());
    assert_eq!(progress.received.0, progress.total.0 - 2 - 60_000 + 40_000);
}

#[test]
fn two_fetches_at_once_download_each_file_once() {
    let manner = Manner {
        drip: Duration::from_millis(5),
        ..Manner::default()
    };
    let server = Server::start(toy(100_000), manner);
    let folder = tempfile::tempdir().unwrap();
    let environment = server.environment(folder.path(), None);
    thread::scope(|scope| {
        let both = [(); 2].map(|()| scope.spawn(|| fetch(&environment)));
        for one in both {
            let (snapshot, _) = one.join().unwrap().unwrap();
            assert!(hub::missing(&snapshot).is_empty());
        }
    });
    for name in ["config.json", "model-1.safetensors", "model-2.safetensors"] {
        assert_eq!(server.requests_for(name).len(), 1, "{name}");
    }
}
