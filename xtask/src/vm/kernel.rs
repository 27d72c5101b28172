//! A Debian cloud kernel, downloaded and unpacked but not installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{setup::apt, sh};

/// An unpacked kernel.
pub(super) struct Kernel {
    /// The compressed kernel image.
    pub(super) image: PathBuf,
    modules: PathBuf,
}

/// A module and the modules it needs, as they are to be loaded.
pub(super) type Modules = Vec<(String, Vec<u8>)>;

/// Finds the package of this release (`6.12`), or of the distribution's own when none is named, and unpacks it.
///
/// # Errors
///
/// When apt does not have such a kernel.
pub(super) fn get(release: Option<&str>) -> Result<Kernel> {
    let package = match release {
        Some(release) => named(release)?,
        None => own()?,
    };
    let dir = sh::target("vm").join(&package);
    // The last thing that is made: a directory without it is what an interrupted download left.
    let done = dir.join("unpacked");
    if !done.is_file() {
        apt::unpack(&[package], &dir)?;
        fs::write(&done, "")?;
    }
    let image = only(&dir.join("boot"), "vmlinuz-")?;
    let modules = ["lib/modules", "usr/lib/modules"].map(|place| dir.join(place));
    let modules = modules.into_iter().find(|place| place.is_dir()).context("the kernel's package has no modules")?;
    Ok(Kernel { image, modules })
}

fn own() -> Result<String> {
    const META: &str = "linux-image-cloud-amd64";
    if !apt::available(META) {
        apt::update();
    }
    let depends = sh::read(sh::cmd("apt-cache").env("LC_ALL", "C").args(["depends", META]))?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: "));
    Ok(package.with_context(|| format!("apt has no {META}"))?.to_owned())
}

fn named(release: &str) -> Result<String> {
    let pattern = format!("^linux-image-{}[.-].*cloud-amd64$", release.replace('.', "\\."));
    let search = || sh::read(sh::cmd("apt-cache").args(["search", "--names-only", &pattern]));
    let mut found = search()?;
    if found.is_empty() {
        apt::update();
        found = search()?;
    }
    let mut names: Vec<&str> = found.lines().filter_map(|line| line.split_whitespace().next()).collect();
    names.sort_by_key(|name| numbers(name));
    match names.last() {
        Some(name) => Ok((*name).to_owned()),
        None => {
            bail!("apt has no cloud kernel {release} here; a release of Debian that has it, or its backports, would")
        }
    }
}

/// The numbers in a name: 6.1.0-56 is newer than 6.1.0-9.
fn numbers(name: &str) -> Vec<u64> {
    name.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

fn only(dir: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))?;
    let found = entries.flatten().find(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    Ok(found.with_context(|| format!("no {prefix} in {}", dir.display()))?.path())
}

impl Kernel {
    /// These modules and what they depend on, in the order in which they are loaded. What is not a module is built in.
    ///
    /// # Errors
    ///
    /// When a module cannot be read or decompressed.
    pub(super) fn modules(&self, names: &[&str]) -> Result<Modules> {
        let mut loaded = Vec::new();
        for name in names {
            self.module(name, &mut loaded)?;
        }
        Ok(loaded)
    }

    fn module(&self, name: &str, loaded: &mut Modules) -> Result<()> {
        let known = loaded.iter().any(|(loaded, _)| loaded == name);
        let Some(path) = find(&self.modules, name)?.filter(|_| !known) else {
            return Ok(());
        };
        let bytes = if path.extension().is_some_and(|extension| extension == "xz") {
            let output = sh::cmd("xz").arg("-dc").arg(&path).output().context("cannot start xz (package xz-utils)")?;
            anyhow::ensure!(output.status.success(), "cannot decompress {}", path.display());
            output.stdout
        } else {
            fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?
        };
        for needed in depends(&bytes) {
            self.module(&needed, loaded)?;
        }
        loaded.push((name.to_owned(), bytes));
        Ok(())
    }
}

/// The file of a module; its name may have dashes where the kernel says underscores.
fn find(dir: &Path, name: &str) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(dir).with_context(|| format!("cannot read {}", dir.display()))? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            if let Some(found) = find(&entry.path(), name)? {
                return Ok(Some(found));
            }
        } else {
            let file = entry.file_name().to_string_lossy().replace('-', "_");
            if file.strip_suffix(".xz").unwrap_or(&file).strip_suffix(".ko") == Some(name) {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}

/// What a module names in the `depends=` of its `.modinfo`.
fn depends(module: &[u8]) -> Vec<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(at) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return Vec::new();
    };
    let rest = module.get(at + KEY.len()..).unwrap_or_default();
    let value = rest.split(|byte| *byte == 0).next().unwrap_or_default();
    let names = String::from_utf8_lossy(value).replace('-', "_");
    names.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_names_what_it_needs() {
        assert_eq!(
            depends(b"..\0license=GPL\0depends=udp_tunnel,ip6-udp-tunnel\0name=x\0"),
            ["udp_tunnel", "ip6_udp_tunnel"]
        );
        assert!(depends(b"\0license=GPL\0depends=\0name=veth\0").is_empty());
        assert!(depends(b"no module").is_empty());
    }

    #[test]
    fn the_newest_kernel_is_the_highest_number() {
        assert!(numbers("linux-image-6.1.0-56-cloud-amd64") > numbers("linux-image-6.1.0-9-cloud-amd64"));
    }
}
