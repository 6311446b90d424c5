//! Models by their name on the Hugging Face Hub: found in the local cache, or downloaded.
//!
//! The cache is the one of Python's `huggingface_hub`, with its layout, locks and environment variables, so that `transformers` finds what we
//! fetch and we find what it fetched. [`find`] looks there. [`plan`] asks the Hub for a model's files and compares; [`fetch`] downloads the
//! rest: several files at once, continued where a broken connection or a kill left them, checked against the sums that the Hub states.
//!
//! # Why not `hf-hub`
//! Version 1.0.0 starts each file from its beginning, verifies no checksum, knows neither `HF_HUB_OFFLINE` nor free disk space, and brings 284
//! crates, an async runtime and the Xet protocol among them. What remains is a list and plain GET requests, which `ureq` with rustls
//! does in 26. Redirects are followed by us, since the token must not go to the store that holds large files.

mod address;
mod cache;
mod checksum;
mod client;
mod environment;
mod error;
mod fetch;
mod id;
mod plan;
mod progress;
mod retry;
mod select;
mod transfer;

pub use cache::{find, missing};
pub use checksum::Checksum;
pub use environment::{Environment, Token};
pub use error::HubError;
pub use fetch::{Options, fetch};
pub use id::ModelId;
pub use plan::{Plan, PlannedFile, plan};
pub use progress::{FileProgress, Progress, Stage};
pub use retry::Retry;
