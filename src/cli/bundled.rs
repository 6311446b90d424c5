//! The recipes that come with the program, for people who start it outside a clone.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::recipe::BUNDLED;

/// Writes those that are not there yet into the user's data folder, where they can be edited, and returns the folder.
pub(super) fn install() -> io::Result<PathBuf> {
    let data = std::env::var_os("XDG_DATA_HOME")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".local/share")))
        .ok_or_else(|| io::Error::other("neither XDG_DATA_HOME nor HOME is set"))?;
    let folder = data.join("trestle/recipes");
    fs::create_dir_all(&folder)?;
    for (name, text) in BUNDLED {
        let path = folder.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        match fs::File::create_new(path) {
            Ok(mut file) => io::Write::write_all(&mut file, text.as_bytes())?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(folder)
}

/// The folder of the published recipes of Megatron-Bridge: a clone's, else the one that is installed.
pub(super) fn published() -> io::Result<PathBuf> {
    let clone = Path::new("recipes/megatron");
    if clone.is_dir() {
        return Ok(clone.into());
    }
    Ok(install()?.join("megatron"))
}
