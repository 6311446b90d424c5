//! Where a recipe runs: a process of its own on this machine, torchrun, or Slurm.
//!
//! What is launched beyond this machine is a [`Job`] in plain values. [`script`] turns it with a [`Profile`] into a shell script, a pure
//! function; [`slurm`] and [`torchrun`] start it and say how it fares. What was started is noted in the run directory ([`record`]), so
//! whoever comes back later finds it again.

mod error;
pub mod foreign;
pub mod handover;
pub mod job;
pub mod launch;
pub mod local;
pub mod preflight;
pub mod profile;
pub mod record;
pub mod script;
pub mod shell;
pub mod slurm;
pub mod steer;
pub mod tool;
pub mod torchrun;
mod tracker;

pub use error::BackendError;
pub use job::Job;
pub use launch::Place;
pub use profile::Profile;
pub use tracker::last_checkpoint;
