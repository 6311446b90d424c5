//! Recipes as documents: folders of valid and of invalid TOML, overlays, live keys, and properties.

mod bundled;
mod documents;
mod live;
mod overlay;
mod properties;
pub(crate) mod published;
mod yaml;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};

use trestle::base::Diagnostic;
use trestle::recipe::{Loaded, load};

/// Loads `main` from files that exist only here.
fn load_from(files: &[(&str, &str)], main: &str, sets: &[&str]) -> Loaded {
    let files: BTreeMap<PathBuf, String> = files
        .iter()
        .map(|(path, text)| (PathBuf::from(path), (*text).to_string()))
        .collect();
    let sets: Vec<String> = sets.iter().map(ToString::to_string).collect();
    load(Path::new(main), &sets, &|path: &Path| {
        files
            .get(path)
            .cloned()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    })
}

/// Loads one text.
fn load_text(text: &str) -> Loaded {
    load_from(&[("a.toml", text)], "a.toml", &[])
}

fn codes(diagnostics: &[Diagnostic]) -> Vec<&'static str> {
    diagnostics.iter().map(|d| d.code).collect()
}
