//! Making, opening and finding run directories.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::error::Context;
use super::{RunError, list};
use crate::event::{Parent, RunInfo, layout};

/// A run on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunDirectory {
    /// The folder.
    pub path: PathBuf,
    /// What the run is.
    pub info: RunInfo,
}

impl RunDirectory {
    /// Name of the folder, which names the run.
    pub fn id(&self) -> &str {
        &self.info.id
    }

    /// The file or folder `name` of [`layout`] in this run.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// What a new run is made of.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CreateRun {
    /// What to call it; the folder's name is made from it.
    pub name: String,
    /// The resolved recipe.
    pub recipe_toml: String,
    /// The recipe file.
    pub source: Option<PathBuf>,
    /// Changes given beside the recipe.
    pub overrides: Vec<String>,
    /// The checkpoint of another run to start from.
    pub parent: Option<Parent>,
    /// Words to find it by.
    pub tags: Vec<String>,
}

/// Makes a run directory in `runs`, which is made when missing.
///
/// The id is the name in lower case with a number, `demo-1`, `demo-2`. Two creators at once get two directories, because making a folder
/// is atomic. `run.json` is written last: a folder without it is not a run yet.
pub fn create(runs: &Path, new: CreateRun) -> Result<RunDirectory, RunError> {
    fs::create_dir_all(runs).context("create", runs)?;
    let runs = fs::canonicalize(runs).context("open", runs)?;
    let stem = stem(&new.name);
    let mut number = next_number(&runs, &stem)?;
    let (path, id) = loop {
        let id = format!("{stem}-{number}");
        let path = runs.join(&id);
        match fs::create_dir(&path) {
            Ok(()) => break (path, id),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            Err(error) => return Err(error).context("create", &path),
        }
    };
    let source = new.source.map(|s| fs::canonicalize(&s).unwrap_or(s));
    let info = RunInfo {
        id,
        name: new.name,
        created_ms: now_ms(),
        source,
        overrides: new.overrides,
        parent: new.parent,
        tags: new.tags,
        program: format!("trestle {}", env!("CARGO_PKG_VERSION")),
        watched: None,
    };
    let directory = RunDirectory { path, info };
    write(&directory.join(layout::RECIPE), new.recipe_toml.as_bytes())?;
    for file in [layout::EVENTS, layout::CONTROL, layout::CONSOLE] {
        write(&directory.join(file), b"")?;
    }
    describe(&directory)?;
    Ok(directory)
}

/// Writes what the run is.
fn describe(run: &RunDirectory) -> Result<(), RunError> {
    let mut json = serde_json::to_string_pretty(&run.info)
        .map_err(io::Error::from)
        .context("describe", &run.path)?;
    json.push('\n');
    replace(&run.join(layout::RUN), json.as_bytes())
}

/// Gives the run at `path` these tags instead of its present ones.
pub fn tag(path: &Path, tags: Vec<String>) -> Result<(), RunError> {
    let mut run = open(path)?;
    run.info.tags = tags;
    describe(&run)
}

/// Opens the run directory at `path`.
pub fn open(path: &Path) -> Result<RunDirectory, RunError> {
    let not_a_run = |reason: String| RunError::NotARun {
        path: path.to_owned(),
        reason,
    };
    let json = fs::read_to_string(path.join(layout::RUN))
        .map_err(|e| not_a_run(format!("{}: {e}", layout::RUN)))?;
    let mut info: RunInfo =
        serde_json::from_str(&json).map_err(|e| not_a_run(format!("{}: {e}", layout::RUN)))?;
    let path = fs::canonicalize(path).context("open", path)?;
    // A copied or renamed folder goes by the name it has now.
    if let Some(folder) = path.file_name() {
        info.id = folder.to_string_lossy().into_owned();
    }
    Ok(RunDirectory { path, info })
}

/// Finds the run that `wanted` names in `runs`: its id, an unambiguous beginning of it, `last` for the newest, or the path of its folder.
pub fn find(runs: &Path, wanted: &str) -> Result<RunDirectory, RunError> {
    if wanted.is_empty() || wanted.contains('/') {
        return open(Path::new(wanted));
    }
    if runs.join(wanted).join(layout::RUN).is_file() {
        return open(&runs.join(wanted));
    }
    let not_found = || RunError::NotFound {
        wanted: wanted.to_owned(),
        runs: runs.to_owned(),
    };
    if wanted == "last" {
        let newest = list::directories(runs)?
            .into_iter()
            .filter_map(|path| open(&path).ok())
            .max_by(|a, b| {
                (a.info.created_ms, number_of(&a.info.id))
                    .cmp(&(b.info.created_ms, number_of(&b.info.id)))
            });
        return newest.ok_or_else(not_found);
    }
    let mut candidates: Vec<PathBuf> = list::directories(runs)?
        .into_iter()
        .filter(|path| {
            path.file_name()
                .is_some_and(|n| n.to_string_lossy().starts_with(wanted))
        })
        .filter(|path| path.join(layout::RUN).is_file())
        .collect();
    candidates.sort();
    match candidates.as_slice() {
        [] => Err(not_found()),
        [one] => open(one),
        many => Err(RunError::Ambiguous {
            wanted: wanted.to_owned(),
            candidates: many
                .iter()
                .filter_map(|p| p.file_name())
                .map(|n| n.to_string_lossy().into_owned())
                .collect(),
        }),
    }
}

/// The part of an id before its number: lower case letters, digits, dots, underscores, hyphens.
fn stem(name: &str) -> String {
    let mut stem: String = name
        .to_lowercase()
        .chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '.' | '_') {
                c
            } else {
                '-'
            }
        })
        .take(48)
        .collect();
    while stem.contains("--") {
        stem = stem.replace("--", "-");
    }
    let stem = stem.trim_matches(['-', '.']);
    if stem.is_empty() {
        "run".to_owned()
    } else {
        stem.to_owned()
    }
}

fn number_of(id: &str) -> u64 {
    id.rsplit_once('-')
        .and_then(|(_, n)| n.parse().ok())
        .unwrap_or(0)
}

fn next_number(runs: &Path, stem: &str) -> Result<u64, RunError> {
    let largest = fs::read_dir(runs)
        .context("read", runs)?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let (before, number) = name.rsplit_once('-')?;
            (before == stem).then(|| number.parse::<u64>().ok())?
        })
        .max();
    Ok(largest.unwrap_or(0) + 1)
}

/// Milliseconds since the Unix epoch.
pub(super) fn now_ms() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |d| d.as_millis() as i64)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    fs::write(path, bytes).context("write", path)
}

/// Writes a file so that a reader sees all of it or nothing.
pub(super) fn replace(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let temporary = path.with_extension(format!("tmp-{}", std::process::id()));
    fs::write(&temporary, bytes).context("write", &temporary)?;
    fs::rename(&temporary, path).context("rename", path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_made_of_plain_characters() {
        assert_eq!(stem("Qwen3.5 demo/mtp=1"), "qwen3.5-demo-mtp-1");
        assert_eq!(stem("../.."), "run");
        assert_eq!(stem("日本"), "run");
    }
}
