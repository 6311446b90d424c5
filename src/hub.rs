//! Models by their name on the Hugging Face Hub: found in the local cache, or downloaded.

#[allow(dead_code, reason = "the download is about to use all of it")]
mod cache;
#[allow(dead_code, reason = "the download is about to use all of it")]
mod environment;
#[allow(dead_code, reason = "the download is about to use all of it")]
mod error;
mod id;

pub use cache::{find, missing};
pub use environment::{Environment, Token};
pub use error::HubError;
pub use id::ModelId;
