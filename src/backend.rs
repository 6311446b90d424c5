//! Where a recipe runs.
