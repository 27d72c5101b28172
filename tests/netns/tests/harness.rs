//! The harness itself, without agents: what the other tests stand on.

use rovy_netns::{Namespace, count, device, ping::Ping, skip, stream::Stream, wait};
use std::time::Duration;

/// a -- b, one veth pair, fd00::1 and fd00::2.
fn pair() -> (Namespace, Namespace) {
    let a = Namespace::new("a").unwrap();
    let b = Namespace::new("b").unwrap();
    device::veth(&a, "to-b", &b, "to-a", 1500).unwrap();
    device::address(&a, "to-b", "fd00::1/64").unwrap();
    device::address(&b, "to-a", "fd00::2/64").unwrap();
    (a, b)
}

#[test]
fn pings_are_answered_and_counted_where_they_arrive() {
    if !skip::root("pings_are_answered_and_counted_where_they_arrive") {
        return;
    }
    let (a, b) = pair();
    let before = count::echo_requests(&b).unwrap();
    let ping = Ping::start(&a, "fd00::2".parse().unwrap(), Duration::from_millis(2), 56).unwrap();
    wait::until("50 echoes", Duration::from_secs(5), || Ok((ping.mark() >= 50).then_some(()))).unwrap();
    let summary = ping.finish(Duration::from_secs(1)).unwrap();
    assert!(summary.sent >= 50 && summary.lost() == 0, "{summary:?}");
    assert_eq!(count::echo_requests(&b).unwrap() - before, summary.sent);
    assert!(count::traffic(&b, "to-a").unwrap().rx_packets >= 50);
}

#[test]
fn a_dead_link_loses_pings_and_the_summary_tells() {
    if !skip::root("a_dead_link_loses_pings_and_the_summary_tells") {
        return;
    }
    let (a, b) = pair();
    let ping = Ping::start(&a, "fd00::2".parse().unwrap(), Duration::from_millis(2), 56).unwrap();
    wait::until("echoes", Duration::from_secs(5), || Ok((ping.mark() >= 20).then_some(()))).unwrap();
    b.ip("link set to-a down").unwrap();
    let dead = ping.mark();
    wait::until("losses", Duration::from_secs(5), || Ok((ping.mark() >= dead + 30).then_some(()))).unwrap();
    let end = ping.mark();
    assert!(ping.summary(dead, end).lost() >= 29, "{:?}", ping.summary(dead, end));
}

#[test]
fn a_stream_arrives_as_it_was_sent() {
    if !skip::root("a_stream_arrives_as_it_was_sent") {
        return;
    }
    let (a, b) = pair();
    let stream = Stream::start(&a, &b, "fd00::2".parse().unwrap(), 5201).unwrap();
    wait::until("10 MB", Duration::from_secs(5), || Ok((stream.bytes() > 10_000_000).then_some(()))).unwrap();
    assert!(stream.finish().unwrap() > 10_000_000);
}

#[test]
fn devices_are_built_as_asked() {
    if !skip::root("devices_are_built_as_asked") {
        return;
    }
    let (a, b) = pair();
    device::set_mac(&a, "to-b", "02:00:00:00:00:0a").unwrap();
    assert_eq!(device::mac(&a, "to-b").unwrap(), [2, 0, 0, 0, 0, 10]);
    device::offload(&a, "to-b", "gro", false).unwrap();
    device::idle(&b, "idle0", "idle1").unwrap();
    device::tun(&b, "tun9").unwrap();
    device::drop_ethertype(&b, "to-a", 0x88b5, "idle1").unwrap();
    device::bridge(&b, "br0", &["to-a", "idle0"]).unwrap();
    device::bridge_port(&b, "to-a", "mcast_flood off").unwrap();
    assert!(b.ip("link show master br0").unwrap().contains("idle0"));
}

#[test]
fn a_namespace_is_gone_when_it_is_dropped() {
    if !skip::root("a_namespace_is_gone_when_it_is_dropped") {
        return;
    }
    let path = {
        let ns = Namespace::new("gone").unwrap();
        assert!(ns.path().exists());
        assert!(ns.exec("ip link show lo").unwrap().contains("LOOPBACK"));
        ns.path()
    };
    assert!(!path.exists());
}
