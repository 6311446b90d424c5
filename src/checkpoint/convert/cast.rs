//! Values from one type to another.

use half::{bf16, f16};

use crate::base::DType;

/// A type of weights with what reading, rounding and writing one means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Float {
    F32,
    BF16,
    F16,
}

impl Float {
    fn of(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 => Some(Self::F32),
            DType::BF16 => Some(Self::BF16),
            DType::F16 => Some(Self::F16),
            _ => None,
        }
    }

    fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::BF16 | Self::F16 => 2,
        }
    }

    fn read(self, bytes: &[u8]) -> f32 {
        match (self, bytes) {
            (Self::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
            (Self::BF16, &[a, b]) => bf16::from_le_bytes([a, b]).to_f32(),
            (Self::F16, &[a, b]) => f16::from_le_bytes([a, b]).to_f32(),
            _ => f32::NAN,
        }
    }

    fn write(self, value: f32, bytes: &mut [u8]) {
        match self {
            Self::F32 => bytes.copy_from_slice(&value.to_le_bytes()),
            Self::BF16 => bytes.copy_from_slice(&bf16::from_f32(value).to_le_bytes()),
            Self::F16 => bytes.copy_from_slice(&f16::from_f32(value).to_le_bytes()),
        }
    }

    /// The value nearest to `value` that the type has.
    fn round(self, value: f32) -> f32 {
        match self {
            Self::F32 => value,
            Self::BF16 => bf16::from_f32(value).to_f32(),
            Self::F16 => f16::from_f32(value).to_f32(),
        }
    }
}

/// Whether bytes of type `from` become bytes of type `to` by copying them.
pub(super) fn is_copy(from: DType, to: DType, shift: i8) -> bool {
    from == to && shift == 0
}

/// Writes `from`'s values, plus `shift`, as type `to`: the sum is rounded to `from`'s type first, as a tensor's own arithmetic does.
///
/// Both types are weights; others are refused when files are opened, and leave `out` as it is.
pub(in crate::checkpoint) fn cast(from: DType, bytes: &[u8], to: DType, out: &mut [u8], shift: i8) {
    let (Some(from), Some(to)) = (Float::of(from), Float::of(to)) else {
        return;
    };
    let values = bytes.chunks_exact(from.size());
    let slots = out.chunks_exact_mut(to.size());
    if shift == 0 {
        for (value, slot) in values.zip(slots) {
            to.write(from.read(value), slot);
        }
    } else {
        for (value, slot) in values.zip(slots) {
            let sum = from.round(from.read(value) + f32::from(shift));
            to.write(sum, slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shift_is_rounded_in_the_source_type() {
        // 1/256 + 1 needs 9 bits: exact in f32, rounded to even in bf16.
        let small = 1.0 / 256.0;
        let mut out = [0; 4];
        cast(
            DType::BF16,
            &bf16::from_f32(small).to_le_bytes(),
            DType::F32,
            &mut out,
            1,
        );
        assert_eq!(f32::from_le_bytes(out), 1.0);
        cast(DType::F32, &small.to_le_bytes(), DType::F32, &mut out, 1);
        assert_eq!(f32::from_le_bytes(out), 1.0 + small);
    }

    #[test]
    fn nan_and_infinity_stay_what_they_are() {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut out = [0; 2];
            cast(DType::F32, &value.to_le_bytes(), DType::BF16, &mut out, 0);
            let back = bf16::from_le_bytes(out).to_f32();
            assert!(back == value || back.is_nan() && value.is_nan());
        }
    }
}
