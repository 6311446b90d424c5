//! Tensor operations, one room a kernel family.
