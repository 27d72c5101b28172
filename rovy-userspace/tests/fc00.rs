//! The TUN device and its routing on real namespaces.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use rovy_userspace::fc00::offload::{HEADER_LEN, Header, Offloads};
use rovy_userspace::fc00::{Fc00Error, Tun, packet, routing};
use rovy_userspace::netlink::Netlink;
use support::{Netns, rooted, soon};

const A: Ipv6Addr = Ipv6Addr::new(0xfc0a, 0, 0, 0, 0, 0, 0, 0xa);
const B: Ipv6Addr = Ipv6Addr::new(0xfc0b, 0, 0, 0, 0, 0, 0, 0xb);
const FAR: Ipv6Addr = Ipv6Addr::new(0xfcff, 1, 2, 3, 4, 5, 6, 7);

fn udp(from: IpAddr) -> UdpSocket {
    UdpSocket::bind(SocketAddr::new(from, 0)).unwrap()
}

async fn recv(tun: &Tun, buf: &mut [u8]) -> std::io::Result<usize> {
    tun.read(&mut [0; HEADER_LEN], buf).await
}

fn send(tun: &Tun, packet: &[u8]) -> std::io::Result<()> {
    tun.try_write(&Header::default().bytes(), packet)
}

/// The next UDP packet the host sends into the device; others (multicast listener reports) are passed over.
async fn next(tun: &Tun) -> Vec<u8> {
    let mut buf = vec![0; 2000];
    soon("a packet", async {
        loop {
            let len = recv(tun, &mut buf).await.unwrap();
            if buf[6] == 17 {
                return buf[..len].to_vec();
            }
        }
    })
    .await
}

fn rules(ns: &Netns) -> Vec<String> {
    let out = ns.ip("-6 rule show to fc00::/8");
    out.lines().map(str::to_owned).collect()
}

fn everything(ns: &Netns) -> String {
    ns.ip("-6 rule show") + &ns.ip("-6 route show table all") + &ns.ip("-6 addr show")
}

#[test]
fn packets_go_in_and_out_and_nothing_is_left() {
    rooted("packets_go_in_and_out_and_nothing_is_left", || async {
        let ns = Netns::new("one");
        ns.enter();
        let netlink = Netlink::new().unwrap();
        let before = everything(&ns);
        let tun = Tun::open("rovy0", Offloads::NONE).unwrap();
        assert_eq!((tun.name(), tun.ifindex()), ("rovy0", ns.ifindex("rovy0")));
        let routing = routing::setup(&netlink, "rovy0", A, 1376).await.unwrap();
        assert_eq!(routing.table(), 13_120_000 + tun.ifindex());
        assert!(ns.ip("link show rovy0").contains("mtu 1376"));
        assert!(!ns.ip("-6 addr show dev rovy0").contains("fe80"), "no address but the node's");
        assert!(!ns.ip("-6 addr show dev rovy0").contains("tentative"));
        assert_eq!(rules(&ns).len(), 2);

        // To itself: through the local table, never into the device.
        ns.exec(&format!("ping -c 1 -W 5 {A}"));
        let own = udp(A.into());
        own.set_read_timeout(Some(support::DEADLINE)).unwrap();
        own.send_to(b"me", own.local_addr().unwrap()).unwrap();
        assert_eq!(own.recv_from(&mut [0; 9]).unwrap(), (2, own.local_addr().unwrap()));

        // Out: an unbound socket gets the node's address.
        udp(Ipv6Addr::UNSPECIFIED.into()).send_to(b"out", SocketAddr::new(FAR.into(), 7)).unwrap();
        let out = next(&tun).await;
        assert_eq!(packet::check(&out), Ok(()));
        assert_eq!((packet::source(&out), packet::destination(&out)), (Some(A), Some(FAR)));

        // In: the same packet turned round reaches a socket; its checksum holds, the sum is symmetric in the ends.
        own.send_to(b"ping", SocketAddr::new(FAR.into(), 7)).unwrap();
        let mut reply = next(&tun).await;
        let ends: Vec<u8> = [&FAR.octets()[..], &A.octets()[..]].concat();
        reply[8..40].copy_from_slice(&ends);
        let ports = [reply[42], reply[43], reply[40], reply[41]];
        reply[40..44].copy_from_slice(&ports);
        send(&tun, &reply).unwrap();
        let mut buf = [0; 9];
        assert_eq!(own.recv_from(&mut buf).unwrap(), (4, SocketAddr::new(FAR.into(), 7)));

        // An ICMPv6 error of ours is taken by the host: the next send reports it, the one after heeds it.
        own.connect(SocketAddr::new(FAR.into(), 7)).unwrap();
        own.send(&[1; 1300]).unwrap();
        let big = next(&tun).await;
        send(&tun, &packet::too_big(&big, 1280, FAR).unwrap()).unwrap();
        assert_eq!(own.send(&[2; 1300]).unwrap_err().raw_os_error(), Some(libc::EMSGSIZE));
        own.send(&[2; 1300]).unwrap();
        let mut buf = vec![0; 2000];
        let len = soon("a fragment", async {
            loop {
                let len = recv(&tun, &mut buf).await.unwrap();
                if buf[6] == 44 {
                    return len;
                }
            }
        });
        assert!(len.await <= 1280, "the host fragments to the MTU it was told");

        routing.set_mtu(1300).await.unwrap();
        assert!(ns.ip("link show rovy0").contains("mtu 1300"));
        let quiet = async || {
            (tun.try_read(&mut [0; HEADER_LEN], &mut [0; 2000]).err()?.kind() == std::io::ErrorKind::WouldBlock)
                .then_some(())
        };
        support::until("nothing more to read", quiet).await;
        drop((own, routing.teardown().await.unwrap()));
        assert_eq!(rules(&ns), Vec::<String>::new());
        drop(tun);
        support::until("nothing left", async || (everything(&ns) == before).then_some(())).await;
    });
}

#[test]
fn two_agents_on_one_host() {
    rooted("two_agents_on_one_host", || async {
        let ns = Netns::new("two");
        ns.enter();
        let netlink = Netlink::new().unwrap();
        let (ta, tb) = (Tun::open("rovya", Offloads::NONE).unwrap(), Tun::open("rovyb", Offloads::NONE).unwrap());
        let ra = routing::setup(&netlink, "rovya", A, 1400).await.unwrap();
        let rb = routing::setup(&netlink, "rovyb", B, 1400).await.unwrap();
        assert_ne!(ra.table(), rb.table());
        assert_eq!(rules(&ns).len(), 4);
        let to = SocketAddr::new(FAR.into(), 7);
        udp(B.into()).send_to(b"b", to).unwrap();
        assert_eq!(packet::source(&next(&tb).await), Some(B));
        udp(A.into()).send_to(b"a", to).unwrap();
        assert_eq!(packet::source(&next(&ta).await), Some(A));
        udp(Ipv6Addr::UNSPECIFIED.into()).send_to(b"any", to).unwrap();
        assert_eq!(packet::source(&next(&ta).await), Some(A), "who came first gets unbound sockets");

        ra.teardown().await.unwrap();
        drop(ta);
        udp(Ipv6Addr::UNSPECIFIED.into()).send_to(b"any", to).unwrap();
        assert_eq!(packet::source(&next(&tb).await), Some(B), "who is left takes over");
        rb.teardown().await.unwrap();
        assert_eq!(rules(&ns), Vec::<String>::new());
    });
}

/// Opens a device again that was just closed. A process that another test starts at this moment holds a copy of the
/// descriptor until it runs its program.
async fn reopen(name: &str) -> Tun {
    support::until("the device to be free", async || Tun::open(name, Offloads::NONE).ok()).await
}

#[test]
fn what_a_crashed_agent_left_is_replaced() {
    rooted("what_a_crashed_agent_left_is_replaced", || async {
        let ns = Netns::new("crash");
        ns.enter();
        let netlink = Netlink::new().unwrap();
        ns.ip("-6 rule add to fc00::/8 lookup 13129999 priority 900");
        let other = Tun::open("other", Offloads::NONE).unwrap();
        let other_routing = routing::setup(&netlink, "other", B, 1400).await.unwrap();
        for round in 0..3 {
            let tun = reopen("rovy0").await;
            let _crashed = routing::setup(&netlink, "rovy0", A, 1400).await.unwrap();
            // Again on the same device, as after a restart with the device kept.
            let again = routing::setup(&netlink, "rovy0", A, 1400).await.unwrap();
            assert_eq!(rules(&ns).len(), 5, "round {round}: {:?}", rules(&ns));
            let own = rules(&ns).iter().filter(|r| r.contains(&again.table().to_string())).count();
            assert_eq!(own, 2);
            drop(tun);
        }
        // Another identity cleans up as well.
        let tun = reopen("rovy0").await;
        let c = Ipv6Addr::new(0xfc0c, 0, 0, 0, 0, 0, 0, 0xc);
        let routing = routing::setup(&netlink, "rovy0", c, 1400).await.unwrap();
        assert_eq!(rules(&ns).len(), 5);
        routing.teardown().await.unwrap();
        other_routing.teardown().await.unwrap();
        drop((tun, other));
        assert_eq!(rules(&ns).len(), 1, "the administrator's rule is left alone");
    });
}

#[test]
fn devices_and_setups_that_cannot_be() {
    rooted("devices_and_setups_that_cannot_be", || async {
        let ns = Netns::new("bad");
        ns.ip("link add veth0 type veth peer name veth1");
        ns.ip("tuntap add idle mode tun");
        ns.enter();
        let netlink = Netlink::new().unwrap();
        let state = |name: &str| match Tun::open(name, Offloads::NONE) {
            Err(Fc00Error::NameTaken { state, .. }) => state,
            other => panic!("{name}: {other:?}"),
        };
        let mut tun = Tun::open("rovy0", Offloads::NONE).unwrap();
        assert!(state("rovy0").contains("another process"));
        assert!(state("veth0").contains("not a TUN"));
        assert!(state("idle").contains("no process"));
        assert!(ns.ip("link show idle").contains("idle"), "it is left alone");
        assert!(matches!(Tun::open("a/b", Offloads::NONE), Err(Fc00Error::BadName { .. })));

        let outside = routing::setup(&netlink, "rovy0", "fd00::1".parse().unwrap(), 1400).await;
        assert!(matches!(outside, Err(Fc00Error::NotFc00 { .. })));
        let missing = routing::setup(&netlink, "nope", A, 1400).await;
        assert!(matches!(missing, Err(Fc00Error::NoInterface { .. })), "{missing:?}");

        // IPv6 off for new devices: ours is switched on, others are left.
        drop(tun);
        ns.exec("sysctl -qw net.ipv6.conf.default.disable_ipv6=1");
        tun = reopen("rovy0").await;
        let routing = routing::setup(&netlink, "rovy0", A, 1000).await.unwrap();
        assert!(ns.ip("link show rovy0").contains("mtu 1280"), "IPv6 needs 1280");

        // Removed under a waiting reader.
        let mut buf = [0; 2000];
        let reading = async { while recv(&tun, &mut buf).await.is_ok() {} };
        let removing = async { ns.ip("link del rovy0") };
        tokio::join!(soon("an error", reading), removing);
        assert!(send(&tun, &[0x60; 40]).is_err());
        assert!(matches!(routing.set_mtu(1400).await, Err(Fc00Error::NoInterface { .. })));
        routing.teardown().await.unwrap();
        assert_eq!(rules(&ns), Vec::<String>::new());
    });
}
