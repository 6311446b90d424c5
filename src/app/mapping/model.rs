//! A model from both sides: every Megatron tensor, every Hugging Face tensor, and what files have of them.

use std::collections::BTreeSet;
use std::path::PathBuf;

use super::rows::{Content, Shown, rows};
use super::standing::judge;
use super::tree::{Leaf, Tree, mix};
use super::{Names, Side, Standing};
use crate::base::{DType, Shape};
use crate::mapping::{Audit, Convention, Layout, Problem, ProblemKind, Table, View};
use crate::spec::{ExpertStyle, ModelConfig};

/// A tensor that files have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name there.
    pub name: String,
    /// Its extents there.
    pub shape: Shape,
    /// Type of its scalars.
    pub dtype: DType,
}

/// What a directory has of a model.
#[derive(Debug, Clone)]
pub struct Files {
    /// The directory.
    pub path: PathBuf,
    /// Its format: `hf`, `torch_dist`, `shards`.
    pub format: &'static str,
    /// The layout that the files are cut by, if they are.
    pub layout: Option<Layout>,
    /// Its tensors.
    pub stored: Vec<Stored>,
    /// What the format's tensors hold of the table's entries.
    pub view: View,
    /// The comparison of the two.
    pub audit: Audit,
}

/// What a row's tensor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item {
    /// An entry of the table.
    Entry(usize),
    /// A tensor of the Hugging Face view.
    Source(usize),
    /// A tensor that files have and the model has no place for: a number in [`Files::stored`].
    Extra(usize),
}

/// Counts of the tab bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Hugging Face tensors, those without a place included.
    pub huggingface: usize,
    /// Megatron tensors.
    pub megatron: usize,
    /// Megatron tensors whose sources are all there.
    pub fine: usize,
    /// Megatron tensors that the files lack.
    pub missing: usize,
    /// Tensors of the files that are wrong or have no place.
    pub unmapped: usize,
}

/// A model from both sides. Never changes, so threads share it.
#[derive(Debug)]
pub struct Model {
    /// What people call it.
    pub name: String,
    /// Megatron's tensors.
    pub table: Table,
    /// Hugging Face's tensors.
    pub huggingface: View,
    /// What was opened, if files were.
    pub files: Option<Files>,
    /// The Hugging Face tensors of each entry, one after another, and where those of each entry end.
    links: (Vec<u32>, Vec<u32>),
    /// How it stands with each entry.
    entries: Vec<Standing>,
    /// How it stands with each Hugging Face tensor.
    sources: Vec<Standing>,
    /// Tensors of the files without a place, by number.
    extra: Vec<usize>,
    /// Both trees, Megatron's first.
    trees: [Tree; 2],
}

impl Model {
    /// A model of which no files are known.
    pub fn new(name: String, config: &ModelConfig, style: ExpertStyle) -> Self {
        let table = Table::new(config, style);
        let entries = vec![Standing::Fine; table.entries().len()];
        let (megatron, (huggingface, hf)) = rayon::join(
            || megatron_tree(&table, &entries, &[]),
            || {
                let view = View::huggingface(&table);
                let tree = huggingface_tree(&view, &vec![Standing::Fine; view.tensors.len()], &[]);
                (view, tree)
            },
        );
        Self {
            name,
            links: links(&table, &huggingface),
            sources: vec![Standing::Fine; huggingface.tensors.len()],
            table,
            huggingface,
            files: None,
            entries,
            extra: Vec::new(),
            trees: [megatron, hf],
        }
    }

    /// A model with what files have of it.
    pub fn with_files(name: String, table: Table, files: Files) -> Self {
        let huggingface = View::huggingface(&table);
        let mut entries = vec![Standing::Fine; table.entries().len()];
        let mut sources = vec![Standing::Fine; huggingface.tensors.len()];
        let extra = judge(&files, &mut entries, &mut sources, &huggingface);
        let strays: Vec<&str> = extra
            .iter()
            .map(|&number| files.stored[number].name.as_str())
            .collect();
        let (on_megatron, on_hf) = match files.view.convention {
            Convention::Megatron => (strays.as_slice(), &[][..]),
            Convention::HuggingFace => (&[][..], strays.as_slice()),
        };
        let (megatron, hf) = rayon::join(
            || megatron_tree(&table, &entries, on_megatron),
            || huggingface_tree(&huggingface, &sources, on_hf),
        );
        Self {
            name,
            links: links(&table, &huggingface),
            table,
            huggingface,
            files: Some(files),
            entries,
            sources,
            extra,
            trees: [megatron, hf],
        }
    }

    /// The tree of a side.
    pub fn tree(&self, side: Side) -> &Tree {
        &self.trees[side as usize]
    }

    /// The side whose names the files have.
    pub fn files_side(&self) -> Option<Side> {
        let files = self.files.as_ref()?;
        Some(match files.view.convention {
            Convention::Megatron => Side::Megatron,
            Convention::HuggingFace => Side::HuggingFace,
        })
    }

    /// What the name of a number stands for.
    pub fn item(&self, side: Side, name: u32) -> Item {
        let index = name as usize;
        let own = match side {
            Side::Megatron => self.table.entries().len(),
            Side::HuggingFace => self.huggingface.tensors.len(),
        };
        match (index.checked_sub(own), side) {
            (Some(more), _) => Item::Extra(self.extra[more]),
            (None, Side::Megatron) => Item::Entry(index),
            (None, Side::HuggingFace) => Item::Source(index),
        }
    }

    /// The Hugging Face tensors of an entry, in its order.
    pub fn sources_of(&self, entry: usize) -> &[u32] {
        let (list, ends) = &self.links;
        let start = entry.checked_sub(1).map_or(0, |before| ends[before]);
        &list[start as usize..ends[entry] as usize]
    }

    /// The entries that a Hugging Face tensor is part of: one, or one an expert.
    pub fn entries_of(&self, source: usize) -> Vec<usize> {
        let pieces = &self.huggingface.tensors[source].pieces;
        let mut list: Vec<usize> = pieces.iter().map(|piece| piece.entry as usize).collect();
        list.dedup();
        list
    }

    /// How it stands with an item.
    pub fn standing(&self, item: Item) -> Standing {
        match item {
            Item::Entry(index) => self.entries[index],
            Item::Source(index) => self.sources[index],
            Item::Extra(_) => Standing::Extra,
        }
    }

    /// Extents of an item.
    pub fn shape(&self, item: Item) -> &Shape {
        match item {
            Item::Entry(index) => &self.table.entries()[index].shape,
            Item::Source(index) => &self.huggingface.tensors[index].shape,
            Item::Extra(index) => match &self.files {
                Some(files) => &files.stored[index].shape,
                None => unreachable!("extra tensors are of files"),
            },
        }
    }

    /// Type of the weights by the config.
    pub fn dtype(&self) -> DType {
        self.table.config().text.dtype.unwrap_or(DType::F32)
    }

    /// Type of what the files have of an item, else that of the config.
    pub fn dtype_of(&self, item: Item) -> DType {
        let stored = self.files.as_ref().and_then(|files| {
            let first = *self.stored_of(item).first()?;
            Some(files.stored[first].dtype)
        });
        stored.unwrap_or_else(|| self.dtype())
    }

    /// The tensors of the files' view that hold some of an item.
    fn tensors_of(&self, files: &Files, item: Item) -> Vec<usize> {
        let holding = |wanted: &dyn Fn(usize) -> bool| -> Vec<usize> {
            let tensors = files.view.tensors.iter().enumerate();
            tensors
                .filter(|(_, tensor)| {
                    let mut entries = tensor.pieces.iter().map(|piece| piece.entry as usize);
                    entries.any(wanted)
                })
                .map(|(at, _)| at)
                .collect()
        };
        match (item, files.view.convention) {
            (Item::Extra(_), _) => Vec::new(),
            (Item::Source(index), Convention::HuggingFace) => vec![index],
            (Item::Entry(index), Convention::HuggingFace) => {
                let sources = self.sources_of(index).iter();
                sources.map(|&source| source as usize).collect()
            }
            (Item::Entry(index), Convention::Megatron) => holding(&|entry| entry == index),
            (Item::Source(index), Convention::Megatron) => {
                let entries = self.entries_of(index);
                holding(&|entry| entries.binary_search(&entry).is_ok())
            }
        }
    }

    /// The files' tensors that an item is stored in, each by its number in [`Files::stored`].
    pub fn stored_of(&self, item: Item) -> Vec<usize> {
        let (Some(files), Item::Entry(_) | Item::Source(_)) = (&self.files, item) else {
            return match item {
                Item::Extra(index) => vec![index],
                _ => Vec::new(),
            };
        };
        let tensors = self.tensors_of(files, item).into_iter();
        tensors
            .filter_map(|at| files.audit.partners.get(at).copied().flatten())
            .collect()
    }

    /// What is wrong with an item.
    pub fn problems_of(&self, item: Item) -> Vec<&Problem> {
        let Some(files) = self.files.as_ref().filter(|f| !f.audit.problems.is_empty()) else {
            return Vec::new();
        };
        // The names that files have and those that they should have: a problem is about one of them.
        let tensors = self.tensors_of(files, item).into_iter();
        let wanted = tensors.map(|at| files.view.tensors[at].name.as_str());
        let stored = self.stored_of(item).into_iter();
        let stored = stored.map(|at| files.stored[at].name.as_str());
        let names: BTreeSet<&str> = wanted.chain(stored).collect();
        let problems = files.audit.problems.iter();
        problems
            .filter(|problem| names.contains(problem.tensor.as_str()))
            .collect()
    }

    /// The counts of the tab bar.
    pub fn counts(&self) -> Counts {
        let with = |standing| self.entries.iter().filter(|&&s| s == standing).count();
        let extra = self.extra.len();
        let is_hf = self.files_side() == Some(Side::HuggingFace);
        let wrong = self
            .problems()
            .iter()
            .filter(|p| is_of_files(&p.kind))
            .count();
        Counts {
            huggingface: self.huggingface.tensors.len() + if is_hf { extra } else { 0 },
            megatron: self.entries.len() + if is_hf { 0 } else { extra },
            fine: with(Standing::Fine),
            missing: with(Standing::Missing),
            unmapped: wrong,
        }
    }

    /// What is wrong with the files.
    pub fn problems(&self) -> &[Problem] {
        self.files
            .as_ref()
            .map_or(&[], |files| &files.audit.problems)
    }

    /// Tensors of the files without a place, by their number in [`Files::stored`].
    pub fn extra(&self) -> &[usize] {
        &self.extra
    }

    /// The number of the name that a problem is about, on the side of the files.
    pub fn named_by(&self, problem: &Problem) -> Option<u32> {
        let files = self.files.as_ref()?;
        let side = self.files_side()?;
        let names = &self.tree(side).names;
        let name = problem.tensor.as_str();
        if let Some(at) = (0..names.len()).find(|&i| names.get(i) == name) {
            return Some(at as u32);
        }
        // Megatron's formats have names of their own; their tensors say which entry they are.
        let tensor = files
            .view
            .tensors
            .iter()
            .find(|tensor| tensor.name == name)?;
        tensor.pieces.first().map(|piece| piece.entry)
    }

    /// Paths of the groups that are open at first: all that are no layer, block or depth, the vision tower aside.
    pub fn open_at_first(&self, side: Side) -> BTreeSet<String> {
        let tree = self.tree(side);
        let mut open = BTreeSet::new();
        loop {
            let shown = Shown {
                open: &open,
                collapsed: true,
                problems: false,
                apart: &[],
            };
            let mut path: Vec<String> = Vec::new();
            let mut more: Vec<String> = Vec::new();
            for row in rows(tree, shown) {
                let Content::Group { open, .. } = row.content else {
                    continue;
                };
                path.truncate(row.depth);
                path.push(row.label.clone());
                let is_layer = row.label.starts_with(|c: char| c.is_ascii_digit());
                let is_vision = path
                    .iter()
                    .any(|l| l.contains("visual") || l.contains("vision"));
                if !open && !is_layer && !is_vision {
                    more.push(path.join("."));
                }
            }
            if more.is_empty() {
                return open;
            }
            open.extend(more);
        }
    }
}

/// Whether a problem is about a tensor that the files have.
fn is_of_files(kind: &ProblemKind) -> bool {
    !matches!(
        kind,
        ProblemKind::Missing | ProblemKind::MissingLayer { .. }
    )
}

/// Megatron's tensors, then those that have no place.
fn megatron_tree(table: &Table, standings: &[Standing], strays: &[&str]) -> Tree {
    let own = table.entries().iter().map(|entry| entry.name.as_str());
    let names = Names::new(own.chain(strays.iter().copied()));
    Tree::new(names, |i| match table.entries().get(i) {
        Some(entry) => leaf(&entry.shape, entry.kind() as u64, standings[i]),
        None => stray(i),
    })
}

/// Hugging Face's tensors, then those that have no place.
fn huggingface_tree(view: &View, standings: &[Standing], strays: &[&str]) -> Tree {
    let own = view.tensors.iter().map(|tensor| tensor.name.as_str());
    let names = Names::new(own.chain(strays.iter().copied()));
    Tree::new(names, |i| match view.tensors.get(i) {
        Some(tensor) => leaf(&tensor.shape, 0, standings[i]),
        None => stray(i),
    })
}

/// What a tree has to know of a tensor. Equal shapes, kinds and standings are all that equal layers share.
fn leaf(shape: &Shape, kind: u64, standing: Standing) -> Leaf {
    let start = mix(kind, standing as u64);
    Leaf {
        signature: shape.0.iter().fold(start, |hash, &n| mix(hash, n as u64)),
        parameters: shape.elements(),
        is_problem: standing != Standing::Fine,
    }
}

/// A tensor without a place is like no other.
fn stray(number: usize) -> Leaf {
    Leaf {
        signature: mix(number as u64, 3),
        parameters: 0,
        is_problem: true,
    }
}

/// Which Hugging Face tensors each entry has, in the order of its sources.
fn links(table: &Table, view: &View) -> (Vec<u32>, Vec<u32>) {
    let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(table.entries().len());
    for (source, tensor) in view.tensors.iter().enumerate() {
        let mut before = None;
        for piece in &tensor.pieces {
            if before != Some(piece.entry) {
                pairs.push((piece.entry, source as u32));
            }
            before = Some(piece.entry);
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    let mut ends = vec![0; table.entries().len()];
    for (at, &(entry, _)) in pairs.iter().enumerate() {
        ends[entry as usize] = at as u32 + 1;
    }
    let mut last = 0;
    for end in &mut ends {
        last = last.max(*end);
        *end = last;
    }
    (pairs.into_iter().map(|(_, source)| source).collect(), ends)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::TextConfig;

    #[test]
    fn links_go_both_ways() {
        let config = ModelConfig {
            text: TextConfig {
                num_hidden_layers: 4,
                layer_types: crate::spec::layer_pattern(4, 4),
                mtp_num_hidden_layers: 1,
                ..TextConfig::default()
            },
            vision: None,
        };
        let model = Model::new("m".into(), &config, ExpertStyle::QWEN3_5);
        for (index, entry) in model.table.entries().iter().enumerate() {
            let linked: Vec<&str> = model
                .sources_of(index)
                .iter()
                .map(|&s| model.huggingface.tensors[s as usize].name.as_str())
                .collect();
            assert_eq!(linked, entry.source_names());
            for &source in model.sources_of(index) {
                assert_eq!(model.entries_of(source as usize), [index]);
            }
        }
        let counts = model.counts();
        assert_eq!(
            (counts.fine, counts.missing, counts.unmapped),
            (counts.megatron, 0, 0)
        );
    }
}
