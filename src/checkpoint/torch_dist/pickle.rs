//! Python's pickle, read as data.
//!
//! [`parse`] runs the opcodes of protocols 2 to 5 on a stack of its own and builds values; it imports nothing, calls nothing and knows only the
//! globals of a [list](known). A global outside the list is an error that names it, whether the pickle would have called it or not.
//!
//! Values live in an arena: a [`Value`] is a scalar, a borrowed text, or a handle of a [`Compound`]. So shared and circular values cost
//! nothing, dropping them needs no recursion, and what parsing allocates is a small multiple of the input's length.

mod error;
pub mod known;
mod machine;
mod show;
mod value;
mod write;

pub use error::{PickleError, Problem};
pub use known::Known;
pub use machine::parse;
pub use show::Shown;
pub use value::{Compound, Node, Pickle, Value};
pub use write::{Memo, Writer};
