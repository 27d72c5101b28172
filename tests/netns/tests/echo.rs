//! `rovy ping` and `rovy trace` between a and b over r.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::line::route;
use rovy_netns::{Line, Link, Mode, ping, wait};
use rovy_userspace::api::Trace;
use rovy_userspace::identity::PeerId;
use rovy_userspace::multiaddr::Route;
use serde_json::Value;
use std::time::Duration;

fn echoes(line: &Line, to: PeerId, arguments: &[&str]) -> Result<Value> {
    line.a.json(&[&["ping", &to.to_string(), "-i", "0.1"], arguments].concat())
}

fn trace(line: &Line, to: PeerId, arguments: &[&str]) -> Result<Trace> {
    line.a.json(&[&["trace", &to.to_string()], arguments].concat())
}

/// Pings and traces from a to b and r; `width` is that of r's slots.
fn shows_the_way(line: &Line, width: usize) -> Result<()> {
    let (r, b) = (line.r.peer_id(), line.b.peer_id());
    for to in [r, b] {
        let said = echoes(line, to, &["-c", "3"])?;
        let all = said["echoes"].as_array().context("no echoes")?;
        ensure!(said["sent"] == 3 && all.len() == 3, "{said}");
        ensure!(said["received"].as_u64() >= Some(1) && said["min_us"].as_u64() > Some(0), "{said}");
        let way = all[0]["route"].as_str().context("no route")?;
        ensure!(way.parse::<Route>().is_ok(), "{way} cannot be read");
        ensure!(all.iter().all(|e| e["peer_id"] == to.to_string()), "{said}");
    }
    let (a_to_r, r_to_a) = (line.a.wait_neighbour(r)?, line.r.wait_neighbour(line.a.peer_id())?);
    let (r_to_b, b_to_r) = (line.r.wait_neighbour(b)?, line.b.wait_neighbour(r)?);
    let shown = trace(line, b, &["-q", "3"])?;
    let wide = |slot: String| format!("{slot:0>digits$}", digits = 2 * width);
    let (r_to_a, r_to_b) = (wide(r_to_a), wide(r_to_b));
    let way = format!("/rovyrt/{a_to_r}.{r_to_b}");
    let hops: Vec<_> = shown.hops.iter().map(|h| (h.peer_id, h.route.as_str(), h.slot.as_str())).collect();
    ensure!(
        hops == [(Some(r), &*format!("/rovyrt/{a_to_r}"), &*a_to_r), (Some(b), &*way, &*r_to_b)],
        "{shown:?}\n{}",
        line.r.log_tail()
    );
    let backs: Vec<_> = shown.hops.iter().map(|h| h.back_slot.as_deref()).collect();
    ensure!(backs == [Some(&*r_to_a), Some(&*b_to_r)], "{shown:?}");
    ensure!(shown.hops.iter().all(|h| h.address == h.peer_id.map(|p| p.address()) && h.rtt_us > Some(0)), "{shown:?}");
    ensure!(shown.reached && shown.why.is_none() && shown.peer_id == b, "{shown:?}");
    let near = trace(line, r, &[])?;
    ensure!(near.hops.len() == 1 && near.reached && near.hops[0].peer_id == Some(r), "{near:?}");
    let text = String::from_utf8(line.a.cli(&["trace", &b.to_string()])?.stdout)?;
    ensure!(text.contains(&b.to_string()) && text.contains(&way) && text.contains("\nnext: rovy ping"), "{text}");
    Ok(())
}

#[test]
fn ping_and_trace_over_the_kernel() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Native)?;
    line.start()?;
    shows_the_way(&line, 1)
}

/// Starts the line with slots of two bytes at r.
fn start_wide(line: &mut Line) -> Result<()> {
    line.r.edit("[listen]", "[node]\nslot_width = 2\n\n[listen]")?;
    line.r.start()?;
    line.a.start()?;
    line.b.start()?;
    let (a_to_r, b_to_r) = (line.a.wait_neighbour(line.r.peer_id())?, line.b.wait_neighbour(line.r.peer_id())?);
    let (r_to_a, r_to_b) = (line.r.wait_neighbour(line.a.peer_id())?, line.r.wait_neighbour(line.b.peer_id())?);
    route(&line.a, line.b.peer_id(), &format!("/rovyrt/{a_to_r}.{r_to_b:0>4}"))?;
    route(&line.b, line.a.peer_id(), &format!("/rovyrt/{b_to_r}.{r_to_a:0>4}"))?;
    wait::until("a ping from a to b", DEADLINE, || {
        Ok(ping::once(&line.ns_a, line.b.address(), Duration::from_millis(500))?.then_some(()))
    })
    .map_err(|e| line.r.explain(line.a.explain(e)))
}

#[test]
fn ping_and_trace_over_sealed_links_and_wide_slots() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Eth, Mode::Generic)?;
    line.r.set_transit(line.a.peer_id(), "sealed")?;
    start_wide(&mut line)?;
    shows_the_way(&line, 2)
}

#[test]
fn a_trace_goes_on_behind_a_hop_whose_agent_is_gone() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Native)?;
    start_wide(&mut line)?;
    line.r.kill9()?;
    // Nobody ever told a how wide r's slots are.
    let shown = trace(&line, line.b.peer_id(), &[])?;
    ensure!(shown.reached && shown.why.is_none() && shown.hops.len() == 2, "{shown:?}");
    let (r, b) = (&shown.hops[0], &shown.hops[1]);
    ensure!((r.peer_id, r.rtt_us, r.answers) == (None, None, 0), "{shown:?}");
    ensure!((b.peer_id, b.slot.len(), b.answers) == (Some(line.b.peer_id()), 4, 1), "{shown:?}");
    let said = echoes(&line, line.b.peer_id(), &["-c", "1"])?;
    ensure!(said["received"] == 1, "{said}");
    Ok(())
}

/// The message on stderr, and exit code 1.
fn no(line: &Line, arguments: &[&str]) -> Result<String> {
    let output = line.a.cli(arguments)?;
    let message = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1), "{arguments:?}: {:?}, {message}", output.status);
    Ok(message)
}

#[test]
fn who_is_not_there_does_not_answer() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp4, Mode::Native)?;
    line.start()?;
    let b = line.b.peer_id();
    let stranger = rovy_netns::Agent::new(&line.ns_a, "c")?.peer_id().to_string();
    for command in ["ping", "trace"] {
        let message = no(&line, &[command, &stranger])?;
        ensure!(message.contains("no peer") && message.contains("next: rovy peer list"), "{message}");
    }
    let before = trace(&line, b, &[])?;
    line.b.kill9()?;
    let message = no(&line, &["ping", &b.to_string(), "-c", "1"])?;
    ensure!(message.contains(&format!("{b} did not answer any of 1 echoes")), "{message}");
    let message = no(&line, &["trace", &b.to_string()])?;
    ensure!(message.contains("did not answer at the end of /rovyrt/"), "{message}");
    let output = line.a.cli(&["--json", "trace", &b.to_string()])?;
    let shown: Trace = serde_json::from_slice(&output.stdout)?;
    ensure!(!shown.reached && shown.hops.len() == 2, "{shown:?}");
    ensure!(shown.hops[0].peer_id == Some(line.r.peer_id()) && shown.hops[0].answers == 1, "{shown:?}");
    // b is named still: it sat there a moment ago.
    ensure!(shown.hops[1].peer_id == before.hops[1].peer_id && shown.hops[1].rtt_us.is_none(), "{shown:?}");
    Ok(())
}
