//! Recipes: TOML documents into resolved, validated experiments.
//!
//! A document is read with places ([`load()`]), laid over what it `extends` and under what `--set` says, completed with defaults, and
//! checked as a whole: all problems at once, as [`Diagnostic`](crate::base::Diagnostic)s. What a key may be is declared once, in
//! [`KEYS`]. Files are read through a closure; this room touches none.

mod alarm;
mod bundled;
mod change;
mod document;
mod edit;
mod flat;
mod key;
mod load;
mod megatron;
mod model;
mod overlay;
mod print;
mod recover;
mod report;
mod resolved;
mod rule;
mod value;

pub use alarm::Alarm;
pub use bundled::{BUNDLED, load_bundled, published, published_paths};
pub use change::{Change, apply_live, diff, diff_recipes, parse_live};
pub use edit::{EditError, edit};
pub use key::{Fallback, KEYS, Key, Kind, find as find_key};
pub use load::{Loaded, load};
pub use megatron::{
    Imported, Known, Megatron, Published, from_yaml, key_of, options, overrides, settings, to_yaml,
};
pub use overlay::{Loader, Located};
pub use print::to_toml;
pub use resolved::{
    Alerts, Checkpoint, Data, DataSource, DeviceChoice, Init, Logging, Model, Mtp, Optimizer,
    Packing, Parallel, PrecisionChoice, Recipe, Recompute, RecomputeModule, Schedule, ScheduleKind,
    Train,
};
pub use rule::{batch_shape, change, degrees, key_of_fix};
pub use value::Value;
