//! The newest checkpoint of a folder that Megatron writes to.

use std::fs;
use std::path::Path;

/// File with the step of the newest complete checkpoint, or the word `release`. It is written after the checkpoint itself.
const TRACKER: &str = "latest_checkpointed_iteration.txt";

/// Step of the newest complete checkpoint in `folder`; 0 for imported weights. A folder that the tracker names but that is gone does not
/// count, nor does a tracker that says something else.
pub fn last_checkpoint(folder: &Path) -> Option<u64> {
    let text = fs::read_to_string(folder.join(TRACKER)).ok()?;
    let text = text.trim();
    if text == "release" {
        return folder.join("release").is_dir().then_some(0);
    }
    let step: u64 = text.parse().ok()?;
    folder
        .join(format!("iter_{step:07}"))
        .is_dir()
        .then_some(step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_complete_checkpoints_count() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path();
        assert_eq!(last_checkpoint(path), None);
        fs::create_dir(path.join("iter_0000500")).expect("writable");
        assert_eq!(last_checkpoint(path), None);
        fs::write(path.join(TRACKER), "500\n").expect("writable");
        assert_eq!(last_checkpoint(path), Some(500));
        fs::write(path.join(TRACKER), "1000").expect("writable");
        assert_eq!(last_checkpoint(path), None);
        fs::write(path.join(TRACKER), "\u{0}garbage").expect("writable");
        assert_eq!(last_checkpoint(path), None);
    }
}
