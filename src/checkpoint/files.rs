//! Writing so that a kill or a full disk never leaves half a file under its name.

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::Path;

use super::CheckpointError;

/// An error about `path`.
pub(super) fn failed(
    action: &'static str,
    path: &Path,
) -> impl FnOnce(std::io::Error) -> CheckpointError {
    let path = path.to_owned();
    move |source| CheckpointError::Io {
        action,
        path,
        source,
    }
}

/// Creates `path`, lets `fill` write it, and waits until it is on the disk; the number of bytes.
pub(super) fn write(
    path: &Path,
    fill: impl FnOnce(&mut dyn Write) -> std::io::Result<()>,
) -> Result<u64, CheckpointError> {
    let written = (|| {
        let mut file = BufWriter::with_capacity(1 << 20, File::create(path)?);
        fill(&mut file)?;
        let file = file
            .into_inner()
            .map_err(std::io::IntoInnerError::into_error)?;
        file.sync_all()?;
        Ok(file.metadata()?.len())
    })();
    written.map_err(failed("write", path))
}

/// Waits until the names in `folder` are on the disk.
pub(super) fn sync_folder(folder: &Path) -> Result<(), CheckpointError> {
    File::open(folder)
        .and_then(|f| f.sync_all())
        .map_err(failed("sync", folder))
}

/// Puts `text` under `path` at once: whoever reads sees the old text or the new one.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), CheckpointError> {
    let new = path.with_extension("new");
    write(&new, |file| file.write_all(text.as_bytes()))?;
    fs::rename(&new, path).map_err(failed("write", path))?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// A safetensors file of f32 tensors whose values are given as slices, in this order; nothing is copied.
///
/// The header is padded to a multiple of 8 so that the values are aligned.
pub(super) fn write_safetensors(
    path: &Path,
    tensors: &[(&str, &[usize], &[f32])],
) -> Result<u64, CheckpointError> {
    let mut header = serde_json::Map::new();
    header.insert(
        "__metadata__".to_owned(),
        serde_json::json!({ "format": "pt" }),
    );
    let mut offset = 0;
    for (name, shape, values) in tensors {
        let end = offset + values.len() * 4;
        let entry =
            serde_json::json!({ "dtype": "F32", "shape": shape, "data_offsets": [offset, end] });
        header.insert((*name).to_owned(), entry);
        offset = end;
    }
    let mut header = serde_json::Value::Object(header).to_string();
    header.push_str(&" ".repeat(header.len().next_multiple_of(8) - header.len()));
    write(path, |file| {
        file.write_all(&(header.len() as u64).to_le_bytes())?;
        file.write_all(header.as_bytes())?;
        tensors
            .iter()
            .try_for_each(|(_, _, values)| write_floats(file, values))
    })
}

/// Writes values in little-endian order.
fn write_floats(file: &mut dyn Write, values: &[f32]) -> std::io::Result<()> {
    let mut bytes = Vec::with_capacity(1 << 16);
    for part in values.chunks(1 << 14) {
        bytes.clear();
        bytes.extend(part.iter().flat_map(|v| v.to_le_bytes()));
        file.write_all(&bytes)?;
    }
    Ok(())
}
