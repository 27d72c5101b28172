//! Paths that carry less than the host believes: every byte arrives, by TCP and by pings as long as an IPv6 link has to carry.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::stream::Stream;
use rovy_netns::{Link, Mode, Row, Segment, wait};

const MIB: u64 = 1 << 20;

/// Has the ends' TUN device take packets of `mtu` bytes.
fn tun_mtu(mtu: u32) -> impl Fn(usize, &rovy_netns::Agent) -> Result<()> {
    move |_, agent| agent.edit("[fc00]", &format!("[fc00]\nmtu = {mtu}"))
}

/// Bytes that arrive over TCP until there are so many more.
fn more(row: &Row, stream: &Stream, bytes: u64) -> Result<()> {
    let from = stream.bytes();
    wait::until(&format!("{bytes} bytes over TCP behind {from}"), 4 * DEADLINE, || {
        Ok((stream.bytes() >= from + bytes).then_some(()))
    })
    .map_err(|e| row.explain(e))
}

/// 1 MiB by TCP, then packets of 1280 bytes by `ping`, each way.
fn carries(row: &Row) -> Result<()> {
    let (first, last) = row.ends();
    for (from, to) in [(first, last), (last, first)] {
        let address = row.agents[to].address();
        let stream = Stream::start(&row.spaces[from], &row.spaces[to], address, 5201)?;
        more(row, &stream, MIB)?;
        stream.finish()?;
        // 8 bytes of ICMPv6 and 40 of IPv6 come on top.
        let said = row.spaces[from].exec(&format!("ping -6 -n -q -c 20 -i 0.02 -W 5 -s 1232 {address}"))?;
        ensure!(said.contains("20 packets transmitted, 20 received"), "{said}");
    }
    Ok(())
}

/// The largest packet that the first host takes the route to fit, as `rovy route list` tells.
fn route_mtu(row: &Row) -> Result<u64> {
    let (first, last) = row.ends();
    let said: serde_json::Value = row.agents[first].json(&["route", "list"])?;
    let peer = row.agents[last].peer_id().to_string();
    let routes = said.as_array().context("no routes")?.iter();
    let mut used = routes.filter(|r| r["peer_id"] == peer.as_str() && r["in_use"] == true);
    used.find_map(|r| r["mtu_bytes"].as_u64()).with_context(|| format!("no MTU in {said}"))
}

fn row(segments: &[(Link, u32)], mode: Mode, mtu: u32) -> Result<Row> {
    let segments: Vec<_> = segments.iter().map(|(link, mtu)| Segment { link: *link, mtu: *mtu }).collect();
    Row::start(&segments, mode, tun_mtu(mtu))
}

/// The least that IPv6 runs over, everywhere. Over UDP and IPv6 1156 bytes are left: longer packets go in pieces.
fn least(link: Link, mode: Mode) -> Result<()> {
    let row = row(&[(link, 1280), (link, 1280)], mode, 1376)?;
    carries(&row)?;
    for agent in &row.agents {
        let drops = agent.stats()?.drops;
        ensure!(drops.agent.get("reassembly").is_none_or(|n| *n == 0), "{drops:?}");
    }
    Ok(())
}

rovy_netns::line_cases! {
    least:
    least_eth_native: Eth Native;
    least_udp4_native: Udp4 Native;
    least_udp6_native: Udp6 Native;
    least_udp6_generic: Udp6 Generic;
    least_udp6_userspace: Udp6 Userspace;
}

/// Links of three lengths. The end that has the longest does not know of the others.
fn mixed(link: Link, mode: Mode) -> Result<()> {
    carries(&row(&[(link, 9000), (Link::Eth, 1400), (link, 1500)], mode, 8900)?)
}

rovy_netns::line_cases! {
    mixed:
    mixed_udp6_generic: Udp6 Generic;
    mixed_udp4_userspace: Udp4 Userspace;
    mixed_eth_native: Eth Native;
}

/// A link behind the first hop shrinks while a stream runs, and grows back.
fn shrinks(link: Link, mode: Mode) -> Result<()> {
    let row = row(&[(link, 1500), (link, 1500)], mode, 1376)?;
    let (first, last) = row.ends();
    let stream = Stream::start(&row.spaces[first], &row.spaces[last], row.agents[last].address(), 5201)?;
    more(&row, &stream, MIB)?;
    for mtu in [1400, 1280, 1500] {
        row.set_mtu(1, mtu)?;
        more(&row, &stream, MIB)?;
    }
    stream.finish()?;
    carries(&row)
}

rovy_netns::line_cases! {
    shrinks:
    shrinks_udp6_native: Udp6 Native;
    shrinks_udp4_generic: Udp4 Generic;
    shrinks_eth_userspace: Eth Userspace;
}

/// The link of two neighbours shrinks while a stream runs, behind a switch that neither of them sees.
#[test]
fn a_bridge_that_takes_less_than_its_ends_is_found_out() -> Result<()> {
    rovy_netns::root_only!();
    let row = row(&[(Link::Udp4, 1500), (Link::Udp4, 1500)], Mode::Native, 1376)?;
    let (first, last) = row.ends();
    let stream = Stream::start(&row.spaces[first], &row.spaces[last], row.agents[last].address(), 5201)?;
    more(&row, &stream, MIB)?;
    // Long packets vanish, and nobody says so.
    for rule in [
        "add table ip mtu",
        "add chain ip mtu input { type filter hook input priority 0 ; }",
        "add rule ip mtu input udp dport 1312 meta length > 1350 drop",
    ] {
        row.spaces[last].exec(&format!("nft {rule}"))?;
    }
    more(&row, &stream, MIB)?;
    stream.finish()?;
    // 1350 bytes less IPv4 and UDP, transit and data; a search ends a few bytes below.
    let most = 1350 - 28 - 40 - 36;
    let address = row.agents[last].address();
    wait::until("the length that passes to be found", 2 * DEADLINE, || {
        let said = row.spaces[first].exec(&format!("ping -6 -n -q -c 1 -W 1 -s 1232 {address}"));
        let mtu = route_mtu(&row)?;
        ensure!(said.is_ok(), "a ping of 1280 bytes was lost, and {mtu} are said to fit");
        Ok((mtu <= most && mtu + 10 >= most).then_some(()))
    })
    .map_err(|e| row.explain(e))?;
    Ok(())
}
