//! What the Mapping screen asks of the outside world, and what comes back.

use std::path::PathBuf;
use std::sync::Arc;

use super::{Model, TableFormat, Values};
use crate::mapping::Layout;

/// Where a model comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// A published size.
    Published {
        /// Its name in the registry.
        name: String,
        /// Which of its forms.
        form: Form,
    },
    /// A directory or a file with weights, or a run's folder.
    Path {
        /// It.
        path: PathBuf,
        /// What tells the model if nothing beside the weights does: a `config.json`, a directory with one, a registry name; may be empty.
        config: String,
    },
}

/// Which form of a published size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// With the vision tower.
    Published,
    /// The text class, without vision.
    Text,
    /// The text class, every expert a tensor of its own in Hugging Face's files.
    TextPerExpert,
}

/// A model that effects and messages carry; two are equal if they are the same one.
#[derive(Debug, Clone)]
pub struct Shared(pub Arc<Model>);

impl PartialEq for Shared {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {
    /// A model was opened, or why not.
    Opened(Origin, Result<Shared, String>),
    /// A tensor's values were read, or why not; none if it was given up.
    Values(ValuesOf, Result<Option<Values>, String>),
    /// A verification has come so far.
    Verifying(Progress),
    /// A verification has ended: its report, or why it could not be made; none if it was given up.
    Verified(Result<Option<Report>, String>),
}

/// How far a verification has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Bytes compared.
    pub done: u64,
    /// Bytes in all.
    pub total: u64,
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Report {
    /// Tensors that came back with the same bits.
    pub exact: usize,
    /// Tensors that came back within the rounding of their rule, each with what there is to say.
    pub rounded: Vec<(String, String)>,
    /// Tensors that did not come back, each with what differs.
    pub different: Vec<(String, String)>,
}

/// Which tensor's values are meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ValuesOf {
    /// The opened directory.
    pub path: PathBuf,
    /// The tensor's number in the opened files' list.
    pub stored: usize,
}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Read or build a model.
    Open(Origin),
    /// Read a tensor's values; whatever is read at present is given up.
    Values(ValuesOf),
    /// Give up reading values.
    StopValues,
    /// Convert the opened directory to a layout and back in memory, and compare.
    Verify {
        /// What was opened.
        model: Shared,
        /// The way that it goes.
        layout: Layout,
    },
    /// Give up verifying.
    StopVerify,
    /// Write the table to a file that does not exist yet.
    Export {
        /// The file.
        path: PathBuf,
        /// The model.
        model: Shared,
        /// How it is written.
        format: TableFormat,
    },
}

/// Something that is read in the background.
#[derive(Debug, Clone, PartialEq)]
pub enum Reading<T> {
    /// It is being read.
    Going,
    /// It was read.
    Done(T),
    /// It could not be read.
    Failed(String),
}
