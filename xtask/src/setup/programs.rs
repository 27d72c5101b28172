//! The programs that tests and demo run, and the packages they come in.

use std::process::Command;

use super::toolchain;
use crate::sh;

/// For namespaces and devices: a program and its package.
const NET: [(&str, &str); 13] = [
    ("ip", "iproute2"),
    ("ping", "iputils-ping"),
    ("nsenter", "util-linux"),
    ("ethtool", "ethtool"),
    ("nft", "nftables"),
    ("curl", "curl"),
    ("socat", "socat"),
    ("iperf3", "iperf3"),
    ("traceroute", "traceroute"),
    ("mtr", "mtr-tiny"),
    ("tcpdump", "tcpdump"),
    ("tshark", "tshark"),
    ("dig", "bind9-dnsutils"),
];

/// For other kernels, besides the emulator: the archiver unpacks the modules of newer ones.
const VM: [(&str, &str); 2] = [("xz", "xz-utils"), ("strip", "binutils")];

/// What the test with systemd-resolved runs. It is unpacked and never installed: its package takes the machine's resolver over.
const RESOLVED: [&str; 2] = ["systemd-resolved", "libsystemd-shared"];

const QEMU: &str = "qemu-system-x86_64";

fn missing(programs: &[(&str, &str)]) -> Vec<String> {
    let lacking = programs.iter().filter(|(program, _)| sh::find(program).is_none());
    lacking.map(|(_, package)| (*package).to_owned()).collect()
}

/// Packages of the programs for namespaces that this machine lacks.
pub(crate) fn missing_net() -> Vec<String> {
    missing(&NET)
}

/// Packages of the programs for other kernels that this machine lacks.
pub(crate) fn missing_vm() -> Vec<String> {
    missing(&VM)
}

/// The packages of systemd-resolved, when neither the machine has it nor the build directory.
pub(crate) fn missing_resolved() -> Vec<String> {
    let program = "lib/systemd/systemd-resolved";
    let usual = ["/", "/usr"].map(std::path::PathBuf::from);
    let roots = usual.into_iter().chain([toolchain::private(), toolchain::private().join("usr")]);
    let found = roots.into_iter().any(|root| root.join(program).is_file());
    if found { Vec::new() } else { RESOLVED.map(str::to_owned).to_vec() }
}

/// The package of the emulator, when this machine lacks it.
pub(crate) fn missing_qemu() -> Option<String> {
    qemu().is_none().then(|| "qemu-system-x86".to_owned())
}

/// The emulator: the machine's, or the one that was unpacked because it could not be installed.
pub(crate) fn qemu() -> Option<Command> {
    if let Some(system) = sh::find(QEMU) {
        return Some(sh::cmd(system));
    }
    let usr = toolchain::private().join("usr");
    let unpacked = usr.join("bin").join(QEMU);
    unpacked.is_file().then(|| {
        let mut command = sh::cmd(unpacked);
        command.env("LD_LIBRARY_PATH", toolchain::private_libraries());
        command
            .env("QEMU_MODULE_DIR", usr.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH)).join("qemu"));
        for data in ["qemu", "seabios"] {
            command.arg("-L").arg(usr.join("share").join(data));
        }
        command
    })
}
