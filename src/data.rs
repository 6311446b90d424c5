//! Text into batches: tokenizer, sources, packing, resumable loader.
