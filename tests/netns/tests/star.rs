//! A hub with slots of two bytes, and leaves with slots of one.
//!
//! ```text
//!        h1   h2
//!          \ /
//!          h0          the hub; slot_width = 2
//!          / \
//!        h3   h4
//! ```

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::ping::Ping;
use rovy_netns::stream::Stream;
use rovy_netns::{Cables, Link, Mode, Net, wait};
use std::time::Duration;

/// Every leaf talks to every other one, and the hub's agent sees nothing of it.
fn leaves_talk(link: Link, mode: Mode) -> Result<()> {
    let mut net = Net::new(link, mode, Cables::Plain, 5, &[(0, 1), (0, 2), (0, 3), (0, 4)])?;
    net.agents[0].edit("[listen]", "[node]\nslot_width = 2\n\n[listen]")?;
    net.start()?;
    let pairs: Vec<_> = (1..5).flat_map(|a| (1..5).filter(move |b| *b != a).map(move |b| (a, b))).collect();
    for (from, to) in &pairs {
        net.reach(*from, *to)?;
    }
    let trace = net.trace(1, 3)?;
    let widths: Vec<_> = trace.hops.iter().map(|h| (h.peer_id, h.slot.len())).collect();
    let ids = [net.agents[0].peer_id(), net.agents[3].peer_id()];
    ensure!(widths == [(Some(ids[0]), 2), (Some(ids[1]), 4)] && trace.reached, "{trace:?}");
    let back: Vec<_> = trace.hops.iter().map(|h| h.back_slot.as_ref().map(String::len)).collect();
    ensure!(back == [Some(4), Some(2)], "{trace:?}");

    let routes = net.routes(1, 3)?;
    ensure!(routes.iter().any(|r| r.in_use && r.hops == 2 && r.label.len() == 4), "{routes:?}");

    let before = net.agents[0].stats()?;
    let pings = pairs
        .iter()
        .map(|(from, to)| Ping::start(&net.hosts[*from], net.agents[*to].address(), Duration::from_millis(20), 1000));
    let pings = pings.collect::<Result<Vec<_>>>()?;
    let stream = Stream::start(&net.hosts[4], &net.hosts[2], net.agents[2].address(), 5201)?;
    wait::until("1 MB over TCP", DEADLINE, || Ok((stream.bytes() > 1_000_000).then_some(())))
        .map_err(|e| net.explain(4, 2, e))?;
    let mut least = stream.finish()? / 1500;
    wait::until("pings", DEADLINE, || Ok(pings.iter().all(|p| p.mark() >= 50).then_some(())))?;
    for ping in pings {
        let done = ping.finish(DEADLINE)?;
        ensure!(done.lost() == 0, "{done:?}\n{}", net.agents[0].log_tail());
        least += 2 * done.sent;
    }
    let after = net.agents[0].stats()?;
    let kernel = after.transit.kernel_packets - before.transit.kernel_packets;
    ensure!(kernel >= least, "{kernel} packets in the hub's kernel, at least {least}");
    ensure!(after.transit.agent_packets == before.transit.agent_packets, "the hub's agent switched: {after:?}");
    let slots = after.links.iter().map(|l| l.slot_text.len()).max().context("no links")?;
    ensure!(slots <= 4 && after.links.len() == 4, "{:?}", after.links);
    Ok(())
}

rovy_netns::line_cases! {
    leaves_talk:
    leaves_talk_over_udp_in_the_driver: Udp4 Native;
    leaves_talk_over_ethernet_behind_the_driver: Eth Generic;
}
