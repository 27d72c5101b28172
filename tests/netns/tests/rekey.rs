//! Keys are renewed under load, and no packet is lost.

use anyhow::{Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::ping::Ping;
use rovy_netns::stream::Stream;
use rovy_netns::{Line, Link, Mode};
use std::time::Duration;

/// Renewals that r takes part in, before the test ends.
const RENEWALS: u64 = 12;

fn renews_under_load(link: Link, mode: Mode) -> Result<()> {
    let mut line = Line::new(link, mode)?;
    for agent in [&mut line.a, &mut line.r, &mut line.b] {
        agent.with_arguments(&["--rekey-after", "2"]);
    }
    line.start()?;
    let ready = line.r.stats()?;
    let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), 5201)?;
    stream.limit(Some(2_000_000));
    let ping = Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(5), 1000)?;
    let renewed = |s: &rovy_userspace::api::Stats| s.handshakes >= ready.handshakes + RENEWALS;
    line.r.wait_stats("r to renew its keys", 4 * DEADLINE, renewed)?;
    let pings = ping.finish(Duration::from_secs(2))?;
    let bytes = stream.finish()?;
    let after = line.r.stats()?;
    let explain = |e| line.a.explain(line.r.explain(line.b.explain(e)));
    ensure!(bytes > 2_000_000, "the stream brought {bytes} bytes only");
    let counts = || format!("{pings:?}, a {:?}, r {:?}", line.a.stats().map(|s| s.drops), after.drops);
    (|| {
        ensure!(pings.lost() == 0 && pings.sent > 500, "{}", counts());
        let by_agent = after.transit.agent_packets - ready.transit.agent_packets;
        ensure!(!mode.kernel() || by_agent == 0, "r's agent switched {by_agent} packets");
        let limits = &after.limits;
        ensure!(limits["sessions"].used <= 6 && limits["handshakes"].used <= 2, "{limits:?}");
        Ok(())
    })()
    .map_err(explain)
}

#[test]
fn keys_are_renewed_under_load_over_ethernet() -> Result<()> {
    rovy_netns::root_only!();
    renews_under_load(Link::Eth, Mode::Native)
}

#[test]
fn keys_are_renewed_under_load_over_udp6() -> Result<()> {
    rovy_netns::root_only!();
    renews_under_load(Link::Udp6, Mode::Native)
}
