//! A tensor's bytes in blocks.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use crate::base::DType;
use crate::checkpoint::files::failed;
use crate::checkpoint::{CheckpointError, Extent, StoredTensor};

/// Bytes of a block at most; a multiple of every scalar's size.
pub(super) const BLOCK: u64 = 4 << 20;

/// A tensor with its files open.
pub(super) struct Source<'a> {
    files: BTreeMap<usize, (&'a Path, File)>,
    pub(super) tensor: &'a StoredTensor,
    cancel: &'a AtomicBool,
}

/// Contiguous bytes of a file.
#[derive(Debug, Clone, Copy)]
pub(super) struct Block {
    pub(super) file: usize,
    pub(super) offset: u64,
    pub(super) bytes: usize,
}

impl<'a> Source<'a> {
    pub(super) fn open(
        files: &'a [PathBuf],
        tensor: &'a StoredTensor,
        cancel: &'a AtomicBool,
    ) -> Result<Self, CheckpointError> {
        let mut open = BTreeMap::new();
        for extent in &tensor.extents {
            if let std::collections::btree_map::Entry::Vacant(vacant) = open.entry(extent.file) {
                let path = files[extent.file].as_path();
                vacant.insert((path, File::open(path).map_err(failed("read", path))?));
            }
        }
        Ok(Self {
            files: open,
            tensor,
            cancel,
        })
    }

    pub(super) fn dtype(&self) -> DType {
        self.tensor.dtype
    }

    pub(super) fn is_cancelled(&self) -> bool {
        self.cancel.load(Ordering::Relaxed)
    }

    /// All bytes, extent by extent.
    pub(super) fn blocks(&self) -> Vec<Block> {
        let size = self.tensor.dtype.size();
        let mut blocks = Vec::new();
        for extent in &self.tensor.extents {
            blocks.extend(cut(
                extent,
                0,
                extent.rows.len() as u64 * extent.cols.len() as u64 * size,
            ));
        }
        blocks
    }

    /// Reads a block into `buffer`, which becomes as long.
    pub(super) fn read(&self, block: Block, buffer: &mut Vec<u8>) -> Result<(), CheckpointError> {
        let (path, file) = &self.files[&block.file];
        buffer.resize(block.bytes, 0);
        file.read_exact_at(buffer, block.offset)
            .map_err(failed("read", path))
    }
}

/// Bytes `start..end` of an extent in blocks.
pub(super) fn cut(extent: &Extent, start: u64, end: u64) -> impl Iterator<Item = Block> {
    let Extent { file, offset, .. } = *extent;
    (start..end)
        .step_by(BLOCK as usize)
        .map(move |begin| Block {
            file,
            offset: offset + begin,
            bytes: (end - begin).min(BLOCK) as usize,
        })
}
