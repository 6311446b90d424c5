//! The CPU form: one matrix product each, on all threads.

use crate::ops::matrix::{Into, Matrix, product};

pub(super) fn forward(x: &[f32], w: &[f32], n: usize, i: usize, o: usize) -> Vec<f32> {
    let mut y = vec![0f32; n * o];
    product(
        &mut y,
        Into::Overwrite,
        Matrix::new(x, n, i),
        Matrix::new(w, o, i).t(),
    );
    y
}

pub(super) fn backward_input(
    dy: &[f32],
    w: &[f32],
    n: usize,
    i: usize,
    o: usize,
    dx: &mut [f32],
    mode: Into,
) {
    product(dx, mode, Matrix::new(dy, n, o), Matrix::new(w, o, i));
}

pub(super) fn backward_weight(dy: &[f32], x: &[f32], n: usize, i: usize, o: usize, dw: &mut [f32]) {
    product(
        dw,
        Into::Accumulate,
        Matrix::new(dy, n, o).t(),
        Matrix::new(x, n, i),
    );
}
