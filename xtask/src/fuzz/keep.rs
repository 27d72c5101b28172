//! Which inputs are committed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Bytes and files of a target's inputs that were found by searching. What was written by hand, or once failed, comes on
/// top: their names start with one of [`STAY`].
const MOST_BYTES: u64 = 24 * 1024;
const MOST_FILES: usize = 160;
const STAY: [&str; 2] = ["seed-", "found-"];

/// An input and its length.
type Input = (u64, PathBuf);

/// The inputs in a directory, smallest first: those stay that reach most with few bytes.
fn inputs(dir: &Path) -> Result<Vec<Input>> {
    let mut all = Vec::new();
    for entry in fs::read_dir(dir).with_context(|| format!("cannot list {}", dir.display()))? {
        let entry = entry?;
        all.push((entry.metadata()?.len(), entry.path()));
    }
    all.sort();
    Ok(all)
}

fn stays(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    STAY.iter().any(|prefix| name.starts_with(prefix))
}

/// As many of the smallest as the limits allow.
fn fitting(inputs: Vec<Input>) -> Vec<Input> {
    let mut left = MOST_BYTES;
    let fits = inputs.into_iter().take_while(|(length, _)| {
        let room = *length <= left;
        left = left.saturating_sub(*length);
        room
    });
    fits.take(MOST_FILES).collect()
}

/// Copies what always stays of `committed` into `dir`.
///
/// # Errors
///
/// When a file cannot be copied.
pub(super) fn stayers(committed: &Path, dir: &Path) -> Result<()> {
    for (_, path) in inputs(committed)?.into_iter().filter(|(_, path)| stays(path)) {
        fs::copy(&path, dir.join(path.file_name().unwrap_or_default()))?;
    }
    Ok(())
}

/// Puts of the minimised inputs in `dir` those into `committed` that fit, in place of the ones of last time. How many
/// inputs there are now, and their bytes.
///
/// # Errors
///
/// When a file cannot be copied or removed.
pub(super) fn keep(dir: &Path, committed: &Path) -> Result<(usize, u64)> {
    for (_, path) in inputs(committed)?.into_iter().filter(|(_, path)| !stays(path)) {
        fs::remove_file(path)?;
    }
    let found = inputs(dir)?.into_iter().filter(|(_, path)| !stays(path)).collect();
    for (_, path) in fitting(found) {
        fs::copy(&path, committed.join(path.file_name().unwrap_or_default()))?;
    }
    let now = inputs(committed)?;
    Ok((now.len(), now.iter().map(|(length, _)| length).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_are_kept_up_to_the_limits() {
        let sized = |n: u64, length| (0..n).map(|i| (length, PathBuf::from(i.to_string()))).collect::<Vec<Input>>();
        assert_eq!(fitting(sized(1000, 1)).len(), MOST_FILES);
        assert_eq!(fitting(sized(1000, MOST_BYTES / 4)).len(), 4);
        let mut mixed = sized(2, 10);
        mixed.push((MOST_BYTES, "large".into()));
        assert_eq!(fitting(mixed).len(), 2);
    }

    #[test]
    fn what_was_written_by_hand_stays() -> Result<()> {
        let root = crate::sh::target(format!("keep-{}", std::process::id()));
        let (new, committed) = (root.join("new"), root.join("committed"));
        fs::create_dir_all(&new)?;
        fs::create_dir_all(&committed)?;
        for (file, text) in [("seed-1", "a"), ("found-x", "b"), ("0123", "old")] {
            fs::write(committed.join(file), text)?;
        }
        stayers(&committed, &new)?;
        fs::write(new.join("4567"), "new")?;
        assert_eq!(keep(&new, &committed)?, (3, 5));
        assert!(!committed.join("0123").exists() && committed.join("4567").exists());
        Ok(fs::remove_dir_all(root)?)
    }
}
