//! What the BPF objects are made of, as one hash.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use blake2::{Blake2s256, Digest};

use super::build;
use crate::sh;

/// Files and directories below the root that decide the objects' bytes.
const PARTS: [&str; 5] =
    ["rovy-ebpf/Cargo.toml", "rovy-ebpf/Cargo.lock", "rovy-ebpf/src", "rovy-common/Cargo.toml", "rovy-common/src"];

/// BLAKE2s-256 in hex.
pub(super) fn hash_bytes(bytes: &[u8]) -> String {
    hex(&Blake2s256::digest(bytes))
}

/// The hash of the sources and of the recipe.
///
/// # Errors
///
/// When a source cannot be read.
pub(super) fn hash() -> Result<String> {
    hash_tree(&sh::root(), &build::recipe())
}

fn hash_tree(root: &Path, recipe: &str) -> Result<String> {
    let mut files = Vec::new();
    for part in PARTS {
        collect(&root.join(part), &mut files)?;
    }
    let mut named = Vec::new();
    for file in files {
        let name = file.strip_prefix(root).unwrap_or(&file).to_string_lossy().into_owned();
        let bytes = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        named.push((name, bytes));
    }
    // Directories are read in an order of their own.
    named.sort();
    let mut hash = Blake2s256::new();
    let mut add = |bytes: &[u8]| {
        hash.update((bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    add(recipe.as_bytes());
    for (name, bytes) in &named {
        add(name.as_bytes());
        add(bytes);
    }
    Ok(hex(&hash.finalize()))
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    if path.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    for entry in entries {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let source = entry.file_type()?.is_dir() || name.ends_with(".rs");
        // Tests do not reach the object, and changing them must not ask for a new one.
        if source && name != "tests.rs" && name != "tests" {
            collect(&entry.path(), files)?;
        }
    }
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A tree of the shape the objects are made of, below a directory that goes away with the test.
    struct Tree(PathBuf);

    impl Tree {
        fn new(name: &str) -> Self {
            let dir = std::env::temp_dir().join(format!("rovy-xtask-{}-{name}", std::process::id()));
            for part in PARTS {
                let path = dir.join(part);
                let file = if part.ends_with("src") { path.join("lib.rs") } else { path };
                fs::create_dir_all(file.parent().unwrap()).unwrap();
                fs::write(file, part).unwrap();
            }
            Self(dir)
        }

        fn write(&self, file: &str, text: &str) {
            let path = self.0.join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }

        fn hash(&self) -> String {
            hash_tree(&self.0, "recipe").unwrap()
        }
    }

    impl Drop for Tree {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn the_place_of_a_checkout_does_not_matter() {
        assert_eq!(Tree::new("here").hash(), Tree::new("there").hash());
    }

    #[test]
    fn every_source_and_the_recipe_matter() {
        let tree = Tree::new("sources");
        let mut seen = vec![tree.hash(), hash_tree(&tree.0, "another recipe").unwrap()];
        for file in ["rovy-ebpf/src/new.rs", "rovy-common/src/lib.rs", "rovy-ebpf/Cargo.lock", "rovy-common/src/a/b.rs"]
        {
            tree.write(file, "changed");
            let hash = tree.hash();
            assert!(!seen.contains(&hash), "{file}");
            seen.push(hash);
        }
    }

    #[test]
    fn tests_and_stray_files_do_not_matter() {
        let tree = Tree::new("stray");
        let before = tree.hash();
        for file in ["rovy-common/src/hop/tests.rs", "rovy-common/src/lib.rs.orig", "rovy-ebpf/target/x.rs"] {
            tree.write(file, "stray");
        }
        assert_eq!(tree.hash(), before);
    }
}
