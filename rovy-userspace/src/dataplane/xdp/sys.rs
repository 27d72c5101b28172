//! What aya lacks: the device a link holds its program at, and what can be done with a program that another process loaded.
#![allow(unsafe_code)]

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const BPF_OBJ_GET: libc::c_long = 7;
const BPF_OBJ_GET_INFO_BY_FD: libc::c_long = 15;
const BPF_LINK_CREATE: libc::c_long = 28;

/// `union bpf_attr` as `BPF_OBJ_GET` reads it.
#[repr(C)]
struct ObjGet {
    pathname: u64,
    bpf_fd: u32,
    file_flags: u32,
}

/// `union bpf_attr` as `BPF_OBJ_GET_INFO_BY_FD` reads it.
#[repr(C)]
struct InfoByFd {
    bpf_fd: u32,
    info_len: u32,
    info: u64,
}

/// The start of `struct bpf_link_info`, for a link of XDP.
#[repr(C)]
#[derive(Default)]
struct LinkInfo {
    kind: u32,
    id: u32,
    prog_id: u32,
    padding: u32,
    ifindex: u32,
    rest: [u32; 27],
}

/// `BPF_LINK_TYPE_XDP`.
const XDP: u32 = 6;

/// The device of the XDP link pinned at `path`: its index in its own network namespace, 0 when the device is gone.
///
/// # Errors
/// What the kernel said; `InvalidData` when the pin is no XDP link.
pub(super) fn link_ifindex(path: &Path) -> io::Result<u32> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let mut get = ObjGet { pathname: path.as_ptr() as u64, bpf_fd: 0, file_flags: 0 };
    // SAFETY: the attribute names a string that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET, &raw mut get, size_of::<ObjGet>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    let _owned = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let mut info = LinkInfo::default();
    let len = size_of::<LinkInfo>() as u32;
    let mut by_fd = InfoByFd { bpf_fd: fd as u32, info_len: len, info: (&raw mut info) as u64 };
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, which outlives the call.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw mut by_fd, size_of::<InfoByFd>()) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    if info.kind != XDP {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "not an XDP link"));
    }
    Ok(info.ifindex)
}

/// `union bpf_attr` as `BPF_LINK_CREATE` reads it for XDP.
#[repr(C)]
struct LinkCreate {
    prog_fd: u32,
    target_ifindex: u32,
    attach_type: u32,
    flags: u32,
}

/// `BPF_XDP` of `enum bpf_attach_type`.
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`.
const GENERIC: u32 = 1 << 1;
/// `XDP_FLAGS_DRV_MODE`.
const DRIVER: u32 = 1 << 2;

/// Puts a program onto a device, in its driver or in the generic hook. The program stays as long as the link is held.
///
/// # Errors
/// What the kernel said.
pub(super) fn attach_xdp(program: BorrowedFd<'_>, ifindex: u32, native: bool) -> io::Result<OwnedFd> {
    let flags = if native { DRIVER } else { GENERIC };
    let mut create =
        LinkCreate { prog_fd: program.as_raw_fd() as u32, target_ifindex: ifindex, attach_type: ATTACH_XDP, flags };
    // SAFETY: the kernel reads the attribute, which outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_LINK_CREATE, &raw mut create, size_of::<LinkCreate>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Maps a program may use, more than ours does.
const MAPS: usize = 64;

/// The start of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgramInfo {
    kind: u32,
    id: u32,
    tag: [u8; 8],
    lengths: [u32; 2],
    instructions: [u64; 2],
    load_time: u64,
    created_by_uid: u32,
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; 16],
}

/// `BPF_PROG_TYPE_XDP`.
const PROGRAM_XDP: u32 = 6;

/// The ids of the maps that an XDP program of this name uses.
///
/// # Errors
/// What the kernel said; `InvalidData` when it is anything else than such a program.
pub(super) fn xdp_program_maps(program: BorrowedFd<'_>, name: &str) -> io::Result<Vec<u32>> {
    let mut ids = vec![0_u32; MAPS];
    let (nr_map_ids, map_ids) = (MAPS as u32, ids.as_mut_ptr() as u64);
    let mut info = ProgramInfo { nr_map_ids, map_ids, ..ProgramInfo::default() };
    let len = size_of::<ProgramInfo>() as u32;
    let mut by_fd = InfoByFd { bpf_fd: program.as_raw_fd() as u32, info_len: len, info: (&raw mut info) as u64 };
    // SAFETY: the kernel writes at most `info_len` bytes to `info`, and `nr_map_ids` numbers to where `map_ids` points; both
    // outlive the call. Where the descriptor is not a program's it writes `info` alone.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, BPF_OBJ_GET_INFO_BY_FD, &raw mut by_fd, size_of::<InfoByFd>()) };
    if rc < 0 {
        return Err(io::Error::last_os_error());
    }
    // The information about a map begins alike, but has no name in this place.
    if info.kind != PROGRAM_XDP || info.name.split(|b| *b == 0).next() != Some(name.as_bytes()) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("not the XDP program `{name}`")));
    }
    ids.truncate(info.nr_map_ids as usize);
    Ok(ids)
}
