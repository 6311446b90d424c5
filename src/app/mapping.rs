//! The Mapping screen: a model from Megatron's side and from Hugging Face's.

mod cut;
mod detail;
mod element;
mod export;
mod found;
mod group;
mod message;
mod model;
mod names;
mod role;
mod rows;
mod rule;
mod standing;
mod tree;
mod values;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use super::search::Query;
use crate::mapping::Layout;
use crate::plan::Degrees;
use crate::recipe::{self, Recipe};
use crate::spec::ModelConfig;

pub use cut::{CutAxis, Holding, holdings};
pub use detail::{Bar, Detail, Fact, FactTone, detail, kind_name};
pub use element::{lines as trace_lines, read as read_element};
pub use export::{TableFormat, standing_word, table};
pub use found::Found;
pub use message::{Effect, Form, Message, Origin, Progress, Reading, Report, Shared, ValuesOf};
pub use model::{Counts, Files, Item, Model, Stored};
pub use names::Names;
pub use rows::{Content, Row, ranges};
pub use rule::{Group, Part, pattern};
pub use standing::Standing;
pub use tree::{Node, Tree};
pub use values::{Numbers, Values};

/// Whose names lead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Side {
    /// Megatron's.
    #[default]
    Megatron,
    /// Hugging Face's.
    HuggingFace,
}

impl Side {
    /// The other one.
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Megatron => Self::HuggingFace,
            Self::HuggingFace => Self::Megatron,
        }
    }

    /// Its name for people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Megatron => "Megatron",
            Self::HuggingFace => "Hugging Face",
        }
    }
}

/// Panes of the screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// The leading tree.
    #[default]
    Tree,
    /// What is under the cursor, and its shards.
    Detail,
}

/// The model of the selected recipe, and of which recipe it is.
#[derive(Debug)]
struct OfRecipe {
    path: PathBuf,
    recipe: Arc<Recipe>,
    model: Arc<Model>,
}

/// The screen's state.
#[derive(Debug)]
pub struct State {
    /// The model that a user opened; without one the recipe's is shown.
    pub opened: Option<Shared>,
    of_recipe: Option<OfRecipe>,
    /// What is being opened.
    pub opening: Option<Origin>,
    /// Whose names lead.
    pub side: Side,
    /// The row under the cursor.
    pub cursor: usize,
    /// First line shown of the detail.
    pub scroll: usize,
    /// The pane with the focus.
    pub focus: Pane,
    /// Whether equal siblings are shown once.
    pub collapsed: bool,
    /// Whether only tensors with a problem are shown.
    pub unmapped: bool,
    /// Nodes of the leading side on the way to the tensor that was gone to: shown although others equal them.
    apart: Vec<u32>,
    /// Paths of the groups that are open, a set a side.
    open: [BTreeSet<String>; 2],
    /// What is searched for; while it is not empty, the tree is a flat list of tensors.
    pub query: Query,
    found: Found,
    rows: Vec<Row>,
    /// What the rows were made of; none if they are out of date.
    rows_of: Option<(usize, Side, bool, bool)>,
    /// The problem that was gone to last.
    pub problem: Option<usize>,
    /// The layout if it is not the recipe's.
    pub cut: Option<Degrees>,
    /// The degree that `+` and `-` change.
    pub axis: CutAxis,
    /// The place under the cursor, of those that hold the tensor.
    pub rank: usize,
    /// Whether shards are drawn as a grid of ranks.
    pub grid: bool,
    /// Values that were asked for.
    pub values: Option<(ValuesOf, Reading<Values>)>,
    /// A verification that was asked for, and how far it has come.
    pub verification: Option<(Progress, Reading<Report>)>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            opened: None,
            of_recipe: None,
            opening: None,
            side: Side::default(),
            cursor: 0,
            scroll: 0,
            focus: Pane::default(),
            collapsed: true,
            unmapped: false,
            apart: Vec::new(),
            open: Default::default(),
            query: Query::default(),
            found: Found::default(),
            rows: Vec::new(),
            rows_of: None,
            problem: None,
            cut: None,
            axis: CutAxis::default(),
            rank: 0,
            grid: false,
            values: None,
            verification: None,
        }
    }
}

impl State {
    /// The model shown.
    pub fn model(&self) -> Option<&Arc<Model>> {
        match &self.opened {
            Some(opened) => Some(&opened.0),
            None => Some(&self.of_recipe.as_ref()?.model),
        }
    }

    /// Rows of the leading tree, or matches of the search.
    pub fn len(&self) -> usize {
        if self.query.is_empty() {
            self.rows.len()
        } else {
            self.found.names().len()
        }
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A row.
    pub fn row(&self, index: usize) -> Option<Row> {
        if self.query.is_empty() {
            return self.rows.get(index).cloned();
        }
        let &name = self.found.names().get(index)?;
        let names = &self.model()?.tree(self.side).names;
        Some(Row {
            depth: 0,
            label: names.get(name as usize).to_owned(),
            content: Content::Tensor(name),
        })
    }

    /// The row under the cursor.
    pub fn present(&self) -> Option<Row> {
        self.row(self.cursor.min(self.len().checked_sub(1)?))
    }

    /// The item under the cursor, if that is a tensor.
    pub fn item(&self) -> Option<Item> {
        match self.present()?.content {
            Content::Tensor(name) => Some(self.model()?.item(self.side, name)),
            _ => None,
        }
    }

    /// The entry whose shards are shown: the tensor under the cursor, or the first one that it is part of.
    pub fn entry(&self) -> Option<usize> {
        match self.item()? {
            Item::Entry(entry) => Some(entry),
            Item::Source(source) => self.model()?.entries_of(source).first().copied(),
            Item::Extra(_) => None,
        }
    }

    /// What there is to say about the row under the cursor, with what a verification found.
    pub fn detail(&self) -> Option<Detail> {
        let model = self.model()?;
        let mut detail = detail(model, self.side, &self.present()?);
        if let (Some((_, Reading::Done(report))), Some(item)) = (&self.verification, self.item()) {
            detail.verified(model, item, report);
        }
        Some(detail)
    }

    /// The paths of the leading side's open groups.
    pub(super) fn open(&mut self) -> &mut BTreeSet<String> {
        self.rows_of = None;
        &mut self.open[self.side as usize]
    }

    /// Path of the group of a row, as [`open`](Self::open) knows it.
    pub(super) fn path(&self, row: usize) -> String {
        let Some(last) = self.rows.get(row) else {
            return String::new();
        };
        let mut labels = vec![last.label.as_str()];
        let mut depth = last.depth;
        for above in self.rows[..row].iter().rev() {
            if above.depth < depth {
                depth = above.depth;
                labels.push(&above.label);
            }
        }
        labels.reverse();
        labels.join(".")
    }

    /// Makes what is shown fit the selected recipe, the filters and the open groups.
    pub(super) fn refresh(&mut self, selected: Option<(&PathBuf, &Arc<Recipe>)>) {
        let is_same = |own: &OfRecipe| {
            selected.is_some_and(|(path, recipe)| {
                own.path == *path && (Arc::ptr_eq(&own.recipe, recipe) || own.recipe == *recipe)
            })
        };
        if !self.of_recipe.as_ref().is_some_and(is_same) {
            let before = self.of_recipe.take();
            self.of_recipe = selected.map(|(path, recipe)| OfRecipe {
                path: path.clone(),
                recipe: recipe.clone(),
                // A change of the training alone leaves the model, and where the user is in it.
                model: match &before {
                    Some(own) if own.path == *path && own.recipe.model == recipe.model => {
                        own.model.clone()
                    }
                    _ => Arc::new(of_recipe(recipe)),
                },
            });
            let is_same = match (&before, &self.of_recipe) {
                (Some(before), Some(now)) => Arc::ptr_eq(&before.model, &now.model),
                _ => false,
            };
            if self.opened.is_none() && !is_same {
                self.adopt();
            }
        }
        let Some(model) = self.model().cloned() else {
            self.rows.clear();
            return;
        };
        let made_of = (
            Arc::as_ptr(&model) as usize,
            self.side,
            self.collapsed,
            self.unmapped,
        );
        if self.rows_of != Some(made_of) {
            let shown = rows::Shown {
                open: &self.open[self.side as usize],
                collapsed: self.collapsed,
                problems: self.unmapped,
                apart: &self.apart,
            };
            self.rows = rows::rows(model.tree(self.side), shown);
            self.rows_of = Some(made_of);
        }
        if !self.query.is_empty() {
            self.found.search(&model.tree(self.side).names, &self.query);
        }
        self.cursor = self.cursor.min(self.len().saturating_sub(1));
    }

    /// Begins to look at another model.
    pub(super) fn adopt(&mut self) {
        let Some(model) = self.model().cloned() else {
            return;
        };
        self.open = [Side::Megatron, Side::HuggingFace].map(|side| model.open_at_first(side));
        (self.rows_of, self.found) = (None, Found::default());
        (self.cursor, self.scroll, self.rank) = (0, 0, 0);
        (self.problem, self.unmapped) = (None, false);
        self.apart.clear();
        self.values = None;
        self.verification = None;
    }

    /// Lets a side lead, at its first row.
    pub(super) fn lead(&mut self, side: Side) {
        if self.side != side {
            self.side = side;
            (self.found, self.rows_of) = (Found::default(), None);
            self.apart.clear();
            (self.cursor, self.scroll, self.rank) = (0, 0, 0);
        }
    }

    /// Shows equal siblings once, or each.
    pub(super) fn collapse(&mut self, collapsed: bool) {
        self.collapsed = collapsed;
        self.apart.clear();
        self.rows_of = None;
    }

    /// Shows every sibling that equals a node by itself.
    pub(super) fn spread(&mut self, node: u32) {
        let Some(model) = self.model().cloned() else {
            return;
        };
        self.apart.extend(model.tree(self.side).equals(node));
        self.rows_of = None;
    }

    /// Opens the groups around a node of the leading side, and shows it although another may equal it.
    pub(super) fn show(&mut self, node: u32) {
        let Some(model) = self.model().cloned() else {
            return;
        };
        let tree = model.tree(self.side);
        self.apart = tree.way(node);
        if tree.node(node).problems == 0 {
            self.unmapped = false;
        }
        let around = tree.groups_around(node);
        self.open().extend(around);
    }
}

/// The model of a recipe: our trainer's, which is the text class.
fn of_recipe(recipe: &Recipe) -> Model {
    let config = ModelConfig {
        text: recipe.model.config.clone(),
        vision: None,
    };
    Model::new(
        recipe.model.name.clone(),
        &config,
        crate::spec::ExpertStyle::QWEN3_5,
    )
}

/// The layout that the opened files are cut by, while no other was chosen.
fn own_layout(state: &State) -> Option<&Layout> {
    let files = state.model()?.files.as_ref()?;
    files.layout.as_ref().filter(|_| state.cut.is_none())
}

/// The degrees that the screen cuts by: changed ones, else those of the opened files, else the selected recipe's, else one rank.
pub fn degrees(state: &super::State) -> Degrees {
    if let Some(layout) = own_layout(&state.mapping) {
        return Degrees {
            tp: layout.options.tp,
            ep: layout.options.ep,
            etp: layout.options.etp,
            pp: layout.stages.len(),
            vpp: layout
                .stages
                .first()
                .map_or(1, |stage| stage.chunks.len().max(1)),
            ..Degrees::default()
        };
    }
    let of_recipe = || {
        let selected = state.selected_recipe();
        selected.map_or_else(Degrees::default, |good| recipe::degrees(&good.recipe))
    };
    state.mapping.cut.unwrap_or_else(of_recipe)
}

/// Whose the degrees are, for people.
pub fn degrees_of(state: &super::State) -> &'static str {
    match (&state.mapping.cut, own_layout(&state.mapping)) {
        (Some(_), _) => "changed",
        (None, Some(_)) => "of the files",
        (None, None) if state.selected_recipe().is_some() => "of the recipe",
        (None, None) => "",
    }
}

/// The layout that the screen cuts by, or why the model cannot have it; none without a model.
pub fn layout(state: &super::State) -> Option<Result<Layout, String>> {
    let model = state.mapping.model()?;
    Some(match own_layout(&state.mapping) {
        Some(layout) => Ok(layout.clone()),
        None => cut::layout(model, &degrees(state)),
    })
}
