//! The Recipes screen: every recipe of the folder, its validity, its source, its problems, what it means.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::base::{Diagnostic, Place, Severity};
use crate::recipe::{self, Megatron, Recipe};
use crate::telemetry::Sample;

use super::launch::bridge::Looked;
use super::preview::Preview;
use super::search::Query;

/// Panes of the screen, in the order that tab goes through them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Pane {
    /// All recipes.
    #[default]
    List,
    /// The text of the selected one.
    Source,
    /// Its problems.
    Problems,
    /// What it means.
    Preview,
}

impl Pane {
    /// Every pane.
    pub const ALL: [Self; 4] = [Self::List, Self::Source, Self::Problems, Self::Preview];
}

/// A recipe as it was last read.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Checked {
    /// The file's text.
    pub text: String,
    /// What is wrong, errors first; [`Diagnostic::place`] may be in a base file.
    pub problems: Vec<Diagnostic>,
    /// Lines (from 1) whose value differs from the base's, with the base's value.
    pub bases: Vec<(usize, String)>,
    /// "extends X, 41 keys, 6 overridden", or empty.
    pub summary: String,
    /// Every file the recipe was made of, itself first.
    pub files: Vec<PathBuf>,
    /// What a recipe for Megatron-Bridge is about; none for our own trainer's.
    pub megatron: Option<String>,
    /// The recipe for Megatron-Bridge itself, with errors or without.
    pub bridge: Option<Arc<Megatron>>,
}

impl Checked {
    /// Number of errors.
    pub fn errors(&self) -> usize {
        self.count(Severity::Error)
    }

    /// Number of warnings.
    pub fn warnings(&self) -> usize {
        self.count(Severity::Warning)
    }

    fn count(&self, severity: Severity) -> usize {
        self.problems
            .iter()
            .filter(|p| p.severity == severity)
            .count()
    }
}

/// The last valid state of a recipe.
#[derive(Debug, Clone, PartialEq)]
pub struct Revision {
    /// Counts every valid read of this file, from 1.
    pub number: u32,
    /// The resolved recipe.
    pub recipe: Arc<Recipe>,
    /// What it means.
    pub preview: Preview,
    /// Keys that a running trainer can take, with their values as TOML.
    pub live: Vec<(&'static str, String)>,
}

/// One recipe of the folder.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The file.
    pub path: PathBuf,
    /// Its folder below the recipes' folder, empty for the top.
    pub group: String,
    /// Its file name.
    pub name: String,
    /// Whether it is marked for a diff.
    pub marked: bool,
    /// The last read, valid or not; none before the first.
    pub checked: Option<Checked>,
    /// Why the file could not be read, if it could not.
    pub unreadable: Option<String>,
    /// The last valid read.
    pub good: Option<Revision>,
}

impl Entry {
    fn new(folder: &Path, path: PathBuf) -> Self {
        let relative = path.strip_prefix(folder).unwrap_or(&path);
        let group = relative.parent().map_or(String::new(), |p| {
            p.components()
                .map(|c| c.as_os_str().to_string_lossy())
                .collect::<Vec<_>>()
                .join("/")
        });
        let name = relative
            .file_name()
            .map_or(String::new(), |n| n.to_string_lossy().into_owned());
        Self {
            path,
            group,
            name,
            marked: false,
            checked: None,
            unreadable: None,
            good: None,
        }
    }

    /// Whether the last read was valid.
    pub fn is_valid(&self) -> bool {
        self.unreadable.is_none() && self.checked.as_ref().is_some_and(|c| c.errors() == 0)
    }

    /// Whether the file has errors while an older valid revision is still the one in use.
    pub fn is_stale(&self) -> bool {
        !self.is_valid() && self.good.is_some()
    }

    /// The problem's line and column, if it stands in this recipe's own file.
    pub fn place(&self, problem: &Diagnostic) -> Option<(usize, usize)> {
        match &problem.place {
            Place::File { path, at, .. } if *path == self.path => Some((at.line, at.column)),
            _ => None,
        }
    }
}

/// A row of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Row<'a> {
    /// A subfolder.
    Group(&'a str),
    /// The recipe of this number.
    Recipe(usize),
}

/// What the outside world tells.
#[derive(Debug)]
pub enum Message {
    /// The folder's recipes, or why they cannot be listed.
    Listed(Result<Vec<PathBuf>, String>),
    /// A recipe was read.
    Checked(Box<Outcome>),
    /// Files changed on disk; files outside the folder may be named too.
    Changed(Vec<PathBuf>),
    /// A new recipe was written.
    Created(PathBuf),
    /// What the machine has free.
    Looked(Box<Sample>),
}

/// What reading a recipe gave.
#[derive(Debug)]
pub struct Outcome {
    /// The file.
    pub path: PathBuf,
    /// The read, or why the file cannot be read.
    pub checked: Result<Checked, String>,
    /// What it resolves to, if it is valid.
    pub valid: Option<Valid>,
}

/// What a valid recipe resolves to.
#[derive(Debug)]
pub struct Valid {
    /// The resolved recipe.
    pub recipe: Recipe,
    /// Its numbers.
    pub preview: Preview,
    /// Its live keys with their values as TOML.
    pub live: Vec<(&'static str, String)>,
}

impl Outcome {
    /// Reads a recipe and everything it extends through `read`, and validates it.
    pub fn read(path: PathBuf, read: &recipe::Loader<'_>) -> Self {
        let text = match read(&path) {
            Ok(text) => text,
            Err(error) => {
                return Self {
                    path,
                    checked: Err(error.to_string()),
                    valid: None,
                };
            }
        };
        // The text shown and the text validated are one, even if the file is written in between.
        let once = |wanted: &Path| {
            if wanted == path {
                Ok(text.clone())
            } else {
                read(wanted)
            }
        };
        let loaded = recipe::load(&path, &[], &once);
        let own = |place: &Place| match place {
            Place::File { path: file, at, .. } if *file == path => Some(at.line),
            _ => None,
        };
        let bases: Vec<(usize, String)> = loaded
            .values
            .values()
            .filter_map(|value| {
                let (base, _) = value.base.as_ref()?;
                (*base != value.value).then_some((own(&value.place)?, base.to_string()))
            })
            .collect();
        let keys = loaded
            .values
            .values()
            .filter(|v| own(&v.place).is_some())
            .count();
        let extends: Vec<String> = loaded
            .extends
            .iter()
            .filter_map(|base| Some(base.file_name()?.to_string_lossy().into_owned()))
            .collect();
        let summary = if extends.is_empty() {
            format!("{keys} keys")
        } else {
            format!(
                "extends {}, {keys} keys, {} overridden",
                extends.join(", "),
                bases.len()
            )
        };
        let live = recipe::KEYS.iter().filter(|key| key.live);
        let live = live.filter_map(|key| {
            let located = loaded.values.get(key.path)?;
            Some((key.path, located.value.to_string()))
        });
        let live = live.collect();
        let valid = loaded.recipe.map(|recipe| Valid {
            preview: Preview::of(&recipe),
            recipe,
            live,
        });
        let megatron = loaded.megatron.as_ref().map(|job| {
            let d = job.degrees;
            format!(
                "{}: {}, world {} = tp{} pp{} dp{} cp{} ep{}",
                job.recipe, job.model_name, job.gpus, d.tp, d.pp, d.dp, d.cp, d.ep
            )
        });
        let checked = Checked {
            megatron,
            bridge: loaded.megatron.map(Arc::new),
            text,
            problems: loaded.diagnostics,
            bases,
            summary,
            files: loaded.files,
        };
        Self {
            path,
            checked: Ok(checked),
            valid,
        }
    }
}

/// The screen's state.
#[derive(Debug)]
pub struct State {
    /// The recipes' folder.
    pub folder: PathBuf,
    /// All recipes, by group and name.
    pub entries: Vec<Entry>,
    /// Why the folder cannot be listed, if it cannot.
    pub problem: Option<String>,
    /// Whether the folder was listed at least once.
    pub listed: bool,
    /// The recipe under the cursor.
    pub cursor: usize,
    /// The pane with the focus.
    pub focus: Pane,
    /// The cursor's line in the source, from 1.
    pub line: usize,
    /// The problem under the cursor.
    pub problem_cursor: usize,
    /// Which recipes the list shows.
    pub query: Query,
    /// When the last file change was taken up, Unix milliseconds.
    pub saved_ms: Option<i64>,
    /// A recipe to select as soon as it is listed.
    pub wanted: Option<PathBuf>,
    /// The machine when it was last looked at for a launch.
    pub machine: Option<Sample>,
    /// The job of Megatron-Bridge that was looked at last.
    pub bridge: Option<Looked>,
}

impl State {
    /// Nothing read yet.
    pub fn new(folder: PathBuf) -> Self {
        Self {
            folder,
            entries: Vec::new(),
            problem: None,
            listed: false,
            cursor: 0,
            focus: Pane::List,
            line: 1,
            problem_cursor: 0,
            query: Query::default(),
            saved_ms: None,
            wanted: None,
            machine: None,
            bridge: None,
        }
    }

    /// The recipe under the cursor.
    pub fn selected(&self) -> Option<&Entry> {
        self.entries.get(self.cursor)
    }

    /// Numbers of the recipes that the filter lets through, in order.
    pub fn visible(&self) -> Vec<usize> {
        (0..self.entries.len())
            .filter(|&i| {
                let entry = &self.entries[i];
                self.query
                    .is_match(&format!("{}/{}", entry.group, entry.name))
            })
            .collect()
    }

    /// The list as it is drawn: groups and their recipes.
    pub fn rows(&self) -> Vec<Row<'_>> {
        let mut rows = Vec::new();
        let mut group = "";
        for i in self.visible() {
            let entry = &self.entries[i];
            if entry.group != group {
                group = &entry.group;
                rows.push(Row::Group(group));
            }
            rows.push(Row::Recipe(i));
        }
        rows
    }

    /// The recipe of a file.
    pub fn find(&self, path: &Path) -> Option<usize> {
        self.entries.iter().position(|e| e.path == path)
    }

    /// Folders outside the recipes' folder that hold files which recipes are made of.
    pub fn outside(&self) -> Vec<PathBuf> {
        let files = self.entries.iter().filter_map(|e| e.checked.as_ref());
        let folders: BTreeSet<PathBuf> = files
            .flat_map(|checked| &checked.files)
            .filter_map(|file| file.parent())
            .filter(|folder| !folder.starts_with(&self.folder))
            .map(Path::to_owned)
            .collect();
        folders.into_iter().collect()
    }

    /// The problem under the cursor.
    pub fn selected_problem(&self) -> Option<&Diagnostic> {
        let checked = self.selected()?.checked.as_ref()?;
        checked.problems.get(self.problem_cursor)
    }

    /// Numbers of the marked recipes.
    pub fn marked(&self) -> Vec<usize> {
        (0..self.entries.len())
            .filter(|&i| self.entries[i].marked)
            .collect()
    }

    /// Takes over a new list of files; what is known of files that stay is kept. Returns those that are new.
    pub fn take_list(&mut self, paths: Vec<PathBuf>) -> Vec<PathBuf> {
        // At first the demo is under the cursor.
        let demo = (!self.listed).then(|| self.folder.join("demo.toml"));
        let selected = self
            .wanted
            .clone()
            .or_else(|| self.selected().map(|e| e.path.clone()))
            .or(demo);
        let mut old: Vec<Entry> = std::mem::take(&mut self.entries);
        let mut new = Vec::new();
        for path in paths.into_iter().collect::<BTreeSet<_>>() {
            if let Some(at) = old.iter().position(|e| e.path == path) {
                self.entries.push(old.swap_remove(at));
            } else {
                new.push(path.clone());
                self.entries.push(Entry::new(&self.folder, path));
            }
        }
        self.entries
            .sort_by(|a, b| (&a.group, &a.name).cmp(&(&b.group, &b.name)));
        let found = selected.and_then(|path| self.find(&path));
        if let Some(found) = found {
            self.cursor = found;
            self.wanted = self
                .wanted
                .take()
                .filter(|w| *w != self.entries[found].path);
        }
        self.cursor = self.cursor.min(self.entries.len().saturating_sub(1));
        self.listed = true;
        self.problem = None;
        new
    }
}
