//! Text into batches, through the room's door.

mod bad_input;
mod cache;
mod command;
mod loader;
mod rows;
mod tokenizer;

use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use trestle::data::{DataError, Loader, Split};
use trestle::recipe::{DataSource, Packing, Recipe, load};

/// A folder with text, a cache of its own, and a recipe for it.
struct Bench {
    folder: TempDir,
    recipe: Recipe,
}

impl Bench {
    fn new(sets: &[&str]) -> Self {
        let sets: Vec<String> = sets.iter().map(|&set| set.to_owned()).collect();
        let demo = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/demo.toml");
        let loaded = load(&demo, &sets, &|path| fs::read_to_string(path));
        let mut recipe = loaded.recipe.expect("the demo with these keys is valid");
        let folder = tempfile::tempdir().unwrap();
        recipe.data.cache = Some("cache".into());
        Self { folder, recipe }
    }

    /// Small rows of made-up documents.
    fn small(packing: Packing, documents: &[String]) -> Self {
        let mut bench = Self::new(&["train.seq_length=32", "train.micro_batch_size=2"]);
        bench.recipe.data.packing = packing;
        bench.texts(documents);
        bench
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// Makes JSON Lines of these documents the source.
    fn texts(&mut self, documents: &[String]) {
        let lines: Vec<String> = documents
            .iter()
            .map(|text| serde_json::json!({ "text": text }).to_string())
            .collect();
        self.write("documents.jsonl", lines.join("\n"));
        self.recipe.data.sources = vec![DataSource::Jsonl {
            glob: "documents.jsonl".into(),
            field: "text".into(),
        }];
    }

    fn text_glob(&mut self, glob: &str) {
        self.recipe.data.sources = vec![DataSource::Text { glob: glob.into() }];
    }

    fn open(&self, split: Split) -> Result<Loader, DataError> {
        Loader::open(&self.recipe, split, self.path())
    }

    fn train(&self) -> Loader {
        self.open(Split::Train).unwrap()
    }

    /// The only files of the cache's folder.
    fn caches(&self) -> Vec<PathBuf> {
        let mut files: Vec<PathBuf> = fs::read_dir(self.path().join("cache"))
            .map(|entries| entries.map(|entry| entry.unwrap().path()).collect())
            .unwrap_or_default();
        files.sort();
        files
    }
}

/// `count` documents of different lengths, each recognisable.
fn documents(count: usize) -> Vec<String> {
    (0..count)
        .map(|i| {
            let words = [1, 3, 7, 12, 20, 31, 32, 33, 64, 100][i * 7 % 10] + i % 3;
            format!("{i}: ") + &vec!["pipe"; words].join(" ")
        })
        .collect()
}
