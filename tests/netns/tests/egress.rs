//! A device that takes redirected frames and loses them.
//!
//! ```text
//!   a ======== r ======== b      veth to-b -> to-r: to-r has neither an XDP program nor GRO, so its driver
//!     native     native   off    refuses every frame that XDP redirects into to-b.
//! ```

use anyhow::Result;
use rovy_netns::agent::{DEADLINE, binary};
use rovy_netns::ping::Ping;
use rovy_netns::{Line, Link, Mode, device, wait};
use std::time::Duration;

#[test]
fn what_the_egress_cannot_transmit_goes_through_the_agent() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::with_binary(&binary()?, Link::Udp4, [Mode::Native, Mode::Native, Mode::Userspace])?;
    device::offload(&line.ns_b, "to-r", "gro", false)?;
    line.start()?;
    let ready = line.r.stats()?;
    let ping = Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(5), 56)?;
    wait::until("50 pings", DEADLINE, || Ok((ping.mark() >= 50).then_some(())))?;
    let pings = ping.finish(Duration::from_secs(1))?;
    assert_eq!(pings.lost(), 0, "{pings:?}\n{}", line.r.log_tail());
    let stats = line.r.stats()?;
    let up = |s: &rovy_userspace::api::Stats| s.up.get("egress_unsupported").copied().unwrap_or(0);
    assert!(up(&stats) - up(&ready) >= pings.sent, "{stats:?}");
    assert!(stats.transit.agent_packets - ready.transit.agent_packets >= pings.sent, "{stats:?}");
    // Back to a, whose device has a program, the kernel does it.
    assert!(stats.transit.kernel_packets - ready.transit.kernel_packets >= pings.received, "{stats:?}");
    let to_b = stats.links.iter().find(|l| l.peer_id == line.b.peer_id()).map(|l| (l.redirect, l.why.clone()));
    assert!(to_b.as_ref().is_some_and(|(redirect, why)| !redirect && !why.is_empty()), "{to_b:?}");
    Ok(())
}
