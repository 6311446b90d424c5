//! Matrix products by cuBLASLt.
//!
//! A product is planned once for its shape, strides, types and alignments: descriptors and the library's first choice of algorithm
//! are kept. Partial sums of a split product are added in f32, in the workspace and in a fixed order, so equal inputs give equal bits.

use std::collections::HashMap;
use std::ffi::c_void;
use std::sync::{Arc, Mutex, PoisonError};

use candle_core::cuda_backend::WrapErr;
use candle_core::cuda_backend::cudarc::cublaslt::result::{self, CublasError};
use candle_core::cuda_backend::cudarc::cublaslt::sys;
use candle_core::cuda_backend::cudarc::driver::{CudaSlice, CudaStream, DevicePtr};
use candle_core::{CudaDevice, DType, Error, Result, Tensor, bail};

use super::launch::{Form, device, pointer, row_stride};
use super::timing;

/// Scratch memory that a product may use: what the library asks for on Hopper.
const WORKSPACE: usize = 32 << 20;
/// Widest alignment that the library distinguishes, in bytes.
const ALIGNMENT: u64 = 256;

/// A factor: a matrix whose rows are contiguous and may lie apart, or its transpose.
#[derive(Clone, Copy)]
pub(in crate::ops) struct Factor<'a> {
    tensor: &'a Tensor,
    transposed: bool,
}

impl<'a> Factor<'a> {
    /// The matrix as it is stored.
    pub(in crate::ops) fn new(tensor: &'a Tensor) -> Self {
        Self {
            tensor,
            transposed: false,
        }
    }

    /// The transpose.
    pub(in crate::ops) fn t(self) -> Self {
        Self {
            transposed: !self.transposed,
            ..self
        }
    }

    /// Rows and columns of what takes part in the product.
    fn dims(&self) -> Result<(usize, usize)> {
        let (rows, columns) = self.tensor.dims2()?;
        Ok(if self.transposed {
            (columns, rows)
        } else {
            (rows, columns)
        })
    }
}

/// `out = left right`, or `out = left right + add`, under `name` in the kernel times.
///
/// Factors are both bf16 or both f32, `out` and `add` of one type: that of the factors, or f32. Sums are f32; f32 factors are not
/// rounded to TF32. `add` may be `out` itself. Rows of all four may lie apart.
///
/// # Shapes
/// `left [R, K]`, `right [K, C]`, `add`, `out` `[R, C]`
///
/// # Errors
/// When shapes, types or devices disagree, or the library has no algorithm.
pub(in crate::ops) fn product(
    name: &str,
    left: Factor<'_>,
    right: Factor<'_>,
    add: Option<&Tensor>,
    out: &Tensor,
) -> Result<()> {
    let ((rows, inner), (inner_right, columns)) = (left.dims()?, right.dims()?);
    let c = add.unwrap_or(out);
    if inner != inner_right || out.dims() != [rows, columns] || c.dims() != out.dims() {
        bail!(
            "{name}: [{rows}, {inner}] times [{inner_right}, {columns}] into {:?}",
            out.dims()
        );
    }
    if rows == 0 || columns == 0 {
        return Ok(());
    }
    if inner == 0 {
        bail!("{name}: a product over no elements");
    }
    let device = device(out)?;
    let stream = device.cuda_stream();
    let factors = left.tensor.dtype();
    let place = |tensor: &Tensor, dtype| -> Result<Place> {
        let address = pointer(name, &stream, tensor, dtype, Form::Rows)?;
        let stride = row_stride(tensor)?;
        let apart = (stride * dtype.size_in_bytes()) as u64 | address | ALIGNMENT;
        Ok(Place {
            address,
            stride,
            alignment: 1 << apart.trailing_zeros(),
        })
    };
    // The library counts columns first: it computes the transpose, `out^T = right^T left^T`.
    let (a, b) = (place(right.tensor, factors)?, place(left.tensor, factors)?);
    let (c, d) = (place(c, out.dtype())?, place(out, out.dtype())?);
    let key = Key {
        ordinal: stream.context().ordinal(),
        dims: [columns, rows, inner],
        transposed: [right.transposed, left.transposed],
        factors: type_of(name, factors)?,
        sums: type_of(name, out.dtype())?,
        strides: [&a, &b, &c, &d].map(|place| place.stride),
        alignments: [&a, &b, &c, &d].map(|place| place.alignment),
    };
    let library = library(device)?;
    let plan = library.plan(name, key)?;
    let (workspace, _used) = library.workspace.device_ptr(&stream);
    let (one, beta) = (1f32, if add.is_some() { 1f32 } else { 0f32 });
    timing::around(&stream, name, || {
        #[expect(unsafe_code, reason = "a call of a C library")]
        // SAFETY: the descriptors live in the plan and describe matrices of these shapes, strides, types and alignments, whose bounds
        // `pointer` has checked; products of a stream run one after the other, so they share the workspace.
        unsafe {
            result::matmul(
                library.handle,
                plan.descriptor,
                (&raw const one).cast(),
                (&raw const beta).cast(),
                a.address as *const c_void,
                plan.layouts[0],
                b.address as *const c_void,
                plan.layouts[1],
                c.address as *const c_void,
                plan.layouts[2],
                d.address as *mut c_void,
                plan.layouts[3],
                &raw const plan.algorithm,
                workspace as *mut c_void,
                WORKSPACE,
                stream.cu_stream().cast(),
            )
        }
        .map_err(|error| failure(name, error))
    })
}

/// Where a matrix lies: address, elements from row to row, and the alignment of every row in bytes.
struct Place {
    address: u64,
    stride: usize,
    alignment: u32,
}

/// What a plan depends on, in the library's order: `a`, `b`, `c`, `d` are right, left, add, out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Key {
    ordinal: usize,
    /// Columns and rows of the output, and the dimension that is summed over.
    dims: [usize; 3],
    transposed: [bool; 2],
    factors: sys::cudaDataType,
    sums: sys::cudaDataType,
    strides: [usize; 4],
    alignments: [u32; 4],
}

/// How a product is done. Lives as long as the process, as do its descriptors.
struct Plan {
    descriptor: sys::cublasLtMatmulDesc_t,
    layouts: [sys::cublasLtMatrixLayout_t; 4],
    algorithm: sys::cublasLtMatmulAlgo_t,
}

/// The library's handle on one device and stream, its scratch memory and the plans so far.
struct Library {
    handle: sys::cublasLtHandle_t,
    workspace: CudaSlice<u8>,
    plans: Mutex<HashMap<Key, Arc<Plan>>>,
}

#[expect(unsafe_code, reason = "raw handles")]
// SAFETY: a handle may be used by several threads at once.
unsafe impl Send for Library {}
#[expect(unsafe_code, reason = "raw handles")]
// SAFETY: as above.
unsafe impl Sync for Library {}
#[expect(unsafe_code, reason = "raw handles")]
// SAFETY: a plan is not changed once it is made, and its descriptors are not bound to a thread.
unsafe impl Send for Plan {}
#[expect(unsafe_code, reason = "raw handles")]
// SAFETY: as above.
unsafe impl Sync for Plan {}

/// The library on the stream of `device`, opened at the first call.
fn library(device: &CudaDevice) -> Result<Arc<Library>> {
    /// By the ordinal of the device and its stream.
    type Open = Vec<((usize, usize), Arc<Library>)>;
    static OPEN: Mutex<Open> = Mutex::new(Vec::new());
    let stream = device.cuda_stream();
    let place = (stream.context().ordinal(), stream.cu_stream() as usize);
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, library)) = open.iter().find(|(of, _)| *of == place) {
        return Ok(library.clone());
    }
    let library = Arc::new(Library::open(&stream)?);
    open.push((place, library.clone()));
    Ok(library)
}

impl Library {
    fn open(stream: &Arc<CudaStream>) -> Result<Self> {
        stream.context().bind_to_thread().w()?;
        let handle = result::create_handle().map_err(|error| failure("cublasLtCreate", error))?;
        #[expect(unsafe_code, reason = "memory that is not set")]
        // SAFETY: the library writes its scratch memory before it reads it.
        let workspace = unsafe { stream.alloc::<u8>(WORKSPACE) }.w()?;
        Ok(Self {
            handle,
            workspace,
            plans: Mutex::default(),
        })
    }

    fn plan(&self, name: &str, key: Key) -> Result<Arc<Plan>> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(plan) = plans.get(&key) {
            return Ok(plan.clone());
        }
        let plan = self.make(&key).map_err(|error| {
            Error::Msg(format!(
                "{name}: cuBLASLt has no product for {key:?}: {error}"
            ))
        })?;
        let plan = Arc::new(plan);
        plans.insert(key, plan.clone());
        Ok(plan)
    }

    fn make(&self, key: &Key) -> std::result::Result<Plan, CublasError> {
        use sys::cublasLtMatmulDescAttributes_t as Of;
        let [m, n, k] = key.dims.map(|dim| dim as u64);
        let descriptor = result::create_matmul_desc(
            sys::cublasComputeType_t::CUBLAS_COMPUTE_32F,
            sys::cudaDataType::CUDA_R_32F,
        )?;
        for (attribute, transposed) in [
            (Of::CUBLASLT_MATMUL_DESC_TRANSA, key.transposed[0]),
            (Of::CUBLASLT_MATMUL_DESC_TRANSB, key.transposed[1]),
        ] {
            let operation = i32::from(transposed); // CUBLAS_OP_N is 0, CUBLAS_OP_T is 1
            #[expect(unsafe_code, reason = "a call of a C library")]
            // SAFETY: the attribute is a 32-bit integer, which the pointer addresses.
            unsafe {
                let value = (&raw const operation).cast();
                result::set_matmul_desc_attribute(descriptor, attribute, value, size_of::<i32>())?;
            }
        }
        let stored = |rows: u64, columns: u64, transposed: bool| {
            if transposed {
                (columns, rows)
            } else {
                (rows, columns)
            }
        };
        let shapes = [
            stored(m, k, key.transposed[0]),
            stored(k, n, key.transposed[1]),
            (m, n),
            (m, n),
        ];
        let mut layouts = [std::ptr::null_mut(); 4];
        for (index, (rows, columns)) in shapes.into_iter().enumerate() {
            let dtype = if index < 2 { key.factors } else { key.sums };
            // A single row is as wide as it is: its stride may be less than that says nothing.
            let stride = (key.strides[index] as u64).max(rows) as i64;
            layouts[index] = result::create_matrix_layout(dtype, rows, columns, stride)?;
        }
        let algorithm = self.choose(key, descriptor, layouts)?;
        Ok(Plan {
            descriptor,
            layouts,
            algorithm,
        })
    }

    /// The library's first choice.
    fn choose(
        &self,
        key: &Key,
        descriptor: sys::cublasLtMatmulDesc_t,
        layouts: [sys::cublasLtMatrixLayout_t; 4],
    ) -> std::result::Result<sys::cublasLtMatmulAlgo_t, CublasError> {
        use sys::cublasLtMatmulPreferenceAttributes_t as Of;
        // Parts of a split product are kept in f32 in the workspace, not added to or rounded into the output.
        let reductions = sys::cublasLtReductionScheme_t::CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
        let preference = result::create_matmul_pref()?;
        let set = |attribute, value: *const c_void, bytes| {
            #[expect(unsafe_code, reason = "a call of a C library")]
            // SAFETY: `value` addresses as many bytes as the attribute has.
            unsafe {
                result::set_matmul_pref_attribute(preference, attribute, value, bytes)
            }
        };
        let (workspace, reductions) = (WORKSPACE, reductions as u32);
        set(
            Of::CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES,
            (&raw const workspace).cast(),
            size_of::<usize>(),
        )?;
        set(
            Of::CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
            (&raw const reductions).cast(),
            size_of::<u32>(),
        )?;
        for (attribute, alignment) in [
            Of::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
            Of::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
            Of::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
            Of::CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
        ]
        .into_iter()
        .zip(&key.alignments)
        {
            set(
                attribute,
                std::ptr::from_ref(alignment).cast(),
                size_of::<u32>(),
            )?;
        }
        let [a, b, c, d] = layouts;
        #[expect(unsafe_code, reason = "calls of a C library")]
        // SAFETY: all descriptors were made above; the preference is not used afterwards.
        unsafe {
            let choice =
                result::get_matmul_algo_heuristic(self.handle, descriptor, a, b, c, d, preference);
            result::destroy_matmul_pref(preference)?;
            choice.map(|choice| choice.algo)
        }
    }
}

fn type_of(name: &str, dtype: DType) -> Result<sys::cudaDataType> {
    match dtype {
        DType::BF16 => Ok(sys::cudaDataType::CUDA_R_16BF),
        DType::F32 => Ok(sys::cudaDataType::CUDA_R_32F),
        dtype => bail!("{name}: no product of {}", dtype.as_str()),
    }
}

fn failure(name: &str, error: CublasError) -> Error {
    Error::Msg(format!("{name}: cuBLASLt: {error}"))
}
