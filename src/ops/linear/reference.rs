//! The CPU form: one matrix product each, on all threads.

use crate::ops::matrix::{Into, Matrix, product, product_new};

pub(super) fn forward(x: &[f32], w: &[f32], n: usize, i: usize, o: usize) -> Vec<f32> {
    product_new(Matrix::new(x, n, i), Matrix::new(w, o, i).t())
}

pub(super) fn forward_into(x: &[f32], w: &[f32], n: usize, i: usize, o: usize, y: &mut [f32]) {
    product(
        y,
        Into::Accumulate,
        Matrix::new(x, n, i),
        Matrix::new(w, o, i).t(),
    );
}

pub(super) fn backward_input(dy: &[f32], w: &[f32], n: usize, i: usize, o: usize) -> Vec<f32> {
    product_new(Matrix::new(dy, n, o), Matrix::new(w, o, i))
}

pub(super) fn backward_input_into(
    dy: &[f32],
    w: &[f32],
    n: usize,
    i: usize,
    o: usize,
    dx: &mut [f32],
) {
    product(
        dx,
        Into::Accumulate,
        Matrix::new(dy, n, o),
        Matrix::new(w, o, i),
    );
}

pub(super) fn backward_weight(dy: &[f32], x: &[f32], n: usize, i: usize, o: usize, dw: &mut [f32]) {
    product(
        dw,
        Into::Accumulate,
        Matrix::new(dy, n, o).t(),
        Matrix::new(x, n, i),
    );
}
