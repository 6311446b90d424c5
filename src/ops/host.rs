//! How the CPU forms reach the values of tensors: borrowed for reading, borrowed for writing in place, made from a `Vec`.

use std::cell::Cell;
use std::ops::Deref;

use candle_core::{
    CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor, bail,
};

/// Rows that one task handles: fixed, so that the partition of a sum does not depend on the number of threads.
pub(super) const BLOCK_ROWS: usize = 32;

/// The values of a contiguous `f32` CPU tensor, borrowed.
struct Floats<G> {
    storage: G,
    start: usize,
    len: usize,
}

impl<G: Deref<Target = Storage>> Deref for Floats<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match &*self.storage {
            Storage::Cpu(CpuStorage::F32(values)) => &values[self.start..self.start + self.len],
            _ => &[],
        }
    }
}

/// Borrows the values of `tensor` for `op`.
///
/// # Errors
/// When the tensor lies on another device than the CPU, is not `f32`, or is not contiguous.
pub(super) fn read<'a>(
    op: &'static str,
    tensor: &'a Tensor,
) -> Result<impl Deref<Target = [f32]> + use<'a>> {
    if !tensor.device().is_cpu() {
        return Err(unsupported(op, tensor.device()));
    }
    let (storage, layout) = tensor.storage_and_layout();
    let (start, end) = contiguous(op, tensor.dtype(), layout)?;
    Ok(Floats {
        storage,
        start,
        len: end - start,
    })
}

/// Makes a CPU tensor of `values`.
pub(super) fn tensor(values: Vec<f32>, shape: impl Into<Shape>) -> Result<Tensor> {
    Tensor::from_vec(values, shape, &Device::Cpu)
}

/// The error of an op that has no kernel for a device.
pub(super) fn unsupported(op: &'static str, device: &Device) -> candle_core::Error {
    candle_core::Error::Msg(format!(
        "{op} has no kernel for the device {:?}",
        device.location()
    ))
}

/// Fails unless `tensor` has the shape `expected`.
pub(super) fn check(
    op: &'static str,
    name: &str,
    tensor: &Tensor,
    expected: &[usize],
) -> Result<()> {
    if tensor.dims() != expected {
        bail!("{op}: {name} is {:?}, expected {expected:?}", tensor.dims());
    }
    Ok(())
}

/// Fails unless the last dimension of `tensor` is `width`; returns the product of the others.
pub(super) fn rows(op: &'static str, name: &str, tensor: &Tensor, width: usize) -> Result<usize> {
    match tensor.dims() {
        [leading @ .., last] if *last == width => Ok(leading.iter().product()),
        dims => bail!("{op}: {name} is {dims:?}, expected [.., {width}]"),
    }
}

/// Runs `change` on the values of a contiguous `f32` CPU tensor, in place; views of the same arena see the change.
///
/// # Errors
/// When the tensor lies on another device than the CPU, is not `f32`, or is not contiguous.
pub fn update<R>(
    op: &'static str,
    tensor: &Tensor,
    change: impl FnOnce(&mut [f32]) -> R,
) -> Result<R> {
    if !tensor.device().is_cpu() {
        return Err(unsupported(op, tensor.device()));
    }
    let update = Update {
        op,
        change: Cell::new(Some(change)),
        result: Cell::new(None),
    };
    tensor.inplace_op1(&update)?;
    match update.result.take() {
        Some(result) => Ok(result),
        None => bail!("{op}: the in-place change did not run"),
    }
}

struct Update<F, R> {
    op: &'static str,
    change: Cell<Option<F>>,
    result: Cell<Option<R>>,
}

impl<R, F: FnOnce(&mut [f32]) -> R> InplaceOp1 for Update<F, R> {
    fn name(&self) -> &'static str {
        self.op
    }

    fn cpu_fwd(&self, storage: &mut CpuStorage, layout: &Layout) -> Result<()> {
        let (start, end) = contiguous(self.op, storage_dtype(storage), layout)?;
        if let (CpuStorage::F32(values), Some(change)) = (storage, self.change.take()) {
            self.result.set(Some(change(&mut values[start..end])));
        }
        Ok(())
    }
}

fn storage_dtype(storage: &CpuStorage) -> DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

fn contiguous(op: &'static str, dtype: DType, layout: &Layout) -> Result<(usize, usize)> {
    if dtype != DType::F32 {
        bail!("{op}: expected f32 on the CPU, found {}", dtype.as_str());
    }
    match layout.contiguous_offsets() {
        Some(offsets) => Ok(offsets),
        None => bail!(
            "{op}: expected a contiguous tensor, found strides {:?} for {:?}",
            layout.stride(),
            layout.dims()
        ),
    }
}

/// Adds the partial sums of blocks, in their order, to `sum`.
pub(super) fn add_partials(sum: &mut [f32], partials: &[Vec<f32>]) {
    for partial in partials {
        for (sum, partial) in sum.iter_mut().zip(partial) {
            *sum += partial;
        }
    }
}

/// Tells the allocator to keep freed memory, since a training step asks for the same buffers again and again.
///
/// glibc otherwise returns large buffers to the kernel, which then has to clear every page once more. Call it once, before
/// training and before the first thread is started.
pub fn retain_heap() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        #[expect(unsafe_code, reason = "mallopt is a C function")]
        // SAFETY: mallopt may be called at any time with these parameters; a refusal is harmless.
        unsafe {
            libc::mallopt(libc::M_MMAP_THRESHOLD, 32 << 20); // the most that glibc takes
            libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
            libc::mallopt(libc::M_TOP_PAD, 64 << 20);
            libc::mallopt(libc::M_ARENA_MAX, 1); // arenas of threads give memory back whatever the threshold
        }
    }
}
