//! Links that are sealed beside links that are not, on one path.
//!
//! ```text
//!   a 10.77.1.1 ---- .2 r 10.77.2.2 ---- .1 b 10.77.3.1 ---- .2 c
//! ```

use anyhow::{Context as _, Result, ensure};
use pnet::datalink::{self, Channel};
use rovy_common::wire::MessageType;
use rovy_netns::agent::{DEADLINE, Peer, binary};
use rovy_netns::line::route;
use rovy_netns::ping::Ping;
use rovy_netns::stream::{self, Stream};
use rovy_netns::{Agent, Capture, Config, Line, Link, Mode, Namespace, count, device, ping, wait};
use rovy_userspace::api::{PeerTransit, Stats};
use rovy_userspace::identity::PeerId;
use std::time::Duration;

fn of(stats: &Stats, reason: &str) -> u64 {
    [&stats.drops.kernel, &stats.drops.agent].iter().map(|d| d.get(reason).copied().unwrap_or(0)).sum()
}

/// Four hosts in a row; the ends have a TUN. Declared in the order in which they go.
struct Row {
    agents: [Agent; 4],
    spaces: [Namespace; 4],
}

const NAMES: [&str; 4] = ["a", "r", "b", "c"];

impl Row {
    /// `links[n]` joins the hosts `n` and `n + 1` and is sealed by the wish of the latter.
    fn start(links: [(Link, bool); 3], mode: Mode, mtu: u16) -> Result<Self> {
        let spaces = [Namespace::new("a")?, Namespace::new("r")?, Namespace::new("b")?, Namespace::new("c")?];
        let new = |n: usize| Agent::with_binary(&binary()?, &spaces[n], NAMES[n]);
        let mut agents = [new(0)?, new(1)?, new(2)?, new(3)?];
        let mut configs = [(); 4].map(|()| Config { mode, ..Config::default() });
        configs[0].tun = Some("rovy0".into());
        configs[3].tun = Some("rovy0".into());
        configs.iter_mut().for_each(|c| c.allow = vec![stream::SERVICE.to_owned()]);
        for (n, (link, _)) in links.into_iter().enumerate() {
            let (left, right) = (format!("to-{}", NAMES[n + 1]), format!("to-{}", NAMES[n]));
            device::veth(&spaces[n], &left, &spaces[n + 1], &right, 1500)?;
            for (host, interface, number) in [(n, &left, 1), (n + 1, &right, 2)] {
                device::address(&spaces[host], interface, &format!("10.77.{n}.{number}/24"))?;
                device::address(&spaces[host], interface, &format!("fd77:{n}::{number}/64"))?;
            }
            let at = |number: u8, interface: &str| match link {
                Link::Eth => format!("/ethif/{interface}"),
                Link::Udp4 => format!("/ip4/10.77.{n}.{number}/udp/1312"),
                Link::Udp6 => format!("/ip6/fd77:{n}::{number}/udp/1312"),
            };
            configs[n].listen.push(at(1, &left));
            configs[n + 1].listen.push(at(2, &right));
            configs[n].peers.push(Peer { id: agents[n + 1].peer_id(), addresses: vec![at(2, &left)] });
            configs[n + 1].peers.push(Peer { id: agents[n].peer_id(), addresses: vec![at(1, &right)] });
        }
        for (n, config) in configs.iter().enumerate() {
            agents[n].configure(config)?;
            agents[n].edit("[fc00]", &format!("[fc00]\nmtu = {mtu}"))?;
        }
        for (n, (_, sealed)) in links.into_iter().enumerate() {
            agents[n + 1].set_transit(agents[n].peer_id(), if sealed { "sealed" } else { "kernel" })?;
        }
        for agent in &mut agents {
            agent.start()?;
        }
        let row = Self { agents, spaces };
        row.connect([0, 1, 2, 3])?;
        row.connect([3, 2, 1, 0])?;
        row.answers(0, 3)?;
        Ok(row)
    }

    /// Sets the route from the first to the last of these.
    fn connect(&self, way: [usize; 4]) -> Result<()> {
        let slots: Result<Vec<String>> =
            way.windows(2).map(|w| self.agents[w[0]].wait_neighbour(self.agents[w[1]].peer_id())).collect();
        route(&self.agents[way[0]], self.agents[way[3]].peer_id(), &format!("/rovyrt/{}", slots?.join(".")))
    }

    fn answers(&self, from: usize, to: usize) -> Result<()> {
        wait::until("an answer over the row", DEADLINE, || {
            Ok(ping::once(&self.spaces[from], self.agents[to].address(), Duration::from_millis(500))?.then_some(()))
        })
        .map_err(|e| self.agents[2].explain(self.agents[1].explain(e)))
    }

    /// What stands in `rovy peer list` of `at` about `of`.
    fn kind(&self, at: usize, of: usize) -> Result<(PeerTransit, bool)> {
        let peers = self.agents[at].peers()?;
        let peer = peers.into_iter().find(|p| p.peer_id == self.agents[of].peer_id()).context("no such peer")?;
        Ok((peer.transit, peer.sealed))
    }
}

/// Pings and TCP streams cross in both directions; on sealed links nothing but data messages is seen.
fn crosses(links: [(Link, bool); 3], mode: Mode, mtu: u16) -> Result<()> {
    let row = Row::start(links, mode, mtu)?;
    let watched =
        |n: usize, at: usize, of: usize| Capture::start(&row.spaces[at], &format!("to-{}", NAMES[of])).map(|c| (n, c));
    let sealed: Vec<usize> = (0..3).filter(|n| links[*n].1).collect();
    // At the receiver of either direction: what XDP sends is not seen where it leaves.
    let captures: Vec<_> =
        sealed.iter().flat_map(|n| [watched(*n, *n, n + 1), watched(*n, n + 1, *n)]).collect::<Result<_>>()?;
    let mut packets = 0;
    for (from, to) in [(0, 3), (3, 0)] {
        let ping = Ping::start(&row.spaces[from], row.agents[to].address(), Duration::from_millis(5), 1000)?;
        wait::until("50 pings", DEADLINE, || Ok((ping.mark() >= 50).then_some(())))?;
        let pings = ping.finish(Duration::from_secs(1))?;
        ensure!(pings.lost() == 0, "{pings:?}\n{}", row.agents[1].log_tail());
        let stream = Stream::start(&row.spaces[from], &row.spaces[to], row.agents[to].address(), 5201)?;
        wait::until("1 MB over TCP", DEADLINE, || Ok((stream.bytes() > 1_000_000).then_some(())))
            .map_err(|e| row.agents[2].explain(row.agents[1].explain(e)))?;
        packets += 2 * pings.sent + stream.finish()? / 1500;
    }
    for (n, capture) in captures {
        let frames = capture.finish()?;
        let full = frames.iter().map(|f| f.length).max().unwrap_or(0);
        ensure!(frames.len() as u64 > packets / 2, "link {n}: only {} messages of {packets} packets", frames.len());
        ensure!(frames.iter().all(|f| f.kind == MessageType::Data), "link {n}: something else than data");
        ensure!(full == usize::from(mtu) + 36 + 52, "link {n}: the longest message has {full} bytes");
    }
    for (n, (_, sealed)) in links.into_iter().enumerate() {
        let (kind, yes) = if sealed { (PeerTransit::Sealed, true) } else { (PeerTransit::Kernel, false) };
        ensure!(row.kind(n, n + 1)? == (kind, yes) && row.kind(n + 1, n)? == (kind, yes), "link {n}");
    }
    for (n, agent) in row.agents.iter().enumerate() {
        let stats = agent.stats()?;
        // Type 6 over a sealed link would be counted here, by kernel or agent.
        let dropped: Vec<_> = ["not_allowed", "too_big", "replay", "bad_tag"].map(|r| of(&stats, r)).into();
        ensure!(dropped == [0; 4], "{}: {stats:?}", NAMES[n]);
        for link in &stats.links {
            let other = row.agents.iter().position(|a| a.peer_id() == link.peer_id).context("a stranger")?;
            let sealed = links[n.min(other)].1;
            ensure!(link.redirect == (!sealed && mode.kernel()), "{}: {link:?}", NAMES[n]);
            ensure!(sealed == link.why.contains("sealed") || !mode.kernel(), "{}: {link:?}", NAMES[n]);
            ensure!(link.rx_packets.min(link.tx_packets) > packets / 4, "{}: {link:?}", NAMES[n]);
        }
    }
    let (r, b) = (row.agents[1].stats()?, row.agents[2].stats()?);
    if mode.kernel() && !links[0].1 && links[1].1 {
        ensure!(r.up["sealed"] > packets / 4, "{r:?}");
        ensure!(r.transit.kernel_packets == 0, "{r:?}");
    }
    ensure!(b.transit.agent_packets > packets / 2, "{b:?}");
    Ok(())
}

#[test]
fn one_sealed_link_between_two_in_the_kernel() -> Result<()> {
    rovy_netns::root_only!();
    crosses([(Link::Eth, false), (Link::Udp4, true), (Link::Udp6, false)], Mode::Native, 1376)
}

#[test]
fn sealed_links_of_every_underlay_around_one_in_the_kernel() -> Result<()> {
    rovy_netns::root_only!();
    // 1364 bytes is what a sealed link over UDP and IPv6 leaves of 1500.
    crosses([(Link::Udp6, true), (Link::Eth, false), (Link::Eth, true)], Mode::Generic, 1364)
}

#[test]
fn sealed_links_without_xdp() -> Result<()> {
    rovy_netns::root_only!();
    crosses([(Link::Udp4, true), (Link::Udp4, true), (Link::Udp4, false)], Mode::Userspace, 1376)
}

/// a - r - b with the link of a sealed, as `wish` has it.
fn line(mode: Mode, wish: impl Fn(&Line) -> Result<()>) -> Result<Line> {
    let line = Line::new(Link::Eth, mode)?;
    line.r.edit("enabled = false", "enabled = true")?;
    wish(&line)?;
    Ok(line)
}

/// Sends frames into a's link anew, as who recorded them could.
fn replay(line: &Line, frames: &[Vec<u8>]) -> Result<()> {
    let mut sender = line.ns_a.enter(|| {
        let interface = datalink::interfaces().into_iter().find(|i| i.name == "to-r").context("a has no to-r")?;
        match datalink::channel(&interface, datalink::Config::default())? {
            Channel::Ethernet(sender, _) => Ok(sender),
            _ => anyhow::bail!("to-r is no Ethernet device"),
        }
    })??;
    for frame in frames {
        sender.send_to(frame, None).context("the frame was not sent")??;
    }
    Ok(())
}

#[test]
fn a_recorded_sealed_frame_is_not_passed_on_again() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = line(Mode::Native, |l| l.a.set_transit(l.r.peer_id(), "sealed"))?;
    line.start()?;
    let capture = Capture::start(&line.ns_r, "to-a")?;
    let ping = Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(5), 1000)?;
    wait::until("50 pings", DEADLINE, || Ok((ping.mark() >= 50).then_some(())))?;
    let pings = ping.finish(Duration::from_secs(1))?;
    ensure!(pings.lost() == 0, "{pings:?}");
    let r = device::mac(&line.ns_r, "to-a")?;
    let recorded: Vec<_> =
        capture.finish()?.into_iter().filter(|f| f.bytes.starts_with(&r) && f.length > 1000).collect();
    ensure!(recorded.len() >= 50 && recorded.iter().all(|f| f.kind == MessageType::Data), "{}", recorded.len());
    let (before, heard) = (line.r.stats()?, count::echo_requests(&line.ns_b)?);
    let frames: Vec<_> = recorded.into_iter().map(|f| f.bytes).collect();
    replay(&line, &frames)?;
    let all = frames.len() as u64;
    let after =
        line.r.wait_stats("r to drop what it knows", DEADLINE, |s| of(s, "replay") >= of(&before, "replay") + all)?;
    ensure!(after.transit == before.transit, "{after:?}");
    ensure!(count::echo_requests(&line.ns_b)? == heard, "b heard some of it twice");
    Ok(())
}

/// a's agent tries to reach b over r by the slot that `second` names; what r drops it for.
fn refused(mode: Mode, kind: &str, second: impl Fn(&Line) -> PeerId, reason: &str) -> Result<Line> {
    let mut line = line(mode, |l| {
        l.a.set_transit(l.r.peer_id(), "sealed")?;
        l.r.set_transit(l.a.peer_id(), kind)
    })?;
    line.r.start()?;
    line.a.start()?;
    line.b.start()?;
    let a_to_r = line.a.wait_neighbour(line.r.peer_id())?;
    line.r.wait_neighbour(line.a.peer_id())?;
    line.r.wait_neighbour(line.b.peer_id())?;
    let then = line.r.wait_neighbour(second(&line))?;
    route(&line.a, line.b.peer_id(), &format!("/rovyrt/{a_to_r}.{then}"))?;
    let stats = line.r.wait_stats(&format!("r to count {reason}"), DEADLINE, |s| of(s, reason) >= 1)?;
    ensure!(stats.transit.agent_packets + stats.transit.kernel_packets == 0, "{stats:?}");
    wait::until("r itself to answer", DEADLINE, || {
        Ok(ping::once(&line.ns_a, line.r.address(), Duration::from_millis(500))?.then_some(()))
    })?;
    Ok(line)
}

#[test]
fn a_sealed_link_is_no_way_around_denial() -> Result<()> {
    rovy_netns::root_only!();
    let line = refused(Mode::Native, "deny", |l| l.b.peer_id(), "not_allowed")?;
    let peers = line.r.peers()?;
    let a = peers.iter().find(|p| p.peer_id == line.a.peer_id()).context("r does not know a")?;
    ensure!((a.transit, a.sealed) == (PeerTransit::Deny, true), "{a:?}");
    Ok(())
}

#[test]
fn a_sealed_link_leads_nobody_back() -> Result<()> {
    rovy_netns::root_only!();
    refused(Mode::Native, "kernel", |l| l.a.peer_id(), "u_turn").map(drop)
}

#[test]
fn sealed_links_renew_their_keys_without_loss() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = line(Mode::Native, |l| {
        l.r.set_transit(l.a.peer_id(), "sealed")?;
        l.r.set_transit(l.b.peer_id(), "sealed")
    })?;
    for agent in [&mut line.a, &mut line.r, &mut line.b] {
        agent.with_arguments(&["--rekey-after", "2"]);
    }
    line.start()?;
    let ready = line.r.stats()?.handshakes;
    let ping = Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(5), 1000)?;
    line.r.wait_stats("r to renew its keys", 4 * DEADLINE, |s| s.handshakes >= ready + 12)?;
    let pings = ping.finish(Duration::from_secs(2))?;
    let after = line.r.stats()?;
    ensure!(pings.lost() == 0 && pings.sent > 500, "{pings:?}, r {:?}\n{}", after.drops, line.r.log_tail());
    ensure!(after.transit.kernel_packets == 0, "{after:?}");
    Ok(())
}
