//! Somebody else's XDP program is on the interface already.

use anyhow::{Context as _, Result};
use rovy_netns::traffic::Traffic;
use rovy_netns::{Line, Link, Mode};
use rovy_userspace::api::Listener;

/// r's listener falls back to the agent, says whose program is there, leaves it alone, and traffic crosses all the same.
#[test]
fn a_program_of_others_stays_and_is_named() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = Line::new(Link::Eth, Mode::Native)?;
    let mut foreign = Traffic::passive()?;
    foreign.attach(&line.ns_r, "pass", "to-a")?;
    let before = line.ns_r.ip("link show to-a")?;
    line.start()?;
    let listeners: Vec<Listener> = line.r.json(&["listener", "list"])?;
    let on = |name: &str| listeners.iter().find(|l| l.ifname.as_deref() == Some(name)).context("no such listener");
    let (a, b) = (on("to-a")?, on("to-b")?);
    assert_eq!((a.xdp_mode.as_str(), b.xdp_mode.as_str()), ("off", "native"), "{listeners:?}");
    assert!(a.xdp_why.contains("pass"), "the program is not named: {a:?}");
    assert_eq!(line.ns_r.ip("link show to-a")?, before, "the program was replaced");
    // What comes from a meets the other's program and the agent, what comes from b the kernel's switch.
    let stats = line.r.stats()?;
    assert!(stats.transit.agent_packets > 0, "{stats:?}");
    Ok(())
}
