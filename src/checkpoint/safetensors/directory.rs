//! The safetensors files of a Hugging Face directory as one list of tensors.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::index::LIMIT;
use super::{Header, INDEX, Index, SINGLE, SafetensorsError};
use crate::checkpoint::files::failed;
use crate::checkpoint::{CheckpointError, StoredTensor};

/// Where every tensor of a directory, or of one file, lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Directory {
    /// The files, in the order in which the index first names them.
    pub files: Vec<PathBuf>,
    /// Every tensor once, with one extent each: by file, then by place in it.
    pub tensors: Vec<StoredTensor>,
    /// Texts that the writer left in the headers; where files differ, the first one's.
    pub metadata: BTreeMap<String, String>,
}

impl Directory {
    /// Opens `path`: a directory with `model.safetensors` or `model.safetensors.index.json`, or one safetensors file of any name.
    ///
    /// Reads headers alone. Symbolic links are followed, as a snapshot of the Hub's cache consists of them.
    ///
    /// # Errors
    /// When a file is missing or refused by [`Header::parse`], when the index and its files do not have the same tensors, or when the
    /// directory has no weights.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        if !fs::metadata(path).map_err(failed("read", path))?.is_dir() {
            return Self::read(vec![path.to_owned()]);
        }
        let (single, index) = (path.join(SINGLE), path.join(INDEX));
        if !is_there(&index) {
            return if is_there(&single) {
                Self::read(vec![single])
            } else {
                Err(CheckpointError::NoWeights {
                    path: path.to_owned(),
                })
            };
        }
        let names = read_index(&index)?;
        if is_there(&single) && !names.files.iter().any(|file| file == SINGLE) {
            return Err(refused(path, SafetensorsError::Ambiguous));
        }
        let directory = Self::read(names.files.iter().map(|file| path.join(file)).collect())?;
        compare(&names, &directory).map_err(|source| refused(&index, source))?;
        Ok(directory)
    }

    /// Opens the files of one model, none of which has a tensor of another.
    fn read(files: Vec<PathBuf>) -> Result<Self, CheckpointError> {
        let headers: Vec<Header> = files
            .par_iter()
            .map(|file| Header::read(file))
            .collect::<Result<_, _>>()?;
        let mut tensors = Vec::with_capacity(headers.iter().map(|h| h.tensors.len()).sum());
        let mut metadata = BTreeMap::new();
        for (file, header) in headers.into_iter().enumerate() {
            tensors.extend(header.tensors.into_iter().map(|mut tensor| {
                for extent in &mut tensor.extents {
                    extent.file = file;
                }
                tensor
            }));
            for (key, text) in header.metadata {
                metadata.entry(key).or_insert(text);
            }
        }
        Ok(Self {
            files,
            tensors,
            metadata,
        })
    }
}

/// Whether something has this name, be it a link that leads nowhere or to itself: opening it then says so.
fn is_there(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok()
}

fn refused(path: &Path, source: SafetensorsError) -> CheckpointError {
    CheckpointError::Safetensors {
        path: path.to_owned(),
        source: Box::new(source),
    }
}

fn read_index(path: &Path) -> Result<Index, CheckpointError> {
    let metadata = fs::metadata(path).map_err(failed("read", path))?;
    if !metadata.is_file() {
        return Err(refused(path, SafetensorsError::NotAFile));
    }
    if metadata.len() > LIMIT {
        let found = metadata.len();
        return Err(refused(
            path,
            SafetensorsError::IndexTooLong {
                found,
                limit: LIMIT,
            },
        ));
    }
    let bytes = fs::read(path).map_err(failed("read", path))?;
    Index::parse(&bytes).map_err(|source| refused(path, source))
}

/// Checks that each file has the tensors that the index puts there, and no others.
fn compare(index: &Index, directory: &Directory) -> Result<(), SafetensorsError> {
    let mut left: HashMap<&str, usize> = index
        .weight_map
        .iter()
        .map(|(name, &file)| (name.as_str(), file))
        .collect();
    let mut extra: Option<(usize, Vec<String>)> = None;
    for tensor in &directory.tensors {
        let file = tensor.extents[0].file;
        let name = tensor.name.as_str();
        if index.weight_map.get(name) == Some(&file) {
            left.remove(name);
        } else if extra.as_ref().is_none_or(|(first, _)| *first == file) {
            let (_, names) = extra.get_or_insert((file, Vec::new()));
            names.push(name.to_owned());
        }
    }
    if let Some(&first) = left.values().min() {
        let missing = left.iter().filter(|(_, file)| **file == first);
        let mut names: Vec<String> = missing.map(|(name, _)| (*name).to_owned()).collect();
        names.sort_unstable();
        let file = index.files[first].clone();
        return Err(SafetensorsError::NotInFile { file, names });
    }
    match extra {
        Some((file, names)) => Err(SafetensorsError::NotInIndex {
            file: index.files[file].clone(),
            names,
        }),
        None => Ok(()),
    }
}
