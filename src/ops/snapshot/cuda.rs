//! The copy from a GPU: through two page-locked buffers, so that one is filled by the GPU while the other is emptied by several threads.

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::sys::CUevent_flags;
use candle_core::cuda_backend::cudarc::driver::{
    CudaContext, CudaEvent, CudaStream, CudaView, PinnedHostSlice,
};
use candle_core::{Device, Result, Storage, Tensor, bail};
use rayon::prelude::*;
use std::sync::Arc;

/// Values of a page-locked buffer, 64 MiB.
const BUFFER: usize = 16 << 20;
/// Values that one thread copies at a time. First touches of fresh pages take longer than the copy, so they are spread over threads.
const PART: usize = 1 << 20;

/// The values of `tensors`, whose device has done all work on them.
pub(super) fn copy(tensors: &[Tensor]) -> Result<Vec<Vec<f32>>> {
    let Some(Device::Cuda(device)) = tensors.first().map(Tensor::device) else {
        bail!("a snapshot of no CUDA tensor");
    };
    let context = device.cuda_stream().context().clone();
    let stream = context.new_stream().w()?;
    let mut buffers = [Buffer::new(&context)?, Buffer::new(&context)?];
    let copies = tensors
        .iter()
        .map(|tensor| one(tensor, &stream, &mut buffers));
    copies.collect()
}

/// Page-locked memory and the end of the last copy into it.
struct Buffer {
    memory: PinnedHostSlice<f32>,
    filled: CudaEvent,
}

impl Buffer {
    fn new(context: &Arc<CudaContext>) -> Result<Self> {
        #[expect(unsafe_code, reason = "memory that is not set")]
        // SAFETY: a buffer is read only where a copy has filled it. No flags: the host reads it, so it must be cached.
        let memory = unsafe { context.alloc_pinned_with_flags(BUFFER, 0) }.w()?;
        // a thread that waits for it sleeps
        let blocking = CUevent_flags::CU_EVENT_BLOCKING_SYNC;
        let filled = context.new_event(Some(blocking)).w()?;
        Ok(Self { memory, filled })
    }

    /// Queues a copy of `from` to the begin of the buffer.
    fn fill(&mut self, stream: &Arc<CudaStream>, from: &CudaView<'_, f32>) -> Result<()> {
        // cudarc copies as many values as the target has
        let target = &mut self.memory.as_mut_slice().w()?[..from.len()];
        stream.memcpy_dtoh(from, target).w()?;
        self.filled.record(stream).w()
    }

    /// The values, once the copy is done.
    fn values(&self) -> Result<&[f32]> {
        self.filled.synchronize().w()?;
        self.memory.as_slice().w()
    }
}

fn one(tensor: &Tensor, stream: &Arc<CudaStream>, buffers: &mut [Buffer; 2]) -> Result<Vec<f32>> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets())
    else {
        bail!("a snapshot needs contiguous tensors of one device");
    };
    let source = storage.as_cuda_slice::<f32>()?;
    let mut values = vec![0f32; end - start];
    let mut parts: Vec<&mut [f32]> = values.chunks_mut(BUFFER).collect();
    let offset = |index: usize| start + index * BUFFER;
    // Part `i` is copied by the GPU into buffer `i % 2` while part `i - 1` is emptied from the other.
    for index in 0..=parts.len() {
        if let Some(part) = parts.get(index) {
            let from = source.slice(offset(index)..offset(index) + part.len());
            buffers[index % 2].fill(stream, &from)?;
        }
        if index > 0 {
            let buffer = buffers[(index - 1) % 2].values()?;
            let part = &mut *parts[index - 1];
            part.par_chunks_mut(PART)
                .zip(buffer.par_chunks(PART))
                .for_each(|(to, from)| to.copy_from_slice(&from[..to.len()]));
        }
    }
    Ok(values)
}
