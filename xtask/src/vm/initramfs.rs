//! The machine's whole file system: a cpio archive in the kernel's `newc` format.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use super::kernel::Modules;
use crate::sh;

/// An archive that grows.
#[derive(Default)]
pub(super) struct Archive {
    bytes: Vec<u8>,
    entries: u32,
    directories: BTreeSet<PathBuf>,
}

const DIRECTORY: u32 = 0o040_755;
const PROGRAM: u32 = 0o100_755;
const CONSOLE: u32 = 0o020_600;

impl Archive {
    /// Adds one entry; `device` is the major and minor number of a device node.
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) -> Result<()> {
        self.entries += 1;
        let size = u32::try_from(content.len()).with_context(|| format!("{name} is too big for the archive"))?;
        let name_size = u32::try_from(name.len() + 1)?;
        let fields = [self.entries, mode, 0, 0, 1, 0, size, 0, 0, device.0, device.1, name_size, 0];
        self.bytes.extend(b"070701");
        for field in fields {
            self.bytes.extend(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend(content);
        self.pad();
        Ok(())
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    /// Adds a file with its absolute path, and the directories above it.
    ///
    /// # Errors
    ///
    /// When it is larger than the format can say.
    pub(super) fn file(&mut self, path: &Path, content: &[u8]) -> Result<()> {
        let inside = path.strip_prefix("/").unwrap_or(path);
        self.directory(inside.parent().unwrap_or(Path::new("")))?;
        self.entry(&inside.to_string_lossy(), PROGRAM, (0, 0), content)
    }

    fn directory(&mut self, path: &Path) -> Result<()> {
        if path.as_os_str().is_empty() || !self.directories.insert(path.to_path_buf()) {
            return Ok(());
        }
        self.directory(path.parent().unwrap_or(Path::new("")))?;
        self.entry(&path.to_string_lossy(), DIRECTORY, (0, 0), &[])
    }

    /// Ends the archive.
    ///
    /// # Errors
    ///
    /// When the format has no room.
    pub(super) fn finish(mut self) -> Result<Vec<u8>> {
        self.entry("TRAILER!!!", 0, (0, 0), &[])?;
        Ok(self.bytes)
    }
}

/// The machine: `init` with the shared libraries it loads, the modules, the objects.
///
/// # Errors
///
/// When a file cannot be read.
pub(super) fn build(init: &Path, modules: &Modules, objects: &[PathBuf]) -> Result<Vec<u8>> {
    let read = |path: &Path| fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let mut archive = Archive::default();
    archive.directory(Path::new("dev"))?;
    archive.entry("dev/console", CONSOLE, (5, 1), &[])?;
    archive.directory(Path::new("modules"))?;
    archive.file(Path::new("/init"), &read(init)?)?;
    for library in libraries(init)? {
        archive.file(&library, &read(&library)?)?;
    }
    for (number, (name, bytes)) in modules.iter().enumerate() {
        archive.file(Path::new(&format!("/modules/{number:02}-{name}.ko")), bytes)?;
    }
    for object in objects {
        archive.file(&Path::new("/objects").join(object.file_name().unwrap_or_default()), &read(object)?)?;
    }
    archive.finish()
}

/// What the dynamic linker loads for a program, itself included; nothing for a static one.
fn libraries(program: &Path) -> Result<Vec<PathBuf>> {
    let listed = sh::read(sh::cmd("ldd").arg(program)).unwrap_or_default();
    let words = listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(words.map(PathBuf::from).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_archive_is_what_cpio_calls_newc() {
        let mut archive = Archive::default();
        archive.file(Path::new("/a/b"), b"hello").unwrap();
        let bytes = archive.finish().unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert_eq!(bytes.len() % 4, 0);
        assert_eq!(text.matches("070701").count(), 3, "a directory, a file and the trailer");
        // Header of 110 bytes, the name with its zero, padding; a directory has no content.
        let file = 112;
        assert_eq!(&text[110..112], "a\0");
        assert_eq!(&text[file..file + 6], "070701");
        assert_eq!(&text[file + 6 + 8..file + 6 + 16], "000081ed", "the mode of a program");
        assert_eq!(&text[file + 6 + 6 * 8..file + 6 + 7 * 8], "00000005", "its size");
        assert_eq!(&text[file + 110..file + 114], "a/b\0");
        assert_eq!(&text[file + 116..file + 121], "hello", "after padding to four bytes");
        assert!(text.contains("TRAILER!!!"));
    }
}
