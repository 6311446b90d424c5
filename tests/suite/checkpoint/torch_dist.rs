//! Megatron's `torch_dist` checkpoints: what PyTorch and Megatron Core write we read, and the other way round.

mod golden;
mod hostile;
mod peers;
mod pickle;
mod write;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use trestle::checkpoint::{StoredTensor, matrix};

/// The bytes of a tensor, gathered from its rectangles.
fn values(files: &[PathBuf], tensor: &StoredTensor) -> Vec<u8> {
    let (rows, cols) = matrix(&tensor.shape);
    let scalar = tensor.dtype.size() as usize;
    let mut out = vec![0; rows * cols * scalar];
    for extent in &tensor.extents {
        let file = File::open(&files[extent.file]).unwrap();
        let width = extent.cols.len() * scalar;
        for (i, row) in extent.rows.clone().enumerate() {
            let at = (row * cols + extent.cols.start) * scalar;
            let offset = extent.offset + (i * width) as u64;
            file.read_exact_at(&mut out[at..at + width], offset)
                .unwrap();
        }
    }
    out
}
