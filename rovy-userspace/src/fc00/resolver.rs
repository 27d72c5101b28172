//! How programs of this host come to ask for names: systemd-resolved, or glibc's NSS module.
//!
//! systemd-resolved is told about one link and keeps that for as long as the link exists; nothing is written, and nothing
//! has to be undone. Files of the system are only looked at.

use std::io::{self, ErrorKind};
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use hickory_proto::op::{Message, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::process::Command;

use super::dns::{PORT, SERVICE};

/// Where systemd-resolved listens while it runs.
const RESOLVED: &str = "/run/systemd/resolve/io.systemd.Resolve";
/// Where glibc is told whom to ask.
pub const NSSWITCH: &str = "/etc/nsswitch.conf";
/// The NSS module's file.
const MODULE: &str = "libnss_rovy.so.2";
/// What puts the NSS module in front of DNS. Without the brackets names under .rovy that nobody has would be asked for on
/// the internet.
pub const NSS_COMMAND: &str = "sudo sed -i '/^hosts:/s/ dns/ rovy [!UNAVAIL=return] dns/' /etc/nsswitch.conf";
/// How long a command or an answer may take.
const PATIENCE: Duration = Duration::from_secs(5);
/// How long the agent may take for an answer.
const ANSWER: Duration = Duration::from_secs(1);

/// Why systemd-resolved was not told.
#[derive(Debug, thiserror::Error)]
pub enum ResolverError {
    /// Its program cannot be run.
    #[error("cannot run resolvectl: {0}")]
    Run(#[from] io::Error),
    /// It takes too long.
    #[error("resolvectl {0} did not end in {n} s", n = PATIENCE.as_secs())]
    Slow(String),
    /// It says no.
    #[error("resolvectl {command}: {said}")]
    Refused {
        /// What was asked.
        command: String,
        /// The first line it said.
        said: String,
    },
}

/// Whether systemd-resolved runs in this network namespace: links of another one are not its business.
///
/// # Errors
/// The table of sockets cannot be read.
pub fn resolved_runs() -> io::Result<bool> {
    // The kernel lists sockets in the network namespace of who made them.
    Ok(listens(&std::fs::read_to_string("/proc/thread-self/net/unix")?, RESOLVED))
}

/// Whether a socket that accepts connections has this path in the text of `/proc/net/unix`.
fn listens(table: &str, path: &str) -> bool {
    // Num, RefCount, Protocol, Flags (__SO_ACCEPTCON), Type, St, Inode, Path
    table.lines().any(|line| {
        let mut words = line.split_whitespace();
        words.nth(3).is_some_and(|flags| flags == "00010000") && words.nth(3).is_some_and(|at| at == path)
    })
}

/// What `resolvectl` is told about the device, in this order: from the moment that it has a server, it is asked for nothing but
/// these domains.
#[must_use]
pub fn settings(ifname: &str) -> [Vec<String>; 6] {
    let words = |all: &[&str]| all.iter().map(|w| (*w).to_owned()).collect();
    [
        words(&["default-route", ifname, "no"]),
        words(&["domain", ifname, "~rovy", "~c.f.ip6.arpa"]),
        words(&["llmnr", ifname, "no"]),
        words(&["mdns", ifname, "no"]),
        // The root zone is signed and knows of no .rovy.
        words(&["dnssec", ifname, "no"]),
        words(&["dns", ifname, &SERVICE.to_string()]),
    ]
}

/// Has systemd-resolved ask the agent behind a device for names under .rovy and of addresses of fc00::/8.
///
/// # Errors
/// [`ResolverError`]: the program is missing, not allowed, or does not answer.
pub async fn tell_resolved(ifname: &str) -> Result<(), ResolverError> {
    for words in settings(ifname) {
        resolvectl(&words).await?;
    }
    Ok(())
}

/// Whether systemd-resolved asks the agent behind a device.
///
/// # Errors
/// As [`tell_resolved`].
pub async fn resolved_asks(ifname: &str) -> Result<bool, ResolverError> {
    let said = resolvectl(&["domain".to_owned(), ifname.to_owned()]).await?;
    Ok(said.split_whitespace().any(|word| word == "~rovy"))
}

async fn resolvectl(words: &[String]) -> Result<String, ResolverError> {
    let mut command = Command::new("resolvectl");
    command.args(words).stdin(Stdio::null()).kill_on_drop(true);
    let Ok(output) = tokio::time::timeout(PATIENCE, command.output()).await else {
        return Err(ResolverError::Slow(words.join(" ")));
    };
    let output = output?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or_default().chars().take(200).collect();
    Err(ResolverError::Refused { command: words.join(" "), said })
}

/// Whether an agent of this network namespace answers at fc00::1.
#[must_use]
pub fn answers() -> bool {
    let asked = || {
        let socket = UdpSocket::bind("[::]:0")?;
        socket.connect((SERVICE, PORT))?;
        // Without an agent's device the question would leave this host.
        let local = socket.local_addr()?;
        if !matches!(local.ip(), std::net::IpAddr::V6(own) if super::packet::is_fc00(own)) {
            return Ok(false);
        }
        socket.set_read_timeout(Some(ANSWER))?;
        let mut question = Message::query();
        let name = Name::from_ascii("rovy.").map_err(io::Error::other)?;
        question.add_query(Query::query(name, RecordType::SOA));
        socket.send(&question.to_vec().map_err(io::Error::other)?)?;
        Ok::<_, io::Error>(socket.recv(&mut [0; 512])? > 0)
    };
    asked().unwrap_or(false)
}

/// What glibc is told about `rovy`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Switch {
    /// Nothing.
    Absent,
    /// To ask it before DNS.
    Asked,
    /// To ask DNS first: names under .rovy leave this host.
    BehindDns,
}

/// Reads an nsswitch.conf.
#[must_use]
pub fn switch(text: &str) -> Switch {
    let mut lines = text.lines().filter_map(|l| l.split('#').next()?.trim().strip_prefix("hosts:"));
    // glibc takes the last line of a database.
    let services: Vec<&str> = lines.next_back().unwrap_or_default().split_whitespace().collect();
    let place = |name: &str| services.iter().position(|s| *s == name);
    match (place("rovy"), place("dns")) {
        (None, _) => Switch::Absent,
        (Some(rovy), Some(dns)) if dns < rovy => Switch::BehindDns,
        (Some(_), _) => Switch::Asked,
    }
}

/// As [`switch()`], of this host. A file that is not there says nothing.
///
/// # Errors
/// It cannot be read.
pub fn host_switch() -> io::Result<Switch> {
    match std::fs::read_to_string(NSSWITCH) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(Switch::Absent),
        other => other.map(|text| switch(&text)),
    }
}

/// The NSS module, where the dynamic linker looks for libraries.
#[must_use]
pub fn module() -> Option<PathBuf> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    let roots = ["/usr/local/lib", "/lib", "/usr/lib", "/lib64", "/usr/lib64"].map(Path::new);
    let places = roots.iter().flat_map(|root| [root.join(MODULE), root.join(&triplet).join(MODULE)]);
    places.into_iter().find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listening_socket_is_told_from_others() {
        let table = "Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 20001 /run/systemd/resolve/io.systemd.Resolve
0000000000000000: 00000003 00000000 00000000 0001 03 20002 /run/other
0000000000000000: 00000002 00000000 00010000 0001 01 20003
";
        assert!(listens(table, RESOLVED));
        assert!(!listens(table, "/run/other"), "it is connected, and takes nobody");
        assert!(!listens(table, "/run/systemd/resolve/io.systemd.Resolve.Monitor"));
        assert!(!listens("", RESOLVED));
    }

    #[test]
    fn the_servers_come_last_and_the_device_is_named_everywhere() {
        let all = settings("rovy7");
        assert!(all.iter().all(|words| words[1] == "rovy7"));
        assert_eq!((all[0].join(" "), all[5].join(" ")), ("default-route rovy7 no".into(), "dns rovy7 fc00::1".into()));
    }

    #[test]
    fn nsswitch_is_read_as_glibc_reads_it() {
        for (text, expected) in [
            ("hosts: files rovy [!UNAVAIL=return] dns\n", Switch::Asked),
            ("passwd: files\nhosts:\tfiles dns rovy\n", Switch::BehindDns),
            ("hosts: files dns\n", Switch::Absent),
            ("# hosts: files rovy\n  hosts: files dns # rovy\n", Switch::Absent),
            ("hosts: files dns\nhosts: rovy\n", Switch::Asked),
            ("", Switch::Absent),
        ] {
            assert_eq!(switch(text), expected, "{text}");
        }
    }

    #[test]
    fn the_command_of_the_manual_does_what_is_said() {
        let script = NSS_COMMAND.split('\'').nth(1).expect("a script");
        let dir = tempfile::tempdir().expect("a directory");
        let file = dir.path().join("nsswitch.conf");
        std::fs::write(&file, "passwd: files dns\nhosts:          files mdns4 dns\n").expect("written");
        let done = std::process::Command::new("sed").args(["-i", script]).arg(&file).status().expect("sed runs");
        assert!(done.success());
        let text = std::fs::read_to_string(&file).expect("read");
        assert_eq!(text, "passwd: files dns\nhosts:          files mdns4 rovy [!UNAVAIL=return] dns\n");
        assert_eq!(switch(&text), Switch::Asked);
    }
}
