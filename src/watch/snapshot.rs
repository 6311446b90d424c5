//! What files are there and how they look, without reading them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::Folder;

/// More files than this are not looked at; recipe folders have tens.
const MOST: usize = 20_000;

/// What tells two states of a file apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    size: u64,
    modified: (i64, i64),
    inode: u64,
}

/// The files of some folders.
#[derive(Debug, Default)]
pub(super) struct Snapshot(BTreeMap<PathBuf, Look>);

impl Snapshot {
    pub(super) fn of(folders: &[Folder]) -> Self {
        let mut files = BTreeMap::new();
        for folder in folders {
            collect(&folder.path, folder.depth, &mut files);
        }
        Self(files)
    }

    /// Files that were made, changed or removed up to `new`, sorted.
    pub(super) fn changes(&self, new: &Self) -> Vec<PathBuf> {
        let changed = new
            .0
            .iter()
            .filter(|(path, look)| self.0.get(*path) != Some(*look));
        let removed = self.0.iter().filter(|(path, _)| !new.0.contains_key(*path));
        let mut paths: Vec<PathBuf> = changed
            .chain(removed)
            .map(|(path, _)| path.clone())
            .collect();
        paths.sort();
        paths
    }
}

fn collect(folder: &Path, depth: usize, files: &mut BTreeMap<PathBuf, Look>) {
    // A folder that is not there has no files.
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for entry in entries.filter_map(Result::ok) {
        // Links to files count as what they lead to.
        let Ok(metadata) = fs::metadata(entry.path()) else {
            continue;
        };
        if metadata.is_file() && files.len() < MOST {
            let look = Look {
                size: metadata.len(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
                inode: metadata.ino(),
            };
            files.insert(entry.path(), look);
        } else if metadata.is_dir() && depth > 0 && !entry.file_type().is_ok_and(|t| t.is_symlink())
        {
            collect(&entry.path(), depth - 1, files);
        }
    }
}

/// The inode of a folder, if it is there.
pub(super) fn inode(folder: &Path) -> Option<u64> {
    fs::metadata(folder)
        .ok()
        .filter(fs::Metadata::is_dir)
        .map(|m| m.ino())
}
