//! Where a beacon came from, and whether a hello may be sent there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV6};

use crate::transport::Endpoint;

/// An IPv4 network of an interface: an address of this host in it, and the length of its prefix.
pub type Network = (Ipv4Addr, u8);

/// How a beacon came.
#[derive(Clone, Copy, Debug)]
pub struct Heard<'a> {
    /// From there.
    pub from: Endpoint,
    /// It was sent to a group of stations: a router would not have passed it on.
    pub group: bool,
    /// Networks of the interface it came in by.
    pub networks: &'a [Network],
}

impl Heard<'_> {
    /// The place on the link to send a hello to. `port` is the beacon's.
    pub(in crate::core) fn place(&self, port: u16) -> Option<Endpoint> {
        if !self.group {
            return None;
        }
        match self.from {
            Endpoint::Ethernet { mac, .. } => (mac[0] & 1 == 0 && mac != [0; 6]).then_some(self.from),
            Endpoint::Udp { .. } if port == 0 => None,
            Endpoint::Udp { remote: SocketAddr::V6(a), .. } => {
                let near = a.ip().is_unicast_link_local() && a.scope_id() != 0;
                let remote = SocketAddr::V6(SocketAddrV6::new(*a.ip(), port, 0, a.scope_id()));
                near.then_some(Endpoint::Udp { remote, local: None })
            }
            Endpoint::Udp { remote: SocketAddr::V4(a), .. } => {
                let near = self.networks.iter().any(|network| on_link(*a.ip(), *network));
                near.then_some(Endpoint::Udp { remote: SocketAddr::new(IpAddr::V4(*a.ip()), port), local: None })
            }
        }
    }
}

/// Whether an address is one of another station in the network.
fn on_link(address: Ipv4Addr, (own, length): Network) -> bool {
    let hosts = u32::MAX.checked_shr(length.into()).unwrap_or(0);
    let (a, b) = (address.to_bits(), own.to_bits());
    // With 31 bits both addresses are stations, and there is no broadcast address.
    let station = length == 31 || (a & hosts != 0 && a & hosts != hosts);
    length > 0 && a | hosts == b | hosts && a != b && station && !address.is_loopback() && !address.is_multicast()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn udp(from: &str) -> Endpoint {
        Endpoint::Udp { remote: from.parse().unwrap(), local: None }
    }

    const NETWORKS: [Network; 2] = [(Ipv4Addr::new(192, 0, 2, 1), 24), (Ipv4Addr::new(10, 0, 0, 4), 31)];

    fn heard(from: Endpoint) -> Heard<'static> {
        Heard { from, group: true, networks: &NETWORKS }
    }

    #[test]
    fn only_places_on_the_link_are_answered_at_the_port_of_the_beacon() {
        assert_eq!(heard(udp("192.0.2.9:5")).place(1312), Some(udp("192.0.2.9:1312")));
        assert_eq!(heard(udp("10.0.0.5:5")).place(7), Some(udp("10.0.0.5:7")));
        let near = Endpoint::Udp { remote: SocketAddrV6::new("fe80::9".parse().unwrap(), 5, 3, 4).into(), local: None };
        let place = SocketAddrV6::new("fe80::9".parse().unwrap(), 1312, 0, 4).into();
        assert_eq!(heard(near).place(1312), Some(Endpoint::Udp { remote: place, local: None }));
        assert_eq!(heard(near).place(0), None, "no port to answer at");
        assert_eq!(Heard { group: false, ..heard(near) }.place(1312), None, "sent to this node alone");
        for far in [
            "198.51.100.1:1",
            "192.0.2.1:1",
            "192.0.2.255:1",
            "192.0.2.0:1",
            "10.0.0.6:1",
            "127.0.0.1:1",
            "0.0.0.0:1",
            "255.255.255.255:1",
            "224.0.0.1:1",
            "[2001:db8::1]:1",
            "[::1]:1",
            "[fe80::1]:1",
            "[ff02::1]:1",
        ] {
            assert_eq!(heard(udp(far)).place(1312), None, "{far}");
        }
        let station = |mac| heard(Endpoint::Ethernet { ifindex: 3, mac }).place(0);
        assert!(station([2, 0, 0, 0, 0, 1]).is_some());
        assert_eq!([station([0xff; 6]), station([1, 0, 0x5e, 0, 0, 1]), station([0; 6])], [None; 3]);
    }
}
