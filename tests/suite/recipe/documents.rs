//! Every file of `valid/` loads without an error; what is said about each file of `invalid/` is a snapshot.

use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use trestle::base::{Diagnostic, Place};
use trestle::recipe::{Loaded, load};

fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/suite/recipe")
        .join(name)
}

fn recipes(name: &str) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(folder(name))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "toml"))
        .collect();
    files.sort();
    assert!(!files.is_empty());
    files
}

/// Loads a file as if its folder were the present one, so that messages are the same on every machine.
fn load_file(path: &Path) -> Loaded {
    let folder = path.parent().unwrap().to_path_buf();
    let name = Path::new(path.file_name().unwrap());
    load(name, &[], &|path| fs::read_to_string(folder.join(path)))
}

/// A diagnostic with its place's text and its fix.
fn described(diagnostic: &Diagnostic, folder: &Path) -> String {
    let mut text = format!("{diagnostic}\n");
    if let Place::File { path, span, .. } = &diagnostic.place
        && let Ok(content) = fs::read_to_string(folder.join(path))
    {
        let _ = writeln!(text, "  at: {:?}", &content[span.clone()]);
    }
    if let Some(fix) = &diagnostic.fix {
        let _ = writeln!(text, "  fix: {}", fix.title);
    }
    text
}

#[test]
fn every_valid_recipe_loads() {
    for path in recipes("valid") {
        let loaded = load_file(&path);
        assert!(
            loaded.recipe.is_some() && loaded.errors() == 0,
            "{}: {:#?}",
            path.display(),
            loaded.diagnostics
        );
    }
}

#[test]
fn every_invalid_recipe_says_what_is_wrong_and_where() {
    for path in recipes("invalid") {
        let loaded = load_file(&path);
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        // Recipes that only others extend.
        if name.starts_with("base-") {
            continue;
        }
        assert!(loaded.recipe.is_none(), "{name} is valid");
        assert!(loaded.errors() > 0, "{name} has no error");
        let folder = path.parent().unwrap();
        let text: Vec<String> = loaded
            .diagnostics
            .iter()
            .map(|diagnostic| described(diagnostic, folder))
            .collect();
        insta::with_settings!({ snapshot_path => "invalid", prepend_module_to_snapshot => false, omit_expression => true }, {
            insta::assert_snapshot!(name, text.join("\n"));
        });
    }
}

#[test]
fn every_fix_mends_its_problem() {
    let mut mended = 0;
    for path in recipes("invalid") {
        let before = load_file(&path);
        let folder = path.parent().unwrap().to_path_buf();
        let name = Path::new(path.file_name().unwrap());
        for diagnostic in &before.diagnostics {
            let Some(fix) = &diagnostic.fix else { continue };
            let mut content = fs::read_to_string(folder.join(&fix.path)).unwrap();
            content.replace_range(fix.span.clone(), &fix.replacement);
            let after = load(name, &[], &|path| {
                if path == fix.path {
                    Ok(content.clone())
                } else {
                    fs::read_to_string(folder.join(path))
                }
            });
            let is_same = |other: &Diagnostic| {
                other.code == diagnostic.code
                    && other.key == diagnostic.key
                    && other.message == diagnostic.message
            };
            assert!(
                !after.diagnostics.iter().any(is_same),
                "{}: `{}` does not mend {diagnostic}",
                path.display(),
                fix.title
            );
            mended += 1;
        }
    }
    assert!(mended >= 10, "{mended} fixes");
}
