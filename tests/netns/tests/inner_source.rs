//! Inner packets under another's name.

use anyhow::Result;
use rovy_netns::agent::DEADLINE;
use rovy_netns::{Line, Link, Mode, count, device, ping, wait};
use std::time::Duration;

/// A program at a sends from an address that is not a's: nothing of it reaches b's host, and it is counted.
#[test]
fn a_packet_whose_source_is_not_the_senders_address_does_not_arrive() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Udp6, Mode::Native)?;
    line.start()?;
    let counted = |line: &Line| -> Result<u64> {
        let drops = (line.a.stats()?.drops, line.b.stats()?.drops);
        let of = |d: &std::collections::BTreeMap<String, u64>| d.get("bad_inner_source").copied().unwrap_or(0);
        Ok(of(&drops.0.agent) + of(&drops.1.agent))
    };
    let before = (counted(&line)?, count::echo_requests(&line.ns_b)?);
    device::address(&line.ns_a, "rovy0", "fcff::1/128")?;
    line.ns_a.spawn(&format!("ping -6 -c 5 -i 0.01 -W 1 -I fcff::1 {}", line.b.address()))?.wait()?;
    wait::until("the drops to be counted", DEADLINE, || Ok((counted(&line)? >= before.0 + 5).then_some(())))?;
    assert_eq!(count::echo_requests(&line.ns_b)?, before.1);
    assert!(ping::once(&line.ns_a, line.b.address(), Duration::from_secs(2))?, "a's own address serves no more");
    Ok(())
}
