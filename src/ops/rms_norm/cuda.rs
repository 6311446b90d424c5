//! Launches of `kernels/rms_norm.cu`, for bf16 and f32.

use candle_core::backend::BackendStorage;
use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, LaunchConfig, PushKernelArg};
use candle_core::{
    CpuStorage, CudaDevice, CudaStorage, DType, InplaceOp3, Layout, Result, Tensor, bail,
};
use half::bf16;

use crate::ops::cuda::{Element, function, slice, uninitialised, values, wrap};

/// See [`super::forward`]; `n` rows.
pub(super) fn forward(
    device: &CudaDevice,
    x: &Tensor,
    w: &Tensor,
    n: usize,
    eps: f64,
) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 => forward_of::<f32>(device, x, w, n, eps),
        DType::BF16 => forward_of::<bf16>(device, x, w, n, eps),
        dtype => bail!("rms_norm has no CUDA kernel for {}", dtype.as_str()),
    }
}

/// See [`super::backward`]; `n` rows.
pub(super) fn backward(
    device: &CudaDevice,
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    n: usize,
    eps: f64,
    dw: &Tensor,
) -> Result<Tensor> {
    match x.dtype() {
        DType::F32 => backward_of::<f32>(device, dy, x, w, n, eps, dw),
        DType::BF16 => backward_of::<bf16>(device, dy, x, w, n, eps, dw),
        dtype => bail!("rms_norm has no CUDA kernel for {}", dtype.as_str()),
    }
}

fn forward_of<T: Element>(
    device: &CudaDevice,
    x: &Tensor,
    w: &Tensor,
    n: usize,
    eps: f64,
) -> Result<Tensor> {
    let d = w.elem_count();
    let kernel = function(
        device,
        "rms_norm",
        &format!("rms_norm_forward_{}", T::SUFFIX),
    )?;
    let mut y = uninitialised::<T>(device, n * d)?;
    {
        let (x_storage, x_layout) = x.storage_and_layout();
        let (w_storage, w_layout) = w.storage_and_layout();
        let (x, w) = (
            values::<T>(&x_storage, x_layout)?,
            values::<T>(&w_storage, w_layout)?,
        );
        let (width, eps) = (d as i64, eps as f32);
        let stream = device.cuda_stream();
        let mut launch = stream.launch_builder(&kernel);
        launch.arg(&x).arg(&w).arg(&mut y).arg(&width).arg(&eps);
        #[expect(unsafe_code, reason = "a kernel launch")]
        // SAFETY: the arguments are those of rms_norm_forward: x and y hold n * d values, w holds d.
        unsafe { launch.launch(rows(n)) }.w()?;
    }
    Ok(wrap(device, y, x.shape().clone()))
}

fn backward_of<T: Element>(
    device: &CudaDevice,
    dy: &Tensor,
    x: &Tensor,
    w: &Tensor,
    n: usize,
    eps: f64,
    dw: &Tensor,
) -> Result<Tensor> {
    let d = w.elem_count();
    let kernel = function(
        device,
        "rms_norm",
        &format!("rms_norm_backward_input_{}", T::SUFFIX),
    )?;
    let mut dx = uninitialised::<T>(device, n * d)?;
    let mut r = uninitialised::<f32>(device, n)?;
    {
        let (dy_storage, dy_layout) = dy.storage_and_layout();
        let (x_storage, x_layout) = x.storage_and_layout();
        let (w_storage, w_layout) = w.storage_and_layout();
        let dy = values::<T>(&dy_storage, dy_layout)?;
        let (x, w) = (
            values::<T>(&x_storage, x_layout)?,
            values::<T>(&w_storage, w_layout)?,
        );
        let (width, eps) = (d as i64, eps as f32);
        let stream = device.cuda_stream();
        let mut launch = stream.launch_builder(&kernel);
        launch
            .arg(&dy)
            .arg(&x)
            .arg(&w)
            .arg(&mut dx)
            .arg(&mut r)
            .arg(&width)
            .arg(&eps);
        #[expect(unsafe_code, reason = "a kernel launch")]
        // SAFETY: the arguments are those of rms_norm_backward_input: dy, x, dx hold n * d values, w holds d, r holds n.
        unsafe { launch.launch(rows(n)) }.w()?;
    }
    dw.inplace_op3(dy, x, &Weight { r, n, d })?;
    Ok(wrap(device, dx, x.shape().clone()))
}

/// Adds the weight's gradient in place.
struct Weight {
    r: CudaSlice<f32>,
    n: usize,
    d: usize,
}

impl InplaceOp3 for Weight {
    fn name(&self) -> &'static str {
        "rms_norm_backward_weight"
    }

    fn cpu_fwd(
        &self,
        _: &mut CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<()> {
        bail!(
            "{}: the weight's gradient is on the CPU, its input on CUDA",
            self.name()
        )
    }

    fn cuda_fwd(
        &self,
        dw: &mut CudaStorage,
        dw_layout: &Layout,
        dy: &CudaStorage,
        dy_layout: &Layout,
        x: &CudaStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        match dy.dtype() {
            DType::F32 => self.launch::<f32>(dw, dw_layout, dy, dy_layout, x, x_layout),
            _ => self.launch::<bf16>(dw, dw_layout, dy, dy_layout, x, x_layout),
        }
    }
}

impl Weight {
    fn launch<T: Element>(
        &self,
        dw: &mut CudaStorage,
        dw_layout: &Layout,
        dy: &CudaStorage,
        dy_layout: &Layout,
        x: &CudaStorage,
        x_layout: &Layout,
    ) -> Result<()> {
        let device = dw.device.clone();
        let kernel = function(
            &device,
            "rms_norm",
            &format!("rms_norm_backward_weight_{}", T::SUFFIX),
        )?;
        let Some((start, end)) = dw_layout.contiguous_offsets() else {
            bail!("{}: dw is not contiguous", self.name())
        };
        let mut dw = dw.as_cuda_slice_mut::<f32>()?.slice_mut(start..end);
        let (dy, x) = (slice::<T>(dy, dy_layout)?, slice::<T>(x, x_layout)?);
        let (n, d) = (self.n as i64, self.d as i64);
        let config = LaunchConfig {
            grid_dim: (self.d.div_ceil(32) as u32, 1, 1),
            block_dim: (32, 8, 1),
            shared_mem_bytes: 0,
        };
        let stream = device.cuda_stream();
        let mut launch = stream.launch_builder(&kernel);
        launch
            .arg(&dy)
            .arg(&x)
            .arg(&self.r)
            .arg(&mut dw)
            .arg(&n)
            .arg(&d);
        #[expect(unsafe_code, reason = "a kernel launch")]
        // SAFETY: the arguments are those of rms_norm_backward_weight: dy and x hold n * d values, r holds n, dw holds d.
        unsafe { launch.launch(config) }.w()?;
        Ok(())
    }
}

/// One row a block.
fn rows(n: usize) -> LaunchConfig {
    LaunchConfig {
        grid_dim: (n as u32, 1, 1),
        block_dim: (256, 1, 1),
        shared_mem_bytes: 0,
    }
}
