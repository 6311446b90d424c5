//! How Hugging Face and Megatron name and cut the same tensors.
