//! The harness itself, without agents: what the other tests stand on.

use anyhow::Result;
use rovy_netns::{Namespace, count, device, ping::Ping, stream::Stream, wait};
use std::time::Duration;

/// a -- b, one veth pair, fd00::1 and fd00::2.
fn pair() -> Result<(Namespace, Namespace)> {
    let a = Namespace::new("a")?;
    let b = Namespace::new("b")?;
    device::veth(&a, "to-b", &b, "to-a", 1500)?;
    device::address(&a, "to-b", "fd00::1/64")?;
    device::address(&b, "to-a", "fd00::2/64")?;
    Ok((a, b))
}

#[test]
fn pings_are_answered_and_counted_where_they_arrive() -> Result<()> {
    rovy_netns::root_only!();
    let (a, b) = pair()?;
    let before = count::echo_requests(&b)?;
    let ping = Ping::start(&a, "fd00::2".parse()?, Duration::from_millis(2), 56)?;
    wait::until("50 echoes", Duration::from_secs(5), || Ok((ping.mark() >= 50).then_some(())))?;
    let summary = ping.finish(Duration::from_secs(1))?;
    assert!(summary.sent >= 50 && summary.lost() == 0, "{summary:?}");
    assert_eq!(count::echo_requests(&b)? - before, summary.sent);
    assert!(count::traffic(&b, "to-a")?.rx_packets >= 50);
    Ok(())
}

#[test]
fn a_dead_link_loses_pings_and_the_summary_tells() -> Result<()> {
    rovy_netns::root_only!();
    let (a, b) = pair()?;
    let ping = Ping::start(&a, "fd00::2".parse()?, Duration::from_millis(2), 56)?;
    wait::until("echoes", Duration::from_secs(5), || Ok((ping.mark() >= 20).then_some(())))?;
    b.ip("link set to-a down")?;
    let dead = ping.mark();
    wait::until("losses", Duration::from_secs(5), || Ok((ping.mark() >= dead + 30).then_some(())))?;
    let end = ping.mark();
    assert!(ping.summary(dead, end).lost() >= 29, "{:?}", ping.summary(dead, end));
    Ok(())
}

#[test]
fn a_stream_arrives_as_it_was_sent() -> Result<()> {
    rovy_netns::root_only!();
    let (a, b) = pair()?;
    let stream = Stream::start(&a, &b, "fd00::2".parse()?, 5201)?;
    wait::until("10 MB", Duration::from_secs(5), || Ok((stream.bytes() > 10_000_000).then_some(())))?;
    assert!(stream.finish()? > 10_000_000);
    Ok(())
}

#[test]
fn devices_are_built_as_asked() -> Result<()> {
    rovy_netns::root_only!();
    let (a, b) = pair()?;
    device::set_mac(&a, "to-b", "02:00:00:00:00:0a")?;
    assert_eq!(device::mac(&a, "to-b")?, [2, 0, 0, 0, 0, 10]);
    device::offload(&a, "to-b", "gro", false)?;
    device::idle(&b, "idle0", "idle1")?;
    device::tun(&b, "tun9")?;
    device::drop_ethertype(&b, "to-a", 0x88b5, "idle1")?;
    device::bridge(&b, "br0", &["to-a", "idle0"])?;
    device::bridge_port(&b, "to-a", "mcast_flood off")?;
    assert!(b.ip("link show master br0")?.contains("idle0"));
    Ok(())
}

#[test]
fn a_namespace_is_gone_when_it_is_dropped() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("gone")?;
    let path = ns.path();
    assert!(path.exists());
    assert!(ns.exec("ip link show lo")?.contains("LOOPBACK"));
    drop(ns);
    assert!(!path.exists());
    Ok(())
}
