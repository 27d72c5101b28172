//! Debian's traceroute and mtr over a row of four: each hop by its own address.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::{Link, Mode, Row, Segment, wait};
use std::net::Ipv6Addr;

/// Four hosts; those of `wide` have slots of two bytes.
fn row(link: Link, mode: Mode, wide: &[usize]) -> Result<Row> {
    let segment = Segment { link, mtu: 1500 };
    Row::start(&[segment; 3], mode, |n, agent| {
        if wide.contains(&n) {
            agent.edit("[listen]", "[node]\nslot_width = 2\n\n[listen]")?;
        }
        Ok(())
    })
}

/// The addresses that the hops should have, in their order.
fn hops(row: &Row) -> Vec<Ipv6Addr> {
    row.agents.iter().skip(1).map(rovy_netns::Agent::address).collect()
}

/// What `traceroute` printed for each hop; `None` for a hop that did not answer.
fn traced(said: &str) -> Vec<Option<Ipv6Addr>> {
    let hop = |line: &str| {
        let mut words = line.split_whitespace();
        words.next()?.parse::<u8>().ok()?;
        Some(words.next().and_then(|word| word.parse().ok()))
    };
    said.lines().filter_map(hop).collect()
}

/// Runs traceroute with `options`, a few times while the machine is busy: it waits for no answer longer than it wants to.
fn shows(row: &Row, options: &str) -> Result<()> {
    let wanted: Vec<_> = hops(row).into_iter().map(Some).collect();
    let to = row.agents[3].address();
    let mut last = String::new();
    wait::until(&format!("traceroute {options} to show three hops"), 2 * DEADLINE, || {
        last = row.spaces[0].exec(&format!("traceroute -6 -n -q 1 -w 5 -m 8 {options} {to}"))?;
        Ok((traced(&last) == wanted).then_some(()))
    })
    .with_context(|| format!("the last one said:\n{last}\nwanted: {wanted:?}"))
    .map_err(|e| row.explain(e))
}

/// UDP, ICMP and TCP probes, one at a time and all at once.
fn each_kind(link: Link, mode: Mode) -> Result<()> {
    let row = row(link, mode, &[])?;
    for options in ["-U", "-I", "-T", "-U -N 1", "-I -N 1"] {
        shows(&row, options)?;
    }
    Ok(())
}

rovy_netns::line_cases! {
    each_kind:
    udp6_native: Udp6 Native;
    eth_generic: Eth Generic;
    udp4_userspace: Udp4 Userspace;
}

#[test]
fn slots_of_both_widths() -> Result<()> {
    rovy_netns::root_only!();
    for wide in [&[1][..], &[2], &[1, 2, 3]] {
        shows(&row(Link::Udp4, Mode::Native, wide)?, "-I")?;
    }
    Ok(())
}

#[test]
fn mtr_shows_every_hop_without_loss() -> Result<()> {
    rovy_netns::root_only!();
    let row = row(Link::Udp4, Mode::Native, &[])?;
    for kind in ["", "--udp", "--tcp"] {
        let said =
            row.spaces[0].exec(&format!("mtr -6 -n --report --json -c 5 -i 0.3 {kind} {}", row.agents[3].address()))?;
        let json: serde_json::Value = serde_json::from_str(&said).with_context(|| said.clone())?;
        let hubs = json.pointer("/report/hubs").and_then(|h| h.as_array()).context("no hubs")?;
        let found: Vec<Option<Ipv6Addr>> =
            hubs.iter().map(|h| h.get("host").and_then(|a| a.as_str()).and_then(|a| a.parse().ok())).collect();
        let wanted: Vec<_> = hops(&row).into_iter().map(Some).collect();
        ensure!(found == wanted, "mtr {kind}: {said}");
        for hub in hubs {
            ensure!(hub.get("Loss%").and_then(serde_json::Value::as_f64) == Some(0.0), "mtr {kind}: {said}");
        }
    }
    Ok(())
}

/// A hop whose agent is gone passes on what others send, and is a row of stars.
#[test]
fn a_silent_hop_is_a_row_of_stars() -> Result<()> {
    rovy_netns::root_only!();
    let mut row = row(Link::Eth, Mode::Native, &[])?;
    row.agents[1].kill9()?;
    let to = row.agents[3].address();
    let said = row.spaces[0].exec(&format!("traceroute -6 -n -q 1 -w 3 -m 6 -I {to}"))?;
    let wanted = [None, Some(row.agents[2].address()), Some(to)];
    ensure!(traced(&said) == wanted, "{said}");
    Ok(())
}
