//! Work of the Layout screen: searching for layouts, writing degrees into a recipe, pictures.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::thread;

use super::{Outside, recipes};
use crate::app::layout::{Changes, Effect, Message as Layout, Search};
use crate::app::{Message, Tone};
use crate::plan;
use crate::recipe::{self, Value};

pub(super) fn carry_out(outside: &mut Outside, effect: Effect) {
    match effect {
        Effect::Fit(search) => fit(outside, search),
        Effect::Write {
            path,
            expected,
            changes,
        } => outside.worker.run(move || {
            Some(match write(&path, &expected, &changes) {
                Ok(()) => Message::Layout(Layout::Written(path)),
                Err(why) => Message::Say(Tone::Bad, why),
            })
        }),
        Effect::Export { path, text } => outside.worker.run(move || {
            Some(match write_new(&path, &text) {
                Ok(path) => Message::Say(Tone::Good, format!("wrote {}", path.display())),
                Err(error) => Message::Say(
                    Tone::Bad,
                    format!("cannot write {}: {error}", path.display()),
                ),
            })
        }),
    }
}

/// Searches on a thread of its own, so that recipes are read meanwhile.
fn fit(outside: &Outside, search: Box<Search>) {
    let mailbox = outside.mailbox.clone();
    let failed = mailbox.clone();
    let work = move || {
        let found = plan::fit(
            &search.job,
            search.gpus,
            search.machine,
            &search.constraints,
        );
        mailbox.send(Message::Layout(Layout::Found(search, Box::new(found))));
    };
    if let Err(error) = thread::Builder::new().name("fit".into()).spawn(work) {
        let why = format!("no thread to search with: {error}");
        failed.send(Message::Say(Tone::Bad, why));
    }
}

/// Changes values of a recipe's file. Refuses if the file is not what was read, or would not say what is wanted.
fn write(path: &Path, expected: &str, changes: &Changes) -> Result<(), String> {
    let failed = |what: &str, error: &dyn std::fmt::Display| {
        format!("cannot {what} {}: {error}", path.display())
    };
    // The file and not a link to it: a rename would put a file in the link's place.
    let real = fs::canonicalize(path).map_err(|error| failed("read", &error))?;
    let read = || fs::read_to_string(&real).map_err(|error| failed("read", &error));
    let meanwhile =
        || "the file changed in the meantime; it is read again, look and write once more";
    if read()? != expected {
        return Err(meanwhile().into());
    }
    let list: Vec<(&str, Option<Value>)> = changes
        .iter()
        .map(|(key, value)| (key.as_str(), value.clone()))
        .collect();
    let text = recipe::edit(expected, &list).map_err(|error| failed("change", &error))?;
    let loaded = recipe::load(path, &[], &|wanted: &Path| {
        let is_this = fs::canonicalize(wanted).is_ok_and(|wanted| wanted == real);
        if is_this {
            Ok(text.clone())
        } else {
            fs::read_to_string(wanted)
        }
    });
    for (key, value) in changes {
        let said = loaded
            .values
            .get(key.as_str())
            .map(|located| &located.value);
        if let Some(value) = value
            && said != Some(value)
        {
            let said = said.map_or("nothing".to_owned(), ToString::to_string);
            return Err(format!(
                "{key} = {value} would read as {said}; nothing is written"
            ));
        }
    }
    // As late as can be: another program may have written while we looked.
    if read()? != expected {
        return Err(meanwhile().into());
    }
    recipes::replace(&real, &text).map_err(|error| failed("write", &error))
}

/// Writes a file that does not exist yet; returns where it lies.
fn write_new(path: &Path, text: &str) -> std::io::Result<PathBuf> {
    let mut file = File::create_new(path)?;
    file.write_all(text.as_bytes())?;
    std::path::absolute(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\n[model]\nsize = \"0_8b\" # small\n\n[parallel]\ntp = 1 # one\n\n[train]\nsteps = 10\n";

    fn changes(tp: i64) -> Changes {
        vec![("parallel.tp".into(), Some(Value::Integer(tp)))]
    }

    #[test]
    fn a_recipe_keeps_everything_but_the_value() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.toml");
        fs::write(&path, TEXT).expect("written");
        write(&path, TEXT, &changes(2)).expect("writes");
        let now = fs::read_to_string(&path).expect("there");
        assert_eq!(now, TEXT.replace("tp = 1 # one", "tp = 2 # one"));
        let names: Vec<_> = fs::read_dir(folder.path()).expect("lists").collect();
        assert_eq!(names.len(), 1, "nothing else is left");
    }

    #[test]
    fn a_file_that_changed_meanwhile_is_left_alone() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.toml");
        let other = format!("{TEXT}seed = 5\n");
        fs::write(&path, &other).expect("written");
        let why = write(&path, TEXT, &changes(2)).expect_err("it changed");
        assert!(why.contains("changed in the meantime"), "{why}");
        assert_eq!(fs::read_to_string(&path).expect("there"), other);
        fs::remove_file(&path).expect("removed");
        assert!(write(&path, TEXT, &changes(2)).is_err());
        assert!(!path.exists());
    }

    #[test]
    fn what_would_read_as_something_else_is_not_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.toml");
        fs::write(&path, TEXT).expect("written");
        let why = write(&path, TEXT, &changes(-4)).expect_err("no degree");
        assert!(why.contains("nothing is written"), "{why}");
        assert_eq!(fs::read_to_string(&path).expect("there"), TEXT);
    }

    #[cfg(unix)]
    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().expect("a folder");
        let (real, link) = (
            folder.path().join("real.toml"),
            folder.path().join("a.toml"),
        );
        fs::write(&real, TEXT).expect("written");
        std::os::unix::fs::symlink(&real, &link).expect("linked");
        write(&link, TEXT, &changes(2)).expect("writes");
        assert!(fs::symlink_metadata(&link).expect("there").is_symlink());
        assert!(fs::read_to_string(&real).expect("there").contains("tp = 2"));
    }

    #[test]
    fn a_picture_never_replaces_a_file() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.svg");
        assert_eq!(write_new(&path, "<svg/>").expect("writes"), path);
        assert!(write_new(&path, "other").is_err());
        assert_eq!(fs::read_to_string(&path).expect("there"), "<svg/>");
    }
}
