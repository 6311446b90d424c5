//! The driver's side: one device a GPU, the default memory pool.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Mutex, OnceLock, PoisonError};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::{
    CUdevice_attribute, CUmemPool_attribute, CUmemoryPool,
};
use candle_core::cuda_backend::cudarc::driver::{CudaContext, result};
use candle_core::{CudaDevice, Device, Result};

use super::{Memory, Properties};
use crate::base::Bytes;
use crate::ops::graph;

pub(super) fn open(ordinal: usize) -> Result<Device> {
    static OPEN: OnceLock<Mutex<HashMap<usize, CudaDevice>>> = OnceLock::new();
    let mut open = OPEN
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(device) = open.get(&ordinal) {
        return Ok(Device::Cuda(device.clone()));
    }
    let device = CudaDevice::new_with_stream(ordinal)?;
    #[expect(unsafe_code, reason = "candle leaves the order of streams to us")]
    // SAFETY: all work of the device is queued in the one stream of this `CudaDevice`, which is handed out to everybody, so no
    // tensor is used in a stream other than that of its allocation.
    unsafe {
        device.disable_event_tracking();
    }
    set(
        pool(&device)?,
        CUmemPool_attribute::CU_MEMPOOL_ATTR_RELEASE_THRESHOLD,
        u64::MAX,
    )?;
    open.insert(ordinal, device.clone());
    Ok(Device::Cuda(device))
}

pub(super) fn count() -> usize {
    CudaContext::device_count().map_or(0, |count| count.max(0) as usize)
}

pub(super) fn properties(device: &CudaDevice) -> Result<Properties> {
    let stream = device.cuda_stream();
    let context = stream.context();
    let (major, minor) = context.compute_capability().w()?;
    let multiprocessors = context
        .attribute(CUdevice_attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)
        .w()?;
    Ok(Properties {
        name: context.name().w()?,
        compute_capability: (major as u32, minor as u32),
        multiprocessors: multiprocessors as usize,
        memory: Bytes(context.total_mem().w()? as u64),
    })
}

pub(super) fn memory(device: &CudaDevice) -> Result<Memory> {
    use CUmemPool_attribute as Of;
    let pool = pool(device)?;
    let (free, total) = device.cuda_stream().context().mem_get_info().w()?;
    let pool = Memory {
        reserved: get(pool, Of::CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT)?,
        reserved_peak: get(pool, Of::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH)?,
        used: get(pool, Of::CU_MEMPOOL_ATTR_USED_MEM_CURRENT)?,
        used_peak: get(pool, Of::CU_MEMPOOL_ATTR_USED_MEM_HIGH)?,
        free: Bytes(free as u64),
        total: Bytes(total as u64),
    };
    graph::add_memory(device, pool)
}

pub(super) fn reset_peak(device: &CudaDevice) -> Result<()> {
    let pool = pool(device)?;
    for attribute in [
        CUmemPool_attribute::CU_MEMPOOL_ATTR_RESERVED_MEM_HIGH,
        CUmemPool_attribute::CU_MEMPOOL_ATTR_USED_MEM_HIGH,
    ] {
        set(pool, attribute, 0)?;
    }
    graph::reset_peak(device)
}

pub(super) fn trim(device: &CudaDevice) -> Result<()> {
    device.cuda_stream().synchronize().w()?;
    let pool = pool(device)?;
    #[expect(unsafe_code, reason = "a driver call")]
    // SAFETY: the default pool of a device lives as long as the device.
    unsafe { result::mem_pool::trim_to(pool, 0) }.w()
}

/// The pool that stream-ordered allocations of `device` come from.
fn pool(device: &CudaDevice) -> Result<CUmemoryPool> {
    let stream = device.cuda_stream();
    stream.context().bind_to_thread().w()?;
    #[expect(unsafe_code, reason = "a driver call")]
    // SAFETY: the handle is that of a live context's device.
    unsafe { result::device::get_mem_pool(stream.context().cu_device()) }.w()
}

fn set(pool: CUmemoryPool, attribute: CUmemPool_attribute, mut value: u64) -> Result<()> {
    let value: *mut u64 = &raw mut value;
    #[expect(unsafe_code, reason = "a driver call")]
    // SAFETY: the attributes given are 64 bits wide, which `value` points to.
    unsafe { result::mem_pool::set_attribute(pool, attribute, value.cast::<c_void>()) }.w()
}

fn get(pool: CUmemoryPool, attribute: CUmemPool_attribute) -> Result<Bytes> {
    let mut value = 0u64;
    let pointer: *mut u64 = &raw mut value;
    #[expect(unsafe_code, reason = "a driver call")]
    // SAFETY: the attributes given are 64 bits wide, which `pointer` points to.
    unsafe { result::mem_pool::get_attribute(pool, attribute, pointer.cast::<c_void>()) }.w()?;
    Ok(Bytes(value))
}
