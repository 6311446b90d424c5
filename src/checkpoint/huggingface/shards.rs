//! The safetensors files of a directory as one set of named tensors, mapped into memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use candle_core::{Device, Tensor};
use half::{bf16, f16};
use memmap2::Mmap;
use safetensors::{Dtype, SafeTensors};

use crate::base::Shape;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::files::failed;

use super::{WEIGHTS, read_json};

const INDEX: &str = "model.safetensors.index.json";

/// All tensors of a directory.
pub(crate) struct Shards {
    files: Vec<(PathBuf, Mmap)>,
    /// Name to file.
    names: BTreeMap<String, usize>,
}

impl Shards {
    /// Opens the index's files, or the single file.
    pub(crate) fn open(directory: &Path) -> Result<Self, CheckpointError> {
        let index = directory.join(INDEX);
        let whole = directory.join(WEIGHTS);
        let mut shards = Self {
            files: Vec::new(),
            names: BTreeMap::new(),
        };
        if index.exists() {
            let json = read_json(&index)?;
            let map = json
                .get("weight_map")
                .and_then(|m| m.as_object())
                .ok_or_else(|| CheckpointError::Json {
                    path: index.clone(),
                    line: 1,
                    column: 1,
                    problem: "expected an object `weight_map` from tensor names to file names"
                        .to_owned(),
                })?;
            let mut files: Vec<&str> = map.values().filter_map(|f| f.as_str()).collect();
            files.sort_unstable();
            files.dedup();
            for file in files {
                shards.add(directory.join(file))?;
            }
            let missing: Vec<String> = map
                .keys()
                .filter(|n| !shards.names.contains_key(*n))
                .cloned()
                .collect();
            if !missing.is_empty() {
                return Err(CheckpointError::Missing {
                    path: directory.to_owned(),
                    names: missing,
                });
            }
        } else if whole.exists() {
            shards.add(whole)?;
        } else {
            return Err(CheckpointError::NoWeights {
                path: directory.to_owned(),
            });
        }
        Ok(shards)
    }

    /// Opens one file.
    pub(crate) fn single(path: &Path) -> Result<Self, CheckpointError> {
        let mut shards = Self {
            files: Vec::new(),
            names: BTreeMap::new(),
        };
        shards.add(path.to_owned())?;
        Ok(shards)
    }

    fn add(&mut self, path: PathBuf) -> Result<(), CheckpointError> {
        let file = File::open(&path).map_err(failed("read", &path))?;
        #[expect(unsafe_code, reason = "a memory map")]
        // SAFETY: the map is only read; a file that another process cuts meanwhile is outside what a reader can guard against.
        let map = unsafe { Mmap::map(&file) }.map_err(failed("map", &path))?;
        let index = self.files.len();
        let tensors = parse(&path, &map)?;
        self.names
            .extend(tensors.names().into_iter().map(|n| (n.to_owned(), index)));
        drop(tensors);
        self.files.push((path, map));
        Ok(())
    }

    /// BLAKE3 of a tensor's bytes in the first file, or of all its tensors as they lie there, hex.
    pub(crate) fn hash(&self, name: Option<&str>) -> Result<String, CheckpointError> {
        let (path, map) = &self.files[0];
        let broken = |error: safetensors::SafeTensorError| CheckpointError::Safetensors {
            path: path.clone(),
            problem: error.to_string(),
        };
        let hash = if let Some(name) = name {
            let tensors = parse(path, map)?;
            blake3::hash(tensors.tensor(name).map_err(broken)?.data())
        } else {
            let (header, _) = SafeTensors::read_metadata(map).map_err(broken)?;
            blake3::hash(&map[8 + header..])
        };
        Ok(hash.to_hex().to_string())
    }

    /// Every name, sorted.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// A tensor widened to f32.
    pub(crate) fn read(&self, name: &str, expected: &Shape) -> Result<Tensor, CheckpointError> {
        let missing = || CheckpointError::Missing {
            path: self.files[0].0.clone(),
            names: vec![name.to_owned()],
        };
        let (path, map) = &self.files[*self.names.get(name).ok_or_else(missing)?];
        let tensors = parse(path, map)?;
        let view = tensors
            .tensor(name)
            .map_err(|error| CheckpointError::Safetensors {
                path: path.clone(),
                problem: error.to_string(),
            })?;
        if view.shape() != expected.0 {
            return Err(CheckpointError::Shape {
                path: path.clone(),
                name: name.to_owned(),
                found: Shape(view.shape().to_vec()),
                expected: expected.clone(),
            });
        }
        let data = view.data();
        let values: Vec<f32> = match view.dtype() {
            Dtype::F32 => data
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            Dtype::BF16 => data
                .chunks_exact(2)
                .map(|b| bf16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            Dtype::F16 => data
                .chunks_exact(2)
                .map(|b| f16::from_le_bytes([b[0], b[1]]).to_f32())
                .collect(),
            dtype => {
                return Err(CheckpointError::DType {
                    path: path.clone(),
                    name: name.to_owned(),
                    dtype: format!("{dtype:?}"),
                });
            }
        };
        Ok(Tensor::from_vec(
            values,
            expected.0.as_slice(),
            &Device::Cpu,
        )?)
    }
}

fn parse<'a>(path: &Path, map: &'a Mmap) -> Result<SafeTensors<'a>, CheckpointError> {
    SafeTensors::deserialize(map).map_err(|error| CheckpointError::Safetensors {
        path: path.to_owned(),
        problem: error.to_string(),
    })
}
