//! Servers, connections and disks that misbehave.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use trestle::base::Bytes;
use trestle::hub::{self, HubError, ModelId, Stage};

use super::server::{COMMIT, Fault, ID, Manner, Server, fetch, options, toy};

/// A status without headers.
fn status(status: u16) -> Fault {
    Fault::Status(status, vec![])
}

#[test]
fn the_token_goes_to_the_hub_and_nowhere_else() {
    let manner = Manner {
        token: Some("hf_secret"),
        ..Manner::default()
    };
    let server = Server::start(toy(10_000), manner);
    let folder = tempfile::tempdir().unwrap();
    fetch(&server.environment(folder.path(), Some("hf_secret"))).unwrap();
    let requests = server.requests();
    assert!(requests.iter().any(|request| request.store));
    for request in requests {
        let expected = (!request.store).then_some("Bearer hf_secret");
        assert_eq!(request.header("authorization"), expected, "{request:?}");
    }
}

#[test]
fn a_gated_model_says_what_to_do() {
    let manner = Manner {
        token: Some("hf_secret"),
        ..Manner::default()
    };
    let server = Server::start(toy(1000), manner);
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&server.environment(folder.path(), None)).unwrap_err();
    let said = error.to_string();
    assert!(
        said.contains("does not let us have Qwen/Toy: status 401 (Invalid username or password.)"),
        "{said}"
    );
    assert!(error.hint().unwrap().contains("set HF_TOKEN"));

    let error = fetch(&server.environment(folder.path(), Some("hf_wrong"))).unwrap_err();
    assert!(error.hint().unwrap().contains("the token is not enough"));
    assert!(!format!("{error} {error:?}").contains("hf_wrong"));
    assert!(!folder.path().join("hub").exists(), "nothing was written");
}

#[test]
fn too_many_requests_are_repeated_when_the_server_says() {
    let server = Server::start(toy(1000), Manner::default());
    let wait = Fault::Status(429, vec![("retry-after", "1".into())]);
    server.fault("/revision/main", [wait]);
    let window = Fault::Status(429, vec![("ratelimit", "\"resolvers\";r=0;t=1".into())]);
    server.fault("config.json", [window]);
    let folder = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    fetch(&server.environment(folder.path(), None)).unwrap();
    assert!(begin.elapsed() >= Duration::from_secs(2));
}

#[test]
fn a_wait_that_is_too_long_is_said_at_once() {
    let server = Server::start(toy(1000), Manner::default());
    let wait = Fault::Status(429, vec![("retry-after", "3600".into())]);
    server.fault("/revision/main", [wait]);
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&server.environment(folder.path(), None)).unwrap_err();
    assert!(
        error.to_string().ends_with("; it asks us to wait 3600 s"),
        "{error}"
    );
}

#[test]
fn a_server_error_passes_or_is_said_with_its_attempts() {
    let server = Server::start(toy(1000), Manner::default());
    server.fault("/revision/main", [status(500), status(503)]);
    server.fault("model-1.safetensors", [status(502), status(403)]);
    let folder = tempfile::tempdir().unwrap();
    fetch(&server.environment(folder.path(), None)).unwrap();

    let server = Server::start(toy(1000), Manner::default());
    server.fault("config.json", (0..9).map(|_| status(500)));
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&server.environment(folder.path(), None)).unwrap_err();
    let HubError::Status {
        status, attempts, ..
    } = error
    else {
        panic!("{error}");
    };
    assert_eq!((status, attempts), (500, 4));
    assert_eq!(server.requests_for("config.json").len(), 4);
}

#[test]
fn no_server_at_all_is_said_with_its_attempts() {
    let server = Server::start(toy(1000), Manner::default());
    let folder = tempfile::tempdir().unwrap();
    let mut environment = server.environment(folder.path(), None);
    // A port that was free a moment ago.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    environment.endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let error = fetch(&environment).unwrap_err();
    let HubError::Unreachable { attempts: 3, .. } = error else {
        panic!("{error}");
    };
    assert!(error.hint().unwrap().contains("HF_ENDPOINT"));
}

#[test]
fn a_server_without_tls_is_not_asked_again() {
    let server = Server::start(toy(1000), Manner::default());
    let folder = tempfile::tempdir().unwrap();
    let mut environment = server.environment(folder.path(), None);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    environment.endpoint = format!("https://{}", listener.local_addr().unwrap());
    let asked = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
        let _ = stream.read(&mut [0; 4096]);
    });
    let error = fetch(&environment).unwrap_err();
    assert!(matches!(error, HubError::Tls { .. }), "{error}");
    assert!(error.hint().unwrap().contains("SSL_CERT_FILE"));
    asked.join().unwrap();

    environment.certificates = Some(folder.path().join("none.pem"));
    let error = fetch(&environment).unwrap_err();
    assert!(error.to_string().contains("none.pem: "), "{error}");
}

#[test]
fn a_silent_connection_is_given_up_and_continued() {
    let server = Server::start(toy(100_000), Manner::default());
    server.fault("model-1.safetensors", [Fault::SilentAfter(40_960)]);
    let folder = tempfile::tempdir().unwrap();
    let mut environment = server.environment(folder.path(), None);
    environment.patience = Duration::from_secs(1);
    let (snapshot, _) = fetch(&environment).unwrap();
    let name = "model-1.safetensors";
    assert_eq!(
        fs::read(snapshot.join(name)).unwrap(),
        server.contents(name)
    );
    let requests = server.requests_for(name);
    assert_eq!(requests[1].header("range"), Some("bytes=40960-"));
}

#[test]
fn a_damaged_file_is_downloaded_once_more_and_then_refused() {
    let name = "model-1.safetensors";
    let server = Server::start(toy(10_000), Manner::default());
    server.fault(name, [Fault::Damage]);
    let folder = tempfile::tempdir().unwrap();
    let (snapshot, _) = fetch(&server.environment(folder.path(), None)).unwrap();
    assert_eq!(
        fs::read(snapshot.join(name)).unwrap(),
        server.contents(name)
    );

    let server = Server::start(toy(10_000), Manner::default());
    server.fault(name, [Fault::Damage, Fault::Damage]);
    let folder = tempfile::tempdir().unwrap();
    let environment = server.environment(folder.path(), None);
    let error = fetch(&environment).unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with("model-1.safetensors is damaged: its SHA-256 is ")
            && said.ends_with(&server.etag(name)),
        "{said}"
    );
    let blobs = environment.cache.join("models--Qwen--Toy/blobs");
    assert!(!blobs.join(server.etag(name)).exists());
    let partial = format!("{}.incomplete", server.etag(name));
    assert!(!blobs.join(partial).exists(), "damage is not kept");
    let id: ModelId = ID.parse().unwrap();
    assert_eq!(
        hub::find(&environment.cache, &id),
        None,
        "the branch is not pointed at half a model"
    );
}

#[test]
fn contents_without_end_are_read_to_their_size() {
    let name = "model-1.safetensors";
    let server = Server::start(toy(10_000), Manner::default());
    server.fault(name, [Fault::Endless]);
    let folder = tempfile::tempdir().unwrap();
    let (snapshot, progress) = fetch(&server.environment(folder.path(), None)).unwrap();
    assert_eq!(
        fs::read(snapshot.join(name)).unwrap(),
        server.contents(name)
    );
    assert_eq!(progress.received, progress.total);
}

#[test]
fn a_length_that_the_hub_does_not_know_is_refused() {
    let sum = "a".repeat(64);
    let list = format!(
        "{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"model-1.safetensors\", \"size\": 9000, \
         \"lfs\": {{\"sha256\": \"{sum}\", \"size\": 9000}}}}]}}"
    );
    let manner = Manner {
        list: Some(list),
        ..Manner::default()
    };
    let server = Server::start(toy(10_000), manner);
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&server.environment(folder.path(), None)).unwrap_err();
    assert!(
        error.to_string().ends_with(
            "model-1.safetensors sends 10000 more bytes after 0, the Hub says 9000 in all"
        ),
        "{error}"
    );
}

#[test]
fn redirects_in_a_circle_end() {
    let server = Server::start(toy(1000), Manner::default());
    let circle = || Fault::Status(302, vec![("location", "config.json".into())]);
    server.fault("config.json", (0..30).map(|_| circle()));
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&server.environment(folder.path(), None)).unwrap_err();
    assert!(
        error.to_string().contains("elsewhere more than 10 times"),
        "{error}"
    );
}

#[test]
fn a_list_that_makes_no_sense_is_refused() {
    for (list, why) in [
        ("<html>Sign in</html>".to_owned(), "the answer is not what"),
        ("{\"sha\": \"main\"}".to_owned(), "\"main\" is no commit"),
        (
            format!(
                "{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"additional_chat_templates/../../../x.json\"}}]}}"
            ),
            "has no file that is wanted",
        ),
        (
            format!(
                "{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"\\u0007.json\"}}]}}"
            ),
            "would leave the folder",
        ),
        (
            format!("{{\"sha\": \"{COMMIT}\", \"siblings\": []}}"),
            "has no file that is wanted, of 0",
        ),
    ] {
        let manner = Manner {
            list: Some(list),
            ..Manner::default()
        };
        let server = Server::start(toy(1000), manner);
        let folder = tempfile::tempdir().unwrap();
        let error = fetch(&server.environment(folder.path(), None)).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_model_that_does_not_fit_is_not_begun() {
    let list = format!(
        "{{\"sha\": \"{COMMIT}\", \"siblings\": [{{\"rfilename\": \"model-1.safetensors\", \"size\": {0}, \
         \"lfs\": {{\"sha256\": \"{1}\", \"size\": {0}}}}}]}}",
        1_u64 << 60,
        "a".repeat(64)
    );
    let manner = Manner {
        list: Some(list),
        ..Manner::default()
    };
    let server = Server::start(toy(1000), manner);
    let folder = tempfile::tempdir().unwrap();
    let error = fetch(&server.environment(folder.path(), None)).unwrap_err();
    let HubError::DiskFull { needed, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(needed, Bytes(1 << 60));
    assert!(error.hint().unwrap().contains("HF_HUB_CACHE"));
    assert_eq!(server.requests().len(), 1);
    assert!(!folder.path().join("hub").exists());
}

#[test]
fn a_cache_that_cannot_be_written_is_named() {
    let server = Server::start(toy(1000), Manner::default());
    let folder = tempfile::tempdir().unwrap();
    let environment = server.environment(folder.path(), None);
    fs::write(&environment.cache, "a file where the folder should be").unwrap();
    let error = fetch(&environment).unwrap_err();
    let said = error.to_string();
    assert!(
        said.starts_with(&format!("cannot write {}", environment.cache.display())),
        "{said}"
    );
}

#[test]
fn a_cancelled_download_ends_at_once_and_keeps_its_part() {
    let server = Server::start(toy(100_000), Manner::default());
    let name = "model-1.safetensors";
    server.fault(name, [Fault::SilentAfter(40_960)]);
    let folder = tempfile::tempdir().unwrap();
    let environment = server.environment(folder.path(), None);
    let cancel = AtomicBool::new(false);
    let id: ModelId = ID.parse().unwrap();
    let plan = hub::plan(&id, &options(), &environment, &cancel).unwrap();
    let mut cancelled_at = None;
    let error = hub::fetch(&plan, &options(), &environment, &cancel, &mut |progress| {
        let file = progress.files.iter().find(|file| file.name == name);
        if file.is_some_and(|f| f.done.0 == 40_960 && f.stage == Stage::Downloading) {
            cancelled_at.get_or_insert_with(Instant::now);
            cancel.store(true, Relaxed);
        }
    })
    .unwrap_err();
    assert!(matches!(error, HubError::Stopped), "{error}");
    assert!(cancelled_at.unwrap().elapsed() < Duration::from_secs(2));
    let partial = format!("models--Qwen--Toy/blobs/{}.incomplete", server.etag(name));
    assert_eq!(
        fs::metadata(environment.cache.join(partial)).unwrap().len(),
        40_960
    );

    let (snapshot, _) = fetch(&environment).unwrap();
    assert_eq!(
        fs::read(snapshot.join(name)).unwrap(),
        server.contents(name)
    );
    assert_eq!(
        server.requests_for(name)[1].header("range"),
        Some("bytes=40960-")
    );
}

#[test]
fn a_plan_that_waits_is_cancelled_at_once() {
    let server = Server::start(toy(1000), Manner::default());
    let wait = || Fault::Status(429, vec![("retry-after", "5".into())]);
    server.fault("/revision/main", [wait(), wait(), wait()]);
    let folder = tempfile::tempdir().unwrap();
    let environment = server.environment(folder.path(), None);
    let cancel = AtomicBool::new(false);
    let begin = Instant::now();
    thread::scope(|scope| {
        scope.spawn(|| {
            thread::sleep(Duration::from_millis(200));
            cancel.store(true, Relaxed);
        });
        let id: ModelId = ID.parse().unwrap();
        let error = hub::plan(&id, &options(), &environment, &cancel).unwrap_err();
        assert!(matches!(error, HubError::Stopped), "{error}");
    });
    assert!(begin.elapsed() < Duration::from_secs(2));
}
