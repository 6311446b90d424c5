//! Loading and launching the kernels of `kernels/*.cu`.
//!
//! `kernels/build.rs` embeds one fat binary a kernel file; it is loaded into a device's context at its first launch and kept.

mod launch;
mod matmul;
mod timing;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaFunction, CudaModule};
use candle_core::cuda_backend::cudarc::nvrtc::Ptx;
use candle_core::{CudaDevice, Error, Result};

pub use launch::poison_outputs;
pub(super) use launch::{
    Argument, Form, add_rows, compute_capability, each, grid, head_strides, launch, output,
    pointer, row_stride, zero,
};
pub(super) use matmul::{Factor, product};
pub use timing::{KernelTime, kernel_times};

include!(concat!(env!("OUT_DIR"), "/kernels.rs"));

/// What is loaded of a kernel file.
struct Loaded {
    module: Arc<CudaModule>,
    functions: HashMap<String, CudaFunction>,
}

/// Kernel files by device and name.
type Files = HashMap<(usize, &'static str), Loaded>;

/// The function `name` of `kernels/{file}.cu` on `device`; the driver is asked for it once.
///
/// Fails when there is no such file or function, or the driver refuses the binary (a GPU older than `sm_80`).
fn function(device: &CudaDevice, file: &'static str, name: &str) -> Result<CudaFunction> {
    static FILES: OnceLock<Mutex<Files>> = OnceLock::new();
    let context = device.cuda_stream().context().clone();
    let mut files = FILES
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    let loaded = match files.entry((context.ordinal(), file)) {
        Entry::Occupied(entry) => entry.into_mut(),
        Entry::Vacant(entry) => {
            let (_, binary) = KERNELS
                .iter()
                .find(|(kernel, _)| *kernel == file)
                .ok_or_else(|| Error::Msg(format!("no kernel file {file}.cu in this build")))?;
            entry.insert(Loaded {
                module: context.load_module(Ptx::from_binary(binary.to_vec())).w()?,
                functions: HashMap::new(),
            })
        }
    };
    if let Some(function) = loaded.functions.get(name) {
        return Ok(function.clone());
    }
    let function = loaded.module.load_function(name).w()?;
    loaded.functions.insert(name.to_owned(), function.clone());
    Ok(function)
}
