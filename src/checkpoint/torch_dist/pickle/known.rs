//! The globals that a checkpoint may name, and what each of them means as data.
//!
//! Collected from what `torch.save`, `torch.distributed.checkpoint` (2.0 to 2.15) and Megatron Core's `dist_checkpointing` put into `.metadata`,
//! `common.pt` and the objects beside the tensors. That a name is here gives it no power: it is a label on a value.

use std::fmt;

use crate::base::DType;

/// A class or function by its module and name.
#[derive(Debug, PartialEq, Eq)]
pub struct Known {
    /// Dotted path of its module.
    pub module: &'static str,
    /// Its name there.
    pub name: &'static str,
    /// What it stands for.
    pub kind: Kind,
}

/// What a global stands for as data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A class or function whose arguments and state are kept.
    Object,
    /// A function of one tuple that is its own argument: `torch.Size`.
    Size,
    /// A mapping: entries may be added to it.
    Dict,
    /// A sequence: elements may be added to it.
    List,
    /// A set.
    Set,
    /// A scalar type of tensors that Trestle reads.
    DType(DType),
    /// A scalar type of tensors that it does not.
    OtherDType,
    /// A storage of scalars of one type.
    Storage(DType),
    /// A storage of bytes.
    Untyped,
}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.module, self.name)
    }
}

/// Finds a global by module and name.
pub fn find(module: &str, name: &str) -> Option<&'static Known> {
    KNOWN
        .iter()
        .find(|known| known.name == name && known.module == module)
}

const fn of(module: &'static str, name: &'static str, kind: Kind) -> Known {
    Known { module, name, kind }
}

const fn object(module: &'static str, name: &'static str) -> Known {
    of(module, name, Kind::Object)
}

const DCP: &str = "torch.distributed.checkpoint.metadata";
const PLANNER: &str = "torch.distributed.checkpoint.planner";
const MEGATRON: &str = "megatron.core.dist_checkpointing.strategies.torch";

#[rustfmt::skip]
static KNOWN: &[Known] = &[
    // tensors inside torch.save
    object("torch._utils", "_rebuild_tensor_v2"),
    of("torch", "BFloat16Storage", Kind::Storage(DType::BF16)),
    of("torch", "FloatStorage", Kind::Storage(DType::F32)),
    of("collections", "OrderedDict", Kind::Dict),
    object("torch._utils", "_rebuild_tensor_v3"),
    object("torch._utils", "_rebuild_parameter"),
    object("torch._utils", "_rebuild_device_tensor_from_numpy"),
    object("torch._utils", "_rebuild_meta_tensor_no_storage"),
    of("torch", "DoubleStorage", Kind::Storage(DType::F64)),
    of("torch", "HalfStorage", Kind::Storage(DType::F16)),
    of("torch", "LongStorage", Kind::Storage(DType::I64)),
    of("torch", "IntStorage", Kind::Storage(DType::I32)),
    of("torch", "ShortStorage", Kind::Storage(DType::I16)),
    of("torch", "CharStorage", Kind::Storage(DType::I8)),
    of("torch", "ByteStorage", Kind::Storage(DType::U8)),
    of("torch", "BoolStorage", Kind::Storage(DType::Bool)),
    of("torch.storage", "UntypedStorage", Kind::Untyped),
    of("torch", "UntypedStorage", Kind::Untyped),
    object("torch", "Tensor"),
    object("torch.nn.parameter", "Parameter"),
    object("torch", "device"),
    // scalar types
    of("torch", "float32", Kind::DType(DType::F32)),
    of("torch", "bfloat16", Kind::DType(DType::BF16)),
    of("torch", "float16", Kind::DType(DType::F16)),
    of("torch", "float64", Kind::DType(DType::F64)),
    of("torch", "float8_e4m3fn", Kind::DType(DType::F8E4M3)),
    of("torch", "float8_e5m2", Kind::DType(DType::F8E5M2)),
    of("torch", "float8_e8m0fnu", Kind::DType(DType::F8E8M0)),
    of("torch", "int64", Kind::DType(DType::I64)),
    of("torch", "int32", Kind::DType(DType::I32)),
    of("torch", "int16", Kind::DType(DType::I16)),
    of("torch", "int8", Kind::DType(DType::I8)),
    of("torch", "uint64", Kind::DType(DType::U64)),
    of("torch", "uint32", Kind::DType(DType::U32)),
    of("torch", "uint16", Kind::DType(DType::U16)),
    of("torch", "uint8", Kind::DType(DType::U8)),
    of("torch", "bool", Kind::DType(DType::Bool)),
    of("torch", "complex32", Kind::OtherDType),
    of("torch", "complex64", Kind::OtherDType),
    of("torch", "complex128", Kind::OtherDType),
    of("torch", "quint8", Kind::OtherDType),
    of("torch", "qint8", Kind::OtherDType),
    of("torch", "qint32", Kind::OtherDType),
    of("torch", "float8_e4m3fnuz", Kind::OtherDType),
    of("torch", "float8_e5m2fnuz", Kind::OtherDType),
    of("torch", "float4_e2m1fn_x2", Kind::OtherDType),
    // the metadata of torch.distributed.checkpoint
    of("torch", "Size", Kind::Size),
    object(DCP, "Metadata"),
    object(DCP, "MetadataIndex"),
    object(DCP, "TensorStorageMetadata"),
    object(DCP, "BytesStorageMetadata"),
    object(DCP, "ChunkStorageMetadata"),
    object(DCP, "TensorProperties"),
    object(DCP, "StorageMeta"),
    object(DCP, "_MEM_FORMAT_ENCODING"),
    object("torch.distributed._shard.sharded_tensor.metadata", "TensorProperties"),
    object("torch.distributed._shard.sharded_tensor.metadata", "MEM_FORMAT_ENCODING"),
    object("torch.distributed.checkpoint.filesystem", "_StorageInfo"),
    object("torch.distributed.checkpoint.filesystem", "_StoragePrefix"),
    object("torch.serialization", "_get_layout"),
    object(PLANNER, "SavePlan"),
    object(PLANNER, "WriteItem"),
    object(PLANNER, "WriteItemType"),
    object(PLANNER, "TensorWriteData"),
    object(PLANNER, "BytesIOWriteData"),
    object(MEGATRON, "MCoreMetadata"),
    object(MEGATRON, "MCoreSavePlan"),
    object("pathlib", "PosixPath"),
    object("pathlib", "PurePosixPath"),
    object("pathlib._local", "PosixPath"),
    object("pathlib._local", "PurePosixPath"),
    // state that is no tensor
    of("collections", "defaultdict", Kind::Dict),
    of("collections", "deque", Kind::List),
    of("builtins", "set", Kind::Set),
    of("builtins", "frozenset", Kind::Set),
    of("builtins", "dict", Kind::Dict),
    of("builtins", "list", Kind::List),
    of("builtins", "bytearray", Kind::Object),
    of("builtins", "complex", Kind::Object),
    of("builtins", "slice", Kind::Object),
    of("__builtin__", "set", Kind::Set),
    of("__builtin__", "frozenset", Kind::Set),
    of("__builtin__", "dict", Kind::Dict),
    of("__builtin__", "list", Kind::List),
    of("__builtin__", "bytearray", Kind::Object),
    of("__builtin__", "complex", Kind::Object),
    object("_codecs", "encode"),
    object("argparse", "Namespace"),
    object("types", "SimpleNamespace"),
    object("datetime", "datetime"),
    object("datetime", "date"),
    object("datetime", "time"),
    object("datetime", "timedelta"),
    object("datetime", "timezone"),
    object("signal", "Signals"),
    object("_io", "BytesIO"),
    object("numpy", "ndarray"),
    object("numpy", "dtype"),
    object("numpy.core.multiarray", "_reconstruct"),
    object("numpy.core.multiarray", "scalar"),
    object("numpy._core.multiarray", "_reconstruct"),
    object("numpy._core.multiarray", "scalar"),
    object("numpy._core.numeric", "_frombuffer"),
    object("numpy.core.numeric", "_frombuffer"),
    object("megatron.core.enums", "ModelType"),
    object("megatron.core.enums", "Fp8Recipe"),
    object("megatron.core.enums", "Fp4Recipe"),
    object("megatron.core.transformer.enums", "AttnBackend"),
    object("megatron.core.transformer.enums", "AttnMaskType"),
    object("megatron.core.transformer.enums", "AttnType"),
    object("megatron.core.transformer.enums", "LayerType"),
    object("megatron.core.transformer.enums", "CudaGraphScope"),
    object("megatron.core.transformer.enums", "CudaGraphModule"),
    object("megatron.core.rerun_state_machine", "RerunMode"),
    object("megatron.core.rerun_state_machine", "RerunState"),
    object("megatron.core.rerun_state_machine", "RerunDiagnostic"),
    object("megatron.core.dist_checkpointing.mapping", "ShardedObject"),
    object("megatron.bridge.training.state", "TrainState"),
];
