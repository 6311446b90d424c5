//! The one way to start a kernel, and the tensors that it writes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use candle_core::cuda_backend::cudarc::driver::result::memset_d8_async;
use candle_core::cuda_backend::cudarc::driver::sys::CUfunction_attribute;
use candle_core::cuda_backend::cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg,
};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{
    CudaDevice, CudaStorage, DType, Device, Layout, Result, Shape, Storage, Tensor, bail,
};
use half::bf16;

use super::{function, timing};

/// Bytes of shared memory that a launch has without asking for more.
const UNASKED_SHARED: u32 = 48 * 1024;
/// Threads of a block, where a kernel file says nothing else.
const THREADS: usize = 256;

/// One argument of a kernel. Tensors must be contiguous, views excepted; whether a kernel reads or writes one, its file says.
pub(in crate::ops) enum Argument<'a> {
    /// A tensor of the launch's element type.
    Values(&'a Tensor),
    /// A tensor of another type, which the kernel fixes.
    Typed(DType, &'a Tensor),
    /// A tensor of the launch's element type of which only the last dimension must be contiguous, as columns of a joint buffer are.
    /// The kernel takes its strides as well: [`row_stride`] or [`head_strides`].
    View(&'a Tensor),
    /// A null pointer: the kernel goes without.
    Absent,
    /// A count or an index.
    Int(usize),
    /// A factor.
    Float(f32),
    /// A factor in double precision.
    Double(f64),
}

/// [`Argument`] as the driver takes it.
enum Word {
    Pointer(u64),
    Int(i64),
    Float(f32),
    Double(f64),
}

/// Starts `{name}_{bf16|f32|f64}` of `kernels/{file}.cu` on the device and for the element type of `like`; an empty grid starts nothing.
///
/// Kernels of a device run in the order of their launches, in its one stream, so pointers are taken without the locks that
/// candle keeps around storages: the borrowed tensors hold the memory until the launch is queued, and freeing is queued too.
///
/// # Errors
/// When `like` is neither bf16, f32 nor f64, a tensor lies elsewhere, has another type, or is not contiguous, or the driver refuses.
pub(in crate::ops) fn launch(
    file: &'static str,
    name: &str,
    like: &Tensor,
    config: LaunchConfig,
    arguments: &[Argument<'_>],
) -> Result<()> {
    let device = device(like)?;
    let suffix = match like.dtype() {
        DType::F32 => "f32",
        DType::BF16 => "bf16",
        DType::F64 => "f64",
        dtype => bail!("{file} has no CUDA kernel for {}", dtype.as_str()),
    };
    if config.grid_dim.0 == 0 || config.grid_dim.1 == 0 {
        return Ok(());
    }
    let kernel = function(device, file, &format!("{name}_{suffix}"))?;
    if config.shared_mem_bytes > UNASKED_SHARED {
        let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        kernel
            .set_attribute(attribute, config.shared_mem_bytes as i32)
            .w()?;
    }
    let stream = device.cuda_stream();
    let words = arguments
        .iter()
        .map(|argument| {
            Ok(match argument {
                Argument::Values(tensor) => {
                    Word::Pointer(pointer(file, &stream, tensor, like.dtype(), Form::Packed)?)
                }
                Argument::Typed(dtype, tensor) => {
                    Word::Pointer(pointer(file, &stream, tensor, *dtype, Form::Packed)?)
                }
                Argument::View(tensor) => {
                    Word::Pointer(pointer(file, &stream, tensor, like.dtype(), Form::Rows)?)
                }
                Argument::Absent => Word::Pointer(0),
                Argument::Int(value) => Word::Int(*value as i64),
                Argument::Float(value) => Word::Float(*value),
                Argument::Double(value) => Word::Double(*value),
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let mut launch = stream.launch_builder(&kernel);
    for word in &words {
        match word {
            Word::Pointer(value) => launch.arg(value),
            Word::Int(value) => launch.arg(value),
            Word::Float(value) => launch.arg(value),
            Word::Double(value) => launch.arg(value),
        };
    }
    timing::around(&stream, name, || {
        #[expect(unsafe_code, reason = "a kernel launch")]
        // SAFETY: each caller lists the parameters of its kernel in their order, with the lengths that the op's door has checked;
        // types, contiguity and device were checked above.
        unsafe { launch.launch(config) }.w()?;
        Ok(())
    })
}

/// Blocks for kernels that take 16 bytes of `values` numbers of the type of `like` a thread.
pub(in crate::ops) fn each(like: &Tensor, values: usize) -> LaunchConfig {
    grid(
        values.div_ceil(THREADS * (16 / like.dtype().size_in_bytes())),
        0,
    )
}

/// `blocks` blocks of the usual size with `shared` bytes of shared memory.
pub(in crate::ops) fn grid(blocks: usize, shared: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (blocks as u32, 1, 1),
        block_dim: (THREADS as u32, 1, 1),
        shared_mem_bytes: shared as u32,
    }
}

/// Adds the rows of `partial` to `sum`, in an order that the shape fixes.
///
/// # Shapes
/// `partial [R, ..]`, `sum [..]`, both f32
pub(in crate::ops) fn add_rows(partial: &Tensor, sum: &Tensor) -> Result<()> {
    let (rows, columns) = (partial.dim(0)?, sum.elem_count());
    let config = LaunchConfig {
        grid_dim: (columns.div_ceil(32) as u32, 1, 1),
        block_dim: (32, 32, 1),
        shared_mem_bytes: 0,
    };
    launch(
        "reduce",
        "reduce_add_rows",
        partial,
        config,
        &[
            Argument::Values(partial),
            Argument::Values(sum),
            Argument::Int(rows),
            Argument::Int(columns),
        ],
    )
}

/// Whether outputs start as NaN.
static POISON: AtomicBool = AtomicBool::new(cfg!(debug_assertions));

/// Lets outputs of kernels start as NaN, or not, from now on; they do in debug builds. The tests of kernels ask for it, so that a
/// value left unwritten shows.
pub fn poison_outputs(on: bool) {
    POISON.store(on, Relaxed);
}

/// A tensor to be written by a kernel, on the device of `like`; see [`poison_outputs`].
pub(in crate::ops) fn output(
    like: &Tensor,
    dtype: DType,
    shape: impl Into<Shape>,
) -> Result<Tensor> {
    let device = device(like)?;
    let shape = shape.into();
    match dtype {
        DType::F32 => uninitialised::<f32>(device, shape),
        DType::BF16 => uninitialised::<bf16>(device, shape),
        DType::F64 => uninitialised::<f64>(device, shape),
        DType::U32 => uninitialised::<u32>(device, shape),
        dtype => bail!("no kernel writes {}", dtype.as_str()),
    }
}

/// Sets all values of a contiguous tensor to zero.
pub(in crate::ops) fn zero(tensor: &Tensor) -> Result<()> {
    let stream = device(tensor)?.cuda_stream();
    let bytes = tensor.elem_count() * tensor.dtype().size_in_bytes();
    let address = pointer("zero", &stream, tensor, tensor.dtype(), Form::Packed)?;
    if bytes == 0 {
        return Ok(());
    }
    timing::around(&stream, "zero", || {
        #[expect(unsafe_code, reason = "a driver call")]
        // SAFETY: the contiguous tensor has `bytes` bytes at `address`, whose bounds were checked; it is written in stream order.
        unsafe { memset_d8_async(address, 0, bytes, stream.cu_stream()) }.w()
    })
}

fn uninitialised<T: CudaDType + DeviceRepr>(device: &CudaDevice, shape: Shape) -> Result<Tensor> {
    #[expect(unsafe_code, reason = "memory that is not set")]
    // SAFETY: every caller's kernel writes all values before anyone reads them.
    let mut slice: CudaSlice<T> = unsafe { device.alloc::<T>(shape.elem_count())? };
    if POISON.load(Relaxed) && shape.elem_count() > 0 {
        let stream = device.cuda_stream();
        let bytes = slice.num_bytes();
        let (pointer, _written) = slice.device_ptr_mut(&stream);
        #[expect(unsafe_code, reason = "a driver call")]
        // SAFETY: the pointer addresses `bytes` bytes of this context, borrowed mutably.
        unsafe { memset_d8_async(pointer, 0xff, bytes, stream.cu_stream()) }.w()?;
    }
    let storage = CudaStorage::wrap_cuda_slice(slice, device.clone());
    Ok(Tensor::from_storage(
        Storage::Cuda(storage),
        shape,
        BackpropOp::none(),
        false,
    ))
}

/// Elements from one row of a view to the next: the stride of the first dimension, the others being packed among themselves.
///
/// # Errors
/// When the dimensions after the first are not packed.
pub(in crate::ops) fn row_stride(view: &Tensor) -> Result<usize> {
    let (dims, strides) = (view.dims(), view.stride());
    let mut packed = 1;
    for (dim, stride) in dims.iter().zip(strides).skip(1).rev() {
        if *dim != 1 && *stride != packed {
            bail!("expected packed rows, found strides {strides:?} for {dims:?}");
        }
        packed *= dim;
    }
    Ok(match (dims.first(), strides.first()) {
        (Some(rows), Some(stride)) if *rows > 1 => *stride,
        _ => packed,
    })
}

/// Elements from one row of a view `[N, H, D]` to the next, and from one head to the next.
///
/// # Errors
/// When the view has not three dimensions or the last one is not contiguous.
pub(in crate::ops) fn head_strides(view: &Tensor) -> Result<(usize, usize)> {
    let (rows, heads, width) = view.dims3()?;
    let strides = view.stride();
    if width > 1 && strides[2] != 1 {
        bail!(
            "expected contiguous heads, found strides {strides:?} for {:?}",
            view.dims()
        );
    }
    let head = if heads > 1 { strides[1] } else { width };
    let row = if rows > 1 { strides[0] } else { heads * head };
    Ok((row, head))
}

/// Major and minor number of the GPU that `like` lies on, for the choice between kernels.
pub(in crate::ops) fn compute_capability(like: &Tensor) -> Result<(i32, i32)> {
    let stream = device(like)?.cuda_stream();
    stream.context().compute_capability().w()
}

pub(super) fn device(tensor: &Tensor) -> Result<&CudaDevice> {
    match tensor.device() {
        Device::Cuda(device) => Ok(device),
        device => bail!(
            "expected a CUDA tensor, found one on {:?}",
            device.location()
        ),
    }
}

/// How the values of an argument may lie.
#[derive(Clone, Copy)]
pub(in crate::ops) enum Form {
    /// One after the other.
    Packed,
    /// The last dimension one after the other, the others with strides of their own.
    Rows,
}

/// The address of the first value of `tensor`, after the checks of its place, type, form and bounds.
pub(in crate::ops) fn pointer(
    file: &str,
    stream: &CudaStream,
    tensor: &Tensor,
    dtype: DType,
    form: Form,
) -> Result<u64> {
    let (storage, layout) = tensor.storage_and_layout();
    let Storage::Cuda(storage) = &*storage else {
        bail!("{file}: expected all tensors on the same CUDA device")
    };
    if storage.device.cuda_stream().context().ordinal() != stream.context().ordinal() {
        bail!("{file}: expected all tensors on the same CUDA device")
    }
    if tensor.dtype() != dtype {
        bail!(
            "{file}: expected {}, found {}",
            dtype.as_str(),
            tensor.dtype().as_str()
        )
    }
    match dtype {
        DType::F32 => address::<f32>(file, stream, storage, layout, form),
        DType::BF16 => address::<bf16>(file, stream, storage, layout, form),
        DType::F64 => address::<f64>(file, stream, storage, layout, form),
        DType::U32 => address::<u32>(file, stream, storage, layout, form),
        dtype => bail!("{file}: no kernel takes {}", dtype.as_str()),
    }
}

fn address<T: CudaDType + DeviceRepr>(
    file: &str,
    stream: &CudaStream,
    storage: &CudaStorage,
    layout: &Layout,
    form: Form,
) -> Result<u64> {
    let range = match form {
        Form::Packed => layout.contiguous_offsets(),
        Form::Rows => row_offsets(layout),
    };
    let Some((start, end)) = range else {
        bail!(
            "{file}: expected {}, found strides {:?} for {:?}",
            match form {
                Form::Packed => "a contiguous tensor",
                Form::Rows => "a contiguous last dimension",
            },
            layout.stride(),
            layout.dims()
        )
    };
    let slice = storage.as_cuda_slice::<T>()?;
    let Some(slice) = slice.try_slice(start..end) else {
        bail!(
            "{file}: values {start} to {end} of a tensor of {}",
            slice.len()
        )
    };
    let (pointer, _recorded) = slice.device_ptr(stream);
    Ok(pointer)
}

/// The first value of a view and the end of its last, when its last dimension is contiguous.
fn row_offsets(layout: &Layout) -> Option<(usize, usize)> {
    let (dims, strides) = (layout.dims(), layout.stride());
    let start = layout.start_offset();
    if let (Some(width), Some(stride)) = (dims.last(), strides.last())
        && *width > 1
        && *stride != 1
    {
        return None;
    }
    if dims.contains(&0) {
        return Some((start, start));
    }
    let last: usize = dims
        .iter()
        .zip(strides)
        .map(|(dim, stride)| (dim - 1) * stride)
        .sum();
    Some((start, start + last + 1))
}
