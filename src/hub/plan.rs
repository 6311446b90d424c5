//! What is to be downloaded: the Hub's list of a model's files against what the cache has.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use serde::Deserialize;

use super::address::{bare, escape};
use super::cache::Repository;
use super::client::{Ask, Client, header};
use super::fetch::{Options, watched};
use super::id::is_commit;
use super::select::Selection;
use super::{Checksum, Environment, HubError, ModelId};
use crate::base::Bytes;

/// The files of one commit of a model that are wanted.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The model, as it was asked for.
    pub id: ModelId,
    /// Its commit.
    pub commit: String,
    /// Where its files will be, in the cache.
    pub snapshot: PathBuf,
    /// The files, small ones first.
    pub files: Vec<PlannedFile>,
}

/// A file of the Hub.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its path in the repository.
    pub name: String,
    /// Its size.
    pub size: Bytes,
    /// What its contents are.
    pub checksum: Checksum,
    /// How much of it is in the cache already.
    pub present: Bytes,
    /// Whether it is in the cache, checked and under its name. It may be [`present`](Self::present) without.
    pub is_whole: bool,
}

impl Plan {
    /// The size of all files.
    pub fn total(&self) -> Bytes {
        self.files.iter().map(|file| file.size).sum()
    }

    /// How much has to be downloaded; contents that two files share count once.
    pub fn needed(&self) -> Bytes {
        let contents: BTreeMap<&str, u64> = self
            .files
            .iter()
            .map(|file| (file.checksum.etag(), file.size.0 - file.present.0))
            .collect();
        Bytes(contents.values().sum())
    }
}

/// The answer to `/api/models/{id}/revision/{revision}?blobs=true`.
#[derive(Debug, Deserialize)]
struct Listing {
    sha: String,
    #[serde(default)]
    siblings: Vec<Sibling>,
}

#[derive(Debug, Deserialize)]
struct Sibling {
    rfilename: String,
    size: Option<u64>,
    #[serde(rename = "blobId")]
    blob_id: Option<String>,
    lfs: Option<Large>,
}

#[derive(Debug, Deserialize)]
struct Large {
    #[serde(alias = "oid")]
    sha256: Option<String>,
    size: Option<u64>,
}

/// Asks the Hub for a model's files and looks which of them the cache has. Nothing is written.
///
/// Where nothing may be asked (`HF_HUB_OFFLINE`), the plan is what the cache has.
///
/// # Errors
/// [`HubError::Offline`] if nothing may be asked and the cache has no whole model.
pub fn plan(
    id: &ModelId,
    options: &Options,
    environment: &Environment,
    cancel: &AtomicBool,
) -> Result<Plan, HubError> {
    let selection = Selection::new(&options.include, &options.exclude)?;
    if environment.offline {
        return local(id, &selection, environment);
    }
    let stop = AtomicBool::new(false);
    let client = Client::new(environment, id.repository(), options.retry, &stop)?;
    watched(&client, cancel, || ask(id, &selection, &client))
}

/// The plan where nothing may be asked: what the cache has, if that is a whole model, or what was named of it.
fn local(id: &ModelId, selection: &Selection, environment: &Environment) -> Result<Plan, HubError> {
    let repository = Repository::new(&environment.cache, id);
    let missing = |missing| HubError::Offline {
        id: id.to_string(),
        cache: environment.cache.clone(),
        missing,
    };
    let Some(commit) = repository.commit(&id.revision) else {
        return Err(missing(Vec::new()));
    };
    let snapshot = repository.snapshot(&commit);
    if selection.is_usual() {
        let lacks = super::missing(&snapshot);
        if !lacks.is_empty() {
            return Err(missing(lacks));
        }
    }
    let mut names = Vec::new();
    list(&snapshot, "", &mut names);
    names.retain(|name| selection.wants(name));
    names.sort();
    if names.is_empty() {
        return Err(missing(Vec::new()));
    }
    let file = |name: String| {
        let path = snapshot.join(&name);
        let size = fs::metadata(&path).map_or(0, |data| data.len());
        let blob = fs::read_link(&path).unwrap_or(path);
        let etag = blob.file_name().unwrap_or_default().to_string_lossy();
        PlannedFile {
            name,
            size: Bytes(size),
            checksum: Checksum::of_etag(&etag).unwrap_or(Checksum::Unknown(etag.into_owned())),
            present: Bytes(size),
            is_whole: true,
        }
    };
    Ok(Plan {
        id: id.clone(),
        commit,
        files: names.into_iter().map(file).collect(),
        snapshot,
    })
}

/// The files below a folder, by their path in it. Links to folders are not followed.
fn list(folder: &Path, prefix: &str, names: &mut Vec<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = format!("{prefix}{}", entry.file_name().to_string_lossy());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => list(&entry.path(), &format!("{name}/"), names),
            _ if entry.path().is_file() => names.push(name),
            _ => {}
        }
    }
}

fn ask(id: &ModelId, selection: &Selection, client: &Client) -> Result<Plan, HubError> {
    let url = format!(
        "{}/api/models/{}/revision/{}?blobs=true",
        client.environment.endpoint,
        id.repository(),
        escape(&id.revision, false)
    );
    let what = format!("revision {} of {}", id.revision, id.repository());
    let listing: Listing = client.json(&url, &what)?;
    let wrong = |why: String| HubError::Answer {
        url: bare(&url),
        why,
    };
    if !is_commit(&listing.sha) {
        return Err(wrong(format!("{:?} is no commit", listing.sha)));
    }
    let repository = Repository::new(&client.environment.cache, id);
    let snapshot = repository.snapshot(&listing.sha);
    let mut files = Vec::new();
    for sibling in &listing.siblings {
        let name = &sibling.rfilename;
        if !selection.wants(name) {
            continue;
        }
        if !is_safe(name) {
            return Err(wrong(format!("{name:?} would leave the folder")));
        }
        let (checksum, size) = match sibling.contents() {
            Some(known) => known,
            None => head(id, &listing.sha, name, client)?,
        };
        let (present, is_whole) = present(&repository, &snapshot.join(name), &checksum, size);
        files.push(PlannedFile {
            name: name.clone(),
            size: Bytes(size),
            checksum,
            present: Bytes(present),
            is_whole,
        });
    }
    if files.is_empty() {
        return Err(HubError::NothingWanted {
            id: id.to_string(),
            files: listing.siblings.len(),
        });
    }
    files.sort_by(|a, b| {
        let key = |file: &PlannedFile| file.size.0 >= 16 << 20;
        key(a).cmp(&key(b)).then_with(|| a.name.cmp(&b.name))
    });
    Ok(Plan {
        id: id.clone(),
        commit: listing.sha,
        snapshot,
        files,
    })
}

impl Sibling {
    /// Checksum and size, if the list has both.
    fn contents(&self) -> Option<(Checksum, u64)> {
        let etag = match &self.lfs {
            Some(large) => large.sha256.as_ref()?,
            None => self.blob_id.as_ref()?,
        };
        let size = self.lfs.as_ref().and_then(|large| large.size);
        Some((Checksum::of_etag(etag)?, size.or(self.size)?))
    }
}

/// Checksum and size as the headers of the file say them, for servers whose list lacks them.
fn head(
    id: &ModelId,
    commit: &str,
    name: &str,
    client: &Client,
) -> Result<(Checksum, u64), HubError> {
    let url = resolve(client, id, commit, name);
    let what = format!("file {name} of {}", id.repository());
    let response = client.persist(|| client.ask(Ask::Headers, &url, &what))?;
    let wrong = |why: &str| HubError::Answer {
        url: bare(&url),
        why: why.to_owned(),
    };
    let etag = header(&response, "x-linked-etag").or_else(|| header(&response, "etag"));
    let checksum = etag.and_then(Checksum::of_etag);
    let size = header(&response, "x-linked-size").or_else(|| header(&response, "content-length"));
    Ok((
        checksum.ok_or_else(|| wrong("it has no usable etag"))?,
        size.and_then(|size| size.parse().ok())
            .ok_or_else(|| wrong("it does not say its size"))?,
    ))
}

/// The address of a file.
pub(super) fn resolve(client: &Client, id: &ModelId, commit: &str, name: &str) -> String {
    format!(
        "{}/{}/resolve/{commit}/{}",
        client.environment.endpoint,
        id.repository(),
        escape(name, true)
    )
}

/// How many bytes of a file's contents the cache has, and whether it has them under their name.
fn present(repository: &Repository, link: &Path, checksum: &Checksum, size: u64) -> (u64, bool) {
    let length = |path: &Path| fs::metadata(path).ok().map(|data| data.len());
    let blob = repository.blob(checksum.etag());
    if length(&blob) == Some(size) || length(link) == Some(size) {
        return (size, true);
    }
    let partial = length(&repository.partial(checksum.etag())).filter(|length| *length <= size);
    (partial.unwrap_or(0), false)
}

/// Whether a name stays inside the folder that it is joined to.
fn is_safe(name: &str) -> bool {
    let part = |part: &str| !part.is_empty() && part != "." && part != "..";
    name.split('/').all(part) && !name.contains(['\\', '\0']) && !name.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_in_its_folder() {
        assert!(is_safe("config.json") && is_safe("a/b.json"));
        for name in [
            "",
            "/etc/passwd",
            "../x",
            "a/../../x",
            "a//b",
            "a\\b",
            "./a",
            "a\n",
        ] {
            assert!(!is_safe(name), "{name:?}");
        }
    }

    #[test]
    fn a_list_has_large_and_small_files() {
        let sha = "a".repeat(64);
        let listing = format!(
            r#"{{"sha": "x", "private": false, "siblings": [
                {{"rfilename": "a", "size": 5, "blobId": "{}"}},
                {{"rfilename": "b", "size": 7, "blobId": "{}", "lfs": {{"sha256": "{sha}", "size": 7, "pointerSize": 130}}}},
                {{"rfilename": "c"}}]}}"#,
            "b".repeat(40),
            "c".repeat(40),
        );
        let listing: Listing = serde_json::from_str(&listing).expect("a listing");
        let contents: Vec<_> = listing.siblings.iter().map(Sibling::contents).collect();
        assert_eq!(contents[0], Some((Checksum::Git("b".repeat(40)), 5)));
        assert_eq!(contents[1], Some((Checksum::Sha256(sha), 7)));
        assert_eq!(contents[2], None);
    }
}
