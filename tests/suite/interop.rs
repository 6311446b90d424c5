//! Python packages that read what we write, for the tests that ask them.

mod bridge;
mod transformers;

use std::path::{Path, PathBuf};
use std::process::Command;

/// A Python that can `import` these, comma-separated: the one of `TRESTLE_TEST_PYTHON`, else of the environment `trestle/venv` in the user's cache.
///
/// Nothing is installed: torch is large. `python3 -m venv ~/.cache/trestle/venv`, then
/// `~/.cache/trestle/venv/bin/pip install torch transformers safetensors`, makes one.
pub(crate) fn python(imports: &str) -> Result<PathBuf, String> {
    let named = std::env::var_os("TRESTLE_TEST_PYTHON").map(PathBuf::from);
    let python = match named {
        Some(python) => python,
        None => std::env::var_os("XDG_CACHE_HOME")
            .map(PathBuf::from)
            .or_else(|| std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache")))
            .ok_or("no cache folder")?
            .join("trestle/venv/bin/python"),
    };
    let mut check = Command::new(&python);
    check.args(["-c", &format!("import {imports}")]);
    match check.output() {
        Ok(output) if output.status.success() => Ok(python),
        Ok(output) => {
            let error = String::from_utf8_lossy(&output.stderr);
            let last = error.trim().lines().last().unwrap_or_default().to_owned();
            Err(format!("{}: {last}", python.display()))
        }
        Err(error) => Err(format!("{}: {error}", python.display())),
    }
}

/// Says loudly that a test did not ask Python.
#[expect(
    clippy::print_stderr,
    reason = "a test that did not ask should not look as if it had"
)]
pub(crate) fn skip(what: &str, reason: &str) {
    eprintln!("\n!!! SKIPPED: {what}: {reason}\n");
}

/// A script of `tests/interop`.
pub(crate) fn script(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/interop")
        .join(name)
}
