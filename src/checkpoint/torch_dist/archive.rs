//! The archives that `torch.save` would write for a chunk of a tensor, for an object and for `common.pt`.

use super::pickle::Writer;
use super::zip::Build;
use crate::base::DType;

/// The folder that torch calls records by when it saves to a stream.
const FOLDER: &str = "archive";

/// Bytes before the scalars of a chunk.
pub(super) fn head(dtype: DType, sizes: &[usize], bytes: u64) -> Vec<u8> {
    begin(dtype, sizes, bytes).0
}

/// Bytes after them.
pub(super) fn tail(dtype: DType, sizes: &[usize], bytes: u64, crc: u32) -> Vec<u8> {
    let (_, mut build) = begin(dtype, sizes, bytes);
    build.close(crc);
    build.record("version", b"3\n");
    build.finish()
}

fn begin(dtype: DType, sizes: &[usize], bytes: u64) -> (Vec<u8>, Build) {
    let mut build = Build::new(FOLDER);
    opening(&mut build, &tensor(dtype, sizes));
    let head = build.open("data/0", bytes);
    (head, build)
}

/// An archive that holds one pickle.
pub(super) fn object(folder: &'static str, pickle: &[u8]) -> Vec<u8> {
    let mut build = Build::new(folder);
    opening(&mut build, pickle);
    build.record("version", b"3\n");
    build.finish()
}

/// What every archive begins with.
fn opening(build: &mut Build, pickle: &[u8]) {
    build.record("data.pkl", pickle);
    build.record(".format_version", b"1");
    build.record(".storage_alignment", b"64");
    build.record("byteorder", b"little");
}

/// An empty state of the compute engine: no bytes, in a list of one as Megatron has it.
pub(super) fn extra_state() -> Vec<u8> {
    let mut w = Writer::new(2);
    w.empty_list();
    rebuild(&mut w, DType::U8, &[0]);
    w.append();
    let mut build = Build::new(FOLDER);
    opening(&mut build, &w.finish());
    build.record("data/0", &[]);
    build.record("version", b"3\n");
    build.finish()
}

/// The pickle of a contiguous tensor that fills its storage.
fn tensor(dtype: DType, sizes: &[usize]) -> Vec<u8> {
    let mut w = Writer::new(2);
    rebuild(&mut w, dtype, sizes);
    w.finish()
}

/// A contiguous tensor that fills storage 0.
fn rebuild(w: &mut Writer, dtype: DType, sizes: &[usize]) {
    let elements: u64 = sizes.iter().map(|&n| n as u64).product();
    let class = storage(dtype);
    let function = if class.is_some() {
        "_rebuild_tensor_v2"
    } else {
        "_rebuild_tensor_v3"
    };
    w.global("torch._utils", function);
    w.mark();
    w.mark();
    w.text("storage");
    match class {
        Some(class) => w.global("torch", class),
        None => w.global("torch.storage", "UntypedStorage"),
    }
    w.text("0");
    w.text("cpu");
    // scalars of a typed storage, bytes of an untyped one
    w.count(if class.is_some() {
        elements
    } else {
        elements * dtype.size()
    });
    w.tuple();
    w.persistent();
    w.int(0);
    w.ints(sizes.iter().map(|&n| n as u64));
    w.ints(strides(sizes).into_iter());
    w.bool(false);
    w.global("collections", "OrderedDict");
    w.empty_tuple();
    w.reduce();
    if class.is_none() {
        w.global("torch", dtype.name());
    }
    w.tuple();
    w.reduce();
}

/// Strides of a contiguous tensor, in scalars.
fn strides(sizes: &[usize]) -> Vec<u64> {
    let mut strides = vec![1; sizes.len()];
    for d in (1..sizes.len()).rev() {
        strides[d - 1] = strides[d] * (sizes[d] as u64).max(1);
    }
    strides
}

/// The class of a typed storage. PyTorch has none for newer types and stores their bytes.
fn storage(dtype: DType) -> Option<&'static str> {
    Some(match dtype {
        DType::F64 => "DoubleStorage",
        DType::F32 => "FloatStorage",
        DType::BF16 => "BFloat16Storage",
        DType::F16 => "HalfStorage",
        DType::I64 => "LongStorage",
        DType::I32 => "IntStorage",
        DType::I16 => "ShortStorage",
        DType::I8 => "CharStorage",
        DType::U8 => "ByteStorage",
        DType::Bool => "BoolStorage",
        DType::F8E4M3 | DType::F8E5M2 | DType::F8E8M0 | DType::U64 | DType::U32 | DType::U16 => {
            return None;
        }
    })
}

/// The common state of a checkpoint of weights, in a list of one as Megatron Core 0.19 has it, or bare as `common.pt` has it.
pub(super) fn common(iteration: u64, in_list: bool) -> Vec<u8> {
    let mut w = Writer::new(2);
    if in_list {
        w.empty_list();
    }
    w.empty_dict();
    w.mark();
    w.text("checkpoint_version");
    w.float(3.0);
    w.text("iteration");
    w.count(iteration);
    w.text("content_metadata");
    w.empty_dict();
    w.mark();
    w.text("singleton_local_shards");
    w.bool(false);
    w.text("chained_optim_avoid_prefix");
    w.bool(true);
    w.set_items();
    w.set_items();
    if in_list {
        w.append();
    }
    w.finish()
}
