//! Packet sockets (`packet(7)`): what the safe wrappers of the system calls lack, an `AF_PACKET` address and
//! the lock of a filter.
#![allow(unsafe_code)]

use std::io::{self, IoSliceMut};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvFlags, ReturnFlags, SocketAddrAny, SocketFlags, SocketType, getsockname,
    recvmsg, socket_with, sockopt,
};
use socket2::{SockFilter, SockRef};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Whom a frame was for, as the device saw it (`sll_pkttype`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Audience {
    Us,
    Broadcast,
    Multicast,
    Others,
}

/// What `recvmsg` told of a frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    pub(super) len: usize,
    pub(super) truncated: bool,
    pub(super) audience: Audience,
}

/// The part of `sockaddr_ll` that is of use here.
struct LinkAddress {
    /// EtherType in the order of the host.
    protocol: u16,
    ifindex: i32,
    audience: Audience,
}

/// A raw packet socket bound to one interface and EtherType, and never open for anything else in between.
pub(super) fn open(ifindex: u32, ethertype: u16) -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    let address = libc::sockaddr_ll {
        sll_family: libc::AF_PACKET as u16,
        sll_protocol: ethertype.to_be(),
        sll_ifindex: i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?,
        sll_hatype: 0,
        sll_pkttype: 0,
        sll_halen: 0,
        sll_addr: [0; 8],
    };
    let len = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the descriptor is open, and the kernel reads `len` bytes of `address`, which outlives the call.
    match unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), len) } {
        0 => Ok(fd),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Has the interface take frames to a group, for as long as the socket is open.
pub(super) fn join(fd: impl AsFd, ifindex: u32, group: [u8; 6]) -> io::Result<()> {
    let mut request = libc::packet_mreq {
        mr_ifindex: i32::try_from(ifindex).map_err(|_| io::Error::from_raw_os_error(libc::ENODEV))?,
        mr_type: libc::PACKET_MR_MULTICAST as u16,
        mr_alen: 6,
        mr_address: [0; 8],
    };
    request.mr_address[..6].copy_from_slice(&group);
    let (level, name) = (libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP);
    let len = size_of::<libc::packet_mreq>() as libc::socklen_t;
    let fd = fd.as_fd().as_raw_fd();
    // SAFETY: the descriptor is open, and the kernel reads `len` bytes of `request`, which outlives the call.
    match unsafe { libc::setsockopt(fd, level, name, (&raw const request).cast(), len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Lets frames of one EtherType through and no others, for good: whoever holds the socket may bind it anew, and would see
/// all traffic of the host.
pub(super) fn lock_to(fd: impl AsFd, ethertype: u16) -> io::Result<()> {
    /// Where a filter finds the frame's protocol: `SKF_AD_OFF + SKF_AD_PROTOCOL`.
    const PROTOCOL: u32 = (libc::SKF_AD_OFF + libc::SKF_AD_PROTOCOL) as u32;
    let code = |parts: u32| parts as u16;
    let filter = [
        SockFilter::new(code(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS), 0, 0, PROTOCOL),
        SockFilter::new(code(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K), 0, 1, ethertype.into()),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, u32::MAX),
        SockFilter::new(code(libc::BPF_RET | libc::BPF_K), 0, 0, 0),
    ];
    let fd = fd.as_fd();
    SockRef::from(&fd).attach_filter(&filter)?;
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let option = (&raw const on).cast();
    // SAFETY: the descriptor is open, and the kernel reads `len` bytes of `on`, which outlives the call.
    match unsafe { libc::setsockopt(fd.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LOCK_FILTER, option, len) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// EtherType and interface that a raw packet socket is bound to; `None` for any other descriptor.
pub(super) fn bound(fd: impl AsFd) -> Option<(u16, u32)> {
    let fd = fd.as_fd();
    let raw =
        sockopt::socket_domain(fd) == Ok(AddressFamily::PACKET) && sockopt::socket_type(fd) == Ok(SocketType::RAW);
    let address = link_address(&getsockname(fd).ok().filter(|_| raw)?)?;
    Some((address.protocol, u32::try_from(address.ifindex).ok()?))
}

/// Hands the socket to the reactor of the current tokio runtime, errors included: an interface that goes down is one.
pub(super) fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: `OwnedFd` keeps one open descriptor for as long as it lives, which `AsyncFd` now owns.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE | Interest::ERROR) };
    registered.map_err(|e| e.into_parts().1)
}

/// Whether the interface of a bound socket was removed: the kernel sets its index to -1 then.
pub(super) fn orphaned(fd: impl AsFd) -> bool {
    matches!(getsockname(fd).map(|a| link_address(&a)), Ok(Some(LinkAddress { ifindex: ..=0, .. })))
}

/// Frames that [`send_all`] takes at once.
pub(super) const MANY: usize = 64;

/// Sends frames that begin with the same header, at most [`MANY`], by as few system calls as it takes.
///
/// # Errors
/// How many were sent before, and what the kernel said of the next.
pub(super) fn send_all(fd: impl AsFd, header: &[u8], messages: &[&[u8]]) -> Result<(), (usize, io::Error)> {
    let part = |bytes: &[u8]| libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut parts = [[part(header), part(&[])]; MANY];
    // SAFETY: all bytes zero is a value of this plain C structure: no address, no parts, no control messages.
    let mut frames: [libc::mmsghdr; MANY] = unsafe { std::mem::zeroed() };
    for ((message, parts), frame) in messages.iter().zip(&mut parts).zip(&mut frames) {
        parts[1] = part(message);
        frame.msg_hdr.msg_iov = parts.as_mut_ptr();
        frame.msg_hdr.msg_iovlen = parts.len() as _;
    }
    let (fd, count) = (fd.as_fd().as_raw_fd(), messages.len().min(MANY));
    let mut sent = 0;
    while let Some(rest) = frames.get_mut(sent..count).filter(|r| !r.is_empty()) {
        let flags = libc::MSG_DONTWAIT as _;
        // SAFETY: the descriptor is open, and the kernel reads as many entries as there are. Their parts, and the bytes that
        // those point to, outlive the call and are only read.
        match unsafe { libc::sendmmsg(fd, rest.as_mut_ptr(), rest.len() as libc::c_uint, flags) } {
            n @ 1.. => sent += n.unsigned_abs() as usize,
            0 => return Err((sent, io::ErrorKind::WouldBlock.into())),
            _ => match io::Error::last_os_error() {
                e if e.kind() == io::ErrorKind::Interrupted => {}
                e => return Err((sent, e)),
            },
        }
    }
    Ok(())
}

/// Takes one frame: its header into `header`, the rest into `payload`.
pub(super) fn receive(fd: impl AsFd, header: &mut [u8], payload: &mut [u8]) -> io::Result<Frame> {
    let mut parts = [IoSliceMut::new(header), IoSliceMut::new(payload)];
    let got = recvmsg(fd, &mut parts, &mut RecvAncillaryBuffer::default(), RecvFlags::DONTWAIT)?;
    let audience = got.address.as_ref().and_then(link_address).map_or(Audience::Others, |a| a.audience);
    Ok(Frame { len: got.bytes, truncated: got.flags.contains(ReturnFlags::TRUNC), audience })
}

fn link_address(address: &SocketAddrAny) -> Option<LinkAddress> {
    if address.address_family() != AddressFamily::PACKET {
        return None;
    }
    // SAFETY: `SocketAddrAny` keeps `addr_len` initialised bytes at `as_ptr` for as long as it lives.
    let bytes = unsafe { std::slice::from_raw_parts(address.as_ptr().cast::<u8>(), address.addr_len() as usize) };
    let protocol = u16::from_be_bytes(*bytes.get(2..)?.first_chunk()?);
    let ifindex = i32::from_ne_bytes(*bytes.get(4..)?.first_chunk()?);
    let audience = match *bytes.get(10)? {
        libc::PACKET_HOST => Audience::Us,
        libc::PACKET_BROADCAST => Audience::Broadcast,
        libc::PACKET_MULTICAST => Audience::Multicast,
        _ => Audience::Others,
    };
    Some(LinkAddress { protocol, ifindex, audience })
}
