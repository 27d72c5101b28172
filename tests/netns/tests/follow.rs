//! r follows what happens to the underlay under its feet, told by netlink, without a restart.

use anyhow::{Context as _, Result};
use rovy_netns::agent::DEADLINE;
use rovy_netns::ping::Ping;
use rovy_netns::{Agent, Config, Line, Link, Mode, Namespace, device, wait};
use rovy_userspace::api::{Listener, ListenerState};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(5);
/// Answers in a row after which traffic is said to flow again.
const STEADY: usize = 50;
/// How soon it has to.
const SOON: Duration = Duration::from_secs(10);

/// Waits until the last [`STEADY`] of the pings that had time to be answered were.
fn steady(line: &Line, ping: &Ping, from: usize) -> Result<()> {
    wait::until("pings to be answered without a loss", SOON, || {
        let to = ping.settled_mark(Duration::from_millis(200));
        let from = from.max(to.saturating_sub(STEADY));
        let seen = ping.summary(from, to);
        Ok((seen.sent >= STEADY as u64 && seen.lost() == 0).then_some(()))
    })
    .map_err(|e| line.b.explain(line.r.explain(e)))
}

/// Waits until r's kernel switches what comes and its agent nothing.
fn in_the_kernel(line: &Line, ping: &Ping) -> Result<()> {
    wait::until("r's kernel alone to switch 100 packets", SOON, || {
        let (before, mark) = (line.r.stats()?.transit, ping.mark());
        wait::until("60 pings", DEADLINE, || Ok((ping.mark() >= mark + 60).then_some(())))?;
        let after = line.r.stats()?.transit;
        let kernel = after.kernel_packets - before.kernel_packets;
        Ok((kernel >= 100 && after.agent_packets == before.agent_packets).then_some(()))
    })
    .map_err(|e| line.r.explain(e))
}

/// Runs `change` under running pings; they come back, and r's kernel switches again.
fn follows(link: Link, mode: Mode, change: impl Fn(&Line) -> Result<()>) -> Result<()> {
    let mut line = Line::new(link, mode)?;
    line.start()?;
    let ping = Ping::start(&line.ns_a, line.b.address(), INTERVAL, 56)?;
    steady(&line, &ping, 0)?;
    let pid = line.r.pid();
    let mark = ping.mark();
    change(&line)?;
    let changed = ping.mark().max(mark + 1);
    steady(&line, &ping, changed)?;
    in_the_kernel(&line, &ping)?;
    assert_eq!((line.r.pid(), line.r.ended()?), (pid, None));
    Ok(())
}

fn another_mac(line: &Line) -> Result<()> {
    device::set_mac(&line.ns_b, "to-r", "02:00:5e:77:00:01")
}

/// b's interface goes down and comes up again, with the IPv6 addresses that the kernel takes away meanwhile.
fn down_and_up(line: &Line) -> Result<()> {
    line.ns_b.ip("link set to-r down")?;
    line.ns_b.ip("link set to-r up")?;
    line.ns_b.ip("addr replace fd77:2::1/64 dev to-r nodad").map(drop)
}

/// r's own interface goes down and comes up again.
fn own_down_and_up(line: &Line) -> Result<()> {
    line.ns_r.ip("link set to-b down")?;
    line.ns_r.ip("link set to-b up")?;
    line.ns_r.ip("addr replace fd77:2::2/64 dev to-b nodad").map(drop)
}

macro_rules! cases {
    ($($name:ident: $link:ident $change:ident;)*) => {$(
        #[test]
        fn $name() -> Result<()> {
            rovy_netns::root_only!();
            follows(Link::$link, Mode::Native, $change)
        }
    )*};
}

cases! {
    a_neighbours_new_mac_address_eth: Eth another_mac;
    a_neighbours_new_mac_address_udp4: Udp4 another_mac;
    a_neighbours_new_mac_address_udp6: Udp6 another_mac;
    a_link_goes_down_and_up_eth: Eth down_and_up;
    a_link_goes_down_and_up_udp4: Udp4 down_and_up;
    a_link_goes_down_and_up_udp6: Udp6 down_and_up;
    an_own_interface_goes_down_and_up_eth: Eth own_down_and_up;
    an_own_interface_goes_down_and_up_udp4: Udp4 own_down_and_up;
    an_own_interface_goes_down_and_up_udp6: Udp6 own_down_and_up;
}

/// The only listener of `agent`, when it is in this state.
fn listener(agent: &Agent, state: ListenerState) -> Result<Listener> {
    wait::until(&format!("the listener to be {state:?}"), DEADLINE, || {
        let all: Vec<Listener> = agent.json(&["listener", "list"])?;
        Ok(all.into_iter().next().context("there is no listener")?).map(|l| (l.state == state).then_some(l))
    })
    .map_err(|e| agent.explain(e))
}

#[test]
fn a_listener_comes_back_with_its_interface() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("host")?;
    device::idle(&ns, "wan0", "wan1")?;
    let mut agent = Agent::new(&ns, "host")?;
    agent.configure(&Config { listen: vec!["/ethif/wan0".into()], mode: Mode::Native, ..Config::default() })?;
    agent.start()?;
    let before = (listener(&agent, ListenerState::Up)?, device::index(&ns, "wan0")?);
    assert_eq!(before.0.xdp_mode, "native");
    ns.ip("link del wan0")?;
    assert!(!listener(&agent, ListenerState::Down)?.xdp_why.is_empty());
    device::idle(&ns, "wan0", "wan1")?;
    let after = (listener(&agent, ListenerState::Up)?, device::index(&ns, "wan0")?);
    assert_ne!(before.1, after.1, "the interface is not a new one");
    assert_eq!((after.0.address, after.0.xdp_mode), (before.0.address, before.0.xdp_mode));
    assert!(ns.ip("link show wan0")?.contains("xdp"), "there is no XDP program on the new interface");
    Ok(())
}
