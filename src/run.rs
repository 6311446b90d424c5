//! The run directory: create, list, tail, series, compare.
