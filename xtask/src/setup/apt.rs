//! Debian packages: installed where nothing has to go for it, unpacked privately otherwise.

use std::{fs, path::Path};

use anyhow::{Context, Result, bail};

use crate::sh;

/// What `apt-get install --simulate` would do.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Simulation {
    /// Packages that are new on the machine.
    pub(crate) installs: Vec<String>,
    /// Packages the machine has in another version.
    pub(crate) upgrades: Vec<String>,
    /// Packages that would be taken away.
    pub(crate) removals: Vec<String>,
}

impl Simulation {
    /// Reads apt's own words: `Inst name [old] (new ..)` and `Remv name [version]`.
    pub(crate) fn parse(text: &str) -> Self {
        let mut simulation = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match (words.next(), words.next(), words.next()) {
                (Some("Inst"), Some(name), Some(next)) if next.starts_with('[') => {
                    simulation.upgrades.push(name.to_owned());
                }
                (Some("Inst"), Some(name), _) => simulation.installs.push(name.to_owned()),
                (Some("Remv" | "Purg"), Some(name), _) => simulation.removals.push(name.to_owned()),
                _ => {}
            }
        }
        simulation
    }
}

/// Whether this is a machine with apt.
pub(crate) fn present() -> bool {
    sh::find("apt-get").is_some()
}

/// Fetches the lists of packages, once in the life of this process.
///
/// A list that cannot be fetched is no error here: the one the machine has may do, and what is then missing says so itself.
pub(crate) fn update() {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let mut command = sh::as_root("apt-get");
        command.args(["update", "-q"]);
        println!("setup: {}", sh::line(&command));
        if let Err(error) = sh::read(&mut command) {
            println!("setup: going on with the lists of packages this machine has: {error:#}");
        }
    });
}

/// Whether apt can install this package.
pub(crate) fn available(package: &str) -> bool {
    let mut command = sh::cmd("apt-cache");
    let policy = sh::read(command.env("LC_ALL", "C").args(["policy", package])).unwrap_or_default();
    policy.lines().any(|line| line.trim().strip_prefix("Candidate:").is_some_and(|version| version.trim() != "(none)"))
}

/// Asks apt what installing these packages would mean.
///
/// # Errors
///
/// When apt cannot install them at all.
pub(crate) fn simulate(packages: &[String]) -> Result<Simulation> {
    let mut command = sh::cmd("apt-get");
    command.env("LC_ALL", "C").args(["install", "--simulate", "--no-install-recommends"]).args(packages);
    Ok(Simulation::parse(&sh::read(&mut command)?))
}

/// Installs packages, through sudo when this process is not root.
///
/// # Errors
///
/// When apt fails, or would have to take a package away for it.
pub(crate) fn install(packages: &[String]) -> Result<()> {
    if !sh::is_root() && !sh::sudo_works() {
        bail!("installing {0} needs root: run `apt-get install {0}` as root, then this again", packages.join(" "));
    }
    let mut command = sh::as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "-y", "-q", "--no-remove"]);
    command.arg("--no-install-recommends").args(packages);
    println!("setup: {}", sh::line(&command));
    sh::read(&mut command)?;
    Ok(())
}

/// What has to be unpacked for `packages` to run: what the machine lacks, and of compiler, LLVM and emulator every part, because they
/// look for one another beside themselves.
///
/// # Errors
///
/// When apt does not answer.
pub(crate) fn with_relatives(packages: &[String], simulation: Simulation) -> Result<Vec<String>> {
    let mut command = sh::cmd("apt-cache");
    command.env("LC_ALL", "C").args(["depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts"]);
    command.args(["--no-breaks", "--no-replaces", "--no-enhances"]).args(packages);
    let tree = sh::read(&mut command)?;
    let names = tree.lines().filter(|line| !line.starts_with([' ', '<', '|']));
    let parts = names.filter(|name| {
        let release: String =
            name.chars().skip_while(|c| !c.is_ascii_digit()).take_while(char::is_ascii_digit).collect();
        let llvm = name.contains("llvm") && packages.iter().any(|package| package.contains(&release));
        llvm || ["rust", "cargo", "polly", "qemu", "seabios"].iter().any(|part| name.contains(part))
    });
    let mut all: Vec<String> = parts.filter(|name| available(name)).map(str::to_owned).collect();
    all.extend(simulation.installs);
    all.extend(simulation.upgrades);
    all.sort();
    all.dedup();
    Ok(all)
}

/// Downloads packages and unpacks them below `dir`; nothing on the machine changes and no root is needed.
///
/// # Errors
///
/// When a package cannot be fetched or unpacked.
pub(crate) fn unpack(packages: &[String], dir: &Path) -> Result<()> {
    let archives = dir.join("archives");
    fs::create_dir_all(&archives).with_context(|| format!("cannot create {}", archives.display()))?;
    println!("setup: apt-get download {} into {}", packages.join(" "), dir.display());
    let mut command = sh::cmd("apt-get");
    // As root apt would drop its privileges for a download, and then could not write below a private directory.
    command.current_dir(&archives).args(["download", "-q", "-o", "APT::Sandbox::User=root"]).args(packages);
    sh::read(&mut command)?;
    for entry in fs::read_dir(&archives)? {
        let archive = entry?.path();
        sh::read(sh::cmd("dpkg-deb").arg("-x").arg(&archive).arg(dir))?;
        fs::remove_file(&archive)?;
    }
    Ok(fs::remove_dir(&archives)?)
}

#[cfg(test)]
mod tests {
    use super::Simulation;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn a_conflict_is_a_removal() {
        let text = "NOTE: This is only a simulation!\n\
            Reading package lists...\n\
            The following packages will be REMOVED:\n  cargo rustc\n\
            Remv cargo [0.66.0+ds1-1]\n\
            Remv rustc [1.63.0+dfsg1-2]\n\
            Inst libllvm22 (1:22.1.8-1~deb12u1 Debian-Security:12/oldstable-security [amd64])\n\
            Inst rustc-web (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64])\n\
            Conf rustc-web (1.96.0+dfsg1-1~deb12u2 Debian-Security:12/oldstable-security [amd64])\n";
        let simulation = Simulation::parse(text);
        assert_eq!(simulation.removals, names(&["cargo", "rustc"]));
        assert_eq!(simulation.installs, names(&["libllvm22", "rustc-web"]));
        assert!(simulation.upgrades.is_empty());
    }

    #[test]
    fn a_new_version_of_what_is_there_is_an_upgrade() {
        let text = "Inst libxml2 [2.9.14] (2.9.15 Debian:12 [amd64]) []\nInst ethtool (1:6.1-1 Debian:12 [amd64])\n";
        let simulation = Simulation::parse(text);
        assert_eq!(simulation.upgrades, names(&["libxml2"]));
        assert_eq!(simulation.installs, names(&["ethtool"]));
        assert!(simulation.removals.is_empty());
    }

    #[test]
    fn nothing_to_do_is_empty() {
        assert_eq!(Simulation::parse("ethtool is already the newest version (1:6.1-1).\n"), Simulation::default());
    }
}
