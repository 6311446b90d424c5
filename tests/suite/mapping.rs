//! Hugging Face and Megatron, tensor by tensor.

mod registry;
