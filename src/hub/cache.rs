//! The cache on disk, as `huggingface_hub` lays it out.
//!
//! ```text
//! models--owner--name/
//!     blobs/<etag>                  contents; the etag is the SHA-256 of large files, the git SHA-1 of small ones
//!     blobs/<etag>.incomplete       the beginning of one
//!     refs/main                     the commit of a branch or tag
//!     snapshots/<commit>/<file>     links to blobs
//! .locks/models--owner--name/<etag>.lock
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use super::id::is_commit;
use super::{HubError, ModelId};

/// The largest index that is read; that of 397B has 60 thousand names in 8 MB.
const LARGEST_INDEX: u64 = 256 << 20;

/// The folder of a model in the cache.
#[derive(Debug, Clone)]
pub(super) struct Repository {
    /// `models--owner--name`.
    pub(super) folder: PathBuf,
    /// `.locks/models--owner--name`.
    pub(super) locks: PathBuf,
}

impl Repository {
    pub(super) fn new(cache: &Path, id: &ModelId) -> Self {
        Self {
            folder: cache.join(id.folder()),
            locks: cache.join(".locks").join(id.folder()),
        }
    }

    /// The contents with that etag.
    pub(super) fn blob(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(etag)
    }

    /// The beginning of the contents with that etag.
    pub(super) fn partial(&self, etag: &str) -> PathBuf {
        self.folder.join("blobs").join(format!("{etag}.incomplete"))
    }

    pub(super) fn snapshot(&self, commit: &str) -> PathBuf {
        self.folder.join("snapshots").join(commit)
    }

    pub(super) fn reference(&self, revision: &str) -> PathBuf {
        self.folder.join("refs").join(revision)
    }

    /// The commit of a revision: itself, or what its ref says.
    pub(super) fn commit(&self, revision: &str) -> Option<String> {
        if is_commit(revision) {
            return Some(revision.to_owned());
        }
        let text = fs::read_to_string(self.reference(revision)).ok()?;
        let commit = text.trim();
        is_commit(commit).then(|| commit.to_owned())
    }

    /// Gives a blob its name in a snapshot: a relative link, or the blob itself where the file system has no links.
    pub(super) fn link(&self, commit: &str, name: &str, etag: &str) -> Result<(), HubError> {
        let link = self.snapshot(commit).join(name);
        let up = "../".repeat(2 + name.matches('/').count());
        let target = PathBuf::from(format!("{up}blobs/{etag}"));
        if fs::read_link(&link).is_ok_and(|present| present == target) {
            return Ok(());
        }
        let wrong = |error| HubError::write(&link, error);
        if let Some(folder) = link.parent() {
            fs::create_dir_all(folder).map_err(wrong)?;
        }
        // Under a name of its own first, so that nobody sees half of it.
        let fresh = beside(&link, "link");
        let _ = fs::remove_file(&fresh);
        match symlink(&target, &fresh) {
            Ok(()) => {}
            Err(error) if has_no_links(&error) => {
                return fs::rename(self.blob(etag), &link).map_err(wrong);
            }
            Err(error) => return Err(wrong(error)),
        }
        fs::rename(&fresh, &link).map_err(wrong)
    }

    /// Points a branch or tag at a commit.
    pub(super) fn point(&self, revision: &str, commit: &str) -> Result<(), HubError> {
        if self
            .commit(revision)
            .is_some_and(|present| present == commit)
        {
            return Ok(());
        }
        let path = self.reference(revision);
        let wrong = |error| HubError::write(&path, error);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(wrong)?;
        }
        let fresh = beside(&path, "ref");
        fs::write(&fresh, commit).map_err(wrong)?;
        fs::rename(&fresh, &path).map_err(wrong)
    }
}

/// A name beside a file that no other process uses.
fn beside(path: &Path, extension: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.{extension}", std::process::id()));
    PathBuf::from(name)
}

/// Whether a link failed because the file system has none (FAT says "not permitted").
fn has_no_links(error: &io::Error) -> bool {
    const EPERM: i32 = 1;
    error.kind() == io::ErrorKind::Unsupported || error.raw_os_error() == Some(EPERM)
}

/// The folder of a model in the cache, if its `config.json` is there.
///
/// A download that was cut off may leave shards out: [`missing`] lists them.
pub fn find(cache: &Path, id: &ModelId) -> Option<PathBuf> {
    let repository = Repository::new(cache, id);
    let snapshot = repository.snapshot(&repository.commit(&id.revision)?);
    snapshot.join("config.json").is_file().then_some(snapshot)
}

/// What a folder lacks to be a whole model: `config.json`, its weights, the shards that its index names.
pub fn missing(folder: &Path) -> Vec<String> {
    const INDEX: &str = "model.safetensors.index.json";
    let mut missing = Vec::new();
    let mut need = |name: &str| {
        if !folder.join(name).is_file() {
            missing.push(name.to_owned());
        }
    };
    need("config.json");
    match shards(&folder.join(INDEX)) {
        Some(shards) => shards.iter().for_each(|shard| need(shard)),
        None if folder.join(INDEX).is_file() => missing.push(format!("a readable {INDEX}")),
        None => need("model.safetensors"),
    }
    missing
}

/// The shards that an index names; none if it is not there or cannot be read.
fn shards(index: &Path) -> Option<BTreeSet<String>> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: std::collections::HashMap<String, String>,
    }
    if fs::metadata(index).ok()?.len() > LARGEST_INDEX {
        return None;
    }
    let index: Index = serde_json::from_slice(&fs::read(index).ok()?).ok()?;
    Some(index.weight_map.into_values().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMMIT: &str = "0123456789abcdef0123456789abcdef01234567";

    #[test]
    fn a_model_is_found_by_branch_and_by_commit() {
        let cache = tempfile::tempdir().expect("a folder");
        let cache = cache.path();
        let id: ModelId = "Qwen/X".parse().expect("an id");
        assert_eq!(find(cache, &id), None);

        let folder = cache.join("models--Qwen--X");
        let snapshot = folder.join("snapshots").join(COMMIT);
        fs::create_dir_all(&snapshot).expect("made");
        fs::create_dir_all(folder.join("refs/pr")).expect("made");
        fs::write(folder.join("refs/main"), COMMIT).expect("written");
        fs::write(folder.join("refs/pr/1"), "not a commit").expect("written");
        assert_eq!(find(cache, &id), None, "there is no config yet");
        fs::write(snapshot.join("config.json"), "{}").expect("written");
        assert_eq!(find(cache, &id), Some(snapshot.clone()));
        let at = |revision| id.clone().at(revision).expect("a revision");
        assert_eq!(find(cache, &at(COMMIT)), Some(snapshot));
        assert_eq!(find(cache, &at("pr/1")), None);
        assert_eq!(find(cache, &at("v2")), None);
    }

    #[test]
    fn missing_shards_are_named() {
        let folder = tempfile::tempdir().expect("a folder");
        let write = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("written");
        };
        assert_eq!(missing(folder.path()), ["config.json", "model.safetensors"]);
        write("config.json", "{}");
        write("model.safetensors", "");
        assert!(missing(folder.path()).is_empty());
        write(
            "model.safetensors.index.json",
            r#"{"weight_map": {"a": "1.safetensors", "b": "2.safetensors", "c": "1.safetensors"}}"#,
        );
        write("1.safetensors", "");
        assert_eq!(missing(folder.path()), ["2.safetensors"]);
        write("model.safetensors.index.json", "{");
        assert_eq!(
            missing(folder.path()),
            ["a readable model.safetensors.index.json"]
        );
    }
}
