//! A stored scalar as an `f64`.

use half::{bf16, f16};

use crate::base::DType;

/// The value of a scalar of `dtype` that lies in `bytes`, little-endian. Exact but for 64-bit integers, which are rounded.
pub(super) fn decode(dtype: DType, bytes: &[u8]) -> f64 {
    let word = |size: usize| {
        let mut word = [0; 8];
        word[..size].copy_from_slice(&bytes[..size]);
        u64::from_le_bytes(word)
    };
    match dtype {
        DType::F64 => f64::from_bits(word(8)),
        DType::F32 => f64::from(f32::from_bits(word(4) as u32)),
        DType::BF16 => bf16::from_bits(word(2) as u16).to_f64(),
        DType::F16 => f16::from_bits(word(2) as u16).to_f64(),
        DType::F8E4M3 => f8_e4m3(bytes[0]),
        // The upper half of a 16-bit float.
        DType::F8E5M2 => f16::from_bits(u16::from(bytes[0]) << 8).to_f64(),
        DType::F8E8M0 => f8_e8m0(bytes[0]),
        DType::I64 => word(8) as i64 as f64,
        DType::I32 => f64::from(word(4) as i32),
        DType::I16 => f64::from(word(2) as i16),
        DType::I8 => f64::from(bytes[0] as i8),
        DType::U64 => word(8) as f64,
        DType::U32 => f64::from(word(4) as u32),
        DType::U16 => f64::from(word(2) as u16),
        DType::U8 | DType::Bool => f64::from(bytes[0]),
    }
}

/// Appends the values of all scalars in `bytes`.
pub(super) fn decode_all(dtype: DType, bytes: &[u8], values: &mut Vec<f64>) {
    let scalars = bytes.chunks_exact(dtype.size() as usize);
    if dtype == DType::F32 {
        // The usual type gets a loop without the choice in it.
        values.extend(scalars.map(|b| f64::from(f32::from_le_bytes([b[0], b[1], b[2], b[3]]))));
    } else {
        values.extend(scalars.map(|scalar| decode(dtype, scalar)));
    }
}

/// One sign, four exponent (bias 7) and three mantissa bits; all ones is NaN, and there is no infinity.
fn f8_e4m3(byte: u8) -> f64 {
    let (exponent, mantissa) = (i32::from(byte >> 3 & 15), f64::from(byte & 7));
    let magnitude = match (exponent, byte & 7) {
        (15, 7) => f64::NAN,
        (0, _) => mantissa / 8.0 * (-6_f64).exp2(),
        _ => (1.0 + mantissa / 8.0) * f64::from(exponent - 7).exp2(),
    };
    if byte & 0x80 == 0 {
        magnitude
    } else {
        -magnitude
    }
}

/// Eight exponent bits (bias 127); all ones is NaN, and there is neither sign nor zero.
fn f8_e8m0(byte: u8) -> f64 {
    match byte {
        255 => f64::NAN,
        exponent => f64::from(i32::from(exponent) - 127).exp2(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn eight_bit_floats_have_the_values_of_their_definition() {
        for (dtype, byte, value) in [
            (DType::F8E4M3, 0x00, 0.0),
            (DType::F8E4M3, 0x01, 1.0 / 512.0),
            (DType::F8E4M3, 0x08, 1.0 / 64.0),
            (DType::F8E4M3, 0x38, 1.0),
            (DType::F8E4M3, 0xb9, -1.125),
            (DType::F8E4M3, 0x7e, 448.0),
            (DType::F8E5M2, 0x3c, 1.0),
            (DType::F8E5M2, 0x7b, 57344.0),
            (DType::F8E5M2, 0x01, 1.0 / 65536.0),
            (DType::F8E5M2, 0xfc, f64::NEG_INFINITY),
            (DType::F8E8M0, 127, 1.0),
            (DType::F8E8M0, 0, (-127_f64).exp2()),
            (DType::F8E8M0, 254, 127_f64.exp2()),
        ] {
            assert_eq!(decode(dtype, &[byte]), value, "{dtype} {byte:#x}");
        }
        for (dtype, byte) in [
            (DType::F8E4M3, 0x7f),
            (DType::F8E4M3, 0xff),
            (DType::F8E5M2, 0x7d),
            (DType::F8E8M0, 0xff),
        ] {
            assert!(decode(dtype, &[byte]).is_nan(), "{dtype} {byte:#x}");
        }
    }

    #[test]
    fn other_scalars_are_little_endian() {
        assert_eq!(decode(DType::F32, &1.5_f32.to_le_bytes()), 1.5);
        assert_eq!(decode(DType::BF16, &[0xc0, 0x3f]), 1.5);
        assert_eq!(decode(DType::F16, &[0x00, 0x3e]), 1.5);
        assert_eq!(decode(DType::I16, &(-2_i16).to_le_bytes()), -2.0);
        assert_eq!(decode(DType::I64, &(-3_i64).to_le_bytes()), -3.0);
        assert_eq!(
            decode(DType::U64, &u64::MAX.to_le_bytes()),
            18_446_744_073_709_551_616.0
        );
        assert_eq!(decode(DType::I8, &[0xff]), -1.0);
        assert_eq!(decode(DType::Bool, &[1]), 1.0);
    }
}
