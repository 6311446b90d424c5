//! The real program in a pseudo-terminal: keys in, screen out, the terminal given back.
#![allow(missing_docs, reason = "tests are read, not linked against")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails there")]

mod figures;
mod layout;
mod leave;
mod mapping;
mod recipes;
mod session;
mod training;
mod watch;
