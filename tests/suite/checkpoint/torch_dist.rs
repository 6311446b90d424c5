//! Megatron's `torch_dist` checkpoints: what PyTorch and Megatron Core write we read, and the other way round.

mod pickle;
