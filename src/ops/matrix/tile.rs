//! The two inner parts of the blocked product in AVX-512: packing a panel, multiplying into a tile.

use std::arch::x86_64::{
    __m512, __mmask16, _mm512_add_ps, _mm512_fmadd_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_shuffle_f32x4,
    _mm512_shuffle_ps, _mm512_storeu_ps, _mm512_unpackhi_ps, _mm512_unpacklo_ps,
};

use std::mem::MaybeUninit;

use super::blocked::{PANEL, TILE};
use super::{Into, Matrix};

/// Floats of a vector.
const LANES: usize = 16;

/// Packs rows `first..first + depth` and 32 columns from `column` on of `b` as `[depth, 32]`, zeros beyond the last column.
///
/// The caller has made sure of AVX-512.
pub(super) fn pack(panel: &mut [f32], b: Matrix<'_>, first: usize, depth: usize, column: usize) {
    let width = PANEL.min(b.columns - column);
    assert!(
        panel.len() == depth * PANEL && first + depth <= b.rows,
        "a panel of {depth} rows"
    );
    if b.row_stride == 1 && b.column_stride != 1 {
        let last = (column + width - 1) * b.column_stride + first + depth;
        assert!(last <= b.values.len(), "a panel within its matrix");
        #[expect(
            unsafe_code,
            reason = "vector instructions that only some processors have"
        )]
        // SAFETY: AVX-512 was detected by the caller; the assertions bound every column that is read and the panel that is written.
        unsafe {
            let from = b.values.as_ptr().add(column * b.column_stride + first);
            pack_transposed(panel.as_mut_ptr(), from, b.column_stride, depth, width);
        }
        return;
    }
    let (panel, _) = panel.as_chunks_mut::<PANEL>();
    for (to, row) in panel.iter_mut().zip(first..) {
        let from = &b.values[row * b.row_stride + column * b.column_stride..];
        if b.column_stride == 1 && width == PANEL {
            to.copy_from_slice(&from[..PANEL]); // of known length, so it needs no call
        } else if b.column_stride == 1 {
            to[..width].copy_from_slice(&from[..width]);
        } else {
            (0..width).for_each(|index| to[index] = from[index * b.column_stride]);
        }
        to[width..].fill(0.0);
    }
}

/// `dst[r][0..width] (+)= sum_i a[r][i] panel[i]` for up to 8 rows of `a`; `dst` rows lie `stride` apart.
///
/// The caller has made sure of AVX-512.
pub(super) fn multiply(
    dst: &mut [MaybeUninit<f32>],
    stride: usize,
    width: usize,
    mode: Into,
    a: Matrix<'_>,
    panel: &[f32],
) {
    let (rows, depth) = (a.rows, a.columns);
    assert!(
        rows > 0 && depth > 0 && width > 0 && width <= PANEL && rows <= TILE,
        "a tile"
    );
    assert!(
        (rows - 1) * a.row_stride + (depth - 1) * a.column_stride < a.values.len(),
        "rows of a tile"
    );
    assert!(
        depth * PANEL <= panel.len() && (rows - 1) * stride + width <= dst.len(),
        "panel and destination of a tile"
    );
    let masks = [mask(width.min(LANES)), mask(width.saturating_sub(LANES))];
    let tile = Tile {
        depth,
        a: a.values.as_ptr(),
        row_stride: a.row_stride,
        inner_stride: a.column_stride,
        panel: panel.as_ptr(),
        dst: dst.as_mut_ptr().cast(),
        dst_stride: stride,
        masks,
        accumulate: mode == Into::Accumulate,
    };
    #[expect(
        unsafe_code,
        reason = "vector instructions that only some processors have"
    )]
    // SAFETY: AVX-512 was detected by the caller; the assertions bound what is read and written, masks keep columns below `width`.
    unsafe {
        match rows {
            1 => tile.run::<1>(),
            2 => tile.run::<2>(),
            3 => tile.run::<3>(),
            4 => tile.run::<4>(),
            5 => tile.run::<5>(),
            6 => tile.run::<6>(),
            7 => tile.run::<7>(),
            _ => tile.run::<8>(),
        }
    }
}

fn mask(lanes: usize) -> __mmask16 {
    ((1u32 << lanes) - 1) as __mmask16
}

struct Tile {
    depth: usize,
    a: *const f32,
    row_stride: usize,
    inner_stride: usize,
    panel: *const f32,
    dst: *mut f32,
    dst_stride: usize,
    masks: [__mmask16; 2],
    accumulate: bool,
}

impl Tile {
    /// # Safety
    /// The processor has AVX-512; `a`, `panel` and `dst` reach as far as strides, depth and masks say for `ROWS` rows.
    #[target_feature(enable = "avx512f")]
    #[expect(
        unsafe_code,
        reason = "reads and writes through pointers that `multiply` has checked"
    )]
    unsafe fn run<const ROWS: usize>(&self) {
        let mut sums = [[_mm512_setzero_ps(); 2]; ROWS];
        // SAFETY: as the function's contract says.
        unsafe {
            let (mut a, mut panel) = (self.a, self.panel);
            let (row_stride, inner_stride) = (self.row_stride, self.inner_stride);
            for _ in 0..self.depth {
                let low = _mm512_maskz_loadu_ps(0xffff, panel);
                let high = _mm512_maskz_loadu_ps(0xffff, panel.add(LANES));
                for (row, sums) in sums.iter_mut().enumerate() {
                    let value = _mm512_set1_ps(*a.add(row * row_stride));
                    sums[0] = _mm512_fmadd_ps(value, low, sums[0]);
                    sums[1] = _mm512_fmadd_ps(value, high, sums[1]);
                }
                a = a.wrapping_add(inner_stride);
                panel = panel.wrapping_add(PANEL);
            }
            for (row, sums) in sums.iter().enumerate() {
                let dst = self.dst.add(row * self.dst_stride);
                self.store(dst, sums[0], self.masks[0]);
                self.store(dst.wrapping_add(LANES), sums[1], self.masks[1]);
            }
        }
    }

    /// # Safety
    /// The processor has AVX-512; `dst` may be read and written where `mask` has ones.
    #[target_feature(enable = "avx512f")]
    #[inline]
    #[expect(
        unsafe_code,
        reason = "reads and writes through a pointer that `multiply` has checked"
    )]
    unsafe fn store(&self, dst: *mut f32, sum: __m512, mask: __mmask16) {
        // SAFETY: as the function's contract says.
        unsafe {
            let sum = if self.accumulate {
                _mm512_add_ps(_mm512_maskz_loadu_ps(mask, dst), sum)
            } else {
                sum
            };
            _mm512_mask_storeu_ps(dst, mask, sum);
        }
    }
}

/// Packs `width` columns that are `column_stride` apart and contiguous within, 16 by 16.
///
/// # Safety
/// The processor has AVX-512; `from` reaches to `(width - 1) * column_stride + depth`, `to` to `depth * 32`.
#[target_feature(enable = "avx512f")]
#[expect(
    unsafe_code,
    reason = "reads and writes through pointers that `pack` has checked"
)]
unsafe fn pack_transposed(
    to: *mut f32,
    from: *const f32,
    column_stride: usize,
    depth: usize,
    width: usize,
) {
    for half in 0..PANEL / LANES {
        for first in (0..depth).step_by(LANES) {
            let rows = LANES.min(depth - first);
            let mut square = [_mm512_setzero_ps(); LANES];
            // SAFETY: columns below `width` and rows below `depth` are read, rows below `depth` written.
            unsafe {
                for (index, vector) in square.iter_mut().enumerate() {
                    let column = half * LANES + index;
                    if column < width {
                        *vector = _mm512_maskz_loadu_ps(
                            mask(rows),
                            from.add(column * column_stride + first),
                        );
                    }
                }
                let square = transpose(&square);
                for (index, vector) in square.iter().take(rows).enumerate() {
                    _mm512_storeu_ps(to.add((first + index) * PANEL + half * LANES), *vector);
                }
            }
        }
    }
}

/// The transpose of 16 rows of 16 floats: pairs, quadruples, then quarters of the vectors change places.
#[target_feature(enable = "avx512f")]
#[inline]
fn transpose(rows: &[__m512; LANES]) -> [__m512; LANES] {
    let mut fours = *rows; // fours[4 g + j]: in quarter q the floats j + 4 q of rows 4 g .. 4 g + 3
    for group in 0..4 {
        let [a, b, c, d] = [0, 1, 2, 3].map(|row| rows[4 * group + row]);
        let (ab_low, ab_high) = (_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
        let (cd_low, cd_high) = (_mm512_unpacklo_ps(c, d), _mm512_unpackhi_ps(c, d));
        fours[4 * group] = _mm512_shuffle_ps::<0b01_00_01_00>(ab_low, cd_low);
        fours[4 * group + 1] = _mm512_shuffle_ps::<0b11_10_11_10>(ab_low, cd_low);
        fours[4 * group + 2] = _mm512_shuffle_ps::<0b01_00_01_00>(ab_high, cd_high);
        fours[4 * group + 3] = _mm512_shuffle_ps::<0b11_10_11_10>(ab_high, cd_high);
    }
    let mut columns = *rows;
    for j in 0..4 {
        let [a, b, c, d] = [0, 4, 8, 12].map(|group| fours[group + j]);
        let (ab_even, ab_odd) = (
            _mm512_shuffle_f32x4::<0b10_00_10_00>(a, b),
            _mm512_shuffle_f32x4::<0b11_01_11_01>(a, b),
        );
        let (cd_even, cd_odd) = (
            _mm512_shuffle_f32x4::<0b10_00_10_00>(c, d),
            _mm512_shuffle_f32x4::<0b11_01_11_01>(c, d),
        );
        columns[j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_even, cd_even);
        columns[8 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_even, cd_even);
        columns[4 + j] = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab_odd, cd_odd);
        columns[12 + j] = _mm512_shuffle_f32x4::<0b11_01_11_01>(ab_odd, cd_odd);
    }
    columns
}
