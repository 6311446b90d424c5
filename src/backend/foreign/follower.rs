//! Watched runs that are followed while a workbench is open.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{ForeignError, Mirror, Options};
use crate::run::{self, RunDirectory};

/// Runs that are followed at once; more wait until one ends.
const MOST: usize = 32;

/// Mirrors of the runs that move.
#[derive(Debug, Default)]
pub struct Followers {
    mirrors: BTreeMap<PathBuf, Mirror>,
}

impl Followers {
    /// Between looks at the files.
    pub const PAUSE: Duration = Duration::from_millis(500);

    /// Takes up a run that was just opened.
    pub fn add(&mut self, mirror: Mirror) {
        self.mirrors.insert(mirror.folder().to_owned(), mirror);
    }

    /// Opens the watched ones of `runs` whose files say more than was read of them.
    pub fn tend(&mut self, runs: &[RunDirectory]) {
        for run in runs {
            let (Some(watched), Some(cache)) = (&run.info.watched, run.path.parent()) else {
                continue;
            };
            let is_new = !self.mirrors.contains_key(&run.path) && self.mirrors.len() < MOST;
            if is_new && run::has_news(&run.path, watched) {
                // One that cannot be opened now is tried at the next list; its run shows what was read before.
                if let Ok(mirror) = Mirror::reopen(watched, cache)
                    && mirror.is_writer()
                {
                    self.add(mirror);
                }
            }
        }
    }

    /// Reads what is new; runs that are over are followed no longer.
    pub fn poll(&mut self) {
        self.mirrors
            .retain(|_, mirror| mirror.poll().is_ok() && !mirror.is_over());
    }

    /// Whether none is followed.
    pub fn is_empty(&self) -> bool {
        self.mirrors.is_empty()
    }
}

/// Where run directories of foreign runs lie; `None` where the user has no cache folder.
pub fn cache_folder() -> Option<PathBuf> {
    let absolute = |name: &str| {
        std::env::var_os(name)
            .map(PathBuf::from)
            .filter(|p| p.is_absolute())
    };
    absolute("XDG_CACHE_HOME")
        .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
        .map(|cache| cache.join("trestle").join("watched"))
}

/// Lists a mirror's run among those in `runs`; says whether that worked.
pub fn list_among(run: &Path, runs: &Path) -> bool {
    let Some(name) = run.file_name() else {
        return false;
    };
    let link = runs.join(name);
    link.exists() || std::os::unix::fs::symlink(run, link).is_ok()
}

/// Opens the run at `path` in the user's cache and lists it among those in `runs`.
pub fn watch(path: &Path, seq_length: Option<u64>, runs: &Path) -> Result<Mirror, ForeignError> {
    let cache = cache_folder().ok_or(ForeignError::NoCache)?;
    let options = Options {
        seq_length,
        ..Options::default()
    };
    let mirror = Mirror::open(path, &cache, options)?;
    let io = |source| ForeignError::Io {
        action: "create",
        path: runs.to_owned(),
        source,
    };
    std::fs::create_dir_all(runs).map_err(io)?;
    if !list_among(mirror.folder(), runs) {
        return Err(io(std::io::Error::other("no link can be made in it")));
    }
    Ok(mirror)
}
