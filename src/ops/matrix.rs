//! Matrix products on slices.
//!
//! A [`Matrix`] is a slice with two strides, so a transpose costs nothing; [`Into`] says what becomes of the destination. Processors
//! with AVX-512 run our own blocked product (`blocked.rs`), all others the `gemm` crate.

mod blocked;
#[cfg(target_arch = "x86_64")]
mod tile;

use std::mem::MaybeUninit;

use gemm::Parallelism;

/// A matrix within a slice: element `(r, c)` lies at `r * row_stride + c * column_stride`.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    values: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// `[rows, columns]`, rows one after the other.
    pub(super) fn new(values: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(values, rows, columns, columns)
    }

    /// `[rows, columns]` whose rows begin `row_stride` apart.
    pub(super) fn strided(
        values: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
    ) -> Self {
        assert!(
            rows == 0 || columns == 0 || (rows - 1) * row_stride + columns <= values.len(),
            "a matrix of {rows} rows {row_stride} apart and {columns} columns exceeds {} values",
            values.len()
        );
        Self {
            values,
            rows,
            columns,
            row_stride,
            column_stride: 1,
        }
    }

    /// The transpose.
    pub(super) fn t(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }
}

/// What a product does to its destination.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Into {
    /// `dst = a b`; what was there is not read.
    Overwrite,
    /// `dst = dst + a b`.
    Accumulate,
}

/// `dst [m, n] (+)= a [m, k] b [k, n]` on all threads, `dst` rows one after the other.
pub(super) fn product(dst: &mut [f32], mode: Into, a: Matrix<'_>, b: Matrix<'_>) {
    multiply(as_uninit(dst), b.columns, mode, a, b, Parallelism::Rayon(0));
}

/// `a [m, k] b [k, n]` on all threads as a new `[m, n]`, whose memory is written once and not zeroed before.
pub(super) fn product_new(a: Matrix<'_>, b: Matrix<'_>) -> Vec<f32> {
    let size = a.rows * b.columns;
    let mut values = Vec::with_capacity(size);
    let dst = &mut values.spare_capacity_mut()[..size];
    multiply(dst, b.columns, Into::Overwrite, a, b, Parallelism::Rayon(0));
    #[expect(unsafe_code, reason = "the product has written every element")]
    // SAFETY: the capacity is at least `size`, and `multiply` with `Overwrite` writes all rows and columns of its destination, which
    // without gaps between rows are all `size` elements.
    unsafe {
        values.set_len(size);
    }
    values
}

/// The same slice for code that only writes; `multiply` writes nothing but numbers.
fn as_uninit(values: &mut [f32]) -> &mut [MaybeUninit<f32>] {
    #[expect(
        unsafe_code,
        reason = "a view of a slice under a type of the same layout"
    )]
    // SAFETY: `MaybeUninit<f32>` has the layout of `f32`, and nothing uninitialised is written through it in this module.
    unsafe {
        &mut *(std::ptr::from_mut(values) as *mut [MaybeUninit<f32>])
    }
}

/// [`product`] on the calling thread, `dst` rows `row_stride` apart.
pub(super) fn product_here(
    dst: &mut [f32],
    row_stride: usize,
    mode: Into,
    a: Matrix<'_>,
    b: Matrix<'_>,
) {
    multiply(as_uninit(dst), row_stride, mode, a, b, Parallelism::None);
}

fn multiply(
    dst: &mut [MaybeUninit<f32>],
    row_stride: usize,
    mode: Into,
    a: Matrix<'_>,
    b: Matrix<'_>,
    parallelism: Parallelism,
) {
    let (m, k, n) = (a.rows, a.columns, b.columns);
    assert_eq!(k, b.rows, "inner dimensions of a product");
    if m == 0 || n == 0 {
        return;
    }
    assert!(
        (m - 1) * row_stride + n <= dst.len() && row_stride >= n,
        "destination of a {m} x {n} product"
    );
    if blocked::multiply(
        dst,
        row_stride,
        mode,
        a,
        b,
        !matches!(parallelism, Parallelism::None),
    ) {
        return;
    }
    let alpha = if mode == Into::Accumulate { 1.0 } else { 0.0 };
    #[expect(unsafe_code, reason = "gemm takes pointers and strides")]
    // SAFETY: `Matrix::strided` and the assertion above keep every index within its slice, `dst` is borrowed exclusively, and `f32`
    // is the one element type.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            dst.as_mut_ptr().cast(),
            1,
            row_stride as isize,
            mode == Into::Accumulate,
            a.values.as_ptr(),
            a.column_stride as isize,
            a.row_stride as isize,
            b.values.as_ptr(),
            b.column_stride as isize,
            b.row_stride as isize,
            alpha,
            1.0,
            false,
            false,
            false,
            parallelism,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::{Into, Matrix, product, product_here};

    #[test]
    fn transposes_and_accumulation_follow_the_definition() {
        let a = [1., 2., 3., 4., 5., 6.]; // [2, 3]
        let b = [1., 0., 2., 1., 0., 3.]; // [2, 3]
        let mut ab = [f32::NAN; 4];
        product(
            &mut ab,
            Into::Overwrite,
            Matrix::new(&a, 2, 3),
            Matrix::new(&b, 2, 3).t(),
        );
        assert_eq!(ab, [7., 10., 16., 22.]);
        product(
            &mut ab,
            Into::Accumulate,
            Matrix::new(&a, 2, 3),
            Matrix::new(&b, 2, 3).t(),
        );
        assert_eq!(ab, [14., 20., 32., 44.]);
        let mut wide = [9f32; 8]; // a^T b is [3, 3]; here the first two columns of b, rows 2 + 1 apart
        product_here(
            &mut wide,
            3,
            Into::Overwrite,
            Matrix::new(&a, 2, 3).t(),
            Matrix::strided(&b, 2, 2, 3),
        );
        assert_eq!(wide, [5., 0., 9., 7., 0., 9., 9., 0.]);
    }

    #[test]
    fn every_shape_and_transpose_follows_the_definition() {
        for (m, n, k) in [
            (1, 1, 1),
            (7, 33, 5),
            (64, 64, 64),
            (9, 31, 300),
            (130, 70, 17),
            (65, 129, 257),
            (8, 4, 520),
        ] {
            let a: Vec<f32> = (0..m * k)
                .map(|index| ((index * 37 % 101) as f32 - 50.0) / 64.0)
                .collect();
            let b: Vec<f32> = (0..k * n)
                .map(|index| ((index * 53 % 97) as f32 - 48.0) / 64.0)
                .collect();
            for (a_transposed, b_transposed) in
                [(false, false), (false, true), (true, false), (true, true)]
            {
                let a_matrix = if a_transposed {
                    Matrix::new(&a, k, m).t()
                } else {
                    Matrix::new(&a, m, k)
                };
                let b_matrix = if b_transposed {
                    Matrix::new(&b, n, k).t()
                } else {
                    Matrix::new(&b, k, n)
                };
                let at = |x: Matrix<'_>, row: usize, column: usize| {
                    f64::from(x.values[row * x.row_stride + column * x.column_stride])
                };
                let (mut all, mut here) = (vec![1f32; m * n], vec![f32::NAN; m * (n + 3)]);
                product(&mut all, Into::Accumulate, a_matrix, b_matrix);
                product_here(&mut here, n + 3, Into::Overwrite, a_matrix, b_matrix);
                for (row, column) in (0..m).flat_map(|row| (0..n).map(move |column| (row, column)))
                {
                    let truth: f64 = (0..k)
                        .map(|i| at(a_matrix, row, i) * at(b_matrix, i, column))
                        .sum();
                    let (all, here) = (all[row * n + column], here[row * (n + 3) + column]);
                    let allowed = 1e-6 * k as f64;
                    assert!(
                        (f64::from(here) - truth).abs() <= allowed,
                        "{m} {n} {k} at {row} {column}: {here}, {truth}"
                    );
                    assert!(
                        (f64::from(all) - 1.0 - truth).abs() <= allowed,
                        "{m} {n} {k} at {row} {column}: {all}, {truth}"
                    );
                }
                for beyond in here.chunks(n + 3).flat_map(|row| &row[n..]) {
                    assert!(beyond.is_nan(), "written beyond the last column");
                }
            }
        }
    }
}
