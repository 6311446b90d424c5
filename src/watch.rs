//! Debounced file watching.
