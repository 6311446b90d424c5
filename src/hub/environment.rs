//! What the Hub's environment variables say.

use std::ffi::OsString;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::HubError;
use super::address::bare;

/// The Hub.
const ENDPOINT: &str = "https://huggingface.co";
/// How long a connection may stay silent.
const PATIENCE: Duration = Duration::from_secs(30);

/// Where the cache is, which server is asked, and as whom.
#[derive(Debug, Clone)]
pub struct Environment {
    /// The folder that holds `models--owner--name`.
    pub cache: PathBuf,
    /// The server, without a slash at its end.
    pub endpoint: String,
    /// Who asks; sent to the endpoint's own scheme, host and port only.
    pub token: Option<Token>,
    /// Whether nothing may be asked.
    pub offline: bool,
    /// How long a connection may stay silent before it is given up and tried again.
    pub patience: Duration,
    /// Certificates to trust in place of the built-in ones.
    pub certificates: Option<PathBuf>,
}

/// A secret that is never printed.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token; none if the text is blank.
    ///
    /// # Errors
    /// If it has characters that no HTTP header may have.
    pub fn new(text: &str) -> Result<Option<Self>, HubError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(HubError::Token);
        }
        Ok(Some(Self(text.to_owned())))
    }

    /// The value of the header `authorization`.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl Environment {
    /// What this process's environment says.
    ///
    /// | variable | for |
    /// |---|---|
    /// | `HF_HUB_CACHE`, `HUGGINGFACE_HUB_CACHE` | the cache; else `hub` in `HF_HOME` |
    /// | `HF_HOME` | else `huggingface` in `XDG_CACHE_HOME` or `~/.cache` |
    /// | `HF_ENDPOINT` | the server; else `https://huggingface.co` |
    /// | `HF_TOKEN`, `HUGGING_FACE_HUB_TOKEN`, `HF_TOKEN_PATH` | the token; else the file `token` in `HF_HOME` |
    /// | `HF_HUB_DISABLE_IMPLICIT_TOKEN` | no token |
    /// | `HF_HUB_OFFLINE`, `TRANSFORMERS_OFFLINE` | nothing is asked |
    /// | `HF_HUB_DOWNLOAD_TIMEOUT` | seconds of silence; else 30 |
    /// | `SSL_CERT_FILE` | certificates |
    ///
    /// # Errors
    /// If the endpoint is no URL, or the token has characters that no header may have.
    pub fn from_process() -> Result<Self, HubError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    /// The same from any lookup.
    pub fn from_variables(lookup: impl Fn(&str) -> Option<OsString>) -> Result<Self, HubError> {
        let set = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let text = |name: &str| set(name).and_then(|value| value.into_string().ok());
        let is_true = |name: &str| {
            text(name).is_some_and(|value| {
                ["1", "on", "yes", "true"].contains(&value.to_ascii_lowercase().as_str())
            })
        };
        let user = set("HOME").map(PathBuf::from);
        let path =
            |name: &str| set(name).map(|value| expand(PathBuf::from(value), user.as_deref()));

        let home = path("HF_HOME").unwrap_or_else(|| {
            path("XDG_CACHE_HOME")
                .unwrap_or_else(|| user.clone().unwrap_or_default().join(".cache"))
                .join("huggingface")
        });
        let cache = path("HF_HUB_CACHE")
            .or_else(|| path("HUGGINGFACE_HUB_CACHE"))
            .unwrap_or_else(|| home.join("hub"));
        let endpoint = text("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim_end_matches('/').to_owned();
        if !(endpoint.starts_with("https://") || endpoint.starts_with("http://")) {
            return Err(HubError::Endpoint {
                endpoint: bare(&endpoint),
            });
        }
        let token = if is_true("HF_HUB_DISABLE_IMPLICIT_TOKEN") {
            None
        } else {
            let said = text("HF_TOKEN").or_else(|| text("HUGGING_FACE_HUB_TOKEN"));
            let file = path("HF_TOKEN_PATH").unwrap_or_else(|| home.join("token"));
            let said = said.or_else(|| fs::read_to_string(file).ok());
            said.as_deref().map_or(Ok(None), Token::new)?
        };
        let patience = text("HF_HUB_DOWNLOAD_TIMEOUT")
            .and_then(|seconds| seconds.parse().ok())
            .filter(|seconds| *seconds > 0)
            .map_or(PATIENCE, Duration::from_secs);
        Ok(Self {
            cache,
            endpoint,
            token,
            offline: is_true("HF_HUB_OFFLINE") || is_true("TRANSFORMERS_OFFLINE"),
            patience,
            certificates: path("SSL_CERT_FILE"),
        })
    }
}

/// A path whose `~` is the user's home.
fn expand(path: PathBuf, user: Option<&Path>) -> PathBuf {
    match (path.strip_prefix("~"), user) {
        (Ok(below), Some(user)) => user.join(below),
        _ => path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> Result<Environment, HubError> {
        Environment::from_variables(|name| {
            let found = variables.iter().find(|(key, _)| *key == name);
            found.map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn the_cache_is_where_huggingface_hub_has_it() {
        let cache = |variables: &[(&str, &str)]| read(variables).expect("it is read").cache;
        let home = ("HOME", "/home/a");
        let is = |path: &str| PathBuf::from(path);
        assert_eq!(cache(&[home]), is("/home/a/.cache/huggingface/hub"));
        let xdg = ("XDG_CACHE_HOME", "/x");
        assert_eq!(cache(&[home, xdg]), is("/x/huggingface/hub"));
        let hf = ("HF_HOME", "~/hf");
        assert_eq!(cache(&[home, xdg, hf]), is("/home/a/hf/hub"));
        let hub = ("HF_HUB_CACHE", "/big/hub");
        assert_eq!(cache(&[home, xdg, hf, hub]), is("/big/hub"));
        assert_eq!(
            cache(&[home, ("HF_HUB_CACHE", "")]),
            is("/home/a/.cache/huggingface/hub")
        );
    }

    #[test]
    fn a_token_is_never_printed() {
        let read = read(&[("HF_TOKEN", " hf_secret\n")]).expect("it is read");
        assert_eq!(
            read.token.as_ref().map(Token::header),
            Some("Bearer hf_secret".to_owned())
        );
        assert!(!format!("{read:?}").contains("secret"));
        let error = Token::new("hf_sec\u{7}ret").expect_err("no header");
        assert!(!format!("{error} {error:?}").contains("sec\u{7}"));
    }

    #[test]
    fn the_token_file_is_read_unless_forbidden() {
        let folder = tempfile::tempdir().expect("a folder");
        fs::write(folder.path().join("token"), "hf_file\n").expect("written");
        let home = folder.path().to_str().expect("UTF-8");
        let token = |more: &[(&str, &str)]| {
            let all = [&[("HF_HOME", home)], more].concat();
            read(&all).expect("it is read").token.map(|t| t.header())
        };
        assert_eq!(token(&[]), Some("Bearer hf_file".to_owned()));
        assert_eq!(token(&[("HF_TOKEN", "a")]), Some("Bearer a".to_owned()));
        assert_eq!(token(&[("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")]), None);
    }

    #[test]
    fn an_endpoint_is_a_url() {
        let endpoint = read(&[("HF_ENDPOINT", "http://mirror:8080/")]).expect("it is read");
        assert_eq!(endpoint.endpoint, "http://mirror:8080");
        assert!(matches!(
            read(&[("HF_ENDPOINT", "mirror")]),
            Err(HubError::Endpoint { .. })
        ));
    }

    #[test]
    fn offline_is_said_in_the_usual_words() {
        for (value, offline) in [
            ("1", true),
            ("ON", true),
            ("true", true),
            ("0", false),
            ("no", false),
        ] {
            let read = read(&[("HF_HUB_OFFLINE", value)]).expect("it is read");
            assert_eq!(read.offline, offline, "{value}");
        }
    }
}
