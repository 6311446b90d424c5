//! Hugging Face and Megatron, tensor by tensor.

mod layouts;
mod registry;
mod spelling;
