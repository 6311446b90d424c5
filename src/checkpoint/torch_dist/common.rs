//! What a checkpoint keeps beside its tensors: step, version, arguments.
//!
//! Megatron Core 0.19 stores it as the object `common_state/shard_0_1`, a list of one dict; older versions as a file `common.pt`, the dict itself.
//! A conversion does not need it, so it is read only when asked for: what unknown classes it holds then hinders nobody else.

use std::fs::File;
use std::path::Path;

use super::error::TorchDistError;
use super::item::{self, Archive};
use super::pickle::{self, Shown, Value};
use super::read::Reader;
use crate::checkpoint::CheckpointError;
use crate::checkpoint::files::failed;

/// The object of Megatron Core 0.19.
pub(super) const COMMON_STATE: &str = "common_state/shard_0_1";

/// The file of older versions.
pub(super) const COMMON_FILE: &str = "common.pt";

/// Bytes of text that an entry is shown with.
const SHOWN: usize = 2000;

/// The state that is no tensor.
#[derive(Debug, Clone, PartialEq)]
pub struct Common {
    /// Megatron's version of the checkpoint's content; 3.0 since years.
    pub checkpoint_version: Option<f64>,
    /// Step.
    pub iteration: Option<u64>,
    /// Every entry, printed as Python would.
    pub entries: Vec<(String, String)>,
}

impl Reader {
    /// The common state, from the object or from `common.pt`; none if there is neither.
    ///
    /// # Errors
    /// [`TorchDistError::Object`] if it holds a global that is not known or is no pickle, and those of its file.
    pub fn common(&self) -> Result<Option<Common>, CheckpointError> {
        let path = self.folder.join(COMMON_FILE);
        let (key, bytes) = if self.objects.iter().any(|key| key == COMMON_STATE) {
            (COMMON_STATE, self.object(COMMON_STATE)?)
        } else if path.exists() {
            (COMMON_FILE, archived(&path)?)
        } else {
            return Ok(None);
        };
        let pickle = pickle::parse(&bytes).map_err(|problem| TorchDistError::Object {
            path: self.folder.clone(),
            key: key.to_owned(),
            problem,
        })?;
        let root = match pickle.sequence(pickle.root()) {
            Some([only]) => *only,
            _ => pickle.root(),
        };
        let entries = pickle.dict(root).unwrap_or(&[]);
        let shown = |value, limit| {
            let pickle = &pickle;
            Shown {
                pickle,
                value,
                limit,
            }
            .to_string()
        };
        let name = |key| match key {
            Value::Str(name) => name.to_owned(),
            other => shown(other, 80),
        };
        let version = match pickle.get(root, "checkpoint_version") {
            Some(Value::Float(version)) => Some(version),
            Some(Value::Int(version)) => Some(version as f64),
            _ => None,
        };
        Ok(Some(Common {
            checkpoint_version: version,
            iteration: pickle.get(root, "iteration").and_then(Value::count),
            entries: entries
                .iter()
                .map(|&(key, value)| (name(key), shown(value, SHOWN)))
                .collect(),
        }))
    }
}

/// The pickle of a file that `torch.save` wrote.
fn archived(path: &Path) -> Result<Vec<u8>, CheckpointError> {
    let file = File::open(path).map_err(failed("read", path))?;
    let length = file.metadata().map_err(failed("read", path))?.len();
    let archive = Archive {
        file: &file,
        offset: 0,
        length,
    };
    let bytes = item::object(archive).map_err(|problem| TorchDistError::Item {
        path: path.to_owned(),
        key: COMMON_FILE.to_owned(),
        offset: 0,
        problem: Box::new(problem),
    })?;
    Ok(bytes)
}
