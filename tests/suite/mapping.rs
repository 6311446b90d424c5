//! Hugging Face and Megatron, tensor by tensor.

mod layouts;
mod peer;
mod registry;
mod spelling;
