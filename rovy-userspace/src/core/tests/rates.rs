//! How much transit of a neighbour is sent on.

use super::*;
use crate::rate::RateLimit;
use rovy_common::maps::{TransitRate, rx_flag};

/// Two neighbours that are connected twice.
fn double() -> World {
    let mut w = World::new(2);
    let (a, b, now) = (w.id(0), w.id(1), w.now());
    w.connect(0, 1);
    w.nodes[1].connect(now, a, vec![], true);
    w.nodes[0].connect(now, b, vec![endpoint(1), BROADCAST], true);
    w.settle();
    assert_eq!(w.receiving[0].len(), 2);
    w
}

fn limit(text: &str) -> Option<RateLimit> {
    Some(text.parse().expect("a rate"))
}

/// Everything that the node 0 receives by has this rate, and one bucket pays for all of it.
fn all_limited(w: &World, limit: Option<RateLimit>) {
    let bucket = w.receiving[0].values().map(|rx| rx.slot).min().expect("a link");
    let rate = limit.map_or_else(TransitRate::default, |l| l.table(bucket));
    for rx in w.receiving[0].values() {
        assert_eq!((rx.rate, rx.flags() & rx_flag::LIMITED != 0), (rate, limit.is_some()));
    }
    assert_eq!(w.nodes[0].peers().next().expect("the peer").limit, limit);
}

#[test]
fn a_limit_holds_for_all_links_of_a_peer_at_once_and_when_keys_are_renewed() {
    let mut w = double();
    let (peer, now) = (w.id(1), w.now());
    all_limited(&w, None);
    assert!(w.nodes[0].limit_peer(now, peer, limit("10mbit")));
    w.collect(0);
    all_limited(&w, limit("10mbit"));
    let before = w.receiving[0].len();
    w.pass(125);
    assert!(w.receiving[0].len() > before, "the keys were renewed, and the old ones still count");
    all_limited(&w, limit("10mbit"));
    let now = w.now();
    assert!(w.nodes[0].limit_peer(now, peer, None));
    w.collect(0);
    all_limited(&w, None);
    assert!(w.receiving[1].values().all(|rx| rx.rate == TransitRate::default()), "the peer's own node has no limit");
}

#[test]
fn what_holds_for_everybody_counts_less_than_what_holds_for_one() {
    let mut w = World::new(3);
    w.nodes[0].limit_everybody(limit("100pps"));
    let (one, now) = (w.id(1), w.now());
    w.nodes[0].limit_peer(now, one, None);
    w.connect(1, 0);
    w.connect(2, 0);
    for rx in w.receiving[0].values() {
        assert_eq!(rx.flags() & rx_flag::LIMITED == 0, rx.peer == one);
    }
    assert_eq!((w.nodes[0].limit_of(one), w.nodes[0].limit_of(w.id(2))), (None, limit("100pps")));
}

#[test]
fn who_is_limited_is_a_stranger_still_and_there_is_a_bound() {
    let mut w = World::new(2);
    w.connect(1, 0);
    let (peer, now) = (w.id(1), w.now());
    assert!(w.nodes[0].limit_peer(now, peer, limit("1mbit")));
    assert_eq!(w.nodes[0].peers().next().expect("the peer").source, PeerSource::Incoming);
    let room = peer_ids(20).into_iter().filter(|id| w.nodes[0].limit_peer(now, *id, limit("1mbit"))).count();
    assert!(room < 20, "{room}");
    assert!(w.nodes[0].limit_peer(now, peer, None), "what is there can be changed");
}
