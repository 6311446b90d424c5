//! The Mapping screen: layers and tensors of the selected recipe's model.

mod detail;
mod tree;

use std::collections::BTreeSet;

use super::search::Query;
use crate::spec::{TensorSpec, TextConfig, tensors};

pub use detail::{Bar, Detail, detail};
pub use tree::{Content, Row, rows};

/// What the outside world tells: nothing, the screen follows from the recipe.
#[derive(Debug, Clone, Copy)]
pub enum Message {}

/// Work for the outside world: none.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Effect {}

/// Panes of the screen, in the order that tab goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// Layers and tensors.
    #[default]
    Tree,
    /// What is under the cursor.
    Detail,
}

/// The screen's state.
#[derive(Debug)]
pub struct State {
    /// The row under the cursor.
    pub cursor: usize,
    /// First line shown of the detail.
    pub scroll: usize,
    /// The pane with the focus.
    pub focus: Pane,
    /// Whether equal layers are shown once.
    pub collapsed: bool,
    /// Keys of the groups that are open.
    pub open: BTreeSet<String>,
    /// What is searched for; while it is not empty, the tree is a flat list of tensors.
    pub query: Query,
}

impl Default for State {
    fn default() -> Self {
        Self {
            cursor: 0,
            scroll: 0,
            focus: Pane::Tree,
            collapsed: true,
            open: ["model", "model/layers", "mtp", "mtp/0"]
                .map(String::from)
                .into(),
            query: Query::default(),
        }
    }
}

/// The model that the screen shows.
#[derive(Debug)]
pub struct Model<'a> {
    /// The recipe's name for it.
    pub name: &'a str,
    /// Its geometry.
    pub config: &'a TextConfig,
    /// Tokens of a sequence in the recipe.
    pub seq_length: usize,
    /// Its tensors in canonical order.
    pub tensors: Vec<TensorSpec>,
}

/// The model of the selected recipe; none if no valid recipe is selected.
pub fn model(state: &super::State) -> Option<Model<'_>> {
    let recipe = &state.selected_recipe()?.recipe;
    Some(Model {
        name: &recipe.model.name,
        config: &recipe.model.config,
        seq_length: recipe.train.seq_length,
        tensors: tensors(&recipe.model.config),
    })
}
