//! The recipes that come with the program, for people who start it outside a clone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

/// Name and text of each.
const RECIPES: &[(&str, &str)] = &[
    (
        "demo-concat.toml",
        include_str!("../../recipes/demo-concat.toml"),
    ),
    (
        "demo-mtp0.toml",
        include_str!("../../recipes/demo-mtp0.toml"),
    ),
    (
        "demo-mtp2.toml",
        include_str!("../../recipes/demo-mtp2.toml"),
    ),
    (
        "demo-packed.toml",
        include_str!("../../recipes/demo-packed.toml"),
    ),
    ("demo.toml", include_str!("../../recipes/demo.toml")),
    ("pretrain.toml", include_str!("../../recipes/pretrain.toml")),
    (
        "qwen3_5-0_8b-h100.toml",
        include_str!("../../recipes/qwen3_5-0_8b-h100.toml"),
    ),
    (
        "qwen3_5-0_8b.toml",
        include_str!("../../recipes/qwen3_5-0_8b.toml"),
    ),
    (
        "qwen3_5-27b.toml",
        include_str!("../../recipes/qwen3_5-27b.toml"),
    ),
    (
        "qwen3_5-2b.toml",
        include_str!("../../recipes/qwen3_5-2b.toml"),
    ),
    (
        "qwen3_5-4b.toml",
        include_str!("../../recipes/qwen3_5-4b.toml"),
    ),
    (
        "qwen3_5-9b.toml",
        include_str!("../../recipes/qwen3_5-9b.toml"),
    ),
    (
        "tiny-smoke.toml",
        include_str!("../../recipes/tiny-smoke.toml"),
    ),
];

/// Writes those that are not there yet into the user's data folder, where they can be edited, and returns the folder.
pub(super) fn install() -> io::Result<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")))
        .ok_or_else(|| io::Error::other("neither XDG_DATA_HOME nor HOME is set"))?;
    let folder = data.join("trestle/recipes");
    fs::create_dir_all(&folder)?;
    for (name, text) in RECIPES {
        match fs::File::create_new(folder.join(name)) {
            Ok(mut file) => io::Write::write_all(&mut file, text.as_bytes())?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_recipe_of_the_folder_is_bundled() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes");
        let mut names: Vec<String> = fs::read_dir(folder)
            .expect("the folder is part of the package")
            .map(|entry| {
                entry
                    .expect("readable")
                    .file_name()
                    .to_string_lossy()
                    .into_owned()
            })
            .filter(|name| Path::new(name).extension().is_some_and(|e| e == "toml"))
            .collect();
        names.sort();
        let bundled: Vec<&str> = RECIPES.iter().map(|(name, _)| *name).collect();
        assert_eq!(bundled, names);
    }
}
