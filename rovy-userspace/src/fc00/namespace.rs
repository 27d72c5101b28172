//! Network namespaces by name.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::Fc00Error;

/// Where `ip netns` keeps them.
const NAMES: &str = "/run/netns";

/// The file that stands for a network namespace: a name of `ip netns`, or a path (`/proc/PID/ns/net`).
fn file(name: &str) -> PathBuf {
    if name.contains('/') { name.into() } else { PathBuf::from(NAMES).join(name) }
}

/// Moves the calling thread into the network namespace: devices and sockets made from now on belong to it.
///
/// # Errors
/// There is none of this name, or no permission (`CAP_SYS_ADMIN`).
pub fn enter(name: &str) -> Result<(), Fc00Error> {
    let none = || Fc00Error::NoNamespace { name: name.to_owned() };
    if matches!(name, "" | "." | "..") {
        return Err(none());
    }
    let failed = |source: std::io::Error| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ENOTDIR | libc::EINVAL | libc::EISDIR) => none(),
        Some(libc::EPERM | libc::EACCES) => Fc00Error::Namespace { name: name.to_owned() },
        _ => Fc00Error::Io { what: format!("enter the network namespace {name}"), source },
    };
    let file = File::open(file(name)).map_err(failed)?;
    move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network)).map_err(|e| failed(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_ip_netns() {
        assert_eq!(file("blue"), PathBuf::from("/run/netns/blue"));
        assert_eq!(file("/proc/1/ns/net"), PathBuf::from("/proc/1/ns/net"));
        for none in ["", "..", "no-such-namespace-anywhere", "/dev/null"] {
            assert!(matches!(enter(none), Err(Fc00Error::NoNamespace { .. } | Fc00Error::Namespace { .. })), "{none}");
        }
    }
}
