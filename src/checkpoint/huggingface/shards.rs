//! The tensors of a directory, mapped into memory for the trainer.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;

use crate::base::{DType, Shape};
use crate::checkpoint::files::failed;
use crate::checkpoint::safetensors::{Directory, SafetensorsError};
use crate::checkpoint::{CheckpointError, StoredTensor};

/// All tensors of a directory.
pub(crate) struct Shards {
    files: Vec<(PathBuf, Mmap)>,
    tensors: BTreeMap<String, StoredTensor>,
}

impl Shards {
    /// Opens a directory's files, or one file.
    pub(crate) fn open(path: &Path) -> Result<Self, CheckpointError> {
        let directory = Directory::open(path)?;
        let files = directory.files.into_iter().map(map);
        let tensors = directory.tensors.into_iter();
        Ok(Self {
            files: files.collect::<Result<_, _>>()?,
            tensors: tensors.map(|t| (t.name.clone(), t)).collect(),
        })
    }

    /// BLAKE3 of a tensor's bytes, or of all tensors of the first file as they lie there, hex.
    pub(crate) fn hash(&self, name: Option<&str>) -> Result<String, CheckpointError> {
        let hash = if let Some(name) = name {
            let (_, _, data) = self.find(name)?;
            blake3::hash(data)
        } else {
            let (path, map) = &self.files[0];
            let extents = self.tensors.values().flat_map(|t| &t.extents);
            let first = extents.filter(|e| e.file == 0).map(|e| e.offset).min();
            let start = first.map_or(map.len(), |offset| offset as usize);
            blake3::hash(map.get(start..).ok_or_else(|| cut(path, start, map))?)
        };
        Ok(hash.to_hex().to_string())
    }

    /// Every name, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// A tensor widened to f32.
    pub(crate) fn read(&self, name: &str, expected: &Shape) -> Result<Tensor, CheckpointError> {
        let (path, tensor, data) = self.find(name)?;
        if tensor.shape != *expected {
            return Err(CheckpointError::Shape {
                path: path.to_owned(),
                name: name.to_owned(),
                found: tensor.shape.clone(),
                expected: expected.clone(),
            });
        }
        let values: Vec<f32> = match tensor.dtype {
            DType::F32 => data
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            DType::BF16 => data
                .chunks_exact(2)
                .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            DType::F16 => data
                .chunks_exact(2)
                .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            dtype => {
                return Err(CheckpointError::DType {
                    path: path.to_owned(),
                    name: name.to_owned(),
                    dtype: dtype.safetensors_name().to_owned(),
                });
            }
        };
        Ok(Tensor::from_vec(
            values,
            expected.0.as_slice(),
            &Device::Cpu,
        )?)
    }

    /// A tensor's file, what is known of it, and its bytes.
    fn find(&self, name: &str) -> Result<(&Path, &StoredTensor, &[u8]), CheckpointError> {
        let tensor = self
            .tensors
            .get(name)
            .ok_or_else(|| CheckpointError::Missing {
                path: self.files[0].0.clone(),
                names: vec![name.to_owned()],
            })?;
        let extent = &tensor.extents[0];
        let (path, map) = &self.files[extent.file];
        let start = extent.offset as usize;
        let end = start + tensor.bytes() as usize;
        let data = map.get(start..end).ok_or_else(|| cut(path, end, map))?;
        Ok((path, tensor, data))
    }
}

fn map(path: PathBuf) -> Result<(PathBuf, Mmap), CheckpointError> {
    let file = File::open(&path).map_err(failed("read", &path))?;
    #[expect(unsafe_code, reason = "a memory map")]
    // SAFETY: the map is only read; a file that another process cuts meanwhile is outside what a reader can guard against.
    let map = unsafe { Mmap::map(&file) }.map_err(failed("map", &path))?;
    Ok((path, map))
}

/// The file became shorter after its header was read.
fn cut(path: &Path, needed: usize, map: &Mmap) -> CheckpointError {
    CheckpointError::Safetensors {
        path: path.to_owned(),
        source: Box::new(SafetensorsError::Truncated {
            needed: needed as u64,
            found: map.len() as u64,
        }),
    }
}
