//! From the chunks of `.metadata` to bytes of files: every item is looked into, and every tensor must be whole.

use std::fs::File;
use std::path::{Component, Path, PathBuf};

use rayon::prelude::*;

use super::boxes::{self, Placed};
use super::error::{TorchDistError, in_words};
use super::item::{self, Archive};
use super::metadata::{Chunk, Item, TensorMetadata};
use crate::base::Shape;
use crate::checkpoint::StoredTensor;

/// Items that are looked into with one handle of their file. A checkpoint of a thousand ranks has more files than may be open at once.
const BATCH: usize = 512;

/// Finds the scalars of tensors: the files that they lie in, and the tensors with extents that point into those.
pub(super) fn tensors(
    folder: &Path,
    relative: &[String],
    tensors: &[TensorMetadata],
) -> Result<(Vec<PathBuf>, Vec<StoredTensor>), TorchDistError> {
    let metadata = folder.join(".metadata");
    let mut paths = Vec::new();
    let mut numbers = vec![usize::MAX; relative.len()];
    // chunks by file: tensor and number of the chunk
    let mut by_file: Vec<Vec<(usize, usize)>> = Vec::new();
    for (t, tensor) in tensors.iter().enumerate() {
        for (c, chunk) in tensor.chunks.iter().enumerate() {
            check_box(&metadata, tensor, chunk)?;
            let number = &mut numbers[chunk.item.file];
            if *number == usize::MAX {
                *number = paths.len();
                paths.push(inside(folder, &relative[chunk.item.file], &tensor.key)?);
                by_file.push(Vec::new());
            }
            by_file[*number].push((t, c));
        }
    }
    let batches = by_file.iter().enumerate();
    let batches: Vec<_> = batches
        .flat_map(|(file, chunks)| chunks.chunks(BATCH).map(move |batch| (file, batch)))
        .collect();
    let looked = batches
        .par_iter()
        .map(|(file, batch)| look_into(&paths[*file], tensors, batch));
    let found = looked.collect::<Result<Vec<_>, _>>()?;
    let mut places: Vec<Vec<u64>> = tensors.iter().map(|t| vec![0; t.chunks.len()]).collect();
    for ((_, batch), offsets) in batches.iter().zip(found) {
        for ((t, c), at) in batch.iter().zip(offsets) {
            places[*t][*c] = at;
        }
    }
    let stored = tensors
        .par_iter()
        .zip(&places)
        .map(|(tensor, places)| whole(&metadata, tensor, places, &numbers));
    let stored = stored.collect::<Result<Vec<_>, _>>()?;
    Ok((paths, stored))
}

/// Where the scalars of some chunks of one file begin.
fn look_into(
    path: &Path,
    tensors: &[TensorMetadata],
    batch: &[(usize, usize)],
) -> Result<Vec<u64>, TorchDistError> {
    let Some((first, _)) = batch.first() else {
        return Ok(Vec::new());
    };
    let (file, size) = open(path, &tensors[*first].key)?;
    let place = |&(t, c): &(usize, usize)| {
        let TensorMetadata {
            key, dtype, chunks, ..
        } = &tensors[t];
        let Chunk { sizes, item, .. } = &chunks[c];
        within(size, path, key, *item)?;
        let archive = Archive {
            file: &file,
            offset: item.offset,
            length: item.length,
        };
        item::tensor(archive, sizes, *dtype).map_err(|problem| TorchDistError::Item {
            path: path.to_owned(),
            key: key.clone(),
            offset: item.offset,
            problem: Box::new(problem),
        })
    };
    batch.iter().map(place).collect()
}

/// A tensor with its extents, if its chunks hold every element once.
fn whole(
    metadata: &Path,
    tensor: &TensorMetadata,
    places: &[u64],
    numbers: &[usize],
) -> Result<StoredTensor, TorchDistError> {
    let TensorMetadata {
        key,
        dtype,
        shape,
        chunks,
    } = tensor;
    let mut extents = Vec::with_capacity(chunks.len());
    for (chunk, &at) in chunks.iter().zip(places) {
        let placed = Placed {
            offsets: &chunk.offsets,
            sizes: &chunk.sizes,
            file: numbers[chunk.item.file],
            at,
            scalar: dtype.size(),
        };
        boxes::rectangles(shape, placed, &mut extents);
    }
    boxes::cover(shape, &extents).map_err(|problem| TorchDistError::Cover {
        path: metadata.to_owned(),
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

/// A chunk must lie within its tensor.
fn check_box(
    metadata: &Path,
    tensor: &TensorMetadata,
    chunk: &Chunk,
) -> Result<(), TorchDistError> {
    let dims = &tensor.shape.0;
    let fits = chunk
        .offsets
        .iter()
        .zip(&chunk.sizes)
        .zip(dims)
        .all(|((offset, size), dim)| offset.checked_add(*size).is_some_and(|end| end <= *dim));
    if fits {
        return Ok(());
    }
    Err(TorchDistError::Chunk {
        path: metadata.to_owned(),
        key: tensor.key.clone(),
        shape: tensor.shape.to_string(),
        offsets: Shape(chunk.offsets.clone()).to_string(),
        sizes: Shape(chunk.sizes.clone()).to_string(),
    })
}

/// The path of an item's file, which must stay in the folder.
pub(super) fn inside(folder: &Path, relative: &str, key: &str) -> Result<PathBuf, TorchDistError> {
    let parts = Path::new(relative).components();
    let mut parts = parts.filter(|part| *part != Component::CurDir).peekable();
    let stays = parts.peek().is_some()
        && parts.all(|part| matches!(part, Component::Normal(_)))
        && !relative.contains('\0');
    if stays {
        return Ok(folder.join(relative));
    }
    Err(TorchDistError::Outside {
        path: folder.join(".metadata"),
        key: key.to_owned(),
        relative: relative.to_owned(),
    })
}

/// Opens the file of an item; the file and its size.
pub(super) fn open(path: &Path, key: &str) -> Result<(File, u64), TorchDistError> {
    let opened = File::open(path).and_then(|file| {
        let size = file.metadata()?.len();
        Ok((file, size))
    });
    opened.map_err(|source| TorchDistError::File {
        path: path.to_owned(),
        key: key.to_owned(),
        source,
    })
}

/// An item must lie within its file.
pub(super) fn within(size: u64, path: &Path, key: &str, item: Item) -> Result<(), TorchDistError> {
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
