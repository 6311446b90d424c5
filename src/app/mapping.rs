//! The Mapping screen: tensors of the selected recipe's model.

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {}

/// The screen's state.
#[derive(Debug, Default)]
pub struct State {
    /// The row under the cursor.
    pub cursor: usize,
}
