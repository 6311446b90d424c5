//! Layers of Qwen3.5 with an explicit forward and backward.
