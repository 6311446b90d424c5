//! What a parallel layout costs and whether it can run.
