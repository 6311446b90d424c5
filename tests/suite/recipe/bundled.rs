//! The recipes that come with the program.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use trestle::recipe::{BUNDLED, Loaded, load};
use trestle::spec;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes")
}

fn bundled(name: &str) -> Loaded {
    load(&folder().join(name), &[], &|path: &Path| {
        fs::read_to_string(path)
    })
}

#[test]
fn every_bundled_recipe_is_valid_and_says_what_it_is_for() {
    let mut count = 0;
    for entry in fs::read_dir(folder()).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            continue;
        }
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let loaded = bundled(&name);
        assert!(loaded.recipe.is_some(), "{name}: {:#?}", loaded.diagnostics);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.starts_with("# "), "{name} opens with what it is for");
        count += 1;
    }
    assert!(count >= 10);
}

#[test]
fn each_published_dense_size_has_a_recipe_with_its_geometry_and_mtp() {
    for size in ["0_8b", "2b", "4b", "9b", "27b"] {
        let name = format!("qwen3_5-{size}");
        let recipe = bundled(&format!("{name}.toml")).recipe.unwrap();
        let published = spec::find(&name).unwrap().dense().unwrap().clone();
        assert_eq!(recipe.model.config, published, "{name}");
        assert_eq!(recipe.model.config.mtp_num_hidden_layers, 1);
    }
}

#[test]
fn variants_of_the_demo_differ_in_what_their_name_says() {
    let depth = |name: &str| {
        bundled(name)
            .recipe
            .unwrap()
            .model
            .config
            .mtp_num_hidden_layers
    };
    assert_eq!(depth("demo-mtp0.toml"), 0);
    assert_eq!(depth("demo.toml"), 1);
    assert_eq!(depth("demo-mtp2.toml"), 2);
    for name in [
        "demo.toml",
        "demo-mtp0.toml",
        "demo-packed.toml",
        "demo-concat.toml",
        "tiny-smoke.toml",
    ] {
        let loaded = bundled(name);
        assert_eq!(loaded.diagnostics, [], "{name}");
        assert_eq!(loaded.recipe.unwrap().parallel.world_size(), 1);
    }
}

fn files(folder: &Path, root: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files(&path, root, names);
        } else if path.extension().is_some_and(|e| e == "toml") {
            let name = path.strip_prefix(root).unwrap();
            names.insert(name.to_string_lossy().into_owned());
        }
    }
}

#[test]
fn every_recipe_of_the_folder_comes_with_the_program() {
    let mut names = BTreeSet::new();
    files(&folder(), &folder(), &mut names);
    let bundled: BTreeSet<String> = BUNDLED.iter().map(|(name, _)| (*name).into()).collect();
    assert_eq!(bundled, names);
}
