//! Opening a checkpoint: which tensors it holds and where each scalar lies. No tensor is read.

use std::fs;
use std::path::{Path, PathBuf};

use super::error::TorchDistError;
use super::item::{self, Archive};
use super::locate;
use super::metadata::{self, Metadata, TensorMetadata};
use super::trackers;
use crate::base::{DType, Shape};
use crate::checkpoint::files::failed;
use crate::checkpoint::{CheckpointError, StoredTensor};

/// A checkpoint whose tensors can be read in place.
#[derive(Debug)]
pub struct Reader {
    /// The folder that holds `.metadata`.
    pub folder: PathBuf,
    /// Step, by the folder's name; none if it is called otherwise.
    pub iteration: Option<u64>,
    /// Files that the extents point into.
    pub files: Vec<PathBuf>,
    /// Tensors of the model, in the order of `.metadata`.
    pub tensors: Vec<StoredTensor>,
    /// Tensors of the optimizer: listed, not located.
    pub optimizer: Vec<Listed>,
    /// Keys of what is no tensor, without the engine's extra state.
    pub objects: Vec<String>,
    /// How many objects of the engine's extra state were skipped.
    pub extra_states: usize,
    metadata: Metadata,
}

/// A tensor that is not part of the model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Its key.
    pub name: String,
    /// Its extents.
    pub shape: Shape,
    /// Type of its scalars.
    pub dtype: DType,
}

impl Reader {
    /// Opens `path`: the folder of one checkpoint (`iter_0000500`), or the one above with its tracker.
    ///
    /// A folder with `.metadata` but without `metadata.json` is what `torch.distributed.checkpoint` writes by itself; it is read too.
    ///
    /// # Errors
    /// [`TorchDistError`]: the key, the file and the numbers that disagree.
    pub fn open(path: &Path) -> Result<Self, CheckpointError> {
        let folder = trackers::folder(path)?;
        backend(&folder)?;
        let place = folder.join(".metadata");
        let bytes = fs::read(&place).map_err(failed("read", &place))?;
        let mut metadata = metadata::parse(&bytes).map_err(|problem| TorchDistError::Metadata {
            path: place.clone(),
            problem,
        })?;
        drop(bytes);
        let all = std::mem::take(&mut metadata.tensors);
        let (optimizer, model): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|t| is_optimizer(&t.key));
        let (files, tensors) = locate::tensors(&folder, &metadata.files, &model)?;
        let names = metadata.objects.iter().map(|o| o.key.as_str());
        let (extra, objects): (Vec<_>, Vec<_>) = names.partition(|key| is_extra_state(key));
        Ok(Self {
            iteration: trackers::iteration(&folder),
            files,
            tensors,
            optimizer: optimizer.into_iter().map(Listed::from).collect(),
            objects: objects.into_iter().map(str::to_owned).collect(),
            extra_states: extra.len(),
            folder,
            metadata,
        })
    }

    /// The pickle of an object: bytes for [`pickle::parse`](super::pickle::parse). Read when asked for, so that what is in it hinders nobody
    /// who does not need it.
    ///
    /// # Errors
    /// [`TorchDistError::NoObject`], and those of its file and archive.
    pub fn object(&self, key: &str) -> Result<Vec<u8>, CheckpointError> {
        let found = self.metadata.objects.iter().find(|o| o.key == key);
        let object = found.ok_or_else(|| TorchDistError::NoObject {
            path: self.folder.clone(),
            key: key.to_owned(),
        })?;
        let relative = &self.metadata.files[object.item.file];
        let path = locate::inside(&self.folder, relative, key)?;
        let (file, size) = locate::open(&path, key)?;
        locate::within(size, &path, key, object.item)?;
        let archive = Archive {
            file: &file,
            offset: object.item.offset,
            length: object.item.length,
        };
        let bytes = item::object(archive).map_err(|problem| TorchDistError::Item {
            path,
            key: key.to_owned(),
            offset: object.item.offset,
            problem: Box::new(problem),
        })?;
        Ok(bytes)
    }
}

impl From<TensorMetadata> for Listed {
    fn from(tensor: TensorMetadata) -> Self {
        Self {
            name: tensor.key,
            shape: tensor.shape,
            dtype: tensor.dtype,
        }
    }
}

/// Whether a key is the optimizer's: `optimizer.state.exp_avg...`, and with several `chained_1.optimizer...`.
fn is_optimizer(key: &str) -> bool {
    key.starts_with("optimizer.") || key.starts_with("chained_")
}

/// Whether a key is state of the compute engine: `...linear_fc1._extra_state/shard_0_1`.
fn is_extra_state(key: &str) -> bool {
    key.contains("._extra_state")
}

/// Checks `metadata.json`, if there is one.
fn backend(folder: &Path) -> Result<(), CheckpointError> {
    let path = folder.join("metadata.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(failed("read", &path)(e)),
    };
    let json: serde_json::Value =
        serde_json::from_slice(&text).map_err(|e| CheckpointError::Json {
            path: path.clone(),
            line: e.line(),
            column: e.column(),
            problem: e.to_string(),
        })?;
    let problem = match (&json["sharded_backend"], &json["sharded_backend_version"]) {
        (serde_json::Value::String(name), version) if name == "torch_dist" => {
            if version.is_null() || *version == 1 {
                return Ok(());
            }
            format!("sharded_backend_version is {version}")
        }
        (name, _) => format!("sharded_backend is {name}"),
    };
    Err(TorchDistError::Backend { path, problem }.into())
}
