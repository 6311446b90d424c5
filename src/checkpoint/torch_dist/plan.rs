//! Where every byte of a checkpoint will lie, before one is written.
//!
//! A plan cuts tensors along their first dim into chunks, so that each chunk is a run of rows, and gives every chunk its item: head (zip header
//! and pickle), scalars, tail (CRC and zip directory). Whoever converts writes scalars at [`PlannedItem::data_offset`], in any order and from any
//! number of threads, and puts [`head`](Plan::head) and [`tail`](Plan::tail) around them; [`finish`](Plan::finish) writes what is left and
//! `.metadata` last, without which no reader takes the folder for a checkpoint.

use std::collections::HashSet;
use std::fs::{self, File};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::archive;
use super::common::{COMMON_FILE, COMMON_STATE};
use super::error::TorchDistError;
use super::extra_state;
use super::metadata::{self, Chunk, Item, Metadata, ObjectMetadata, TensorMetadata};
use super::trackers::TRACKER;
use super::zip::ALIGN;
use crate::base::{DType, Shape};
use crate::checkpoint::CheckpointError;
use crate::checkpoint::files::{failed, replace, sync_folder, write};

/// Bytes of scalars that one item can hold: its archive has 32-bit sizes.
const LIMIT: u64 = (1 << 32) - (1 << 20);

/// How a checkpoint is to be cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Bytes of scalars in an item, unless one index of the first dim takes more.
    pub max_chunk_bytes: u64,
    /// Number of `.distcp` files, of about the same size; fewer if there is less to write.
    pub files: usize,
    /// Step that the common state names.
    pub iteration: u64,
    /// Also write `common.pt`, without which Megatron Core before 0.19 does not load a checkpoint.
    pub common_file: bool,
    /// Also name an empty extra state for every module of the compute engine, without which Megatron Core refuses to load by default.
    pub extra_states: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            max_chunk_bytes: 256 << 20,
            files: 1,
            iteration: 0,
            common_file: true,
            extra_states: true,
        }
    }
}

/// A checkpoint to be written.
#[derive(Debug)]
pub struct Plan {
    /// Its `.distcp` files.
    pub files: Vec<PlannedFile>,
    /// Its items in the order of their files and offsets.
    pub items: Vec<PlannedItem>,
    metadata: Metadata,
    options: Options,
    /// Items of the first file that are no tensors: the common state, and the extra state that all modules share.
    objects: Vec<(Item, Vec<u8>)>,
}

/// A file of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFile {
    /// Its name in the folder: `__0_0.distcp`.
    pub name: String,
    /// Its size.
    pub bytes: u64,
}

/// A chunk of a tensor in its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedItem {
    /// Index into [`Plan::files`].
    pub file: usize,
    /// Byte of the file at which its head begins, a multiple of 64.
    pub offset: u64,
    /// Byte of the file at which its scalars begin, a multiple of 64.
    pub data_offset: u64,
    /// Bytes of its scalars, row-major.
    pub bytes: u64,
    /// Index into the tensors that the plan was made for.
    pub tensor: usize,
    /// Its rows of the tensor's [`matrix`](crate::checkpoint::matrix); it holds all columns.
    pub rows: Range<usize>,
    chunk: usize,
}

impl Plan {
    /// Plans a checkpoint of tensors, each with its key, extents and type.
    ///
    /// # Errors
    /// [`TorchDistError::Twice`] and [`TorchDistError::Row`].
    pub fn new<N: AsRef<str>>(
        tensors: &[(N, Shape, DType)],
        options: Options,
    ) -> Result<Self, TorchDistError> {
        let mut names = HashSet::with_capacity(tensors.len());
        let total: u64 = tensors
            .iter()
            .map(|(_, s, d)| s.elements() * d.size())
            .sum();
        let count = options.files.max(1) as u64;
        let share = total.div_ceil(count).max(1);
        let mut plan = Self {
            files: Vec::new(),
            items: Vec::new(),
            metadata: Metadata::default(),
            options,
            objects: Vec::new(),
        };
        let mut done = 0;
        for (number, (key, shape, dtype)) in tensors.iter().enumerate() {
            let key = key.as_ref();
            if !names.insert(key) || key == COMMON_STATE {
                return Err(TorchDistError::Twice {
                    key: key.to_owned(),
                });
            }
            let mut chunks = Vec::new();
            for range in cut(key, shape, *dtype, options.max_chunk_bytes)? {
                let (offsets, sizes) = place(shape, &range);
                let elements: usize = sizes.iter().product();
                let bytes = elements as u64 * dtype.size();
                let file = ((done + bytes / 2) / share).min(count - 1) as usize;
                done += bytes;
                while plan.files.len() <= file {
                    plan.files.push(PlannedFile {
                        name: format!("__{}_0.distcp", plan.files.len()),
                        bytes: 0,
                    });
                }
                let offset = plan.files[file].bytes.next_multiple_of(ALIGN);
                let head = archive::head(*dtype, &sizes, bytes).len() as u64;
                let tail = archive::tail(*dtype, &sizes, bytes, 0).len() as u64;
                plan.files[file].bytes = offset + head + bytes + tail;
                // rows of the matrix in one index of the first dim
                let inner: usize = match shape.0.as_slice() {
                    [_, inner @ .., _] => inner.iter().product(),
                    _ => 1,
                };
                plan.items.push(PlannedItem {
                    file,
                    offset,
                    data_offset: offset + head,
                    bytes,
                    tensor: number,
                    rows: range.start * inner..range.end * inner,
                    chunk: chunks.len(),
                });
                chunks.push(Chunk {
                    offsets,
                    sizes,
                    item: Item {
                        file,
                        offset,
                        length: head + bytes + tail,
                    },
                });
            }
            plan.metadata.tensors.push(TensorMetadata {
                key: key.to_owned(),
                dtype: *dtype,
                shape: shape.clone(),
                chunks,
            });
        }
        plan.add_objects();
        Ok(plan)
    }

    /// Objects go behind the tensors of the first file.
    fn add_objects(&mut self) {
        if self.files.is_empty() {
            self.files.push(PlannedFile {
                name: "__0_0.distcp".to_owned(),
                bytes: 0,
            });
        }
        if self.options.extra_states {
            let tensors = self.metadata.tensors.iter();
            let keys = extra_state::keys(tensors.map(|t| (t.key.as_str(), &t.shape)));
            if !keys.is_empty() {
                self.add_object(archive::extra_state(), keys);
            }
        }
        let common = archive::object("archive", &archive::common(self.options.iteration, true));
        self.add_object(common, vec![COMMON_STATE.to_owned()]);
        self.metadata.files = self.files.iter().map(|f| f.name.clone()).collect();
    }

    /// Adds one item that is stored under several keys.
    fn add_object(&mut self, bytes: Vec<u8>, keys: Vec<String>) {
        let item = Item {
            file: 0,
            offset: self.files[0].bytes.next_multiple_of(ALIGN),
            length: bytes.len() as u64,
        };
        self.files[0].bytes = item.offset + item.length;
        self.objects.push((item, bytes));
        let objects = keys.into_iter().map(|key| ObjectMetadata { key, item });
        self.metadata.objects.extend(objects);
    }

    /// Bytes of all files together, without `.metadata` and what is small.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }

    /// What stands before an item's scalars: from [`PlannedItem::offset`] to [`PlannedItem::data_offset`].
    pub fn head(&self, item: &PlannedItem) -> Vec<u8> {
        let (dtype, sizes) = self.chunk(item);
        archive::head(dtype, sizes, item.bytes)
    }

    /// What stands after them. `crc` is the CRC-32 (IEEE, as `crc32fast` has it) of the scalars' bytes.
    pub fn tail(&self, item: &PlannedItem, crc: u32) -> Vec<u8> {
        let (dtype, sizes) = self.chunk(item);
        archive::tail(dtype, sizes, item.bytes, crc)
    }

    fn chunk(&self, item: &PlannedItem) -> (DType, &[usize]) {
        let tensor = &self.metadata.tensors[item.tensor];
        (tensor.dtype, &tensor.chunks[item.chunk].sizes)
    }

    /// Creates the files at their size in `folder`, and gives them in the order of [`files`](Self::files). What is there already is kept, so that
    /// a conversion can go on.
    ///
    /// # Errors
    /// A file that cannot be created or made this long.
    pub fn create(&self, folder: &Path) -> Result<Vec<File>, CheckpointError> {
        let create = |planned: &PlannedFile| {
            let path = folder.join(&planned.name);
            let file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .map_err(failed("write", &path))?;
            file.set_len(planned.bytes)
                .map_err(failed("write", &path))?;
            Ok(file)
        };
        self.files.iter().map(create).collect()
    }

    /// Writes what is left when every item is written: the common state, `common.pt` if wanted, `metadata.json`, and `.metadata` at last.
    /// `files` are those of [`create`](Self::create); they are on the disk when this returns.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub fn finish(&self, folder: &Path, files: &[File]) -> Result<(), CheckpointError> {
        for (i, (file, planned)) in files.iter().zip(&self.files).enumerate() {
            let path = folder.join(&planned.name);
            for (item, bytes) in self.objects.iter().filter(|(item, _)| item.file == i) {
                file.write_all_at(bytes, item.offset)
                    .map_err(failed("write", &path))?;
            }
            file.sync_all().map_err(failed("write", &path))?;
        }
        if self.options.common_file {
            let pickle = archive::common(self.options.iteration, false);
            let archive = archive::object("common", &pickle);
            write(&folder.join(COMMON_FILE), |file| file.write_all(&archive))?;
        }
        let json = "{\"sharded_backend\": \"torch_dist\", \"sharded_backend_version\": 1}";
        write(&folder.join("metadata.json"), |file| {
            file.write_all(json.as_bytes())
        })?;
        let bytes = metadata::write(&self.metadata, &self.save_id());
        let (new, path) = (folder.join(".metadata.tmp"), folder.join(".metadata"));
        write(&new, |file| file.write_all(&bytes))?;
        fs::rename(&new, &path).map_err(failed("write", &path))?;
        sync_folder(folder)
    }

    /// A UUID made of what is planned, so that the same plan gives the same bytes.
    fn save_id(&self) -> String {
        let mut hash = blake3::Hasher::new();
        for tensor in &self.metadata.tensors {
            hash.update(tensor.key.as_bytes());
            hash.update(tensor.shape.to_string().as_bytes());
            hash.update(tensor.dtype.name().as_bytes());
        }
        let hex = hash.finalize().to_hex();
        let part = |range: Range<usize>| &hex.as_str()[range];
        // version 8: made as one likes
        format!(
            "{}-{}-8{}-8{}-{}",
            part(0..8),
            part(8..12),
            part(13..16),
            part(17..20),
            part(20..32)
        )
    }
}

/// Makes the checkpoint of this step the latest of `save`, for readers of the tracker.
///
/// # Errors
/// A tracker that cannot be written.
pub fn track(save: &Path, iteration: u64) -> Result<(), CheckpointError> {
    replace(&save.join(TRACKER), &iteration.to_string())
}

/// Writes a whole checkpoint into `folder`, which must exist, item by item: for tests and small models. `fill` gets the tensor's number, the rows
/// of its matrix and the bytes to fill.
///
/// # Errors
/// Those of [`Plan::new`], and a file that cannot be written.
pub fn write_all<N: AsRef<str>>(
    folder: &Path,
    tensors: &[(N, Shape, DType)],
    options: Options,
    mut fill: impl FnMut(usize, Range<usize>, &mut [u8]),
) -> Result<Plan, CheckpointError> {
    let plan = Plan::new(tensors, options)?;
    let files = plan.create(folder)?;
    for item in &plan.items {
        let mut bytes = vec![0; item.bytes as usize];
        fill(item.tensor, item.rows.clone(), &mut bytes);
        let path = folder.join(&plan.files[item.file].name);
        let file = &files[item.file];
        let tail = plan.tail(item, crc32fast::hash(&bytes));
        file.write_all_at(&plan.head(item), item.offset)
            .and_then(|()| file.write_all_at(&bytes, item.data_offset))
            .and_then(|()| file.write_all_at(&tail, item.data_offset + item.bytes))
            .map_err(failed("write", &path))?;
    }
    plan.finish(folder, &files)?;
    Ok(plan)
}

/// Ranges of the first dim, each of one item. A scalar has one.
fn cut(
    key: &str,
    shape: &Shape,
    dtype: DType,
    max: u64,
) -> Result<Vec<Range<usize>>, TorchDistError> {
    let first = shape.0.first().copied().unwrap_or(1);
    if shape.elements() == 0 || first == 0 {
        return Ok(std::iter::once(0..first).collect());
    }
    let row = shape.elements() / first as u64 * dtype.size();
    if row > LIMIT {
        return Err(TorchDistError::Row {
            key: key.to_owned(),
            shape: shape.to_string(),
            bytes: row,
            limit: LIMIT,
        });
    }
    let fit = (max.min(LIMIT) / row).max(1) as usize;
    // chunks of about the same size, not full ones and a rest
    let step = first.div_ceil(first.div_ceil(fit));
    let starts = (0..first).step_by(step);
    Ok(starts.map(|start| start..first.min(start + step)).collect())
}

/// Offsets and extents of the chunk with this range of the first dim.
fn place(shape: &Shape, range: &Range<usize>) -> (Vec<usize>, Vec<usize>) {
    let (mut offsets, mut sizes) = (vec![0; shape.0.len()], shape.0.clone());
    if let (Some(offset), Some(size)) = (offsets.first_mut(), sizes.first_mut()) {
        (*offset, *size) = (range.start, range.len());
    }
    (offsets, sizes)
}
