//! Nodes on one segment find each other, and who lies there gets nothing.
//!
//! ```text
//!   a -- to-a [ bridge br0, namespace m ] to-b -- b
//! ```

use anyhow::{Context as _, Result, ensure};
use pnet::datalink::{self, Channel, DataLinkSender};
use rovy_common::wire::{ETHERTYPE, MessageType, VERSION};
use rovy_netns::agent::DEADLINE;
use rovy_netns::{Agent, Config, Mode, Namespace, device, wait};
use rovy_userspace::api::{Discovery, Listener, PeerSource};
use rovy_userspace::identity::PeerId;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What two nodes may take to find each other.
const FOUND: Duration = Duration::from_secs(10);

/// Two hosts on a bridge, without any IPv4 address. The agents are declared first: they stop before their namespaces go.
struct Segment {
    a: Agent,
    b: Agent,
    ns: [Namespace; 3],
}

impl Segment {
    fn new() -> Result<Self> {
        let ns = [Namespace::new("a")?, Namespace::new("m")?, Namespace::new("b")?];
        device::veth(&ns[0], "to-m", &ns[1], "to-a", 1500)?;
        device::veth(&ns[2], "to-m", &ns[1], "to-b", 1500)?;
        device::bridge(&ns[1], "br0", &["to-a", "to-b"])?;
        Ok(Self { a: Agent::new(&ns[0], "a")?, b: Agent::new(&ns[2], "b")?, ns })
    }

    fn configure(&self, config: &Config) -> Result<()> {
        self.a.configure(config)?;
        self.b.configure(config)
    }

    /// Starts both and waits until they are peers; how long that took from when both ran.
    fn find(&mut self) -> Result<Duration> {
        self.a.start()?;
        self.b.start()?;
        let start = Instant::now();
        self.a.wait_neighbour(self.b.peer_id()).map_err(|e| self.b.explain(e))?;
        self.b.wait_neighbour(self.a.peer_id()).map_err(|e| self.a.explain(e))?;
        Ok(start.elapsed())
    }
}

fn within(found: Duration) -> Result<()> {
    println!("peers after {:.2} s", found.as_secs_f32());
    ensure!(found < FOUND, "it took {found:?}");
    Ok(())
}

/// Nothing but the configuration that `rovy start` writes: no address, no peer, nothing typed.
#[test]
fn two_default_nodes_find_each_other() -> Result<()> {
    rovy_netns::root_only!();
    let mut s = Segment::new()?;
    for agent in [&mut s.a, &mut s.b] {
        // Two agents on one machine want two names for their control sockets, nothing else.
        agent.with_arguments(&["--no-fc00"]);
    }
    within(s.find()?)?;
    let peers = s.a.peers()?;
    let b = peers.iter().find(|p| p.peer_id == s.b.peer_id()).context("a does not know b")?;
    ensure!(b.endpoint.as_ref().is_some_and(|e| e.starts_with("/ip6zone/")), "{b:?}");
    ensure!([PeerSource::Discovered, PeerSource::Incoming].contains(&b.source) && !b.configured, "{b:?}");
    ensure!(b.last_seen.is_some_and(|at| at > 1_700_000_000), "{b:?}");
    Ok(())
}

#[test]
fn two_nodes_with_ipv4_alone_find_each_other() -> Result<()> {
    rovy_netns::root_only!();
    let mut s = Segment::new()?;
    for (ns, host) in [(0, 1), (2, 2)] {
        device::address(&s.ns[ns], "to-m", &format!("10.77.9.{host}/24"))?;
    }
    let listen = vec!["/ip4/0.0.0.0/udp/1312".into()];
    s.configure(&Config { listen, mode: Mode::Userspace, discovery: true, ..Config::default() })?;
    within(s.find()?)
}

fn over_ethernet(mode: Mode) -> Result<()> {
    let mut s = Segment::new()?;
    s.configure(&Config { listen: vec!["/ethif/to-m".into()], mode, discovery: true, ..Config::default() })?;
    within(s.find()?)?;
    let listeners: Vec<Listener> = s.a.json(&["listener", "list"])?;
    ensure!(listeners[0].xdp_mode == mode.xdp(), "{listeners:?}");
    // Who was heard first is connected at once; the other's beacons come all the same.
    wait::until("a to send, and to hear b", 2 * DEADLINE, || {
        let listeners: Vec<Listener> = s.a.json(&["listener", "list"])?;
        Ok((listeners[0].beacons_sent > 0 && listeners[0].beacons_heard > 0).then_some(()))
    })
}

#[test]
fn two_nodes_find_each_other_over_ethernet_with_native_xdp() -> Result<()> {
    rovy_netns::root_only!();
    over_ethernet(Mode::Native)
}

#[test]
fn two_nodes_find_each_other_over_ethernet_without_xdp() -> Result<()> {
    rovy_netns::root_only!();
    over_ethernet(Mode::Userspace)
}

/// An interface that comes up while the agent runs is as good as one that was there.
#[test]
fn an_interface_that_comes_up_later_is_used_at_once() -> Result<()> {
    rovy_netns::root_only!();
    let mut s = Segment::new()?;
    let listen = vec!["/ip6/::/udp/1312".into()];
    s.configure(&Config { listen, mode: Mode::Userspace, discovery: true, ..Config::default() })?;
    s.ns[2].ip("link set to-m down")?;
    s.a.start()?;
    s.b.start()?;
    wait::until("a to have sent its first beacons", 2 * DEADLINE, || {
        Ok(on(&s.a)?.listeners.iter().all(|l| l.beacons_sent >= 4).then_some(()))
    })?;
    ensure!(on(&s.b)?.listeners.iter().all(|l| l.interfaces.is_empty() && l.beacons_sent == 0), "b has no link");
    s.ns[2].ip("link set to-m up")?;
    let start = Instant::now();
    s.a.wait_neighbour(s.b.peer_id()).map_err(|e| s.b.explain(e))?;
    within(start.elapsed())
}

fn on(agent: &Agent) -> Result<Discovery> {
    agent.json(&["discovery", "list"])
}

/// Where it is switched off nobody is found, and where it is switched on again they are.
#[test]
fn without_discovery_nobody_is_found_until_it_is_switched_on() -> Result<()> {
    rovy_netns::root_only!();
    let mut s = Segment::new()?;
    let listen = vec!["/ethif/to-m".into(), "/ip6/::/udp/1312".into()];
    s.configure(&Config { listen, mode: Mode::Userspace, discovery: true, ..Config::default() })?;
    s.b.edit("linklocal = true", "linklocal = false")?;
    s.b.start()?;
    s.a.start()?;
    wait::until("a to have sent its first beacons", 2 * DEADLINE, || {
        Ok(on(&s.a)?.listeners.iter().all(|l| l.beacons_sent >= 4).then_some(()))
    })
    .map_err(|e| s.a.explain(e))?;
    ensure!(s.a.peers()?.is_empty() && s.b.peers()?.is_empty(), "found without discovery");
    ensure!(!on(&s.b)?.linklocal && on(&s.b)?.listeners.iter().all(|l| l.beacons_sent + l.beacons_heard == 0));
    let one: Discovery = s.b.json(&["discovery", "enable", "linklocal", "/ethif/to-m"])?;
    ensure!(one.listeners.iter().filter(|l| l.linklocal).count() == 1, "{one:?}");
    s.a.wait_neighbour(s.b.peer_id()).map_err(|e| s.b.explain(e))?;
    let kind = s.a.peers()?.first().and_then(|p| p.kind.clone());
    ensure!(kind.as_deref() == Some("eth"), "{kind:?}");
    let off = s.b.cli(&["discovery", "disable", "linklocal", "/ethif/none"])?;
    ensure!(off.status.code() == Some(1), "a listener that does not exist");
    Ok(())
}

/// Valid keys that are nobody's.
fn keys(n: usize) -> Vec<PeerId> {
    let key = |i: u64| {
        let mut key = [0; 32];
        key[..8].copy_from_slice(&i.to_le_bytes());
        key
    };
    (0_u64..).filter_map(|i| PeerId::new(key(i)).ok()).take(n).collect()
}

/// Sends beacons as fast as they go, each with another key, from `stations` addresses in turn.
fn flood(ns: &Namespace, stations: u8, keys: &[PeerId]) -> Result<()> {
    let mut sender: Box<dyn DataLinkSender> = ns.enter(|| {
        let interface = datalink::interfaces().into_iter().find(|i| i.name == "br0").context("no br0")?;
        match datalink::channel(&interface, datalink::Config::default())? {
            Channel::Ethernet(sender, _) => Ok(sender),
            _ => anyhow::bail!("br0 is no Ethernet device"),
        }
    })??;
    for (n, key) in keys.iter().enumerate() {
        let mut frame = vec![0xff; 6];
        frame.extend([2, 0, 0, 0, 0, (n % usize::from(stations)) as u8]);
        frame.extend(ETHERTYPE.to_be_bytes());
        frame.extend([MessageType::Beacon as u8, VERSION, 40, 0, 0, 0, 0, 0]);
        frame.extend(key.public_key());
        sender.send_to(&frame, None).context("the frame was not sent")??;
    }
    Ok(())
}

/// A rogue on the segment names keys by the thousand while two nodes that never met find each other.
fn under_flood(mode: Mode) -> Result<()> {
    let mut s = Segment::new()?;
    s.configure(&Config { listen: vec!["/ethif/to-m".into()], mode, discovery: true, ..Config::default() })?;
    let keys = keys(20_000);
    s.a.start()?;
    let over = AtomicBool::new(false);
    let found = std::thread::scope(|scope| -> Result<Duration> {
        let rogue = scope.spawn(|| -> Result<usize> {
            let mut rounds = 0;
            while !over.load(Ordering::Relaxed) {
                flood(&s.ns[1], 1, &keys)?;
                rounds += 1;
            }
            Ok(rounds)
        });
        let met = (|| {
            wait::until("the flood to reach a", DEADLINE, || {
                Ok((s.a.stats()?.limits["discovered"].used > 0).then_some(()))
            })?;
            s.b.start()?;
            let start = Instant::now();
            s.a.wait_neighbour(s.b.peer_id())?;
            Ok(start.elapsed())
        })();
        over.store(true, Ordering::Relaxed);
        ensure!(rogue.join().map_err(|_| anyhow::anyhow!("the rogue panicked"))?? > 0, "no flood");
        met
    });
    let found = found.map_err(|e| s.a.explain(e))?;
    within(found)?;
    let limits = s.a.stats()?.limits;
    ensure!(limits["discovered"].used <= 32 && limits["handshakes"].used <= 40, "{limits:?}");
    ensure!(s.a.connected(s.b.peer_id())?, "the real one did not stay");
    Ok(())
}

#[test]
fn a_flood_of_rogue_beacons_that_meets_xdp_keeps_nobody_away() -> Result<()> {
    rovy_netns::root_only!();
    under_flood(Mode::Native)
}

#[test]
fn a_flood_of_rogue_beacons_that_meets_the_agent_keeps_nobody_away() -> Result<()> {
    rovy_netns::root_only!();
    under_flood(Mode::Userspace)
}

/// The peer book outlives the agent.
#[test]
fn who_was_seen_is_remembered_over_a_restart() -> Result<()> {
    rovy_netns::root_only!();
    let mut s = Segment::new()?;
    s.configure(&Config {
        listen: vec!["/ethif/to-m".into()],
        mode: Mode::Userspace,
        discovery: true,
        ..Config::default()
    })?;
    s.find()?;
    let before = s.a.peers()?.into_iter().next().context("a knows nobody")?;
    s.a.terminate()?;
    s.b.terminate()?;
    s.a.start()?;
    let after = s.a.peers()?.into_iter().next().context("a forgot b")?;
    ensure!(after.peer_id == s.b.peer_id() && after.source == before.source, "{after:?}");
    ensure!(after.last_seen >= before.last_seen && after.last_seen_s.is_none(), "{before:?} {after:?}");
    Ok(())
}
