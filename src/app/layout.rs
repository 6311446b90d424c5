//! The Layout screen: ranks, groups, stages and memory of the selected recipe.

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {}

/// Work for the outside world.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {}

/// The screen's state.
#[derive(Debug, Default)]
pub struct State {
    /// The rank under the cursor.
    pub rank: usize,
}
