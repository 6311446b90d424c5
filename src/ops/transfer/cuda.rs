//! Page-locked buffers and the copies through them.

use std::ffi::c_void;
use std::ptr;
use std::sync::{Mutex, PoisonError};

use bytemuck::Pod;
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{
    CudaEvent, CudaSlice, CudaStream, DevicePtrMut, DeviceRepr, result,
};
use candle_core::cuda_backend::{CudaDType, WrapErr};
use candle_core::op::BackpropOp;
use candle_core::{CudaDevice, CudaStorage, DType, Result, Storage, Tensor, WithDType};

use crate::ops::cuda::{Form, pointer};
use crate::ops::graph;

/// Smallest buffer, in bytes; larger ones are powers of two.
const SMALLEST: usize = 16 << 10;

/// Buffers that are not held by anybody; the event of each says when the device is done with it.
static FREE: Mutex<Vec<Pinned>> = Mutex::new(Vec::new());

/// A page-locked buffer and the end of its last use by the device.
#[derive(Debug)]
struct Pinned {
    memory: *mut c_void,
    bytes: usize,
    done: CudaEvent,
}

#[expect(unsafe_code, reason = "a raw pointer")]
// SAFETY: the memory belongs to the buffer alone and is not bound to a thread.
unsafe impl Send for Pinned {}

impl Drop for Pinned {
    fn drop(&mut self) {
        let finished = self.done.synchronize();
        if finished.is_ok() {
            #[expect(unsafe_code, reason = "a driver call")]
            // SAFETY: the memory came from `malloc_host` and the device is done with it. An error leaves it allocated.
            let _ = unsafe { result::free_host(self.memory) };
        }
    }
}

impl Pinned {
    /// A buffer of at least `bytes` bytes that the device does not use.
    fn take(stream: &CudaStream, bytes: usize) -> Result<Self> {
        let context = stream.context();
        {
            let mut free = FREE.lock().unwrap_or_else(PoisonError::into_inner);
            let mut found = None;
            for (index, buffer) in free.iter().enumerate() {
                if buffer.bytes >= bytes
                    && buffer.bytes <= bytes.max(SMALLEST) * 4
                    && buffer.done.context().ordinal() == context.ordinal()
                    && buffer.done.try_is_complete().w()?
                {
                    found = Some(index);
                    break;
                }
            }
            if let Some(index) = found {
                return Ok(free.swap_remove(index));
            }
        }
        let bytes = bytes.max(SMALLEST).next_power_of_two();
        // a thread that waits for it sleeps; this binds the context to the thread, too
        let done = context
            .new_event(Some(CUevent_flags::CU_EVENT_BLOCKING_SYNC))
            .w()?;
        #[expect(unsafe_code, reason = "a driver call")]
        // SAFETY: no flags; the memory is freed in `drop`.
        let memory = unsafe { result::malloc_host(bytes, 0) }.w()?;
        Ok(Self {
            memory,
            bytes,
            done,
        })
    }

    /// Notes that the device uses the buffer until what is queued now is done.
    fn in_use(&self, stream: &CudaStream) -> Result<()> {
        self.done.record(stream).w()
    }

    fn give_back(self) {
        FREE.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(self);
    }
}

/// Numbers that the device writes into a buffer.
#[derive(Debug)]
pub(super) struct Copy {
    buffer: Pinned,
    count: usize,
}

pub(super) fn start(device: &CudaDevice, numbers: &Tensor) -> Result<Copy> {
    graph::refuse("a copy to the host")?;
    let stream = device.cuda_stream();
    let count = numbers.elem_count();
    let source = pointer("readback", &stream, numbers, DType::F64, Form::Packed)?;
    let buffer = Pinned::take(&stream, count * size_of::<f64>())?;
    if count > 0 {
        #[expect(unsafe_code, reason = "a driver call")]
        // SAFETY: the buffer holds `count` numbers and nobody reads it before its event; the source has as many.
        let copied = unsafe {
            let target = std::slice::from_raw_parts_mut(buffer.memory.cast::<f64>(), count);
            result::memcpy_dtoh_async(target, source, stream.cu_stream())
        };
        copied.w()?;
    }
    buffer.in_use(&stream)?;
    Ok(Copy { buffer, count })
}

impl Copy {
    pub(super) fn is_ready(&self) -> Result<bool> {
        self.buffer.done.try_is_complete().w()
    }

    pub(super) fn wait(self) -> Result<Vec<f64>> {
        self.buffer.done.synchronize().w()?;
        #[expect(unsafe_code, reason = "reading page-locked memory")]
        // SAFETY: the copy of `count` numbers into the buffer is done.
        let numbers = unsafe {
            std::slice::from_raw_parts(self.buffer.memory.cast::<f64>(), self.count).to_vec()
        };
        self.buffer.give_back();
        Ok(numbers)
    }
}

pub(super) fn upload<T: CudaDType + DeviceRepr + Pod>(
    values: &[T],
    device: &CudaDevice,
) -> Result<Tensor> {
    let stream = device.cuda_stream();
    #[expect(unsafe_code, reason = "memory that is not set")]
    // SAFETY: the copy below writes all values before anything queued later reads them.
    let mut slice: CudaSlice<T> = unsafe { device.alloc::<T>(values.len())? };
    if !values.is_empty() {
        let (target, _written) = slice.device_ptr_mut(&stream);
        send(values, target, &stream)?;
    }
    let storage = CudaStorage::wrap_cuda_slice(slice, device.clone());
    Ok(Tensor::from_storage(
        Storage::Cuda(storage),
        values.len(),
        BackpropOp::none(),
        false,
    ))
}

/// Queues a copy of `values` into `tensor`, which has as many of this type.
pub(super) fn refill<T: WithDType + Pod>(
    tensor: &Tensor,
    values: &[T],
    device: &CudaDevice,
) -> Result<()> {
    let stream = device.cuda_stream();
    let target = pointer("refill", &stream, tensor, T::DTYPE, Form::Packed)?;
    if values.is_empty() {
        return Ok(());
    }
    send(values, target, &stream)
}

/// Queues a copy of `values` to `target`, which has room for them.
fn send<T: Pod>(values: &[T], target: u64, stream: &CudaStream) -> Result<()> {
    graph::refuse("a copy from the host")?;
    let buffer = Pinned::take(stream, size_of_val(values))?;
    #[expect(unsafe_code, reason = "writing page-locked memory and a driver call")]
    // SAFETY: the device does not use the buffer, which is large enough; it is not written again before its event. The callers
    // have taken or checked the memory at `target`.
    let copied = unsafe {
        let staged = buffer.memory.cast::<T>();
        ptr::copy_nonoverlapping(values.as_ptr(), staged, values.len());
        let staged = std::slice::from_raw_parts(staged, values.len());
        result::memcpy_htod_async(target, staged, stream.cu_stream())
    };
    copied.w()?;
    buffer.in_use(stream)?;
    buffer.give_back();
    Ok(())
}
