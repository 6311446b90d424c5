//! Opening a checkpoint: which tensors it holds and where each scalar lies. No tensor is read.

use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use super::boxes::{self, Placed};
use super::error::{TorchDistError, in_words};
use super::item::{self, Archive};
use super::metadata::{self, Item, Metadata, TensorMetadata};
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
        let opened = Opened::new(&folder, &metadata, &model)?;
        let tensors = model.par_iter().map(|tensor| opened.locate(tensor));
        let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
        let names = metadata.objects.iter().map(|o| o.key.as_str());
        let (extra, objects): (Vec<_>, Vec<_>) = names.partition(|key| is_extra_state(key));
        Ok(Self {
            iteration: trackers::iteration(&folder),
            files: opened.paths,
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
        let path = inside(&self.folder, relative).ok_or_else(|| TorchDistError::Outside {
            path: self.folder.join(".metadata"),
            key: key.to_owned(),
            relative: relative.clone(),
        })?;
        let file = open(&path, key)?;
        let archive = archive(&file, &path, key, object.item)?;
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

/// The path of an item's file, if it stays in the folder.
fn inside(folder: &Path, relative: &str) -> Option<PathBuf> {
    let relative = Path::new(relative);
    let mut parts = relative
        .components()
        .filter(|c| *c != Component::CurDir)
        .peekable();
    parts.peek()?;
    if relative.as_os_str().as_encoded_bytes().contains(&0) {
        return None;
    }
    parts
        .all(|part| matches!(part, Component::Normal(_)))
        .then(|| folder.join(relative))
}

fn open(path: &Path, key: &str) -> Result<File, TorchDistError> {
    File::open(path).map_err(|source| TorchDistError::File {
        path: path.to_owned(),
        key: key.to_owned(),
        source,
    })
}

/// The archive of an item, which must lie within its file.
fn archive<'f>(
    file: &'f File,
    path: &Path,
    key: &str,
    item: Item,
) -> Result<Archive<'f>, TorchDistError> {
    let size = file.metadata().map_err(|source| TorchDistError::File {
        path: path.to_owned(),
        key: key.to_owned(),
        source,
    })?;
    within(size.len(), path, key, item)?;
    Ok(Archive {
        file,
        offset: item.offset,
        length: item.length,
    })
}

fn within(size: u64, path: &Path, key: &str, item: Item) -> Result<(), TorchDistError> {
    let end = item.offset.checked_add(item.length);
    if end.is_some_and(|end| end <= size) {
        return Ok(());
    }
    Err(TorchDistError::Truncated {
        path: path.to_owned(),
        key: key.to_owned(),
        offset: item.offset,
        length: item.length,
        size,
    })
}

/// The files of a model's items.
struct Opened {
    metadata: PathBuf,
    paths: Vec<PathBuf>,
    files: Vec<(File, u64)>,
    /// From the numbers of `.metadata` to those of `paths`.
    numbers: Vec<usize>,
}

impl Opened {
    fn new(
        folder: &Path,
        metadata: &Metadata,
        model: &[TensorMetadata],
    ) -> Result<Self, CheckpointError> {
        let mut opened = Self {
            metadata: folder.join(".metadata"),
            paths: Vec::new(),
            files: Vec::new(),
            numbers: vec![usize::MAX; metadata.files.len()],
        };
        for tensor in model {
            for chunk in &tensor.chunks {
                let number = &mut opened.numbers[chunk.item.file];
                if *number != usize::MAX {
                    continue;
                }
                let relative = &metadata.files[chunk.item.file];
                let Some(path) = inside(folder, relative) else {
                    return Err(TorchDistError::Outside {
                        path: opened.metadata,
                        key: tensor.key.clone(),
                        relative: relative.clone(),
                    }
                    .into());
                };
                let file = open(&path, &tensor.key)?;
                let size = file.metadata().map_err(failed("read", &path))?.len();
                *number = opened.paths.len();
                opened.paths.push(path);
                opened.files.push((file, size));
            }
        }
        Ok(opened)
    }

    /// Finds the scalars of a tensor and checks that its chunks hold each of them once.
    fn locate(&self, tensor: &TensorMetadata) -> Result<StoredTensor, TorchDistError> {
        let TensorMetadata {
            key,
            dtype,
            shape,
            chunks,
        } = tensor;
        let mut extents = Vec::with_capacity(chunks.len());
        for chunk in chunks {
            self.check_box(tensor, chunk)?;
            let file = self.numbers[chunk.item.file];
            let (path, (handle, size)) = (&self.paths[file], &self.files[file]);
            within(*size, path, key, chunk.item)?;
            let archive = Archive {
                file: handle,
                offset: chunk.item.offset,
                length: chunk.item.length,
            };
            let at = item::tensor(archive, &chunk.sizes, *dtype).map_err(|problem| {
                TorchDistError::Item {
                    path: path.clone(),
                    key: key.clone(),
                    offset: chunk.item.offset,
                    problem: Box::new(problem),
                }
            })?;
            let placed = Placed {
                offsets: &chunk.offsets,
                sizes: &chunk.sizes,
                file,
                at,
                scalar: dtype.size(),
            };
            boxes::rectangles(shape, placed, &mut extents);
        }
        boxes::cover(shape, &extents).map_err(|problem| TorchDistError::Cover {
            path: self.metadata.clone(),
            key: key.clone(),
            shape: shape.to_string(),
            problem: in_words(&problem),
        })?;
        extents.sort_by_key(|e| (e.rows.start, e.cols.start));
        Ok(StoredTensor {
            name: key.clone(),
            shape: shape.clone(),
            dtype: *dtype,
            extents,
        })
    }

    /// A chunk must lie within its tensor, whose number of elements must be one.
    fn check_box(
        &self,
        tensor: &TensorMetadata,
        chunk: &metadata::Chunk,
    ) -> Result<(), TorchDistError> {
        let dims = &tensor.shape.0;
        let product = |sizes: &[usize]| {
            let bytes = usize::try_from(tensor.dtype.size()).ok();
            sizes
                .iter()
                .try_fold(bytes?, |product, &size| product.checked_mul(size))
        };
        let fits = chunk
            .offsets
            .iter()
            .zip(&chunk.sizes)
            .zip(dims)
            .all(|((offset, size), dim)| offset.checked_add(*size).is_some_and(|end| end <= *dim));
        if fits && product(dims).is_some() {
            return Ok(());
        }
        Err(TorchDistError::Chunk {
            path: self.metadata.clone(),
            key: tensor.key.clone(),
            shape: tensor.shape.to_string(),
            offsets: Shape(chunk.offsets.clone()).to_string(),
            sizes: Shape(chunk.sizes.clone()).to_string(),
        })
    }
}
