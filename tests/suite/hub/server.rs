//! A Hub of one model on two ports: the Hub itself, and the store of large files that it redirects to.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use ring::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256};
use trestle::hub::{self, Environment, HubError, ModelId, Options, Progress, Retry, Token};

pub(super) const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";
pub(super) const ID: &str = "Qwen/Toy";

/// A file of the model.
#[derive(Clone)]
pub(super) struct File {
    pub(super) contents: Vec<u8>,
    /// Whether it is in the store.
    pub(super) large: bool,
}

impl File {
    /// The sum that the Hub states, and the blob's name.
    pub(super) fn etag(&self) -> String {
        let mut context = Context::new(if self.large {
            &SHA256
        } else {
            &SHA1_FOR_LEGACY_USE_ONLY
        });
        if !self.large {
            context.update(format!("blob {}\0", self.contents.len()).as_bytes());
        }
        context.update(&self.contents);
        let digest = context.finish();
        let mut hex = String::new();
        for byte in digest.as_ref() {
            write!(hex, "{byte:02x}").unwrap();
        }
        hex
    }
}

/// What goes wrong with one answer.
#[derive(Clone)]
pub(super) enum Fault {
    /// A status with headers and no contents.
    Status(u16, Vec<(&'static str, String)>),
    /// The connection ends after so many bytes of the contents.
    CutAfter(usize),
    /// The connection falls silent after so many bytes.
    SilentAfter(usize),
    /// The first byte is another.
    Damage,
    /// The contents go on without end, and no length is said.
    Endless,
}

/// A request as it came.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub(super) store: bool,
    pub(super) method: String,
    pub(super) path: String,
    pub(super) headers: HashMap<String, String>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// How the server behaves.
#[derive(Clone, Default)]
pub(super) struct Manner {
    /// Who is let in; everybody if it is none.
    pub(super) token: Option<&'static str>,
    /// Whether a later part of a file can be asked for.
    pub(super) no_ranges: bool,
    /// Whether the list has neither sizes nor sums.
    pub(super) bare_list: bool,
    /// The wait after each 4 KiB of contents.
    pub(super) drip: Duration,
    /// The list to send in place of the right one.
    pub(super) list: Option<String>,
}

pub(super) struct Server {
    pub(super) hub: SocketAddr,
    state: Arc<State>,
}

struct State {
    store: SocketAddr,
    files: BTreeMap<String, File>,
    manner: Manner,
    /// What goes wrong next with a path that ends so.
    faults: Mutex<Vec<(String, VecDeque<Fault>)>>,
    requests: Mutex<Vec<Request>>,
}

/// The files of the toy, `weights` bytes of them weights.
pub(super) fn toy(weights: usize) -> BTreeMap<String, File> {
    let small = |text: &str| File {
        contents: text.as_bytes().to_vec(),
        large: false,
    };
    let large = |seed: usize| File {
        contents: (0..weights)
            .map(|i| ((i * 31 + i / 251 + seed) % 256) as u8)
            .collect(),
        large: true,
    };
    BTreeMap::from([
        (".gitattributes".into(), small("*.safetensors filter=lfs\n")),
        ("config.json".into(), small("{\"model_type\": \"qwen3_5\"}")),
        ("model-1.safetensors".into(), large(1)),
        ("model-2.safetensors".into(), large(2)),
        (
            "model.safetensors.index.json".into(),
            small(
                "{\"weight_map\": {\"a\": \"model-1.safetensors\", \"b\": \"model-2.safetensors\"}}",
            ),
        ),
        ("pytorch_model.bin".into(), large(3)),
        ("tokenizer.json".into(), small("{}")),
    ])
}

impl Server {
    pub(super) fn start(files: BTreeMap<String, File>, manner: Manner) -> Self {
        let hub = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = hub.local_addr().unwrap();
        let state = Arc::new(State {
            store: store.local_addr().unwrap(),
            files,
            manner,
            faults: Mutex::default(),
            requests: Mutex::default(),
        });
        for (listener, is_store) in [(hub, false), (store, true)] {
            let state = Arc::clone(&state);
            // The threads end with the test's process.
            thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    thread::spawn(move || state.serve(stream, is_store));
                }
            });
        }
        Self {
            hub: address,
            state,
        }
    }

    /// Lets the next requests for paths that end in `suffix` go wrong, one after the other.
    pub(super) fn fault(&self, suffix: &str, faults: impl IntoIterator<Item = Fault>) {
        let faults = faults.into_iter().collect();
        let mut all = self.state.faults.lock().unwrap();
        all.push((suffix.to_owned(), faults));
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.state.requests.lock().unwrap().clone()
    }

    /// The requests for a file's contents: at the store if it is large.
    pub(super) fn requests_for(&self, name: &str) -> Vec<Request> {
        let large = self.state.files[name].large;
        let mut requests = self.requests();
        requests.retain(|request| {
            let path = request.path.split('?').next().unwrap();
            path.ends_with(&format!("/{name}")) && request.method == "GET" && request.store == large
        });
        requests
    }

    pub(super) fn contents(&self, name: &str) -> &[u8] {
        &self.state.files[name].contents
    }

    pub(super) fn etag(&self, name: &str) -> String {
        self.state.files[name].etag()
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.hub)
    }

    /// An environment whose cache is in `folder`.
    pub(super) fn environment(&self, folder: &Path, token: Option<&str>) -> Environment {
        Environment {
            cache: folder.join("hub"),
            endpoint: self.endpoint(),
            token: token.and_then(|token| Token::new(token).unwrap()),
            offline: false,
            patience: Duration::from_secs(10),
            certificates: None,
        }
    }
}

/// Waits that a test can afford.
pub(super) fn options() -> Options {
    Options {
        retry: Retry {
            attempts: 4,
            first: Duration::from_millis(5),
            longest: Duration::from_millis(20),
            longest_asked: Duration::from_secs(5),
        },
        ..Options::default()
    }
}

pub(super) fn fetch(environment: &Environment) -> Result<(PathBuf, Progress), HubError> {
    fetch_with(&options(), environment)
}

pub(super) fn fetch_with(
    options: &Options,
    environment: &Environment,
) -> Result<(PathBuf, Progress), HubError> {
    let id: ModelId = ID.parse().unwrap();
    let cancel = AtomicBool::new(false);
    let plan = hub::plan(&id, options, environment, &cancel)?;
    let progress = hub::fetch(&plan, options, environment, &cancel, &mut |_| {})?;
    Ok((plan.snapshot, progress))
}

impl State {
    fn serve(&self, mut stream: TcpStream, store: bool) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        while let Some(request) = read_request(&mut reader, store) {
            self.requests.lock().unwrap().push(request.clone());
            if self.answer(&request, &mut stream).is_none() {
                return;
            }
        }
    }

    fn next_fault(&self, request: &Request) -> Option<Fault> {
        let mut all = self.faults.lock().unwrap();
        let path = request.path.split('?').next().unwrap();
        // A large file's fault waits for the store.
        let name = path.rsplit('/').next().unwrap();
        let elsewhere = self.files.get(name).is_some_and(|f| f.large) && !request.store;
        let faults = all.iter_mut().find(|(suffix, _)| path.ends_with(suffix));
        faults.filter(|_| !elsewhere)?.1.pop_front()
    }

    /// Answers one request; none if the connection ends.
    fn answer(&self, request: &Request, stream: &mut TcpStream) -> Option<()> {
        let fault = self.next_fault(request);
        if let Some(Fault::Status(status, headers)) = &fault {
            return send(stream, *status, headers, b"");
        }
        if let Some(token) = self.manner.token
            && !request.store
            && request.header("authorization") != Some(&format!("Bearer {token}"))
        {
            let words = ("x-error-message", "Invalid username or password.".into());
            return send(stream, 401, &[words], b"");
        }
        let path = request.path.split('?').next().unwrap();
        if path == format!("/api/models/{ID}/revision/main")
            || path == format!("/api/models/{ID}/revision/{COMMIT}")
        {
            let list = self.manner.list.clone().unwrap_or_else(|| self.list());
            return send(stream, 200, &[], list.as_bytes());
        }
        if path == format!("/api/models/{ID}/tree/{COMMIT}") {
            return send(stream, 200, &[], self.tree().as_bytes());
        }
        if path.starts_with(&format!("/api/models/{ID}/")) {
            return send(
                stream,
                404,
                &[("x-error-code", "RevisionNotFound".into())],
                b"",
            );
        }
        let prefix = if request.store {
            "/store/".to_owned()
        } else {
            format!("/{ID}/resolve/{COMMIT}/")
        };
        let Some((name, file)) = path
            .strip_prefix(&prefix)
            .and_then(|name| self.files.get_key_value(name))
        else {
            return send(stream, 404, &[("x-error-code", "RepoNotFound".into())], b"");
        };
        if file.large && !request.store {
            let headers = [
                (
                    "location",
                    format!("http://{}/store/{name}?Signature=s", self.store),
                ),
                ("x-repo-commit", COMMIT.to_owned()),
                ("x-linked-size", file.contents.len().to_string()),
                ("x-linked-etag", format!("\"{}\"", file.etag())),
            ];
            return send(stream, 302, &headers, b"");
        }
        if request.method == "HEAD" {
            let headers = [
                ("etag", format!("\"{}\"", file.etag())),
                ("x-repo-commit", COMMIT.to_owned()),
            ];
            return send_head(stream, 200, &headers, file.contents.len());
        }
        self.contents(request, file, fault, stream)
    }

    fn contents(
        &self,
        request: &Request,
        file: &File,
        fault: Option<Fault>,
        stream: &mut TcpStream,
    ) -> Option<()> {
        let mut contents = file.contents.clone();
        let size = contents.len();
        let start = request
            .header("range")
            .filter(|_| !self.manner.no_ranges)
            .map(|range| range.strip_prefix("bytes=").unwrap().trim_end_matches('-'))
            .map_or(0, |start| start.parse().unwrap());
        if start >= size && start > 0 {
            let range = ("content-range", format!("bytes */{size}"));
            return send(stream, 416, &[range], b"");
        }
        let end = match fault {
            Some(Fault::CutAfter(count) | Fault::SilentAfter(count)) => (start + count).min(size),
            Some(Fault::Damage) => {
                contents[0] ^= 1;
                size
            }
            Some(Fault::Endless) => {
                stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
                loop {
                    stream.write_all(&contents).ok()?;
                }
            }
            _ => size,
        };
        if start > 0 {
            let range = (
                "content-range",
                format!("bytes {start}-{}/{size}", size - 1),
            );
            send_head(stream, 206, &[range], size - start)?;
        } else {
            send_head(stream, 200, &[], size)?;
        }
        for chunk in contents[start..end].chunks(4096) {
            stream.write_all(chunk).ok()?;
            thread::sleep(self.manner.drip);
        }
        match fault {
            Some(Fault::CutAfter(_)) => None,
            Some(Fault::SilentAfter(_)) => {
                thread::sleep(Duration::from_secs(30));
                None
            }
            _ => Some(()),
        }
    }

    /// The same files as `huggingface_hub` asks for them.
    fn tree(&self) -> String {
        let entries = self.files.iter().map(|(name, file)| {
            let (size, etag) = (file.contents.len(), file.etag());
            if file.large {
                serde_json::json!({"type": "file", "path": name, "size": size, "oid": "f".repeat(40),
                    "lfs": {"oid": etag, "size": size, "pointerSize": 130}})
            } else {
                serde_json::json!({"type": "file", "path": name, "size": size, "oid": etag})
            }
        });
        serde_json::Value::Array(entries.collect()).to_string()
    }

    fn list(&self) -> String {
        let siblings = self.files.iter().map(|(name, file)| {
            let size = file.contents.len();
            match (self.manner.bare_list, file.large) {
                (true, _) => format!("{{\"rfilename\": \"{name}\"}}"),
                (_, true) => format!(
                    "{{\"rfilename\": \"{name}\", \"size\": {size}, \"blobId\": \"{}\", \"lfs\": {{\"sha256\": \"{}\", \
                     \"size\": {size}, \"pointerSize\": 130}}}}",
                    "f".repeat(40),
                    file.etag()
                ),
                _ => format!(
                    "{{\"rfilename\": \"{name}\", \"size\": {size}, \"blobId\": \"{}\"}}",
                    file.etag()
                ),
            }
        });
        let siblings: Vec<String> = siblings.collect();
        format!(
            "{{\"id\": \"{ID}\", \"sha\": \"{COMMIT}\", \"siblings\": [{}]}}",
            siblings.join(", ")
        )
    }
}

fn read_request(reader: &mut impl BufRead, store: bool) -> Option<Request> {
    let mut line = String::new();
    reader
        .read_line(&mut line)
        .ok()
        .filter(|count| *count > 0)?;
    let mut parts = line.split_whitespace();
    let (method, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    let mut headers = HashMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(": ") else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.to_owned());
    }
    Some(Request {
        store,
        method,
        path,
        headers,
    })
}

fn send(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    contents: &[u8],
) -> Option<()> {
    send_head(stream, status, headers, contents.len())?;
    stream.write_all(contents).ok()
}

fn send_head(
    stream: &mut TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    length: usize,
) -> Option<()> {
    let mut head = format!("HTTP/1.1 {status} Status\r\ncontent-length: {length}\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    head += "\r\n";
    stream.write_all(head.as_bytes()).ok()
}
