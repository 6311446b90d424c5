//! How the CPU forms reach the values of tensors: borrowed for reading, borrowed for writing in place, made from a `Vec`.

use std::cell::Cell;
use std::ops::Deref;

use candle_core::{
    CpuStorage, DType, Device, InplaceOp1, Layout, Result, Shape, Storage, Tensor, bail,
};

/// Rows that one task handles: fixed, so that the partition of a sum does not depend on the number of threads.
pub(super) const BLOCK_ROWS: usize = 32;

/// The values of an `f32` CPU tensor in their order: borrowed from a contiguous one, copied from the rows of a view.
enum Floats<G> {
    Borrowed {
        storage: G,
        start: usize,
        len: usize,
    },
    Copied(Vec<f32>),
}

impl<G: Deref<Target = Storage>> Deref for Floats<G> {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        match self {
            Self::Borrowed {
                storage,
                start,
                len,
            } => match &**storage {
                Storage::Cpu(CpuStorage::F32(values)) => &values[*start..*start + *len],
                _ => &[],
            },
            Self::Copied(values) => values,
        }
    }
}

/// The values of `tensor` for `op`: borrowed, or copied when it is a view with other strides than its shape has.
///
/// # Errors
/// When the tensor lies on another device than the CPU, is not `f32`, or its last dimension is not contiguous.
pub(super) fn read<'a>(
    op: &'static str,
    tensor: &'a Tensor,
) -> Result<impl Deref<Target = [f32]> + use<'a>> {
    if !tensor.device().is_cpu() {
        return Err(unsupported(op, tensor.device()));
    }
    let (storage, layout) = tensor.storage_and_layout();
    Ok(match rows_of(op, tensor.dtype(), layout)? {
        Rows::One(start, len) => Floats::Borrowed {
            storage,
            start,
            len,
        },
        Rows::Many(starts, width) => {
            let mut copy = Vec::with_capacity(layout.shape().elem_count());
            if let Storage::Cpu(CpuStorage::F32(values)) = &*storage {
                for start in starts {
                    copy.extend_from_slice(&values[start..start + width]);
                }
            }
            Floats::Copied(copy)
        }
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

/// Runs `change` on the values of an `f32` CPU tensor, in place; views of the same arena see the change.
///
/// The storage is locked meanwhile: `change` must not touch tensors that share it. A view with other strides than its shape has
/// is copied, changed, and copied back.
///
/// # Errors
/// When the tensor lies on another device than the CPU, is not `f32`, or its last dimension is not contiguous.
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

/// Writes `values` into an `f32` CPU tensor, which may be a view of columns.
///
/// # Errors
/// As [`update`], and when the counts differ.
#[allow(
    dead_code,
    reason = "for ops that write into columns of a joint buffer"
)]
pub(super) fn write_view(op: &'static str, tensor: &Tensor, values: &[f32]) -> Result<()> {
    if tensor.elem_count() != values.len() {
        bail!(
            "{op}: {} values for a view of {:?}",
            values.len(),
            tensor.dims()
        );
    }
    update(op, tensor, |view| view.copy_from_slice(values))
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
        let rows = rows_of(self.op, storage_dtype(storage), layout)?;
        let (CpuStorage::F32(values), Some(change)) = (storage, self.change.take()) else {
            return Ok(());
        };
        self.result.set(Some(match rows {
            Rows::One(start, len) => change(&mut values[start..start + len]),
            Rows::Many(starts, width) => {
                let mut copy = Vec::with_capacity(layout.shape().elem_count());
                for start in &starts {
                    copy.extend_from_slice(&values[*start..*start + width]);
                }
                let result = change(&mut copy);
                for (start, row) in starts.iter().zip(copy.chunks_exact(width)) {
                    values[*start..*start + width].copy_from_slice(row);
                }
                result
            }
        }));
        Ok(())
    }
}

fn storage_dtype(storage: &CpuStorage) -> DType {
    candle_core::backend::BackendStorage::dtype(storage)
}

/// Where the values of a tensor lie in its storage.
enum Rows {
    /// One run: its start and length.
    One(usize, usize),
    /// Runs of equal length: their starts and that length.
    Many(Vec<usize>, usize),
}

fn rows_of(op: &'static str, dtype: DType, layout: &Layout) -> Result<Rows> {
    if dtype != DType::F32 {
        bail!("{op}: expected f32 on the CPU, found {}", dtype.as_str());
    }
    if let Some((start, end)) = layout.contiguous_offsets() {
        return Ok(Rows::One(start, end - start));
    }
    let (Some((width, leading)), Some((stride, strides))) =
        (layout.dims().split_last(), layout.stride().split_last())
    else {
        bail!("{op}: expected a tensor of at least one dimension");
    };
    if *width > 1 && *stride != 1 {
        bail!(
            "{op}: expected a contiguous last dimension, found strides {:?} for {:?}",
            layout.stride(),
            layout.dims()
        );
    }
    let mut starts = vec![layout.start_offset()];
    for (dim, stride) in leading.iter().zip(strides) {
        starts = starts
            .iter()
            .flat_map(|start| (0..*dim).map(move |index| start + index * stride))
            .collect();
    }
    Ok(Rows::Many(starts, *width))
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

#[cfg(test)]
mod tests {
    use candle_core::{DType, Device, Tensor};

    use super::{read, update, write_view};

    #[test]
    fn columns_of_a_joint_buffer_are_read_and_written() {
        let joint = Tensor::arange(0f32, 12.0, &Device::Cpu).unwrap();
        let joint = joint.reshape((3, 4)).unwrap();
        let view = joint.narrow(1, 1, 2).unwrap();
        assert_eq!(&*read("test", &view).unwrap(), [1., 2., 5., 6., 9., 10.]);
        update("test", &view, |values| values[0] = 50.0).unwrap();
        write_view("test", &joint.narrow(1, 3, 1).unwrap(), &[-1., -2., -3.]).unwrap();
        assert_eq!(
            joint.to_vec2::<f32>().unwrap(),
            [[0., 50., 2., -1.], [4., 5., 6., -2.], [8., 9., 10., -3.]]
        );
        assert!(write_view("test", &view, &[0.0]).is_err());
    }

    #[test]
    fn a_transposed_matrix_is_refused() {
        let x = Tensor::zeros((3, 4), DType::F32, &Device::Cpu).unwrap();
        assert!(read("test", &x.t().unwrap()).is_err());
    }
}
