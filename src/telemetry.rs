//! What the machine is doing: memory, processors, GPUs.
