//! Opens the workbench.

use std::fs;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use super::arguments::WorkbenchArguments;
use super::{Context, Exit, Failure, Outcome, bundled};
use crate::tui::{self, Options, TuiError};

pub(super) fn run(arguments: &WorkbenchArguments, context: &Context) -> Outcome {
    open(
        arguments.recipes.as_deref(),
        context.runs.clone(),
        None,
        context,
    )
}

/// Opens the workbench on folders of recipes and runs, and on a run to watch.
pub(super) fn open(
    wanted: Option<&Path>,
    runs: Option<PathBuf>,
    show: Option<PathBuf>,
    context: &Context,
) -> Outcome {
    let recipes = recipes(wanted)?;
    let watched = show.clone();
    let options = Options {
        recipes,
        runs,
        show,
        keymap: keymap(),
    };
    let farewell = tui::run(options).map_err(|error| match error {
        TuiError::NoTerminal(_) => Exit::Failure
            .because(error.to_string())
            .hint("`trestle --help` lists what works without one, such as `trestle train`"),
        TuiError::Terminal(_) => Exit::Failure.because(error.to_string()),
    })?;
    if let Some(run) = farewell
        .detached
        .filter(|run| watched.as_ref() != Some(run))
        && std::io::stdout().is_terminal()
    {
        let name = run.file_name().unwrap_or_default().to_string_lossy();
        context.out.line(format!(
            "{name} goes on training; `trestle` shows it again, `trestle stop {name}` stops it"
        ))?;
    }
    Ok(())
}

/// The folder that was asked for, or `recipes` here, or the bundled ones in the user's data folder.
fn recipes(wanted: Option<&Path>) -> Result<PathBuf, Failure> {
    let here = Path::new("recipes");
    let folder = match wanted {
        Some(folder) if folder.is_dir() => folder.to_owned(),
        Some(folder) => {
            let why = format!("{} is not a folder of recipes", folder.display());
            return Err(Exit::Usage
                .because(why)
                .hint("name the folder, not a recipe in it"));
        }
        None if here.is_dir() => here.to_owned(),
        None => bundled::install()?,
    };
    // Watched files are named by their real paths.
    Ok(fs::canonicalize(folder)?)
}

/// The user's keymap file, if there is one.
pub(super) fn keymap() -> Option<(PathBuf, String)> {
    let config = std::env::var_os("XDG_CONFIG_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".config")))?;
    let path = config.join("trestle/keys.toml");
    let text = fs::read_to_string(&path).ok()?;
    Some((path, text))
}
