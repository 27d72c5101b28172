//! Large packets between host and agent, and marks of congestion.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::line::TUN;
use rovy_netns::ping::Ping;
use rovy_netns::stream::Stream;
use rovy_netns::{Agent, Line, Link, Mode, Namespace, count, device, wait};
use rovy_userspace::api::Fc00Status;
use rovy_userspace::transport::{Batch, UdpSocket};
use socket2::{Domain, Protocol, Socket, Type};
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6};
use std::time::Duration;

fn status(agent: &Agent) -> Result<Fc00Status> {
    agent.json(&["fc00", "status"])
}

/// A line whose ends let every port in.
fn open(link: Link, mode: Mode) -> Result<Line> {
    let line = Line::new(link, mode)?;
    for end in [&line.a, &line.b] {
        end.edit("allow = [", "allow = [\"/tcp/0\", \"/udp/0\", ")?;
    }
    Ok(line)
}

/// Streams from a to b until so many bytes have arrived; the stream checks each of them.
fn stream(line: &Line, port: u16, bytes: u64) -> Result<()> {
    let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), port)?;
    let arrived = wait::until("the stream", 4 * DEADLINE, || Ok((stream.bytes() >= bytes).then_some(())));
    stream.finish()?;
    arrived.map_err(|e| line.b.explain(line.a.explain(e)))
}

#[test]
fn tcp_goes_in_large_packets_between_host_and_agent() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = open(Link::Udp4, Mode::Native)?;
    line.start()?;
    stream(&line, 5201, 20_000_000)?;
    let (a, b) = (status(&line.a)?, status(&line.b)?);
    ensure!(a.offloads.iter().any(|o| o == "tso") && b.offloads.iter().any(|o| o == "gro"), "{a:?} {b:?}");
    ensure!(a.tx_split.packets > 0 && a.tx_split.parts >= 2 * a.tx_split.packets, "{a:?}");
    ensure!(b.rx_joined.packets > 0 && b.rx_joined.parts >= 2 * b.rx_joined.packets, "{b:?}");
    ensure!(b.rx_packets >= 20_000_000 / 1376, "parts count as packets: {b:?}");

    // The host may do it itself at any time; what is not large passes as before.
    device::offload(&line.ns_a, TUN, "tso", false)?;
    device::offload(&line.ns_a, TUN, "gso", false)?;
    let before = status(&line.a)?.tx_split;
    stream(&line, 5202, 2_000_000)?;
    ensure!(status(&line.a)?.tx_split == before, "{before:?} {:?}", status(&line.a)?);
    device::offload(&line.ns_a, TUN, "tx", false)?;
    stream(&line, 5203, 2_000_000)?;
    Ok(())
}

#[test]
fn each_offload_can_be_switched_off() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = open(Link::Eth, Mode::Userspace)?;
    let off = |agent: &Agent, what: &str| agent.edit("ifname = ", &format!("offload.{what} = false\nifname = "));
    off(&line.a, "tso")?;
    off(&line.b, "gro")?;
    line.start()?;
    stream(&line, 5201, 5_000_000)?;
    let (a, b) = (status(&line.a)?, status(&line.b)?);
    ensure!(a.offloads == ["csum", "uso", "gro", "gro_udp"] && b.offloads == ["csum", "tso", "uso"], "{a:?} {b:?}");
    ensure!(a.tx_split.packets == 0 && b.rx_joined.packets == 0, "{a:?} {b:?}");

    let mut line = open(Link::Eth, Mode::Userspace)?;
    off(&line.a, "csum")?;
    line.start()?;
    ensure!(status(&line.a)?.offloads.is_empty(), "{:?}", status(&line.a)?);
    stream(&line, 5202, 2_000_000)
}

/// A runtime for sockets.
fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

fn socket(ns: &Namespace, runtime: &tokio::runtime::Runtime, address: Ipv6Addr, port: u16) -> Result<UdpSocket> {
    let bind = || {
        let _entered = runtime.enter();
        UdpSocket::bind(SocketAddr::from((address, port)))
    };
    Ok(ns.enter(bind)??)
}

/// The datagrams that come within a second of silence: their bytes and marks.
fn received(runtime: &tokio::runtime::Runtime, socket: &UdpSocket, enough: usize) -> Vec<(Vec<u8>, u8)> {
    let mut all = Vec::new();
    let mut batch = Batch::new(8, Batch::LARGEST);
    while all.len() < enough {
        let next = async { tokio::time::timeout(Duration::from_secs(2), socket.recv(&mut batch)).await };
        let Ok(Ok(_)) = runtime.block_on(next) else { break };
        all.extend(batch.messages_mut().map(|(r, m)| (m.to_vec(), r.ecn)));
    }
    all
}

#[test]
fn udp_goes_in_large_packets_too() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = open(Link::Udp6, Mode::Native)?;
    line.start()?;
    let (ra, rb) = (runtime()?, runtime()?);
    let from = socket(&line.ns_a, &ra, line.a.address(), 7001)?;
    let to = socket(&line.ns_b, &rb, line.b.address(), 7002)?;
    let remote = SocketAddr::from((line.b.address(), 7002));
    let text: Vec<u8> = (0..30 * 1000 + 77).map(|i| (i * 7 % 251) as u8).collect();
    from.set_splits(true);
    from.send_run(remote, None, 0, &text, 1000).map_err(|(n, e)| anyhow::anyhow!("{n} were not sent: {e}"))?;
    let all = received(&rb, &to, 31);
    let sizes: Vec<usize> = all.iter().map(|(m, _)| m.len()).collect();
    ensure!(sizes == [vec![1000; 30], vec![77]].concat(), "{sizes:?}");
    ensure!(all.into_iter().flat_map(|(m, _)| m).collect::<Vec<u8>>() == text, "in order and whole");
    let a = status(&line.a)?;
    let uso = a.offloads.iter().any(|o| o == "uso");
    ensure!(!uso || a.tx_split.parts >= 31, "{a:?}");
    Ok(())
}

/// The checksum that UDP over IPv6 has: RFC 8200, section 8.1.
fn checksum(from: Ipv6Addr, to: Ipv6Addr, datagram: &[u8]) -> u16 {
    let length = u32::try_from(datagram.len()).unwrap_or_default().to_be_bytes();
    let all = [&from.octets()[..], &to.octets(), &length, &[0, 0, 0, 17], datagram].concat();
    let sum = all.chunks(2).map(|p| u32::from(p[0]) << 8 | u32::from(*p.get(1).unwrap_or(&0))).sum::<u32>();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[test]
fn a_wrong_checksum_is_not_delivered_as_a_good_one() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = open(Link::Udp4, Mode::Userspace)?;
    line.start()?;
    let rb = runtime()?;
    let to = socket(&line.ns_b, &rb, line.b.address(), 7002)?;
    let raw = line.ns_a.enter(|| Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::UDP)))??;
    let wrong = || count::snmp6(&line.ns_b, "Udp6InCsumErrors");
    let before = wrong()?;
    let remote = SocketAddrV6::new(line.b.address(), 0, 0, 0).into();
    // Each third is harmed after its checksum was made; all have one size, so that they could be joined.
    for i in 0..30_u8 {
        let mut datagram =
            [&7001_u16.to_be_bytes()[..], &7002_u16.to_be_bytes(), &108_u16.to_be_bytes(), &[0, 0]].concat();
        datagram.extend([i; 100]);
        let sum = checksum(line.a.address(), line.b.address(), &datagram);
        datagram[6..8].copy_from_slice(&sum.to_be_bytes());
        if i % 3 == 0 {
            datagram[50] ^= 0x40;
        }
        raw.send_to(&datagram, &remote).context("a raw socket")?;
    }
    let all = received(&rb, &to, 20);
    let whole = |m: &[u8]| m.len() == 100 && m.iter().all(|b| *b == m[0]) && !m[0].is_multiple_of(3);
    ensure!(all.len() == 20 && all.iter().all(|(m, _)| whole(m)), "{all:?}");
    wait::until("the others to be counted", DEADLINE, || Ok((wrong()? - before >= 10).then_some(())))
}

#[test]
fn a_packet_larger_than_the_route_is_refused_and_nothing_stops() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = open(Link::Udp4, Mode::Native)?;
    for agent in [&line.a, &line.b] {
        agent.edit("ifname = ", "mtu = 9000\nifname = ")?;
    }
    line.start()?;
    let (ra, rb) = (runtime()?, runtime()?);
    let from = socket(&line.ns_a, &ra, line.a.address(), 7001)?;
    let to = socket(&line.ns_b, &rb, line.b.address(), 7002)?;
    let remote = SocketAddr::from((line.b.address(), 7002));
    let small: Vec<u8> = vec![5; 1200];
    for _ in 0..3 {
        // Too large for the way, alone and as one of many that the host leaves to the agent.
        let _ = from.send(remote, None, &[1; 8000]);
        from.set_splits(true);
        let _ = from.send_run(remote, None, 0, &[2; 24_000], 4000);
        from.send(remote, None, &small)?;
    }
    let all = received(&rb, &to, 3);
    ensure!(all.iter().filter(|(m, _)| *m == small).count() == 3, "{} came", all.len());
    Ok(())
}

/// Marks what leaves the host's underlay, as a congested router behind it would.
fn congest(ns: &Namespace) -> Result<()> {
    for (family, ip) in [("ip", "ip"), ("ip6", "ip6")] {
        ns.exec(&format!("nft add table {family} busy"))?;
        ns.exec(&format!("nft add chain {family} busy out {{ type filter hook output priority 0 ; }}"))?;
        ns.exec(&format!("nft add rule {family} busy out udp dport 1312 {ip} ecn set ce"))?;
    }
    Ok(())
}

#[test]
fn marks_of_congestion_reach_the_other_end() -> Result<()> {
    rovy_netns::root_only!();
    for (link, mode) in [(Link::Udp4, Mode::Native), (Link::Udp6, Mode::Native), (Link::Udp4, Mode::Userspace)] {
        let mut line = open(link, mode)?;
        line.start()?;
        let (ra, rb) = (runtime()?, runtime()?);
        let from = socket(&line.ns_a, &ra, line.a.address(), 7001)?;
        let to = socket(&line.ns_b, &rb, line.b.address(), 7002)?;
        let remote = SocketAddr::from((line.b.address(), 7002));
        let marks = |ecn: u8| -> Result<Option<u8>> {
            from.send_run(remote, None, ecn, &[ecn; 500], 500).map_err(|(_, e)| e)?;
            Ok(received(&rb, &to, 1).first().map(|(_, ecn)| *ecn))
        };
        for ecn in 0..4 {
            ensure!(marks(ecn)? == Some(ecn), "{link} {mode}: {ecn} arrives as {:?}", marks(ecn)?);
        }
        // r's link with b is not congested: r carries the mark on.
        congest(&line.ns_a)?;
        for ecn in 1..4 {
            ensure!(marks(ecn)? == Some(3), "{link} {mode}: {ecn} over a congested link arrives as {:?}", marks(ecn)?);
        }
        ensure!(marks(0)? == Some(0), "{link} {mode}: who does not heed marks gets none");
        let ping = Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(5), 100)?;
        wait::until("pings", DEADLINE, || Ok((ping.mark() >= 20).then_some(())))?;
        ensure!(ping.finish(Duration::from_secs(1))?.lost() == 0, "{link} {mode}");
    }
    Ok(())
}
