//! Transit between links of different kinds: r puts another head on every packet, in both directions.

use anyhow::Result;
use rovy_netns::agent::{DEADLINE, binary};
use rovy_netns::ping::Ping;
use rovy_netns::stream::Stream;
use rovy_netns::{Line, Link, Mode, wait};
use std::time::Duration;

/// Pings and TCP streams cross in both directions, and r's kernel alone switches them.
fn crosses(left: Link, right: Link, mode: Mode) -> Result<()> {
    let mut line = Line::with_links(&binary()?, [left, right], [mode; 3])?;
    line.start()?;
    let ready = line.r.stats()?.transit;
    let mut least = 0;
    for (from, to, at) in [(&line.ns_a, &line.ns_b, &line.b), (&line.ns_b, &line.ns_a, &line.a)] {
        let ping = Ping::start(from, at.address(), Duration::from_millis(5), 1000)?;
        wait::until("50 pings", DEADLINE, || Ok((ping.mark() >= 50).then_some(())))?;
        let pings = ping.finish(Duration::from_secs(1))?;
        assert_eq!(pings.lost(), 0, "{pings:?}\n{}", line.r.log_tail());

        let stream = Stream::start(from, to, at.address(), 5201)?;
        wait::until("1 MB over TCP", DEADLINE, || Ok((stream.bytes() > 1_000_000).then_some(())))
            .map_err(|e| line.r.explain(e))?;
        least += 2 * pings.sent + stream.finish()? / 1500;
    }
    let stats = line.r.stats()?;
    let kernel = stats.transit.kernel_packets - ready.kernel_packets;
    assert!(kernel >= least, "{left} {right} {mode}: {kernel} packets in the kernel, at least {least}: {stats:?}");
    assert_eq!(stats.transit.agent_packets, ready.agent_packets, "{left} {right} {mode}: {stats:?}");
    Ok(())
}

macro_rules! cases {
    ($($name:ident: $left:ident $right:ident $mode:ident;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            rovy_netns::root_only!();
            crosses(Link::$left, Link::$right, Mode::$mode)
        }
    )*};
}

cases! {
    eth_and_udp4_native: Eth Udp4 Native;
    eth_and_udp4_generic: Eth Udp4 Generic;
    eth_and_udp6_native: Eth Udp6 Native;
    eth_and_udp6_generic: Eth Udp6 Generic;
    udp4_and_udp6_native: Udp4 Udp6 Native;
    udp4_and_udp6_generic: Udp4 Udp6 Generic;
}
