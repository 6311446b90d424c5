//! What can go wrong between here and the Hub.

use std::io;
use std::path::PathBuf;

use thiserror::Error;

use crate::base::Bytes;

/// Why a model was not found or not downloaded.
#[derive(Debug, Error)]
pub enum HubError {
    /// A text that names no model.
    #[error("{text:?} is no Hub id: {why}")]
    Id {
        /// The text.
        text: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A pattern that is none.
    #[error("{pattern:?} is no pattern: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A server's address that is none.
    #[error("HF_ENDPOINT = {endpoint:?} is no http:// or https:// URL")]
    Endpoint {
        /// The address.
        endpoint: String,
    },
    /// A token that no header can carry; its text is left out.
    #[error("the Hub token has characters that no HTTP header may have")]
    Token,
    /// Certificates that cannot be read.
    #[error("SSL_CERT_FILE = {}: {why}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
    /// 401 or 403: private, gated, or not there at all, which the Hub does not tell strangers.
    #[error(
        "{endpoint} does not let us have {id}: status {status}{}",
        said(message)
    )]
    Forbidden {
        /// The model.
        id: String,
        /// The server.
        endpoint: String,
        /// 401 or 403.
        status: u16,
        /// The server's own words.
        message: String,
        /// Whether the request had a token.
        with_token: bool,
    },
    /// 404 for a model, or for its revision.
    #[error("{endpoint} has no {what}{}", said(message))]
    NotFound {
        /// What: `model Qwen/X`, `revision v2 of Qwen/X`, `file x of Qwen/X`.
        what: String,
        /// The server.
        endpoint: String,
        /// The server's own words.
        message: String,
    },
    /// 429, again and again, or with a wait that is too long.
    #[error("{endpoint} has had too many requests{}", wait(*seconds))]
    TooManyRequests {
        /// The server.
        endpoint: String,
        /// Seconds to wait, if it said.
        seconds: Option<u64>,
    },
    /// Any other status.
    #[error("{url} answered status {status}{}{}", said(message), tries(*attempts))]
    Status {
        /// What was asked, without its query.
        url: String,
        /// The status.
        status: u16,
        /// The server's own words.
        message: String,
        /// How often it was asked.
        attempts: u32,
    },
    /// No connection, or one that broke or fell silent each time.
    #[error("cannot read {url}: {why}{}", tries(*attempts))]
    Unreachable {
        /// What was asked, without its query.
        url: String,
        /// What happened last.
        why: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// A server whose certificate we do not trust, or that speaks no TLS.
    #[error("cannot trust {url}: {why}")]
    Tls {
        /// What was asked, without its query.
        url: String,
        /// What rustls says.
        why: String,
    },
    /// An answer that makes no sense.
    #[error("{url}: {why}")]
    Answer {
        /// What was asked, without its query.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
    /// Nothing may be asked, and something is missing.
    #[error("HF_HUB_OFFLINE is set, and {id} is not all in {}: {} missing", cache.display(), list(missing))]
    Offline {
        /// The model.
        id: String,
        /// The cache.
        cache: PathBuf,
        /// Files that are missing; the whole model if it is empty.
        missing: Vec<String>,
    },
    /// A file that is not what the Hub says it is. What was downloaded of it is gone.
    #[error("{file} is damaged: its {kind} is {actual}, the Hub says {expected}")]
    Checksum {
        /// The file.
        file: String,
        /// `SHA-256` or `git SHA-1`.
        kind: &'static str,
        /// What the Hub says.
        expected: String,
        /// What came.
        actual: String,
    },
    /// Files that do not fit.
    #[error("{} more are needed in {}, {} are free", needed, folder.display(), free)]
    DiskFull {
        /// Where.
        folder: PathBuf,
        /// How much is still to be written.
        needed: Bytes,
        /// How much is free.
        free: Bytes,
    },
    /// A cache that cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    ReadOnly {
        /// Where.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// Any other trouble with a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: "read", "write", ...
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A model none of whose files is wanted.
    #[error("{id} has no file that is wanted, of {files}")]
    NothingWanted {
        /// The model.
        id: String,
        /// How many files it has.
        files: usize,
    },
    /// The caller asked to stop. What was downloaded is kept.
    #[error("stopped; what was downloaded is kept, and the next fetch goes on from there")]
    Stopped,
}

impl HubError {
    /// What the user can do, where we know.
    pub fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Id { .. } => "an id is owner/name, as in Qwen/Qwen3.5-0.8B, or owner/name@revision".to_owned(),
            Self::Forbidden { with_token: false, .. } => {
                "check the name; for a private or gated model accept its licence on its page, then set HF_TOKEN (or log in with `hf auth login`)".to_owned()
            }
            Self::Forbidden { id, endpoint, .. } => format!(
                "the token is not enough: accept the licence on {endpoint}/{id} with the account it belongs to, and let the token read gated models"
            ),
            Self::NotFound { .. } => "check the name and the revision".to_owned(),
            Self::TooManyRequests { .. } => {
                "wait and fetch again: what is there is kept. Requests with HF_TOKEN have a higher limit".to_owned()
            }
            Self::Unreachable { .. } | Self::Status { .. } => {
                "fetch again: what is there is kept. HF_ENDPOINT names another server, HTTPS_PROXY a proxy".to_owned()
            }
            Self::Tls { .. } => {
                "behind a proxy that has a certificate of its own, name that in SSL_CERT_FILE".to_owned()
            }
            Self::Offline { .. } => "unset HF_HUB_OFFLINE, or copy the files into the cache".to_owned(),
            Self::Checksum { .. } => "fetch again; if it stays, the server or a proxy on the way changes the file".to_owned(),
            Self::DiskFull { .. } | Self::ReadOnly { .. } => {
                "make room, or set HF_HUB_CACHE to a folder elsewhere".to_owned()
            }
            Self::Token => "look at HF_TOKEN and the file `token` in HF_HOME".to_owned(),
            Self::NothingWanted { .. } => "look at --include and --exclude".to_owned(),
            _ => return None,
        })
    }

    /// An error of writing `path`, by its kind.
    pub(super) fn write(path: impl Into<PathBuf>, source: io::Error) -> Self {
        let path = path.into();
        match source.kind() {
            io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => {
                Self::ReadOnly { path, source }
            }
            _ => Self::Io {
                action: "write",
                path,
                source,
            },
        }
    }

    /// An error of reading `path`.
    pub(super) fn read(path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io {
            action: "read",
            path: path.into(),
            source,
        }
    }
}

fn said(message: &str) -> String {
    if message.is_empty() {
        String::new()
    } else {
        format!(" ({message})")
    }
}

fn wait(seconds: Option<u64>) -> String {
    seconds.map_or_else(String::new, |s| format!("; it asks us to wait {s} s"))
}

fn tries(attempts: u32) -> String {
    match attempts {
        0 | 1 => String::new(),
        n => format!(", {n} times"),
    }
}

fn list(missing: &[String]) -> String {
    match missing {
        [] => "all of it is".to_owned(),
        [one] => format!("{one} is"),
        [first, .., last] => format!("{} files ({first} .. {last}) are", missing.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_cannot_be_written_has_a_way_out() {
        for kind in [
            io::ErrorKind::ReadOnlyFilesystem,
            io::ErrorKind::PermissionDenied,
        ] {
            let error = HubError::write("/cache/x", kind.into());
            assert!(matches!(error, HubError::ReadOnly { .. }), "{error}");
            assert!(error.hint().is_some_and(|h| h.contains("HF_HUB_CACHE")));
        }
        let error = HubError::write("/cache/x", io::ErrorKind::NotADirectory.into());
        assert!(matches!(error, HubError::Io { .. }), "{error}");
    }

    #[test]
    fn what_is_missing_is_counted() {
        let say = |missing: &[&str]| {
            let missing: Vec<String> = missing.iter().map(|&name| name.to_owned()).collect();
            HubError::Offline {
                id: "a/b".into(),
                cache: "/cache".into(),
                missing,
            }
            .to_string()
        };
        assert!(say(&[]).ends_with("all of it is missing"));
        assert!(say(&["x"]).ends_with("x is missing"));
        assert!(say(&["x", "y", "z"]).ends_with("3 files (x .. z) are missing"));
    }
}
