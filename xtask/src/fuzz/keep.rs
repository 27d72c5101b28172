//! Which inputs are committed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

/// Bytes and files of a target's inputs that were found by searching. What was written by hand, or once failed, comes on
/// top: their names start with one of [`STAY`].
const MOST_BYTES: u64 = 24 * 1024;
const MOST_FILES: usize = 200;
const STAY: [&str; 2] = ["seed-", "found-"];

/// An input and its length.
type Input = (u64, PathBuf);

/// The inputs in a directory, smallest first.
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

/// As many as the limits allow, evenly from the smallest to the largest: the small ones alone reach little of what reads long
/// inputs, and the large ones alone are few.
fn fitting(inputs: &[Input]) -> Vec<&Input> {
    let spread = |n: usize| (0..n).filter_map(|i| inputs.get(i * inputs.len() / n)).collect::<Vec<_>>();
    let fits = |kept: &Vec<&Input>| kept.iter().map(|(length, _)| length).sum::<u64>() <= MOST_BYTES;
    (1..=MOST_FILES.min(inputs.len())).rev().map(spread).find(fits).unwrap_or_default()
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
    let found: Vec<Input> = inputs(dir)?.into_iter().filter(|(_, path)| !stays(path)).collect();
    for (_, path) in fitting(&found) {
        fs::copy(path, committed.join(path.file_name().unwrap_or_default()))?;
    }
    let now = inputs(committed)?;
    Ok((now.len(), now.iter().map(|(length, _)| length).sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_long_ones_are_kept_up_to_the_limits() {
        let sized = |n: u64, length| (0..n).map(|i| (length, PathBuf::from(i.to_string()))).collect::<Vec<Input>>();
        assert_eq!(fitting(&sized(1000, 1)).len(), MOST_FILES);
        assert_eq!(fitting(&sized(1000, MOST_BYTES / 4)).len(), 4);
        assert_eq!(fitting(&sized(3, 1)).len(), 3);
        assert!(fitting(&[]).is_empty() && fitting(&sized(1, MOST_BYTES + 1)).is_empty());
        let growing: Vec<Input> = (0..1000).map(|n| (n, PathBuf::from(n.to_string()))).collect();
        let kept = fitting(&growing);
        assert!(kept.iter().map(|(length, _)| length).sum::<u64>() <= MOST_BYTES);
        assert!(kept.first().is_some_and(|k| k.0 == 0) && kept.last().is_some_and(|k| k.0 > 900), "{kept:?}");
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
