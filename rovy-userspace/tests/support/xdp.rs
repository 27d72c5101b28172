//! The smallest XDP program, attached without any object file.
#![allow(unsafe_code)]

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
/// How to attach.
pub(crate) const GENERIC: u32 = 2;
pub(crate) const NATIVE: u32 = 4;

fn bpf(command: libc::c_long, attr: &[u32]) -> OwnedFd {
    // SAFETY: the kernel reads the bytes of `attr`, which outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_ptr(), size_of_val(attr)) };
    assert!(fd >= 0, "bpf({command}): {}", std::io::Error::last_os_error());
    // SAFETY: the kernel just made this descriptor for us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

/// Attaches `return XDP_PASS` to an interface of the current namespace for as long as the result lives.
pub(crate) fn attach(ifindex: u32, mode: u32) -> OwnedFd {
    // mov64 r0, 2; exit
    let program: [u64; 2] = [0x2_0000_00b7, 0x95];
    let licence = c"GPL";
    let word = |p: u64| [p as u32, (p >> 32) as u32];
    let [i0, i1] = word(program.as_ptr() as u64);
    let [l0, l1] = word(licence.as_ptr() as u64);
    let program = bpf(BPF_PROG_LOAD, &[BPF_PROG_TYPE_XDP, 2, i0, i1, l0, l1, 0, 0, 0, 0]);
    bpf(BPF_LINK_CREATE, &[program.as_raw_fd() as u32, ifindex, BPF_XDP, mode])
}
