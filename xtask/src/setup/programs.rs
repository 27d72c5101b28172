//! The programs that tests and demo run, and the packages they come in.

use crate::sh;

/// For namespaces and devices: a program and its package.
const NET: [(&str, &str); 4] =
    [("ip", "iproute2"), ("ping", "iputils-ping"), ("nsenter", "util-linux"), ("ethtool", "ethtool")];

/// For other kernels. The archiver unpacks the modules of newer kernels.
const VM: [(&str, &str); 3] = [("qemu-system-x86_64", "qemu-system-x86"), ("xz", "xz-utils"), ("strip", "binutils")];

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
