//! `$EDITOR`, at a line and column.

use std::path::Path;
use std::process::{Command, ExitStatus};

/// The command line of the editor `editor` (may hold arguments) for a place in a file; line and column count from 1.
fn command_line(editor: &str, path: &Path, line: usize, column: usize) -> Vec<String> {
    let mut words: Vec<String> = editor.split_whitespace().map(str::to_owned).collect();
    if words.is_empty() {
        words.push("vi".into());
    }
    let name = Path::new(&words[0])
        .file_name()
        .map_or_else(String::new, |n| n.to_string_lossy().into_owned());
    let file = path.display().to_string();
    match name.as_str() {
        "vim" | "nvim" | "gvim" => {
            words.push(format!("+call cursor({line},{column})"));
            words.push(file);
        }
        "nano" => {
            words.push(format!("+{line},{column}"));
            words.push(file);
        }
        "emacs" | "emacsclient" | "kak" => {
            words.push(format!("+{line}:{column}"));
            words.push(file);
        }
        "hx" | "helix" | "subl" | "zed" | "micro" => words.push(format!("{file}:{line}:{column}")),
        "code" | "codium" | "cursor" => {
            words.extend([
                "--wait".into(),
                "--goto".into(),
                format!("{file}:{line}:{column}"),
            ]);
        }
        // POSIX vi, ed-likes and most others know a line.
        _ => {
            words.push(format!("+{line}"));
            words.push(file);
        }
    }
    words
}

/// Runs `$VISUAL`, `$EDITOR` or `vi` and waits for it.
pub(super) fn open(path: &Path, line: usize, column: usize) -> Result<ExitStatus, String> {
    let editor = ["VISUAL", "EDITOR"]
        .into_iter()
        .find_map(|name| std::env::var(name).ok().filter(|v| !v.trim().is_empty()))
        .unwrap_or_else(|| "vi".into());
    let words = command_line(&editor, path, line, column);
    Command::new(&words[0])
        .args(&words[1..])
        .status()
        .map_err(|error| format!("cannot start {}: {error}; set EDITOR", words[0]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_editor_is_told_the_place_in_its_own_way() {
        let of = |editor| command_line(editor, Path::new("a b.toml"), 3, 7).join("|");
        assert_eq!(of("vi"), "vi|+3|a b.toml");
        assert_eq!(
            of("/usr/bin/nvim -n"),
            "/usr/bin/nvim|-n|+call cursor(3,7)|a b.toml"
        );
        assert_eq!(of("hx"), "hx|a b.toml:3:7");
        assert_eq!(of("code"), "code|--wait|--goto|a b.toml:3:7");
        assert_eq!(of("  "), "vi|+3|a b.toml");
    }
}
