//! Values that are no numbers: told, never fatal.

use crate::base::DType;

/// Scalars that are counted together.
const BLOCK: usize = 1 << 14;

/// How many scalars are NaN or infinite: those whose exponent has all its bits.
pub(in crate::checkpoint) fn not_finite(dtype: DType, bytes: &[u8]) -> u64 {
    let (halves, _) = bytes.as_chunks::<2>();
    // Counts of a block fit the type of its scalars, so that all lanes of a vector count.
    let of_halves = |exponent: u16| -> u64 {
        let is_special = |half: &[u8; 2]| u16::from_le_bytes(*half) & exponent == exponent;
        let of_block =
            |block: &[[u8; 2]]| -> u16 { block.iter().map(|h| u16::from(is_special(h))).sum() };
        halves
            .chunks(BLOCK)
            .map(|block| u64::from(of_block(block)))
            .sum()
    };
    match dtype {
        DType::BF16 => of_halves(0x7f80),
        DType::F16 => of_halves(0x7c00),
        DType::F32 => {
            let (words, _) = bytes.as_chunks::<4>();
            let exponent = 0x7f80_0000;
            let is_special = |word: &[u8; 4]| u32::from_le_bytes(*word) & exponent == exponent;
            let of_block =
                |block: &[[u8; 4]]| -> u32 { block.iter().map(|w| u32::from(is_special(w))).sum() };
            words
                .chunks(BLOCK)
                .map(|block| u64::from(of_block(block)))
                .sum()
        }
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;

    #[test]
    fn nan_and_infinities_are_counted_and_the_largest_numbers_are_not() {
        let values = [
            0.0,
            -0.0,
            1.0,
            f32::NAN,
            f32::INFINITY,
            -f32::INFINITY,
            1e-40,
        ];
        let bytes = |of: &dyn Fn(f32) -> Vec<u8>| values.iter().flat_map(|&v| of(v)).collect();
        let wide: Vec<u8> = bytes(&|v| v.to_le_bytes().to_vec());
        let brain: Vec<u8> = bytes(&|v| bf16::from_f32(v).to_le_bytes().to_vec());
        let half: Vec<u8> = bytes(&|v| f16::from_f32(v).to_le_bytes().to_vec());
        assert_eq!(not_finite(DType::F32, &wide), 3);
        assert_eq!(not_finite(DType::BF16, &brain), 3);
        assert_eq!(not_finite(DType::F16, &half), 3);
        assert_eq!(not_finite(DType::F32, &f32::MAX.to_le_bytes()), 0);
        assert_eq!(not_finite(DType::BF16, &bf16::MAX.to_le_bytes()), 0);
        assert_eq!(not_finite(DType::F16, &f16::MAX.to_le_bytes()), 0);
    }
}
