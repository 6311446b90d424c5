//! The run protocol: what a trainer says and what it may be asked, as JSON lines.
//!
//! A trainer appends one [`Record`] a line to `events.jsonl` and polls `control.jsonl` for [`Request`]s at step boundaries. A torn
//! last line is normal: a reader takes only lines that end in a newline. A record of a newer [`VERSION`] is kept as
//! [`Event::Unknown`] and shown, never misread.

mod info;
pub mod layout;
mod line;
mod queue;
mod record;
mod request;
pub mod tensorboard;

pub use info::{Parent, RunInfo, Watched};
pub use line::{LineError, complete_lines, parse_line, parse_request};
pub use queue::{JobEntry, JobState, Launched, QueueState};
pub use record::{
    DepthStep, EXTRAS, Event, MEMORY_TERMS, MemoryTerm, MemoryUse, RankMemory, Record, StepRecord,
    VERSION,
};
pub use request::{Request, RequestKind, StopKind};
