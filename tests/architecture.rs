//! Who may import whom.
//!
//! The table is the architecture: a room may name the rooms and crates of its row, and nothing else of this package. Imports point down, so
//! the rooms are listed from the bottom up. Paths are read from the source text, `use` trees and inline paths alike, comments and strings aside.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A room with what it may name.
struct Room {
    name: &'static str,
    /// Rooms below it.
    rooms: &'static [&'static str],
    /// Crates of [`GUARDED`].
    crates: &'static [&'static str],
    /// Whether it touches the world: files, clock, processes.
    world: World,
}

#[derive(PartialEq)]
enum World {
    /// Values in, values out.
    Pure,
    /// Files, clock, processes.
    Touches,
}
use World::{Pure, Touches};

const fn room(
    name: &'static str,
    world: World,
    rooms: &'static [&'static str],
    crates: &'static [&'static str],
) -> Room {
    Room {
        name,
        rooms,
        crates,
        world,
    }
}

const CANDLE: &[&str] = &["candle_core", "candle_nn"];
const TERMINAL: &[&str] = &["ratatui", "crossterm"];
const CLAP: &[&str] = &["clap", "clap_complete", "clap_mangen"];

#[rustfmt::skip]
const TABLE: [Room; 21] = [
    // what we know about experiments and models
    room("base",       Pure,    &[], &[]),
    room("spec",       Pure,    &["base"], &[]),
    room("plan",       Pure,    &["base", "spec"], &[]),
    room("mapping",    Pure,    &["base", "spec", "plan"], &[]),
    room("event",      Pure,    &["base"], &[]),
    room("recipe",     Pure,    &["base", "spec", "plan"], &[]),
    // tensors
    room("ops",        Touches, &["base"], CANDLE),
    room("nn",         Touches, &["base", "spec", "ops"], CANDLE),
    room("checkpoint", Touches, &["base", "spec", "plan", "mapping", "event", "nn"], CANDLE),
    room("data",       Touches, &["base", "recipe"], CANDLE),
    room("train",      Touches, &["base", "spec", "recipe", "event", "plan", "data", "nn", "checkpoint", "ops", "telemetry"], CANDLE),
    room("bench",      Touches, &["base", "spec", "nn", "ops"], CANDLE),
    // processes and files
    room("telemetry",  Touches, &["base"], &[]),
    room("watch",      Touches, &[], &["notify"]),
    room("hub",        Touches, &["base"], &[]),
    room("run",        Touches, &["base", "event", "recipe", "spec"], &[]),
    room("backend",    Touches, &["base", "event", "plan", "recipe", "run", "spec"], &[]),
    // the workbench
    room("app",        Pure,    &["base", "spec", "mapping", "plan", "recipe", "event", "run", "telemetry"], &[]),
    room("tui",        Touches, &["app", "base", "checkpoint", "event", "mapping", "recipe", "spec", "plan", "run", "backend", "watch", "telemetry"], TERMINAL),
    room("cli",        Touches, &[
        "app", "backend", "base", "bench", "checkpoint", "data", "event", "hub", "mapping", "nn", "ops", "plan", "recipe", "run", "spec", "telemetry", "train", "tui", "watch",
    ], CLAP),
    room("main",       Touches, &["cli"], &[]),
];

/// Crates that only the rooms may name whose row has them.
const GUARDED: [&str; 8] = [
    "candle_core",
    "candle_nn",
    "ratatui",
    "crossterm",
    "clap",
    "clap_complete",
    "clap_mangen",
    "notify",
];

/// What a pure room never names.
const WORLD: [&str; 9] = [
    "std::fs",
    "std::env",
    "std::process",
    "std::net",
    "std::thread",
    "std::time::SystemTime",
    "std::time::Instant",
    "std::io::stdout",
    "std::io::stdin",
];

#[test]
fn rooms_import_only_what_their_row_has() {
    let mut wrong = Vec::new();
    for (room, source) in sources() {
        for Named { line, path } in names(&source) {
            let place = format!("{}:{line}: {}", source.file, path.join("::"));
            match path[0].as_str() {
                "crate" if path.len() > 1 => {
                    let other = path[1].as_str();
                    let is_room = TABLE.iter().any(|row| row.name == other);
                    if is_room && other != room.name && !room.rooms.contains(&other) {
                        wrong.push(format!("{place}: `{}` may not import `{other}`", room.name));
                    }
                }
                outside if GUARDED.contains(&outside) && !room.crates.contains(&outside) => {
                    wrong.push(format!("{place}: `{}` may not use `{outside}`", room.name));
                }
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn pure_rooms_touch_neither_files_nor_clock() {
    let mut wrong = Vec::new();
    for (room, source) in sources() {
        if room.world != Pure {
            continue;
        }
        for Named { line, path } in names(&source) {
            let whole = path.join("::");
            let touches = |forbidden: &&str| {
                whole == *forbidden || whole.starts_with(&format!("{forbidden}::"))
            };
            if WORLD.iter().any(touches) {
                wrong.push(format!("{}:{line}: `{whole}` in a pure room", source.file));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_table_points_down_and_has_every_room() {
    let mut below: BTreeSet<&str> = BTreeSet::new();
    let by_name: BTreeMap<&str, &Room> = TABLE.iter().map(|row| (row.name, row)).collect();
    let mut left: Vec<&Room> = TABLE.iter().collect();
    while !left.is_empty() {
        let before = left.len();
        left.retain(|row| {
            let ready = row.rooms.iter().all(|room| below.contains(room));
            if ready {
                below.insert(row.name);
            }
            !ready
        });
        let names: Vec<&str> = left.iter().map(|row| row.name).collect();
        assert!(left.len() < before, "a circle among {names:?}");
    }
    // What a pure room imports is pure; `app` shows the types of the process side.
    for row in TABLE
        .iter()
        .filter(|row| row.world == Pure && row.name != "app")
    {
        assert!(
            row.rooms.iter().all(|room| by_name[room].world == Pure),
            "{}",
            row.name
        );
    }
    let rooms: BTreeSet<String> = sources().map(|(room, _)| room.name.to_owned()).collect();
    let listed: BTreeSet<String> = TABLE.iter().map(|row| row.name.to_owned()).collect();
    assert_eq!(rooms, listed);
}

#[test]
fn no_file_names_the_machine_it_was_written_on() {
    // Spelled in parts, or this file would name them.
    let needles = [concat!("..", "/shared"), concat!("/wo", "rk/")];
    let mut wrong = Vec::new();
    for path in files(&root(), &|name| name != "target" && name != ".git") {
        let Ok(bytes) = fs::read(&path) else {
            continue;
        };
        for (number, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            let line = String::from_utf8_lossy(line);
            for needle in needles {
                if line.contains(needle) {
                    wrong.push(format!("{}:{}: {needle}", path.display(), number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn the_top_level_holds_nothing_else() {
    let git = std::process::Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root())
        .output();
    let Some(tracked) = git.ok().filter(|output| output.status.success()) else {
        eprintln!("SKIPPED: no git, or no clone");
        return;
    };
    let folders = ["assets", "kernels", "recipes", "src", "tests"];
    let files = ["Cargo.lock", "Cargo.toml", "README.md"];
    let allowed = |name: &str| {
        name.starts_with('.')
            || name.starts_with("LICENSE")
            || folders.contains(&name)
            || files.contains(&name)
    };
    let tracked = String::from_utf8_lossy(&tracked.stdout).into_owned();
    let names = tracked
        .split_terminator('\0')
        .filter_map(|path| path.split('/').next());
    let wrong: BTreeSet<&str> = names.filter(|name| !allowed(name)).collect();
    assert!(wrong.is_empty(), "at the top level: {wrong:?}");
}

#[test]
fn paths_are_read_from_every_form() {
    let source = Source {
        file: "src/tui/x.rs".into(),
        module: vec!["tui".into(), "x".into()],
        text: r#"
            // use crate::comment;
            use crate::{base::{Bytes, Span}, plan, spec as s};
            fn f() { let _ = "crate::text"; crate::train::run(); ratatui::init() }
            mod inner { use super::super::super::data::Loader; use super::super::sibling; }
            use super::super::ops; /* crate::block /* nested */ crate::block */
            const A: char = '"'; const B: &str = r"crate::raw"; use self::own;
            fn g<'a>(_: &'a str) -> crate::event::Event {}
            fn h<'a>() -> impl Iterator + use<'a> { let x = 1; [x].into_iter() }
            const Q: char = '\''; fn i() { crate::watch::start() }
        "#
        .into(),
    };
    let found: BTreeSet<String> = names(&source)
        .into_iter()
        .map(|named| named.path.join("::"))
        .filter(|path| path.starts_with("crate::") || path.starts_with("ratatui"))
        .collect();
    let expected = [
        "crate::base::Bytes",
        "crate::base::Span",
        "crate::data::Loader",
        "crate::event::Event",
        "crate::ops",
        "crate::plan",
        "crate::spec",
        "crate::train::run",
        "crate::tui::sibling",
        "crate::tui::x::own",
        "crate::watch::start",
        "ratatui::init",
    ];
    assert_eq!(found, expected.map(String::from).into());
}

/// A file of the library or the binary.
struct Source {
    file: String,
    /// Path of its module below the crate: `["tui", "x"]`.
    module: Vec<String>,
    text: String,
}

/// A path that a file names, from `crate` if it is inside the package.
struct Named {
    line: usize,
    path: Vec<String>,
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Files below a folder whose name, and whose folders' names, are wanted.
fn files(folder: &Path, wanted: &dyn Fn(&str) -> bool) -> Vec<PathBuf> {
    let mut list = Vec::new();
    let entries = fs::read_dir(folder).expect("the folder can be listed");
    for entry in entries {
        let path = entry.expect("the folder can be listed").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if !wanted(&name) {
            continue;
        }
        if path.is_symlink() {
            continue;
        }
        if path.is_dir() {
            list.extend(files(&path, wanted));
        } else {
            list.push(path);
        }
    }
    list.sort();
    list
}

/// Every source file with the row of its room; `lib.rs` only declares the rooms.
fn sources() -> impl Iterator<Item = (&'static Room, Source)> {
    let src = root().join("src");
    files(&src, &|_| true).into_iter().filter_map(move |path| {
        let below = path.strip_prefix(&src).expect("it is below src");
        let module: Vec<String> = below
            .with_extension("")
            .components()
            .map(|part| part.as_os_str().to_string_lossy().into_owned())
            .collect();
        if path.extension().is_none_or(|extension| extension != "rs") || module == ["lib"] {
            return None;
        }
        let room = TABLE
            .iter()
            .find(|row| row.name == module[0])
            .unwrap_or_else(|| panic!("{} is in no room of the table", path.display()));
        let source = Source {
            file: format!("src/{}", below.display()),
            module,
            text: fs::read_to_string(&path).expect("sources are UTF-8"),
        };
        Some((room, source))
    })
}

/// Every path that a source names.
fn names(source: &Source) -> Vec<Named> {
    let tokens = tokens(&source.text);
    let mut list = Vec::new();
    // The inline modules around the present token, each with the brace depth outside it.
    let mut inline: Vec<(String, usize)> = Vec::new();
    let (mut depth, mut at) = (0, 0);
    while at < tokens.len() {
        let module = || {
            let inline = inline.iter().map(|(name, _)| name.clone());
            source
                .module
                .iter()
                .cloned()
                .chain(inline)
                .collect::<Vec<String>>()
        };
        match tokens[at].text.as_str() {
            "{" => depth += 1,
            "}" => {
                depth = usize::saturating_sub(depth, 1);
                inline.pop_if(|(_, outside)| *outside == depth);
            }
            "mod" if tokens.get(at + 2).is_some_and(|token| token.text == "{") => {
                inline.push((tokens[at + 1].text.clone(), depth));
                depth += 1;
                at += 2;
            }
            // `use<'a>` in a type is no import.
            "use" if tokens.get(at + 1).is_none_or(|token| token.text != "<") => {
                let mut tree = Vec::new();
                at = use_tree(&tokens, at + 1, &[], &mut tree);
                let absolute = |named: Named| absolute(named, &module());
                list.extend(tree.into_iter().map(absolute));
                continue;
            }
            text if is_name(text) => {
                let line = tokens[at].line;
                let mut path = vec![text.to_owned()];
                while tokens.get(at + 1).is_some_and(|token| token.text == "::")
                    && tokens.get(at + 2).is_some_and(|token| is_name(&token.text))
                {
                    path.push(tokens[at + 2].text.clone());
                    at += 2;
                }
                if path.len() > 1 {
                    list.push(absolute(Named { line, path }, &module()));
                }
            }
            _ => {}
        }
        at += 1;
    }
    list
}

/// Reads one tree of a `use` item into its leaves and returns where it ends.
fn use_tree(tokens: &[Token], mut at: usize, prefix: &[String], list: &mut Vec<Named>) -> usize {
    let mut path = prefix.to_vec();
    let mut is_group = false;
    let line = tokens.get(at).map_or(0, |token| token.line);
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            ";" | "," | "}" => break,
            "{" => {
                is_group = true;
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    let end = use_tree(tokens, at, &path, list);
                    // A comma, or what is no import at all: go on in any case.
                    let is_comma = tokens.get(end).is_some_and(|token| token.text == ",");
                    at = end + usize::from(is_comma || end == at);
                }
            }
            // The new name of `as` is no part of the path.
            "as" => at += 1,
            text if is_name(text) => path.push(text.to_owned()),
            _ => {}
        }
        at += 1;
    }
    if !is_group && !path.is_empty() {
        list.push(Named { line, path });
    }
    at
}

/// Turns `self` and `super` into a path from `crate`.
fn absolute(named: Named, module: &[String]) -> Named {
    let mut module = module.to_vec();
    let supers = named
        .path
        .iter()
        .take_while(|part| *part == "super")
        .count();
    let own = usize::from(named.path[0] == "self");
    if supers + own == 0 {
        return named;
    }
    let rest = named.path[own.max(supers)..].iter().cloned();
    module.truncate(module.len().saturating_sub(supers));
    let crate_root = std::iter::once("crate".to_owned());
    Named {
        line: named.line,
        path: crate_root.chain(module).chain(rest).collect(),
    }
}

struct Token {
    line: usize,
    text: String,
}

fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

/// Names, `::`, and single other characters; comments, strings and characters are left out.
fn tokens(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let get = |at: usize| chars.get(at).copied().unwrap_or('\0');
    let mut list = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < chars.len() {
        let start = at;
        match (chars[at], get(at + 1)) {
            ('/', '/') => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            ('/', '*') => at = block_comment_end(&chars, at),
            ('"', _) => at = string_end(&chars, at),
            ('r', '"' | '#') if raw_string_end(&chars, at).is_some() => {
                at = raw_string_end(&chars, at).unwrap_or(at + 1);
            }
            ('b' | 'c', '"') => at = string_end(&chars, at + 1),
            // A character, not a lifetime.
            ('\'', '\\') => {
                at += 4; // past the escaped character, which may be a quote
                while at < chars.len() && chars[at - 1] != '\'' {
                    at += 1;
                }
            }
            ('\'', _) if get(at + 2) == '\'' => at += 3,
            (':', ':') => {
                list.push(Token {
                    line,
                    text: "::".into(),
                });
                at += 2;
            }
            (c, _) if c.is_alphanumeric() || c == '_' => {
                while at < chars.len() && (chars[at].is_alphanumeric() || chars[at] == '_') {
                    at += 1;
                }
                let text = chars[start..at].iter().collect();
                list.push(Token { line, text });
            }
            (c, _) => {
                if !c.is_whitespace() {
                    list.push(Token {
                        line,
                        text: c.into(),
                    });
                }
                at += 1;
            }
        }
        line += chars[start..at.min(chars.len())]
            .iter()
            .filter(|&&c| c == '\n')
            .count();
    }
    list
}

fn block_comment_end(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at + 1 < chars.len() {
        match (chars[at], chars[at + 1]) {
            ('/', '*') => (depth, at) = (depth + 1, at + 2),
            ('*', '/') => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            return at;
        }
    }
    chars.len()
}

fn string_end(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// The end of a raw string that starts here, if one does.
fn raw_string_end(chars: &[char], at: usize) -> Option<usize> {
    let hashes = chars[at + 1..].iter().take_while(|&&c| c == '#').count();
    if chars.get(at + 1 + hashes) != Some(&'"') {
        return None;
    }
    let mut end = at + 2 + hashes;
    while end < chars.len() {
        let closing = chars[end + 1..].iter().take_while(|&&c| c == '#').count();
        if chars[end] == '"' && closing >= hashes {
            return Some(end + 1 + hashes);
        }
        end += 1;
    }
    Some(chars.len())
}
