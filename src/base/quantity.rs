//! Quantities with their unit in the type.

use std::fmt;

use serde::{Deserialize, Serialize};

/// A number of bytes; prints with a binary unit.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["KiB", "MiB", "GiB", "TiB", "PiB"];
        if self.0 < 1024 {
            return f.pad(&format!("{} B", self.0));
        }
        let mut value = self.0 as f64 / 1024.0;
        let mut unit = 0;
        while value >= 1023.95 && unit + 1 < units.len() {
            value /= 1024.0;
            unit += 1;
        }
        f.pad(&format!("{value:.1} {}", units[unit]))
    }
}

impl std::ops::Add for Bytes {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl std::iter::Sum for Bytes {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        Self(iter.map(|b| b.0).sum())
    }
}

/// A number of floating-point operations; a multiply-add counts as two.
#[derive(Debug, Clone, Copy, Default, PartialEq, PartialOrd, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Flops(pub f64);

impl fmt::Display for Flops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = ["", "K", "M", "G", "T", "P", "E", "Z"];
        let mut value = self.0;
        let mut unit = 0;
        while value.abs() >= 999.95 && unit + 1 < units.len() {
            value /= 1000.0;
            unit += 1;
        }
        f.pad(&format!("{value:.1} {}FLOP", units[unit]))
    }
}

/// What a scalar of a stored tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DType {
    /// 64-bit float.
    #[serde(rename = "float64")]
    F64,
    /// 32-bit float.
    #[serde(rename = "float32")]
    F32,
    /// 16-bit brain float: the exponent of a 32-bit float, 8 bits of precision.
    #[serde(rename = "bfloat16")]
    BF16,
    /// 16-bit IEEE float.
    #[serde(rename = "float16")]
    F16,
    /// 8-bit float with 4 bits of exponent, no infinities.
    #[serde(rename = "float8_e4m3fn")]
    F8E4M3,
    /// 8-bit float with 5 bits of exponent.
    #[serde(rename = "float8_e5m2")]
    F8E5M2,
    /// 8 bits of exponent alone: a power of two, as scales of block formats are.
    #[serde(rename = "float8_e8m0fnu")]
    F8E8M0,
    /// Signed integers.
    #[serde(rename = "int64")]
    I64,
    /// 32-bit.
    #[serde(rename = "int32")]
    I32,
    /// 16-bit.
    #[serde(rename = "int16")]
    I16,
    /// 8-bit.
    #[serde(rename = "int8")]
    I8,
    /// Unsigned integers.
    #[serde(rename = "uint64")]
    U64,
    /// 32-bit.
    #[serde(rename = "uint32")]
    U32,
    /// 16-bit.
    #[serde(rename = "uint16")]
    U16,
    /// 8-bit.
    #[serde(rename = "uint8")]
    U8,
    /// A byte that is 0 or 1.
    #[serde(rename = "bool")]
    Bool,
}

impl DType {
    /// Every type, with the name that PyTorch and `config.json` use, the one that safetensors uses, and its bytes.
    #[rustfmt::skip]
    const TABLE: [(Self, &'static str, &'static str, u64); 16] = [
        (Self::F64, "float64", "F64", 8),
        (Self::F32, "float32", "F32", 4),
        (Self::BF16, "bfloat16", "BF16", 2),
        (Self::F16, "float16", "F16", 2),
        (Self::F8E4M3, "float8_e4m3fn", "F8_E4M3", 1),
        (Self::F8E5M2, "float8_e5m2", "F8_E5M2", 1),
        (Self::F8E8M0, "float8_e8m0fnu", "F8_E8M0", 1),
        (Self::I64, "int64", "I64", 8),
        (Self::I32, "int32", "I32", 4),
        (Self::I16, "int16", "I16", 2),
        (Self::I8, "int8", "I8", 1),
        (Self::U64, "uint64", "U64", 8),
        (Self::U32, "uint32", "U32", 4),
        (Self::U16, "uint16", "U16", 2),
        (Self::U8, "uint8", "U8", 1),
        (Self::Bool, "bool", "BOOL", 1),
    ];

    fn row(self) -> (Self, &'static str, &'static str, u64) {
        Self::TABLE[self as usize]
    }

    /// Bytes of one scalar.
    pub fn size(self) -> u64 {
        self.row().3
    }

    /// PyTorch's name, which `config.json` uses too: `float32`, `bfloat16`, `float16`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// The name in a safetensors header: `F32`, `BF16`, `F8_E4M3`.
    pub fn safetensors_name(self) -> &'static str {
        self.row().2
    }

    /// The inverse of [`name`](Self::name); a `torch.` in front is allowed.
    pub fn from_name(name: &str) -> Option<Self> {
        let name = name.strip_prefix("torch.").unwrap_or(name);
        let row = Self::TABLE.iter().find(|row| row.1 == name);
        row.map(|row| row.0)
    }

    /// The inverse of [`safetensors_name`](Self::safetensors_name).
    pub fn from_safetensors_name(name: &str) -> Option<Self> {
        let row = Self::TABLE.iter().find(|row| row.2 == name);
        row.map(|row| row.0)
    }

    /// Whether a model's weights can be of this type: 32 and 16-bit floats.
    pub fn is_weight(self) -> bool {
        matches!(self, Self::F32 | Self::BF16 | Self::F16)
    }
}

impl fmt::Display for DType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.row().2.to_lowercase())
    }
}

/// The extents of a tensor, outermost first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Shape(pub Vec<usize>);

impl Shape {
    /// The number of scalars; 1 for a scalar's empty shape.
    pub fn elements(&self) -> u64 {
        self.0.iter().map(|&d| d as u64).product()
    }

    /// The tensor as a matrix: all dims but the last are rows, the last is columns; a vector is one column, a scalar one row of it.
    pub fn matrix(&self) -> (usize, usize) {
        match self.0.as_slice() {
            [] => (1, 1),
            [n] => (*n, 1),
            [rows @ .., cols] => (rows.iter().product(), *cols),
        }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dims: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.pad(&format!("[{}]", dims.join(", ")))
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(dims: [usize; N]) -> Self {
        Self(dims.to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_print_with_the_unit_that_fits() {
        assert_eq!(Bytes(1023).to_string(), "1023 B");
        assert_eq!(Bytes(1536).to_string(), "1.5 KiB");
        assert_eq!(Bytes(80 << 30).to_string(), "80.0 GiB");
        assert_eq!(Bytes((1 << 30) - 1).to_string(), "1.0 GiB");
    }

    #[test]
    fn every_type_is_found_by_its_names() {
        for (dtype, name, stored, _) in DType::TABLE {
            assert_eq!(DType::from_name(name), Some(dtype));
            assert_eq!(DType::from_safetensors_name(stored), Some(dtype));
            assert_eq!(dtype.name(), name);
        }
    }

    #[test]
    fn shapes_count_their_elements() {
        assert_eq!(Shape::from([2, 3, 4]).elements(), 24);
        assert_eq!(Shape::from([4096, 1024]).to_string(), "[4096, 1024]");
    }
}
