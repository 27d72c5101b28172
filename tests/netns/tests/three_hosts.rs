//! a - r - b for each kind of link and each mode: see `rovy_netns::line` for the drawing.

use anyhow::Result;
use rovy_netns::agent::DEADLINE;
use rovy_netns::ping::Ping;
use rovy_netns::stream::Stream;
use rovy_netns::{Line, Link, Mode, count, wait};
use std::time::Duration;

/// Pings and a TCP stream get from a to b, and whom r is told to switch with has switched them.
fn crosses(link: Link, mode: Mode) -> Result<()> {
    let mut line = Line::new(link, mode)?;
    line.start()?;
    let ready = line.r.stats()?.transit;
    let echoes = count::echo_requests(&line.ns_b)?;

    let ping = Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(5), 1000)?;
    wait::until("100 pings", DEADLINE, || Ok((ping.mark() >= 100).then_some(())))?;
    let pings = ping.finish(Duration::from_secs(1))?;
    assert_eq!(pings.lost(), 0, "{pings:?}\n{}", line.r.log_tail());
    assert_eq!(count::echo_requests(&line.ns_b)? - echoes, pings.sent);

    let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), 5201)?;
    let bytes = wait::until("2 MB over TCP", DEADLINE, || Ok((stream.bytes() > 2_000_000).then_some(())));
    bytes.map_err(|e| line.a.explain(line.r.explain(line.b.explain(e))))?;
    let bytes = stream.finish()?;

    let stats = line.r.stats()?;
    let (kernel, agent) =
        (stats.transit.kernel_packets - ready.kernel_packets, stats.transit.agent_packets - ready.agent_packets);
    // Requests, replies and the stream's segments; the stream's acknowledgements come on top.
    let least = 2 * pings.sent + bytes / 1500;
    let (switcher, other) = if mode.kernel() { (kernel, agent) } else { (agent, kernel) };
    assert!(switcher >= least, "{link} {mode}: {switcher} packets switched, at least {least} expected: {stats:?}");
    assert_eq!(other, 0, "{link} {mode}: {stats:?}");
    Ok(())
}

rovy_netns::line_cases! {
    crosses:
    eth_native: Eth Native;
    eth_generic: Eth Generic;
    eth_userspace: Eth Userspace;
    udp4_native: Udp4 Native;
    udp4_generic: Udp4 Generic;
    udp4_userspace: Udp4 Userspace;
    udp6_native: Udp6 Native;
    udp6_generic: Udp6 Generic;
    udp6_userspace: Udp6 Userspace;
}
