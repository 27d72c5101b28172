//! Two links between a and r, raw Ethernet and UDP. One fails under traffic: what travelled over it goes over the other.
//!
//! ```text
//!             Ethernet: to-r1 [ bridge, namespace m ] to-a1
//!   a (rovy0) =====                                   ===== r (rovy0) ==== Ethernet ==== b (rovy0)
//!             UDP/IPv4: to-r2 ------ 10.77.5 -------- to-a2
//! ```

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::{DEADLINE, Peer};
use rovy_netns::line::route;
use rovy_netns::ping::{Ping, Summary};
use rovy_netns::{Agent, Config, Mode, Namespace, device, wait};
use rovy_userspace::api::{LinkState, PeerLink};
use std::time::Duration;

const INTERVAL: Duration = Duration::from_millis(5);

struct Double {
    a: Agent,
    r: Agent,
    b: Agent,
    ns_a: Namespace,
    ns_r: Namespace,
    ns_m: Namespace,
    ns_b: Namespace,
}

fn listen(ethernet: &[&str], udp: Option<u8>) -> Vec<String> {
    let ethernet = ethernet.iter().map(|i| format!("/ethif/{i}"));
    ethernet.chain(udp.map(|host| format!("/ip4/10.77.5.{host}/udp/1312"))).collect()
}

impl Double {
    /// Three agents with their links up, and routes between a and b over the Ethernet link of a and r.
    fn start(arguments: &[&str]) -> Result<Self> {
        let mut double = Self::new(true)?;
        for agent in [&mut double.r, &mut double.a, &mut double.b] {
            agent.with_arguments(arguments);
            agent.start()?;
        }
        double.wait_both()?;
        double.route("eth")?;
        Ok(double)
    }

    /// The three agents, not started. a and r know each other's UDP addresses, or not.
    fn new(udp: bool) -> Result<Self> {
        let role = Namespace::new;
        let (ns_a, ns_r, ns_m, ns_b) = (role("a")?, role("r")?, role("m")?, role("b")?);
        device::veth(&ns_a, "to-r1", &ns_m, "to-a", 1500)?;
        device::veth(&ns_r, "to-a1", &ns_m, "to-r", 1500)?;
        device::bridge(&ns_m, "br0", &["to-a", "to-r"])?;
        for port in ["to-a", "to-r"] {
            // A veth takes redirected frames while its end has XDP or, as here, GRO.
            device::offload(&ns_m, port, "gro", true)?;
        }
        device::veth(&ns_a, "to-r2", &ns_r, "to-a2", 1500)?;
        device::veth(&ns_b, "to-r", &ns_r, "to-b", 1500)?;
        device::address(&ns_a, "to-r2", "10.77.5.1/24")?;
        device::address(&ns_r, "to-a2", "10.77.5.2/24")?;
        let (a, r, b) = (Agent::new(&ns_a, "a")?, Agent::new(&ns_r, "r")?, Agent::new(&ns_b, "b")?);
        let mode = Mode::Native;
        let tun = || Some("rovy0".to_owned());
        let peer = |agent: &Agent, addresses: Vec<String>| Peer { id: agent.peer_id(), addresses };
        let peers = vec![peer(&r, listen(&["to-r1"], udp.then_some(2)))];
        let (xdp_interfaces, listening) = (vec!["to-r2".into()], listen(&["to-r1"], Some(1)));
        a.configure(&Config { listen: listening, mode, xdp_interfaces, peers, tun: tun(), ..Config::default() })?;
        let peers = vec![peer(&a, listen(&["to-a1"], udp.then_some(1))), peer(&b, listen(&["to-b"], None))];
        let (xdp_interfaces, listening) = (vec!["to-a2".into()], listen(&["to-a1", "to-b"], Some(2)));
        r.configure(&Config { listen: listening, mode, xdp_interfaces, peers, tun: tun(), ..Config::default() })?;
        let peers = vec![peer(&r, listen(&["to-r"], None))];
        b.configure(&Config { listen: listen(&["to-r"], None), mode, peers, tun: tun(), ..Config::default() })?;
        Ok(Self { a, r, b, ns_a, ns_r, ns_m, ns_b })
    }

    /// Routes between a and b over one kind of link between a and r.
    fn route(&self, kind: &str) -> Result<()> {
        let b_to_r = self.b.wait_neighbour(self.r.peer_id())?;
        let r_to_b = self.r.wait_neighbour(self.b.peer_id())?;
        let slot = |from: &Agent, to: &Agent| link(from, to, kind)?.slot_text.context("a link without a slot");
        route(&self.a, self.b.peer_id(), &format!("/rovyrt/{}.{r_to_b}", slot(&self.a, &self.r)?))?;
        route(&self.b, self.a.peer_id(), &format!("/rovyrt/{b_to_r}.{}", slot(&self.r, &self.a)?))
    }

    fn explained<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|e| self.a.explain(self.r.explain(e)))
    }

    fn wait_state(&self, kind: &str, state: LinkState) -> Result<()> {
        let what = format!("the {kind} links of a and r to be {state:?}");
        self.explained(wait::until(&what, 4 * DEADLINE, || {
            let ours = link(&self.a, &self.r, kind)?.state == state;
            Ok((ours && link(&self.r, &self.a, kind)?.state == state).then_some(()))
        }))
    }

    fn wait_both(&self) -> Result<()> {
        self.wait_state("eth", LinkState::Up)?;
        self.wait_state("udp4", LinkState::Up)
    }

    /// A ping from a that has got through for a while.
    fn ping(&self, to: &Agent) -> Result<Ping> {
        let ping = Ping::start(&self.ns_a, to.address(), INTERVAL, 56)?;
        let answered = || Ok((ping.summary(0, ping.mark()).received >= 50).then_some(()));
        self.explained(wait::until("50 answers", DEADLINE, answered))?;
        Ok(ping)
    }

    /// What became of the pings from `from` until 100 in a row were answered.
    fn recovers(&self, ping: &Ping, from: usize) -> Result<Summary> {
        self.explained(wait::until("answers", DEADLINE, || {
            let end = ping.settled_mark(Duration::from_millis(300));
            let well = end >= from + 100 && ping.summary(end - 100, end).lost() == 0;
            Ok(well.then(|| ping.summary(from, end)))
        }))
    }
}

fn link(from: &Agent, to: &Agent, kind: &str) -> Result<PeerLink> {
    let peers = from.peers()?;
    let peer = peers.into_iter().find(|p| p.peer_id == to.peer_id()).context("no such peer")?;
    peer.links.into_iter().find(|l| l.kind == kind).with_context(|| format!("no {kind} link"))
}

/// Ethernet fails by `cut` and comes back by `mend`: pings through r, switched by its kernel, and pings to r go on over UDP.
fn fails_over(cut: &[(char, &str)], mend: &[(char, &str)], gap_ms: u64) -> Result<()> {
    let double = Double::start(&[])?;
    let ip = |lines: &[(char, &str)]| {
        lines.iter().try_for_each(|(at, line)| {
            let ns = if *at == 'a' { &double.ns_a } else { &double.ns_m };
            ns.ip(line).map(drop)
        })
    };
    // The better kind is in use by both before it fails.
    let both = |kind| -> Result<bool> {
        Ok(link(&double.a, &double.r, kind)?.active && link(&double.r, &double.a, kind)?.active)
    };
    double.explained(wait::until("Ethernet to be in use", 2 * DEADLINE, || Ok(both("eth")?.then_some(()))))?;
    let pings = [double.ping(&double.b)?, double.ping(&double.r)?];
    let kernel = double.r.stats()?.transit.kernel_packets;
    let marks = [pings[0].mark(), pings[1].mark()];
    ip(cut)?;
    for (ping, (mark, what)) in pings.iter().zip(marks.into_iter().zip(["through r", "to r"])) {
        let summary = double.recovers(ping, mark)?;
        println!("{what}: {} of {} lost, gap {} ms", summary.lost(), summary.sent, summary.longest_gap_ms);
        ensure!(summary.longest_gap_ms <= gap_ms, "{what}: {summary:?}\n{}", double.a.log_tail());
    }
    double.wait_state("eth", LinkState::Dead)?;
    ensure!(both("udp4")?, "data goes over UDP");
    let dead = double.r.stats()?;
    ensure!(dead.transit.kernel_packets > kernel + 100, "the kernel switches: {:?}", dead.transit);

    let agent = dead.transit.agent_packets;
    let mark = pings[0].mark();
    ip(mend)?;
    double.wait_state("eth", LinkState::Up)?;
    let summary = double.recovers(&pings[0], mark)?;
    println!("on return: {} of {} lost", summary.lost(), summary.sent);
    ensure!(summary.lost() == 0, "{summary:?}");
    let after = double.r.stats()?.transit;
    println!("switched by r's agent meanwhile: {}", after.agent_packets - agent);
    let slot = link(&double.r, &double.a, "eth")?.slot;
    let stats = double.r.stats()?;
    let at = &stats.links.iter().find(|l| Some(l.slot) == slot).context("no such link")?;
    ensure!(at.kind == "eth" && at.redirect, "the slot is its own link's again: {at:?}");
    Ok(())
}

#[test]
fn a_link_whose_carrier_is_lost_hands_over_at_once() -> Result<()> {
    rovy_netns::root_only!();
    // At a the interface is down. To r, behind a bridge, it is silence, but a tells.
    fails_over(&[('a', "link set to-r1 down")], &[('a', "link set to-r1 up")], 1000)
}

#[test]
fn a_link_that_falls_silent_hands_over_in_seconds() -> Result<()> {
    rovy_netns::root_only!();
    let cut = [('m', "link set to-a nomaster"), ('m', "link set to-r nomaster")];
    fails_over(&cut, &[('m', "link set to-a master br0"), ('m', "link set to-r master br0")], 4000)
}

#[test]
fn keys_of_two_links_are_renewed_under_load() -> Result<()> {
    rovy_netns::root_only!();
    let double = Double::start(&["--rekey-after", "2"])?;
    let ready = double.r.stats()?.handshakes;
    let pings = [double.ping(&double.b)?, double.ping(&double.r)?];
    double.r.wait_stats("r to renew its keys", 4 * DEADLINE, |s| s.handshakes >= ready + 12)?;
    double.wait_both()?;
    for ping in pings {
        let summary = ping.finish(Duration::from_secs(2))?;
        ensure!(
            summary.lost() == 0 && summary.sent > 500,
            "{summary:?}\n{}\n{}",
            double.a.log_tail(),
            double.r.log_tail()
        );
    }
    let limits = double.r.stats()?.limits;
    ensure!(limits["sessions"].used <= 14, "{limits:?}");
    Ok(())
}

#[test]
fn both_links_survive_the_agent_between() -> Result<()> {
    rovy_netns::root_only!();
    let mut double = Double::start(&[])?;
    let slots = |d: &Double| -> Result<_> {
        Ok([link(&d.r, &d.a, "eth")?.slot, link(&d.r, &d.a, "udp4")?.slot].map(|s| s.unwrap_or_default()))
    };
    let before = slots(&double)?;
    let ping = double.ping(&double.b)?;
    let mark = ping.mark();
    double.r.kill9()?;
    wait::until("200 pings without an agent at r", DEADLINE, || Ok((ping.mark() >= mark + 200).then_some(())))?;
    double.r.start()?;
    double.r.wait_neighbour(double.a.peer_id())?;
    let back = ping.mark();
    wait::until("200 more pings", DEADLINE, || Ok((ping.mark() >= back + 200).then_some(())))?;
    let end = ping.mark();
    double
        .explained(wait::until(
            "the last answers",
            DEADLINE,
            || Ok((ping.summary(mark, end).lost() == 0).then_some(())),
        ))
        .map_err(|e| e.context(format!("{:?}", ping.summary(mark, end))))?;
    double.wait_both()?;
    let (mut after, mut before) = (slots(&double)?, before);
    after.sort_unstable();
    before.sort_unstable();
    ensure!(after == before, "{before:?} {after:?}");
    let _ = (&double.ns_r, &double.ns_b);
    Ok(())
}

#[test]
fn links_come_and_go_by_command() -> Result<()> {
    rovy_netns::root_only!();
    let mut double = Double::new(false)?;
    double.r.start()?;
    double.a.start()?;
    double.wait_state("eth", LinkState::Up)?;
    ensure!(link(&double.a, &double.r, "udp4").is_err(), "nobody knows of it");
    let said = |agent: &Agent, args: &[&str]| -> Result<String> {
        let output = agent.cli(args)?;
        ensure!(output.status.success(), "{args:?}: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    };
    said(&double.a, &["peer", "connect", &format!("/ip4/10.77.5.2/udp/1312/rovy/{}", double.r.peer_id())])?;
    double.wait_both()?;
    let list = said(&double.a, &["peer", "list"])?;
    ensure!(
        list.contains("/ip4/10.77.5.2/udp/1312") && list.contains("  in use\n") && list.contains("  up\n"),
        "{list}"
    );

    let ping = double.ping(&double.r)?;
    let mark = ping.mark();
    said(&double.r, &["listener", "stop", "/ethif/to-a1"])?;
    double.wait_state("eth", LinkState::Dead)?;
    let summary = double.recovers(&ping, mark)?;
    println!("{} of {} lost, gap {} ms", summary.lost(), summary.sent, summary.longest_gap_ms);
    ensure!(summary.longest_gap_ms <= 1000, "{summary:?}");
    said(&double.r, &["listener", "start", "/ethif/to-a1"])?;
    double.wait_both()?;

    said(&double.r, &["peer", "disconnect", &double.a.peer_id().to_string()])?;
    let stats = double.r.wait_stats("the links to go", DEADLINE, |s| s.links.is_empty())?;
    ensure!(stats.limits["sessions"].used <= 1, "{stats:?}");
    Ok(())
}
