//! Models by their name on the Hugging Face Hub: found in the local cache, or downloaded.
