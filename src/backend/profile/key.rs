//! The keys of a profile.

use super::{Profile, Style};

/// What a key takes and where it goes.
#[derive(Clone, Copy)]
pub(super) enum Slot {
    /// A name as Slurm has them: no blanks, no quotes.
    Name(fn(&mut Profile) -> &mut Option<String>),
    /// Any text.
    Text(fn(&mut Profile) -> &mut Option<String>),
    /// Texts.
    Texts(fn(&mut Profile) -> &mut Vec<String>),
    /// Options that begin with two hyphens.
    Options(fn(&mut Profile) -> &mut Vec<String>),
    /// Names of environment variables.
    Variables(fn(&mut Profile) -> &mut Vec<String>),
    /// True or false.
    Flag(fn(&mut Profile) -> &mut bool),
    /// GPUs of a node.
    Gpus,
    /// A time limit.
    Time,
    /// Seconds.
    Seconds,
    /// How processes are started.
    Style,
    /// A folder with an absolute path.
    Bridge,
    /// A program and its first arguments.
    Program,
}

/// A key of a profile.
#[derive(Clone, Copy)]
pub struct Key {
    /// Its name.
    pub name: &'static str,
    /// What it is for.
    pub doc: &'static str,
    /// What it takes and where that goes.
    pub(super) slot: Slot,
}

const fn key(name: &'static str, slot: Slot, doc: &'static str) -> Key {
    Key { name, doc, slot }
}

/// All keys.
#[rustfmt::skip]
pub const KEYS: &[Key] = &[
    key("partition", Slot::Name(|p| &mut p.partition), "Slurm partition"),
    key("account", Slot::Name(|p| &mut p.account), "Slurm account"),
    key("qos", Slot::Name(|p| &mut p.qos), "Slurm quality of service"),
    key("constraint", Slot::Name(|p| &mut p.constraint), "features that nodes must have"),
    key("reservation", Slot::Name(|p| &mut p.reservation), "Slurm reservation"),
    key("container", Slot::Text(|p| &mut p.container), "container image for srun's Pyxis plugin"),
    key("mounts", Slot::Texts(|p| &mut p.mounts), "mounts of the container: [\"HOST:CONTAINER\"]"),
    key("modules", Slot::Texts(|p| &mut p.modules), "environment modules to load"),
    key("environment", Slot::Variables(|p| &mut p.environment), "names of variables the job needs; never their values"),
    key("gpus_per_node", Slot::Gpus, "GPUs of a node, from 1"),
    key("request_gpus", Slot::Flag(|p| &mut p.request_gpus), "whether Slurm is asked for GPUs"),
    key("time_limit", Slot::Time, "time limit: [DAYS-]HOURS:MINUTES:SECONDS"),
    key("checkpoint_seconds", Slot::Seconds, "seconds before the limit at which a last checkpoint is asked for, 10 to 65535"),
    key("go_on", Slot::Flag(|p| &mut p.go_on), "queue again after the time limit while there is progress"),
    key("requeue", Slot::Flag(|p| &mut p.requeue), "queue again after a node failed"),
    key("exclusive", Slot::Flag(|p| &mut p.exclusive), "do not share nodes"),
    key("style", Slot::Style, "\"srun\": a task a GPU; \"torchrun\": a task a node with torchrun in it"),
    key("mpi", Slot::Name(|p| &mut p.mpi), "kind of MPI that srun sets up: \"pmix\""),
    key("bridge", Slot::Bridge, "Megatron-Bridge's folder, an absolute path (in the container if there is one)"),
    key("python", Slot::Program, "Python and what stands before it: [\"uv\", \"run\", \"--no-sync\", \"python\"]"),
    key("sbatch", Slot::Options(|p| &mut p.sbatch), "further options of sbatch: [\"--comment=x\"]"),
    key("srun", Slot::Options(|p| &mut p.srun), "further options of srun"),
];

/// Styles by their word.
pub(super) const STYLES: [(&str, Style); 2] =
    [("srun", Style::Srun), ("torchrun", Style::Torchrun)];
