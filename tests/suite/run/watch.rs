//! Watching folders as editors change them.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use tempfile::tempdir;
use trestle::watch::{DEBOUNCE, Folder, Watcher};

fn watch(path: &Path, depth: usize) -> (Watcher, Receiver<Vec<PathBuf>>) {
    let (tell, told) = channel();
    let folder = Folder {
        path: path.to_owned(),
        depth,
    };
    let watcher = Watcher::spawn(vec![folder], move |paths| drop(tell.send(paths))).unwrap();
    (watcher, told)
}

/// The next change, within a time that a busy machine keeps, too.
fn next(told: &Receiver<Vec<PathBuf>>) -> Vec<PathBuf> {
    told.recv_timeout(Duration::from_secs(20)).unwrap()
}

#[test]
fn a_burst_of_writes_is_told_once_after_the_folder_is_quiet() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("recipe.toml");
    let (_watcher, told) = watch(folder.path(), 0);
    let start = Instant::now();
    for i in 0..5 {
        fs::write(&file, "a = 1\n".repeat(i + 1)).unwrap();
    }
    assert_eq!(next(&told), [file]);
    assert!(start.elapsed() >= DEBOUNCE);
    assert!(
        told.recv_timeout(Duration::from_millis(2500)).is_err(),
        "told twice"
    );
}

#[test]
fn an_editor_that_replaces_the_file_is_seen_and_a_reader_is_not() {
    let folder = tempdir().unwrap();
    let file = folder.path().join("recipe.toml");
    fs::write(&file, "a = 1\n").unwrap();
    let (_watcher, told) = watch(folder.path(), 0);
    assert_eq!(fs::read_to_string(&file).unwrap(), "a = 1\n");
    assert!(told.recv_timeout(Duration::from_millis(600)).is_err());
    // As vim does: write beside, rename over.
    let beside = folder.path().join(".recipe.toml.swp");
    fs::write(&beside, "a = 2\n").unwrap();
    fs::rename(&beside, &file).unwrap();
    assert_eq!(next(&told), std::slice::from_ref(&file));
    fs::remove_file(&file).unwrap();
    assert_eq!(next(&told), [file]);
}

#[test]
fn a_folder_that_appears_later_is_watched() {
    let parent = tempdir().unwrap();
    let folder = parent.path().join("recipes/deep");
    let (_watcher, told) = watch(&parent.path().join("recipes"), 2);
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("a.toml"), "a = 1\n").unwrap();
    assert_eq!(next(&told), [folder.join("a.toml")]);
    fs::write(folder.join("b.toml"), "b = 1\n").unwrap();
    assert_eq!(next(&told), [folder.join("b.toml")]);
}

#[test]
fn other_folders_can_be_watched_instead() {
    let (old, new) = (tempdir().unwrap(), tempdir().unwrap());
    let (watcher, told) = watch(old.path(), 0);
    fs::write(new.path().join("before.toml"), "").unwrap();
    watcher.watch(vec![Folder {
        path: new.path().to_owned(),
        depth: 0,
    }]);
    // Taken up in order: the first change of the new folder follows the switch.
    std::thread::sleep(Duration::from_millis(100));
    fs::write(old.path().join("a.toml"), "").unwrap();
    fs::write(new.path().join("b.toml"), "").unwrap();
    assert_eq!(next(&told), [new.path().join("b.toml")]);
}
