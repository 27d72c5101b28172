//! UDP and Ethernet sockets over veth pairs between network namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "support/packet.rs"]
mod packet;
mod support;

use std::net::SocketAddr;
use std::time::Duration;

use rovy_common::DropReason;
use rovy_userspace::transport::{
    Batch, Endpoint, EthernetError, EthernetSocket, TransportError, UdpSocket, drop_reason, ethernet,
};
use support::{Netns, rooted, soon, until};

const ETHERTYPE: u16 = 0x88b5;

/// a(va) -- vb(b)
fn pair() -> (Netns, Netns) {
    let (a, b) = (Netns::new("a"), Netns::new("b"));
    a.connect("va", &b, "vb");
    (a, b)
}

fn ethernet_socket(ns: &Netns, ifname: &str, ethertype: u16) -> EthernetSocket {
    ns.enter();
    EthernetSocket::open(ns.ifindex(ifname), ifname, ns.mac(ifname), ethertype).unwrap()
}

/// Sends until something arrives: a device that was just set up may lose the first frames.
async fn exchange(from: &EthernetSocket, dst: [u8; 6], message: &[u8], to: &EthernetSocket, batch: &mut Batch) {
    loop {
        from.send(dst, message).unwrap();
        if let Ok(got) = tokio::time::timeout(Duration::from_millis(50), to.recv(batch)).await {
            assert!(got.unwrap() >= 1);
            return;
        }
    }
}

#[test]
fn ethernet_carries_unicast_and_broadcast() {
    rooted("ethernet_carries_unicast_and_broadcast", || async {
        let (a, b) = pair();
        let (mac_a, mac_b) = (a.mac("va"), b.mac("vb"));
        let (sa, sb) = (ethernet_socket(&a, "va", ETHERTYPE), ethernet_socket(&b, "vb", ETHERTYPE));
        let mut batch = Batch::new(8, Batch::LARGEST);

        soon("unicast", exchange(&sa, mac_b, b"for you", &sb, &mut batch)).await;
        let r = batch.received()[0];
        assert_eq!(r.from, Endpoint::Ethernet { ifindex: b.ifindex("vb"), mac: mac_a });
        assert_eq!((r.broadcast, r.to_port, r.ifindex), (false, 0, b.ifindex("vb")));
        assert_eq!(batch.buffer_mut(0)[..7], *b"for you");

        while sb.try_recv(&mut batch).unwrap() > 0 {}
        soon("broadcast", exchange(&sb, ethernet::BROADCAST, b"for all", &sa, &mut batch)).await;
        assert!(batch.received()[0].broadcast);
        assert_eq!(batch.messages_mut().next().unwrap().1[..7], *b"for all");
    });
}

#[test]
fn ethernet_ignores_frames_for_others_and_other_ethertypes() {
    rooted("ethernet_ignores_frames_for_others_and_other_ethertypes", || async {
        let (a, b) = pair();
        b.ip("link set vb promisc on");
        let (sa, sb) = (ethernet_socket(&a, "va", ETHERTYPE), ethernet_socket(&b, "vb", ETHERTYPE));
        let other = ethernet_socket(&a, "va", ETHERTYPE + 1);
        let mut batch = Batch::new(4, 2000);
        for _ in 0..40 {
            sa.send([2, 9, 9, 9, 9, 9], b"for another").unwrap();
            other.send(b.mac("vb"), b"another EtherType").unwrap();
        }
        soon("the frame", exchange(&sa, b.mac("vb"), b"for you", &sb, &mut batch)).await;
        assert_eq!(batch.buffer_mut(0)[..7], *b"for you");
    });
}

#[test]
fn ethernet_takes_jumbo_frames_and_reports_cut_ones() {
    rooted("ethernet_takes_jumbo_frames_and_reports_cut_ones", || async {
        let (a, b) = pair();
        a.ip("link set va mtu 9000");
        b.ip("link set vb mtu 9000");
        let (sa, sb) = (ethernet_socket(&a, "va", ETHERTYPE), ethernet_socket(&b, "vb", ETHERTYPE));
        let jumbo: Vec<u8> = (0..9000_u32).map(|i| i as u8).collect();
        let mut batch = Batch::new(4, Batch::LARGEST);
        soon("the jumbo frame", exchange(&sa, b.mac("vb"), &jumbo, &sb, &mut batch)).await;
        assert_eq!(batch.buffer_mut(0), jumbo);

        let mut small = Batch::new(4, 2000);
        sa.send(b.mac("vb"), &jumbo).unwrap();
        soon("the frame behind", exchange(&sa, b.mac("vb"), b"small", &sb, &mut small)).await;
        assert_eq!(small.buffer_mut(0)[..5], *b"small");
        assert!(small.take_truncated() >= 1);

        match sa.send(b.mac("vb"), &[0; 9001]) {
            Err(EthernetError::Io { source, .. }) => assert_eq!(drop_reason(&source), DropReason::TooBig),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn ethernet_tells_down_from_gone() {
    rooted("ethernet_tells_down_from_gone", || async {
        let (a, b) = pair();
        let (sa, sb) = (ethernet_socket(&a, "va", ETHERTYPE), ethernet_socket(&b, "vb", ETHERTYPE));
        let mut batch = Batch::new(4, 2000);
        soon("a frame", exchange(&sa, b.mac("vb"), b"1", &sb, &mut batch)).await;
        while sb.try_recv(&mut batch).unwrap() > 0 {}

        b.ip("link set vb down");
        assert!(matches!(soon("down", sb.recv(&mut batch)).await, Err(EthernetError::Down { .. })));
        assert!(matches!(sb.send(a.mac("va"), b"x"), Err(EthernetError::Down { .. })));
        b.ip("link set vb up");
        soon("a frame after up", exchange(&sa, b.mac("vb"), b"2", &sb, &mut batch)).await;
        while sb.try_recv(&mut batch).unwrap() > 0 {}

        let waiting = async {
            loop {
                match sb.recv(&mut batch).await {
                    Err(EthernetError::Down { .. }) | Ok(_) => {}
                    other => return other,
                }
            }
        };
        let remove = async { b.ip("link del vb") };
        let (gone, _) = tokio::join!(soon("gone", waiting), remove);
        assert!(matches!(gone, Err(EthernetError::Gone { ref ifname }) if ifname == "vb"), "{gone:?}");
        assert!(matches!(sb.send([2; 6], b"x"), Err(EthernetError::Gone { .. })));
        assert!(matches!(soon("still gone", sb.recv(&mut Batch::new(1, 100))).await, Err(EthernetError::Gone { .. })));
        a.enter();
        assert!(matches!(EthernetSocket::open(4711, "x", [2; 6], 1), Err(TransportError::NoInterface { .. })));
    });
}

fn udp(ns: &Netns, addr: &str) -> UdpSocket {
    ns.enter();
    UdpSocket::bind(addr.parse().unwrap()).unwrap()
}

#[test]
fn udp_tells_and_takes_the_local_address() {
    rooted("udp_tells_and_takes_the_local_address", || async {
        let (a, b) = pair();
        b.ip("addr add 10.0.0.77/24 dev vb");
        b.ip("addr add fd01::77/64 dev vb nodad");
        for (any, to, second) in [("0.0.0.0:0", "10.0.0.2", "10.0.0.77"), ("[::]:0", "fd01::2", "fd01::77")] {
            let (sa, sb) = (udp(&a, any), udp(&b, any));
            let port = sb.local_addr().port();
            let mut batch = Batch::new(4, Batch::LARGEST);
            for own in [to, second] {
                let own = own.parse().unwrap();
                sa.send(SocketAddr::new(own, port), None, b"hello").unwrap();
                soon("hello", sb.recv(&mut batch)).await.unwrap();
                let r = batch.received()[0];
                let Endpoint::Udp { remote, local } = r.from else { panic!("{r:?}") };
                assert_eq!((local, r.to_port, r.ifindex, r.broadcast), (Some(own), port, b.ifindex("vb"), false));
                assert_eq!(batch.buffer_mut(0), b"hello");
                sb.send(remote, local, b"answer").unwrap();
                soon("answer", sa.recv(&mut batch)).await.unwrap();
                let Endpoint::Udp { remote, .. } = batch.received()[0].from else { panic!() };
                assert_eq!(remote, SocketAddr::new(own, port), "answers come from where the hello went");
            }
            // Datagrams without a byte are messages too.
            sa.send(SocketAddr::new(to.parse().unwrap(), port), None, b"").unwrap();
            soon("nothing", sb.recv(&mut batch)).await.unwrap();
            assert_eq!(batch.messages_mut().map(|(_, m)| m.len()).collect::<Vec<_>>(), [0]);
            assert_eq!(sb.try_recv(&mut batch).unwrap_err().kind(), std::io::ErrorKind::WouldBlock);
        }
    });
}

#[test]
fn udp_survives_icmp_errors_and_sorts_its_own() {
    rooted("udp_survives_icmp_errors_and_sorts_its_own", || async {
        let (a, b) = pair();
        for (any, peer, nowhere) in [("0.0.0.0:0", "10.0.0.2", "192.0.2.1:9"), ("[::]:0", "fd01::2", "[2001:db8::1]:9")]
        {
            let (sa, sb) = (udp(&a, any), udp(&b, any));
            let closed = SocketAddr::new(peer.parse().unwrap(), 9);
            let to = SocketAddr::new(peer.parse().unwrap(), sb.local_addr().port());
            let mut batch = Batch::new(4, Batch::LARGEST);
            for round in 0..20 {
                sa.send(closed, None, b"nobody is there").unwrap();
                sa.send(to, None, &[round]).unwrap();
                soon("the datagram", sb.recv(&mut batch)).await.unwrap();
                let Endpoint::Udp { remote, .. } = batch.received()[0].from else { panic!() };
                sb.send(remote, None, &[round]).unwrap();
                soon("the echo", sa.recv(&mut batch)).await.unwrap();
                assert_eq!(batch.buffer_mut(0), [round]);
            }
            let e = sa.send(nowhere.parse().unwrap(), None, b"x").unwrap_err();
            assert_eq!((e.raw_os_error(), drop_reason(&e)), (Some(libc::ENETUNREACH), DropReason::EgressDown));
            let e = sa.send(to, None, &[0; 1500]).unwrap_err();
            assert_eq!(drop_reason(&e), DropReason::TooBig, "datagrams are not fragmented: {e}");
        }
        a.enter();
        let taken = UdpSocket::bind("10.0.0.1:0".parse().unwrap()).unwrap();
        assert!(matches!(UdpSocket::bind(taken.local_addr()), Err(TransportError::InUse { .. })));
        let foreign = UdpSocket::bind("10.9.9.9:5".parse().unwrap());
        assert!(matches!(foreign, Err(TransportError::NoSuchAddress { .. })));
        let six = UdpSocket::bind(SocketAddr::new("::".parse().unwrap(), taken.local_addr().port()));
        assert!(six.is_ok(), "IPv6 sockets leave the IPv4 port alone");
        assert_eq!(taken.send("[::1]:5".parse().unwrap(), None, b"").unwrap_err().raw_os_error(), Some(97));
    });
}

#[test]
fn udp_accepts_datagrams_without_a_checksum() {
    rooted("udp_accepts_datagrams_without_a_checksum", || async {
        let (a, b) = pair();
        let sb = udp(&b, "[::]:4000");
        let raw = ethernet_socket(&a, "va", 0x86dd);
        let mut frame = vec![0x60, 0, 0, 0, 0, 13, 17, 64];
        for end in ["fd01::1", "fd01::2"] {
            frame.extend(end.parse::<std::net::Ipv6Addr>().unwrap().octets());
        }
        frame.extend([0x10, 0, 4000_u16.to_be_bytes()[0], 4000_u16.to_be_bytes()[1], 0, 13, 0, 0]);
        frame.extend(b"bare!");
        let mut batch = Batch::new(4, Batch::LARGEST);
        until("the datagram", async || {
            raw.send(b.mac("vb"), &frame).unwrap();
            tokio::time::timeout(Duration::from_millis(50), sb.recv(&mut batch)).await.ok()
        })
        .await
        .unwrap();
        assert_eq!(batch.buffer_mut(0), b"bare!");
    });
}

#[test]
fn udp_takes_the_largest_datagram_and_reports_cut_ones() {
    rooted("udp_takes_the_largest_datagram_and_reports_cut_ones", || async {
        let (a, b) = pair();
        let sb = udp(&b, "10.0.0.2:0");
        a.enter();
        // An ordinary socket, which fragments.
        let sender = std::net::UdpSocket::bind("10.0.0.1:0").unwrap();
        let huge = vec![7; 65_507];
        let mut batch = Batch::new(4, Batch::LARGEST);
        sender.send_to(&huge, sb.local_addr()).unwrap();
        soon("the datagram", sb.recv(&mut batch)).await.unwrap();
        assert_eq!(batch.buffer_mut(0), huge);

        let mut small = Batch::new(4, 2000);
        sender.send_to(&huge, sb.local_addr()).unwrap();
        sender.send_to(b"small", sb.local_addr()).unwrap();
        soon("the small one", sb.recv(&mut small)).await.unwrap();
        assert_eq!(small.buffer_mut(0), b"small");
        assert_eq!(small.take_truncated(), 1);
    });
}

#[test]
fn udp_splits_what_the_kernel_joined() {
    rooted("udp_splits_what_the_kernel_joined", || async {
        let (a, b) = pair();
        let sb = udp(&b, "10.0.0.2:0");
        a.enter();
        let sender = std::net::UdpSocket::bind("10.0.0.1:0").unwrap();
        let state = quinn_udp::UdpSocketState::new((&sender).into()).unwrap();
        let contents: Vec<u8> = (0..1000_u32).map(|i| (i / 300) as u8).collect();
        let destination = sb.local_addr();
        let transmit =
            quinn_udp::Transmit { destination, ecn: None, contents: &contents, segment_size: Some(300), src_ip: None };
        state.try_send((&sender).into(), &transmit).unwrap();
        let mut seen = Vec::new();
        let mut batch = Batch::new(4, Batch::LARGEST);
        while seen.len() < 4 {
            soon("segments", sb.recv(&mut batch)).await.unwrap();
            seen.extend(batch.messages_mut().map(|(_, m)| (m.len(), m[0])));
        }
        assert_eq!(seen, [(300, 0), (300, 1), (300, 2), (100, 3)]);
    });
}

#[test]
fn a_socket_for_others_brings_no_other_traffic_however_it_is_bound() {
    rooted("a_socket_for_others_brings_no_other_traffic_however_it_is_bound", || async {
        let (a, b) = pair();
        b.enter();
        let index = b.ifindex("vb");
        let (open, locked) =
            (ethernet::raw(index, "vb", ETHERTYPE).unwrap(), ethernet::raw_for_others(index, "vb", ETHERTYPE).unwrap());
        for fd in [&open, &locked] {
            packet::bind_to_all(fd);
        }
        assert!(socket2::SockRef::from(&locked).detach_filter().is_err(), "the filter comes off");
        let (sa, other) = (ethernet_socket(&a, "va", ETHERTYPE), ethernet_socket(&a, "va", 0x88b6));
        let mut frame = [0; 64];
        soon("all the traffic on the socket that is open", async {
            loop {
                other.send(ethernet::BROADCAST, b"others").unwrap();
                let n = rustix::io::read(&open, &mut frame);
                if n.is_ok() && frame[12..20] == *b"\x88\xb6others" {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
        soon("our own traffic on the other, and nothing else", async {
            loop {
                sa.send(ethernet::BROADCAST, b"ours").unwrap();
                match rustix::io::read(&locked, &mut frame) {
                    Ok(_) => {
                        assert_eq!(frame[12..14], ETHERTYPE.to_be_bytes());
                        return;
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        })
        .await;
    });
}

#[test]
fn a_given_socket_is_looked_at() {
    rooted("a_given_socket_is_looked_at", || async {
        let (a, b) = pair();
        a.connect("wa", &b, "wb");
        b.enter();
        let (vb, wb, mac) = (b.ifindex("vb"), b.ifindex("wb"), b.mac("vb"));
        let raw = |index, ethertype| ethernet::raw_for_others(index, "vb", ethertype).unwrap();
        let given = |fd| EthernetSocket::given(fd, vb, "vb", mac, ETHERTYPE);
        let wrong = [
            raw(wb, ETHERTYPE),
            raw(vb, 0x88b6),
            std::fs::File::open("/dev/null").unwrap().into(),
            std::net::UdpSocket::bind("[::1]:0").unwrap().into(),
        ];
        for fd in wrong {
            assert!(matches!(given(fd), Err(TransportError::NotOne { .. })));
        }
        let sb = given(raw(vb, ETHERTYPE)).unwrap();
        let sa = ethernet_socket(&a, "va", ETHERTYPE);
        let mut batch = Batch::new(8, Batch::LARGEST);
        soon("a frame", exchange(&sa, mac, b"for you", &sb, &mut batch)).await;
        // It follows the interface to another address.
        sb.set_mac([2, 0, 0, 0, 0, 9]);
        soon("a frame back", exchange(&sb, ethernet::BROADCAST, b"from me", &sa, &mut batch)).await;
        assert!(matches!(batch.received()[0].from, Endpoint::Ethernet { mac: [2, 0, 0, 0, 0, 9], .. }));
    });
}

#[test]
fn every_datagram_of_a_burst_arrives_or_is_refused() {
    rooted("every_datagram_of_a_burst_arrives_or_is_refused", || async {
        let (a, b) = pair();
        let (sa, sb) = (udp(&a, "10.0.0.1:0"), udp(&b, "10.0.0.2:0"));
        let mut batch = Batch::new(32, Batch::LARGEST);
        let (mut sent, mut seen) = (Vec::new(), Vec::new());
        // More than any call takes at once, fewer than the receiver's buffer holds.
        for n in 0..2000_u32 {
            if sa.send(sb.local_addr(), None, &n.to_le_bytes()).is_ok() {
                sent.push(n);
            }
        }
        assert!(sent.len() > 100, "only {} were taken", sent.len());
        while seen.len() < sent.len() {
            soon("the rest", sb.recv(&mut batch)).await.unwrap();
            seen.extend(batch.messages_mut().map(|(_, m)| u32::from_le_bytes((&*m).try_into().unwrap())));
        }
        assert_eq!(seen, sent, "what was taken is there, once and in order");
    });
}
