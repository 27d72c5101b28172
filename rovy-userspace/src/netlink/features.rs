//! What a device can do with XDP, by the generic netlink family `netdev` (kernel 6.3).

use super::generic::{Connection, Request, number};
use super::{Netlink, NetlinkError};

/// The driver runs XDP programs.
pub const XDP_ACT_BASIC: u64 = 1;
/// It takes `XDP_REDIRECT` from a program.
pub const XDP_ACT_REDIRECT: u64 = 2;
/// It transmits frames redirected to it. On veth only while the peer has an XDP program or GRO: changes at run time,
/// without a notice by rtnetlink.
pub const XDP_ACT_NDO_XMIT: u64 = 4;
/// AF_XDP without copies.
pub const XDP_ACT_XSK_ZEROCOPY: u64 = 8;
/// Programs run in the device.
pub const XDP_ACT_HW_OFFLOAD: u64 = 16;
/// It receives frames of several buffers.
pub const XDP_ACT_RX_SG: u64 = 32;
/// It transmits redirected frames of several buffers.
pub const XDP_ACT_NDO_XMIT_SG: u64 = 64;

const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;

/// Whether a device transmits frames that an XDP program redirects to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Transmit {
    /// It does.
    Yes,
    /// Such frames would be lost.
    No,
    /// The kernel does not tell.
    Unknown,
}

impl Transmit {
    /// From the feature bits of a device, `None` where the kernel has none.
    #[must_use]
    pub fn from_features(bits: Option<u64>) -> Self {
        match bits {
            Some(bits) if bits & XDP_ACT_NDO_XMIT != 0 => Self::Yes,
            Some(_) => Self::No,
            None => Self::Unknown,
        }
    }
}

/// The XDP feature bits of a device; `None` where the kernel has no such family. Asks in the network namespace of the
/// calling thread.
///
/// # Errors
/// The kernel refused, or there is no such device.
pub fn xdp_features(ifindex: u32) -> Result<Option<u64>, NetlinkError> {
    Ok(query(&mut Connection::open()?, ifindex)?)
}

/// Whether `ifindex` transmits redirected frames, as of now.
#[must_use]
pub fn can_transmit_redirected(ifindex: u32) -> Transmit {
    Transmit::from_features(xdp_features(ifindex).unwrap_or(None))
}

/// Name of the feature that has a device split UDP datagrams of one send (`NETIF_F_GSO_UDP_L4`).
const UDP_SEGMENTATION: &[u8] = b"tx-udp-segmentation\0";
/// Devices that pass packets to others on this host as they are.
const WITHIN: [&str; 3] = ["veth", "netkit", "bridge"];

const ETHTOOL_MSG_FEATURES_GET: u8 = 11;
const ETHTOOL_A_FEATURES_HEADER: u16 = 1;
const ETHTOOL_A_FEATURES_ACTIVE: u16 = 4;
const ETHTOOL_A_HEADER_DEV_INDEX: u16 = 1;

/// Whether what is sent through a device as one may reach another of this host unsplit: a program of generic XDP there sees
/// one frame of many datagrams, and can do nothing with it. A veth whose peer runs native XDP has the stack split before.
#[must_use]
pub fn hands_on_whole(ifindex: u32, kind: Option<&str>) -> bool {
    kind.is_some_and(|k| WITHIN.contains(&k)) && udp_segmentation(ifindex).unwrap_or(true)
}

/// Whether the device takes UDP unsplit. The kernel lists the features that are on by name.
fn udp_segmentation(ifindex: u32) -> std::io::Result<bool> {
    let mut connection = Connection::open()?;
    let family = connection.family("ethtool")?.ok_or(std::io::ErrorKind::Unsupported)?;
    let mut device = Vec::from(8_u16.to_ne_bytes());
    device.extend(ETHTOOL_A_HEADER_DEV_INDEX.to_ne_bytes());
    device.extend(ifindex.to_ne_bytes());
    let attribute = Some((ETHTOOL_A_FEATURES_HEADER | libc::NLA_F_NESTED as u16, &device[..]));
    let answers = connection.request(Request { family, command: ETHTOOL_MSG_FEATURES_GET, dump: false, attribute })?;
    let active = |(kind, _): &&(u16, Vec<u8>)| *kind == ETHTOOL_A_FEATURES_ACTIVE;
    let active = answers.first().and_then(|a| a.iter().find(active));
    let (_, names) = active.ok_or(std::io::ErrorKind::Unsupported)?;
    Ok(names.windows(UDP_SEGMENTATION.len()).any(|w| w == UDP_SEGMENTATION))
}

impl Netlink {
    /// As the free function, in the network namespace of this connection.
    ///
    /// # Errors
    /// The kernel refused, or there is no such device.
    pub fn xdp_features(&self, ifindex: u32) -> Result<Option<u64>, NetlinkError> {
        Ok(query(&mut self.generic(), ifindex)?)
    }

    /// As the free function, in the network namespace of this connection.
    #[must_use]
    pub fn can_transmit_redirected(&self, ifindex: u32) -> Transmit {
        Transmit::from_features(self.xdp_features(ifindex).unwrap_or(None))
    }
}

fn query(connection: &mut Connection, ifindex: u32) -> std::io::Result<Option<u64>> {
    let Some(family) = connection.family("netdev")? else { return Ok(None) };
    let index = ifindex.to_ne_bytes();
    let attribute = Some((NETDEV_A_DEV_IFINDEX, &index[..]));
    let answers = connection.request(Request { family, command: NETDEV_CMD_DEV_GET, dump: false, attribute })?;
    Ok(answers.first().and_then(|a| number(a, NETDEV_A_DEV_XDP_FEATURES)))
}
