//! The Hub's client against a small server that speaks its API, and misbehaves when told to.

mod command;
mod fetch;
mod python;
mod server;
mod trouble;
