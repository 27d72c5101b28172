//! What a device can do with XDP, by the generic netlink family `netdev` (kernel 6.3).

use super::NetlinkError;

/// The driver runs XDP programs.
pub const XDP_ACT_BASIC: u64 = 1;
/// It takes `XDP_REDIRECT` from a program.
pub const XDP_ACT_REDIRECT: u64 = 2;
/// It transmits frames redirected to it. On veth only while the peer has an XDP program or GRO: changes at run time.
pub const XDP_ACT_NDO_XMIT: u64 = 4;
/// AF_XDP without copies.
pub const XDP_ACT_XSK_ZEROCOPY: u64 = 8;
/// Programs run in the device.
pub const XDP_ACT_HW_OFFLOAD: u64 = 16;
/// It receives frames of several buffers.
pub const XDP_ACT_RX_SG: u64 = 32;
/// It transmits redirected frames of several buffers.
pub const XDP_ACT_NDO_XMIT_SG: u64 = 64;

/// Whether a device transmits frames that a native XDP program redirects to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transmit {
    /// It does.
    Yes,
    /// Such frames would be lost.
    No,
    /// The kernel does not tell.
    Unknown,
}

/// The XDP feature bits of a device; `None` where the kernel has no such family. Asks in the network namespace of the
/// calling thread.
///
/// # Errors
/// The kernel refused, or there is no such device.
pub fn xdp_features(ifindex: u32) -> Result<Option<u64>, NetlinkError> {
    let _ = ifindex;
    todo!()
}

/// Whether `ifindex` transmits redirected frames, as of now.
#[must_use]
pub fn can_transmit_redirected(ifindex: u32) -> Transmit {
    match xdp_features(ifindex) {
        Ok(Some(bits)) if bits & XDP_ACT_NDO_XMIT != 0 => Transmit::Yes,
        Ok(Some(_)) => Transmit::No,
        Ok(None) | Err(_) => Transmit::Unknown,
    }
}
