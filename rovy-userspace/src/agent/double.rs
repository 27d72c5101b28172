//! Neighbours with several links: tells the core what it cannot see of them, traffic in the kernel and links that nothing can
//! be sent over.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use rovy_common::maps::SlotStats;

use super::clock;
use super::engine::{Engine, Shared};
use crate::dataplane::Dataplane;
use crate::transport::Endpoint;

/// How often the traffic of doubled links is looked at. A part of the second that a silence may last.
const LOOK: Duration = Duration::from_millis(250);

/// Tells the core about traffic over the links of neighbours that have several. Runs for ever.
pub(super) async fn watch(engine: Shared) {
    let mut before: BTreeMap<u16, SlotStats> = BTreeMap::new();
    loop {
        tokio::time::sleep(LOOK).await;
        let mut e = engine.borrow_mut();
        let slots = e.node.watched();
        before.retain(|slot, _| slots.contains(slot));
        for slot in slots {
            let Some(now) = stats(&e, slot) else { continue };
            if let Some(then) = before.insert(slot, now) {
                let (sent, received) = (now.tx_packets > then.tx_packets, now.rx_packets > then.rx_packets);
                e.node.traffic(clock::now(), slot, sent, received);
            }
        }
        if !before.is_empty() {
            e.collect();
        }
    }
}

/// Traffic of a slot, in kernel and agent.
fn stats(e: &Engine, slot: u16) -> Option<SlotStats> {
    let Ok(mut sum) = e.tables.slot_stats(slot);
    if let Some(xdp) = e.kernel.xdp_ref() {
        let kernel = xdp.slot_stats(slot).ok()?;
        sum.rx_packets += kernel.rx_packets;
        sum.tx_packets += kernel.tx_packets;
    }
    Some(sum)
}

/// Tells the core which links lead nowhere: the interface is gone or down, or no listener is left that could send.
pub(super) fn find_lost(e: &mut Engine) {
    let all = e.node.link_endpoints();
    let gone: Vec<_> = all.into_iter().filter(|at| !reachable(e, at)).collect();
    if !gone.is_empty() {
        e.node.lost(clock::now(), |at| gone.contains(at));
        e.collect();
    }
}

fn reachable(e: &Engine, at: &Endpoint) -> bool {
    let works = |ifindex: u32| e.links.interfaces.iter().any(|i| i.index == ifindex && i.up && i.carrier);
    match at {
        Endpoint::Ethernet { ifindex, .. } => works(*ifindex) && e.listeners.ethernet(*ifindex).is_some(),
        Endpoint::Udp { remote, local } => {
            let own = |ip| e.links.interfaces.iter().any(|i| i.addrs.contains(&ip));
            // The way its packets took last. When there is another one, the probes of the dead link find it.
            let sends = e.links.tx.values().filter(|s| s.link.endpoint == *at);
            let ways: BTreeSet<u32> = sends.filter_map(|s| s.next_hop).map(|(ifindex, _)| ifindex).collect();
            e.listeners.from(remote, *local).is_some() && local.is_none_or(own) && ways.into_iter().all(works)
        }
    }
}
