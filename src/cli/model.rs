//! The model that an argument names: a folder or file, a Hub id, or a size of the registry.

use std::path::{Path, PathBuf};
use std::str::FromStr;

use super::{Exit, Failure};
use crate::hub::{self, Environment, HubError, ModelId};
use crate::spec;

/// Where a model's geometry, and mostly its weights, come from.
#[derive(Debug, Clone)]
pub(super) enum Model {
    /// A folder or file on disk; for a Hub id its snapshot in the cache.
    Directory(PathBuf),
    /// A size that we know without a file: geometry only.
    Registry(&'static spec::Entry),
}

/// The model that `name` names.
///
/// First a path that exists, then a Hub id (`Qwen/Qwen3.5-0.8B`, `owner/name@revision`) in the local cache, then a name of the registry. A Hub
/// id that is not in the cache is the registry's size of that id, if it has one: commands that need weights say so with [`directory`].
pub(super) fn resolve(name: &str) -> Result<Model, Failure> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(Model::Directory(path.to_owned()));
    }
    let id = ModelId::from_str(name);
    if let Ok(id) = &id {
        let environment = Environment::from_process().map_err(failure)?;
        if let Some(snapshot) = hub::find(&environment.cache, id) {
            return Ok(Model::Directory(snapshot));
        }
    }
    if let Some(entry) = known(name) {
        return Ok(Model::Registry(entry));
    }
    Err(unknown(name, id.ok().as_ref()))
}

/// The folder or file that `name` names, for commands that need weights.
pub(super) fn directory(name: &str) -> Result<PathBuf, Failure> {
    let path = Path::new(name);
    if path.exists() {
        return Ok(path.to_owned());
    }
    match resolve(name)? {
        Model::Directory(snapshot) => {
            let missing = hub::missing(&snapshot);
            if missing.is_empty() {
                return Ok(snapshot);
            }
            let first = &missing[0];
            let more = match missing.len() {
                1 => String::new(),
                n => format!(" and {} more", n - 1),
            };
            Err(Exit::Data
                .because(format!("{} lacks {first}{more}", snapshot.display()))
                .hint(format!("download the rest: trestle fetch {name}")))
        }
        Model::Registry(entry) if entry.hf_id.is_empty() => {
            Err(Exit::Data.because(format!("`{name}` is a size that we know, without weights")))
        }
        Model::Registry(entry) => {
            // What was typed may name a revision.
            let id = if ModelId::from_str(name).is_ok() {
                name
            } else {
                entry.hf_id
            };
            Err(absent(name, id))
        }
    }
}

/// The size that `name` is, at any revision. A Hub id is the whole one: `Qwen/toy` is not our toy.
fn known(name: &str) -> Option<&'static spec::Entry> {
    let name = name.split('@').next().unwrap_or(name);
    let is_id = name.contains('/');
    spec::find(name).filter(|entry| !is_id || entry.hf_id.eq_ignore_ascii_case(name))
}

/// A Hub error with its exit code and hint.
pub(super) fn failure(error: HubError) -> Failure {
    let exit = match error {
        HubError::Id { .. } | HubError::Pattern { .. } => Exit::Usage,
        HubError::Offline { .. } | HubError::NotFound { .. } | HubError::Checksum { .. } => {
            Exit::Data
        }
        _ => Exit::Failure,
    };
    let hint = error.hint();
    let failure = Failure::new(exit, error);
    match hint {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// The registry's Hub id that `id` was most likely meant to be.
pub(super) fn nearest(id: &str) -> Option<&'static str> {
    let wanted = id.to_lowercase();
    let ids = spec::registry().iter().map(|entry| entry.hf_id);
    let close = ids
        .filter(|known| !known.is_empty())
        .map(|known| (distance(&wanted, &known.to_lowercase()), known))
        .min()?;
    (close.0 <= 1 + wanted.len() / 6 && close.1 != id).then_some(close.1)
}

fn absent(name: &str, id: &str) -> Failure {
    let failure = Exit::Data.because(format!("the weights of {name} are not on this machine"));
    failure.hint(format!("download them: trestle fetch {id}"))
}

fn unknown(name: &str, id: Option<&ModelId>) -> Failure {
    let near = nearest(name).map(|near| format!("did you mean {near}?"));
    if id.is_some() {
        let message = format!("{name} is neither a path nor a model in the local Hub cache");
        let fetch = || format!("download it: trestle fetch {name}");
        return Exit::Data.because(message).hint(near.unwrap_or_else(fetch));
    }
    let names: Vec<&str> = spec::registry().iter().map(|entry| entry.name).collect();
    Exit::Data
        .because(format!(
            "{name} is no path, no Hub id (owner/name) and no size that we know"
        ))
        .hint(format!("sizes: {}", names.join(", ")))
}

/// How many letters have to be put in, taken out or exchanged to make one text the other.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let exchanged = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = exchanged.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_distance_counts_edits() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("same", "same"), 0);
    }

    #[test]
    fn a_size_is_known_by_its_names() {
        let name = |text| known(text).map(|entry| entry.name);
        for text in [
            "0.8b",
            "qwen3_5-0_8b",
            "Qwen/Qwen3.5-0.8B",
            "qwen/qwen3.5-0.8b@v1",
        ] {
            assert_eq!(name(text), Some("qwen3_5-0_8b"), "{text}");
        }
        assert_eq!(name("toy"), Some("toy"));
        assert_eq!(name("Qwen/toy"), None);
        assert_eq!(name("other/qwen3.5-0.8b"), None);
    }

    #[test]
    fn a_mistyped_id_has_a_nearest_one() {
        assert_eq!(nearest("Qwen/Qwen3.5-08B"), Some("Qwen/Qwen3.5-0.8B"));
        assert_eq!(nearest("qwen/qwen3.5-9b"), Some("Qwen/Qwen3.5-9B"));
        assert_eq!(nearest("Qwen/Qwen3.5-9B"), None);
        assert_eq!(nearest("meta-llama/Llama-3.1-8B"), None);
    }
}
