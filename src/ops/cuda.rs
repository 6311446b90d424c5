//! Loading and launching the kernels of `kernels/*.cu`.
//!
//! `kernels/build.rs` embeds one fat binary a kernel file; it is loaded into a device's context at its first launch and kept.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::cudarc::driver::result::memset_d8_async;
use candle_core::cuda_backend::cudarc::driver::{
    CudaFunction, CudaModule, CudaSlice, CudaView, DevicePtrMut, DeviceRepr,
};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::{CudaDevice, CudaStorage, Error, Layout, Result, Shape, Storage, Tensor, bail};
use half::bf16;

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// Modules by device and kernel file.
type Modules = HashMap<(usize, &'static str), Arc<CudaModule>>;

/// The function `name` of `kernels/{file}.cu` on `device`.
///
/// Fails when there is no such file or function, or the driver refuses the binary (a GPU older than `sm_80`).
pub(super) fn function(
    device: &CudaDevice,
    file: &'static str,
    name: &str,
) -> Result<CudaFunction> {
    static MODULES: OnceLock<Mutex<Modules>> = OnceLock::new();
    let context = device.cuda_stream().context().clone();
    let mut modules = MODULES
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let module = match modules.entry((context.ordinal(), file)) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            let (_, binary) = KERNELS
                .iter()
                .find(|(kernel, _)| *kernel == file)
                .ok_or_else(|| Error::Msg(format!("no kernel file {file}.cu in this build")))?;
            entry.insert(context.load_module(Ptx::from_binary(binary.to_vec())).w()?)
        }
    };
    module.load_function(name).w()
}

/// A type that kernels exist for.
pub(super) trait Element: CudaDType + DeviceRepr {
    /// The ending of the kernels' names.
    const SUFFIX: &'static str;
}

impl Element for f32 {
    const SUFFIX: &'static str = "f32";
}

impl Element for bf16 {
    const SUFFIX: &'static str = "bf16";
}

/// `len` values to be written by a kernel. In debug builds they start as NaN, so that a value left unwritten shows.
pub(super) fn uninitialised<T: Element>(device: &CudaDevice, len: usize) -> Result<CudaSlice<T>> {
    #[expect(unsafe_code, reason = "memory that is not set")]
    // SAFETY: every caller's kernel writes all values before anyone reads them.
    let mut slice = unsafe { device.alloc::<T>(len)? };
    if cfg!(debug_assertions) {
        let stream = device.cuda_stream();
        let bytes = slice.num_bytes();
        let (pointer, _written) = slice.device_ptr_mut(&stream);
        #[expect(unsafe_code, reason = "a driver call")]
        // SAFETY: the pointer addresses `bytes` bytes of this context, borrowed mutably.
        unsafe { memset_d8_async(pointer, 0xff, bytes, stream.cu_stream()) }.w()?;
    }
    Ok(slice)
}

/// The values of a contiguous CUDA tensor.
pub(super) fn values<'a, T: Element>(
    storage: &'a Storage,
    layout: &Layout,
) -> Result<CudaView<'a, T>> {
    match storage {
        Storage::Cuda(storage) => slice(storage, layout),
        _ => bail!("expected all tensors of an op on the same CUDA device"),
    }
}

/// The values of a contiguous CUDA storage.
pub(super) fn slice<'a, T: Element>(
    storage: &'a CudaStorage,
    layout: &Layout,
) -> Result<CudaView<'a, T>> {
    match layout.contiguous_offsets() {
        Some((start, end)) => Ok(storage.as_cuda_slice::<T>()?.slice(start..end)),
        None => bail!(
            "expected a contiguous tensor, found strides {:?} for {:?}",
            layout.stride(),
            layout.dims()
        ),
    }
}

/// A tensor of what a kernel wrote.
pub(super) fn wrap<T: Element>(device: &CudaDevice, slice: CudaSlice<T>, shape: Shape) -> Tensor {
    let storage = CudaStorage::wrap_cuda_slice(slice, device.clone());
    Tensor::from_storage(
        Storage::Cuda(storage),
        shape,
        candle_core::op::BackpropOp::none(),
        false,
    )
}
