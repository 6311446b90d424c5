//! What can be wrong with a safetensors file or its index.

use std::ops::Range;

use thiserror::Error;

use crate::base::{DType, Shape};

/// Why a safetensors file or an index is refused.
///
/// Names come from the file, so messages quote them with everything unprintable escaped, and cut long ones.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SafetensorsError {
    /// The file ends before its tensors do.
    #[error("the file is truncated: {needed} bytes are needed and {found} are there, {} are missing", needed - found)]
    Truncated {
        /// Bytes that the part read so far promises.
        needed: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// The file goes on after its last tensor.
    #[error("{} bytes follow the last tensor: the header accounts for {expected} bytes of {found}", found - expected)]
    Trailing {
        /// Bytes by the header.
        expected: u64,
        /// Bytes of the file.
        found: u64,
    },
    /// A header that no writer makes; most likely another format.
    #[error("the header claims {claimed} bytes, at most {limit} are allowed")]
    HeaderTooLong {
        /// What the first eight bytes say.
        claimed: u64,
        /// What is allowed.
        limit: u64,
    },
    /// An index that no writer makes.
    #[error("the index has {found} bytes, at most {limit} are allowed")]
    IndexTooLong {
        /// Bytes of the file.
        found: u64,
        /// What is allowed.
        limit: u64,
    },
    /// Bytes that are no text.
    #[error("the {part} is not UTF-8 from byte {at} on")]
    NotUtf8 {
        /// "header" or "index".
        part: &'static str,
        /// The first bad byte, from the part's beginning.
        at: usize,
    },
    /// No JSON, or not the JSON that is expected here.
    #[error("the {part} is not valid{}: {problem}", near(name))]
    Json {
        /// "header" or "index".
        part: &'static str,
        /// The entry that was being read, if one was.
        name: String,
        /// What is wrong, with line and column.
        problem: String,
    },
    /// A name that occurs twice.
    #[error("{} occurs twice in the {part}", quoted(name))]
    Duplicate {
        /// "header" or "index".
        part: &'static str,
        /// The name.
        name: String,
    },
    /// A type of scalars that is not known here.
    #[error(
        "{} has the dtype {}, which is not supported",
        quoted(name),
        quoted(dtype)
    )]
    UnknownDType {
        /// The tensor.
        name: String,
        /// The type's name in the header.
        dtype: String,
    },
    /// A shape whose bytes cannot be counted in 64 bits.
    #[error("{} has the shape {shape}, whose size overflows", quoted(name))]
    Overflow {
        /// The tensor.
        name: String,
        /// Its extents.
        shape: Shape,
    },
    /// Offsets that do not fit the shape.
    #[error("{} is {dtype} {shape}, {expected} bytes, but lies at {}..{}", quoted(name), offsets.start, offsets.end)]
    Size {
        /// The tensor.
        name: String,
        /// Its type.
        dtype: DType,
        /// Its extents.
        shape: Shape,
        /// Bytes by type and extents.
        expected: u64,
        /// Bytes of the data part that the header gives it.
        offsets: Range<u64>,
    },
    /// Two tensors that share bytes.
    #[error("{} at {}..{} overlaps {}, which ends at {end}", quoted(name), offsets.start, offsets.end, quoted(before))]
    Overlap {
        /// The tensor.
        name: String,
        /// Its bytes of the data part.
        offsets: Range<u64>,
        /// The tensor before it.
        before: String,
        /// Where that one ends.
        end: u64,
    },
    /// Bytes that belong to no tensor.
    #[error("bytes {}..{} before {} belong to no tensor", gap.start, gap.end, quoted(name))]
    Hole {
        /// Bytes of the data part.
        gap: Range<u64>,
        /// The tensor after them.
        name: String,
    },
    /// An index that names something else than a file beside it.
    #[error(
        "the index names the file {}, which is no name of a file in the same folder",
        quoted(file)
    )]
    FileName {
        /// What it names.
        file: String,
    },
    /// Tensors that a file lacks though the index puts them there.
    #[error("the index puts {} in {file}, which lacks {}", some(names), if names.len() == 1 { "it" } else { "them" })]
    NotInFile {
        /// The file.
        file: String,
        /// The tensors.
        names: Vec<String>,
    },
    /// Tensors that a file has though the index does not put them there.
    #[error("{file} has {}, which the index does not put there", some(names))]
    NotInIndex {
        /// The file.
        file: String,
        /// The tensors.
        names: Vec<String>,
    },
    /// Weights in one file and an index of others.
    #[error(
        "both model.safetensors and model.safetensors.index.json are there, and the index does not name model.safetensors"
    )]
    Ambiguous,
    /// A folder, a pipe or a device where a file was expected.
    #[error("it is not a file")]
    NotAFile,
}

impl SafetensorsError {
    /// What the user can do.
    pub fn hint(&self) -> Option<&'static str> {
        Some(match self {
            Self::Truncated { .. } => "the file was cut off; copy or download it again",
            Self::HeaderTooLong { .. } | Self::NotUtf8 { part: "header", .. } => {
                "this is most likely no safetensors file; a Git LFS pointer or an HTML page are common"
            }
            Self::UnknownDType { .. } => {
                "convert the tensor to a type that trestle reads, such as BF16 or F32"
            }
            Self::NotInFile { .. } | Self::NotInIndex { .. } => {
                "the index and the files come from different saves; copy or download the directory again"
            }
            Self::Ambiguous => "remove the one that is out of date",
            Self::FileName { .. } => {
                "an index names files of its own folder; fix or download it again"
            }
            _ => return None,
        })
    }
}

/// A name from a file, made safe to print.
fn quoted(name: &str) -> String {
    const SHOWN: usize = 160;
    match name.char_indices().nth(SHOWN) {
        None => format!("{name:?}"),
        Some((end, _)) => format!("{:?}... ({} bytes)", &name[..end], name.len()),
    }
}

fn near(name: &str) -> String {
    if name.is_empty() {
        String::new()
    } else {
        format!(" at {}", quoted(name))
    }
}

/// The first names, and how many more.
fn some(names: &[String]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| quoted(name)).collect();
    let shown = shown.join(", ");
    match names.len().saturating_sub(SHOWN) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}
