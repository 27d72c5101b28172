//! Errors along reversed labels with real parts.
//!
//! ```text
//!            +--- r2 ---+
//!   a --- r1 +          + b
//!            +--- r3 ---+
//! ```

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::{DEADLINE, Peer};
use rovy_netns::ping::{self, Ping};
use rovy_netns::stream::Stream;
use rovy_netns::{Agent, Config, Link, Mode, Namespace, device, wait};
use rovy_userspace::api::Stats;
use rovy_userspace::identity::PeerId;
use serde_json::Value;
use std::collections::BTreeMap;
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// Nodes by name. The agents are declared first: they stop before their namespaces go.
struct Web {
    agents: BTreeMap<&'static str, Agent>,
    spaces: BTreeMap<&'static str, Namespace>,
}

const LINE: [(&str, &str); 3] = [("a", "r1"), ("r1", "r2"), ("r2", "b")];
const DIAMOND: [(&str, &str); 5] = [("a", "r1"), ("r1", "r2"), ("r2", "b"), ("r1", "r3"), ("r3", "b")];

impl Web {
    /// Nodes with these links, each named by its ends; a and b have TUN devices. All run, and all neighbours are connected.
    fn start(links: &[(&'static str, &'static str)], link: Link, mode: Mode) -> Result<Self> {
        let mut web = Self { agents: BTreeMap::new(), spaces: BTreeMap::new() };
        for name in links.iter().flat_map(|(x, y)| [*x, *y]) {
            if !web.spaces.contains_key(name) {
                let space = Namespace::new(name)?;
                web.agents.insert(name, Agent::new(&space, name)?);
                web.spaces.insert(name, space);
            }
        }
        let mut configs: BTreeMap<&str, Config> = BTreeMap::new();
        for (net, (x, y)) in links.iter().enumerate() {
            let (to_y, to_x) = (format!("to-{y}"), format!("to-{x}"));
            device::veth(&web.spaces[x], &to_y, &web.spaces[y], &to_x, 1500)?;
            for (host, at, of, interface, peers_interface) in [(1, x, y, &to_y, &to_x), (2, y, x, &to_x, &to_y)] {
                device::address(&web.spaces[at], interface, &format!("10.78.{net}.{host}/24"))?;
                let listener = |host: i32, interface: &str| match link {
                    Link::Eth => format!("/ethif/{interface}"),
                    _ => format!("/ip4/10.78.{net}.{host}/udp/1312"),
                };
                let allow = vec!["/tcp/0".to_owned()];
                let config = configs.entry(at).or_insert_with(|| Config { mode, allow, ..Config::default() });
                config.listen.push(listener(host, interface));
                // Over Ethernet one's own interface leads to the neighbour.
                let there = if link == Link::Eth { interface } else { peers_interface };
                let addresses = vec![listener(3 - host, there)];
                config.peers.push(Peer { id: web.agents[of].peer_id(), addresses });
                config.tun = ["a", "b"].contains(at).then(|| "rovy0".to_owned());
            }
        }
        for (name, config) in &configs {
            web.agents[name].configure(config)?;
        }
        for agent in web.agents.values_mut() {
            agent.start()?;
        }
        for (x, y) in links {
            web.agents[x].wait_neighbour(web.id(y))?;
            web.agents[y].wait_neighbour(web.id(x))?;
        }
        wait::until("a ping from a to b", DEADLINE, || {
            let answered = ping::once(&web.spaces["a"], web.agents["b"].address(), Duration::from_millis(500))?;
            Ok(answered.then_some(()))
        })
        .map_err(|e| web.explain(e))?;
        Ok(web)
    }

    fn id(&self, name: &str) -> PeerId {
        self.agents[name].peer_id()
    }

    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        self.agents.values().fold(error, |error, agent| agent.explain(error))
    }

    /// What a's routes to b are.
    fn routes(&self) -> Result<Vec<Value>> {
        let all: Vec<Value> = self.agents["a"].json(&["route", "list"])?;
        let b = self.id("b").to_string();
        Ok(all.into_iter().filter(|r| r["peer_id"] == b.as_str()).collect())
    }

    /// r2 or r3, whichever a's packets to b go through.
    fn middle(&self) -> Result<Option<&'static str>> {
        let (to_r2, to_r3) =
            (self.agents["r1"].wait_neighbour(self.id("r2"))?, self.agents["r1"].wait_neighbour(self.id("r3"))?);
        let routes = self.routes()?;
        let used = routes.iter().find(|r| r["in_use"] == true).and_then(|r| r["route"].as_str());
        let slot = used.and_then(|r| r.split('.').nth(1)).unwrap_or_default();
        Ok(if slot == to_r2 { Some("r2") } else { Some("r3").filter(|_| slot == to_r3) })
    }

    fn ping(&self, every: Duration) -> Result<Ping> {
        Ping::start(&self.spaces["a"], self.agents["b"].address(), every, 56)
    }

    /// Waits until a has believed an error of one of these kinds.
    fn believed(&self, kinds: &[&str]) -> Result<Stats> {
        let so_far = |s: &Stats| -> u64 { kinds.iter().map(|k| believed(s, k)).sum() };
        self.agents["a"].wait_stats("a to believe an error", DEADLINE, |s| so_far(s) > 0).map_err(|e| self.explain(e))
    }
}

fn of(counts: &BTreeMap<String, u64>, kind: &str) -> u64 {
    counts.get(kind).copied().unwrap_or(0)
}

fn believed(stats: &Stats, kind: &str) -> u64 {
    of(&stats.errors.received, kind) - of(&stats.errors.disbelieved, kind)
}

/// How r2 or r3 loses b.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Loss {
    /// `ip link set down`: nothing can be sent.
    Down,
    /// `rovy peer disconnect`: its slot is free. b does not notice.
    Freed,
}

fn another_route(link: Link, mode: Mode, loss: Loss) -> Result<()> {
    let web = Web::start(&DIAMOND, link, mode)?;
    let load = web.ping(Duration::from_millis(10))?;
    wait::until("two good routes from a to b", 4 * DEADLINE, || {
        let good = web.routes()?.iter().filter(|r| r["state"] == "good").count();
        Ok((good >= 2).then_some(()))
    })
    .map_err(|e| web.explain(e))?;
    let middle = web.middle()?.context("a route over neither")?;
    let before = load.mark();
    match loss {
        Loss::Down => drop(web.spaces[middle].ip("link set to-b down")?),
        Loss::Freed => {
            let gone = web.agents[middle].cli(&["peer", "disconnect", &web.id("b").to_string()])?;
            ensure!(gone.status.success(), "{gone:?}");
        }
    }
    let stats = web.believed(&["no_slot", "link_down"])?;
    wait::until("another route", DEADLINE, || Ok(web.middle()?.filter(|m| *m != middle)))
        .map_err(|e| web.explain(e))?;
    let mut after = load.mark();
    wait::until("a hundred answers in a row", DEADLINE, || {
        let now = load.settled_mark(Duration::from_millis(500));
        let lost = load.summary(after, now.max(after)).lost();
        if lost > 0 {
            after = now;
        }
        Ok((lost == 0 && now >= after + 100).then_some(()))
    })
    .map_err(|e| web.explain(e))?;
    println!("{link} {mode}: {} of 10 ms pings lost, {:?}", load.summary(before, after + 100).lost(), stats.errors);
    let told = web.agents[middle].stats()?.errors.sent;
    ensure!(of(&told, "no_slot") + of(&told, "link_down") > 0, "{told:?}");
    Ok(())
}

#[test]
fn a_route_whose_link_is_down_is_left_at_once() -> Result<()> {
    rovy_netns::root_only!();
    another_route(Link::Udp4, Mode::Native, Loss::Down)
}

#[test]
fn a_route_over_a_slot_that_was_freed_is_left_at_once() -> Result<()> {
    rovy_netns::root_only!();
    another_route(Link::Eth, Mode::Generic, Loss::Freed)
}

#[test]
fn without_xdp_too() -> Result<()> {
    rovy_netns::root_only!();
    another_route(Link::Udp4, Mode::Userspace, Loss::Down)?;
    another_route(Link::Eth, Mode::Userspace, Loss::Freed)
}

#[test]
fn programs_hear_when_there_is_no_other_route() -> Result<()> {
    rovy_netns::root_only!();
    let web = Web::start(&LINE, Link::Udp4, Mode::Native)?;
    web.spaces["r2"].ip("link set to-b down")?;
    let to = SocketAddr::from((web.agents["b"].address(), 9));
    let start = Instant::now();
    let told = wait::until("a program at a to be told", DEADLINE, || {
        let error = web.spaces["a"].enter(|| TcpStream::connect_timeout(&to, Duration::from_millis(500)))?.err();
        Ok(error.filter(|e| e.kind() == std::io::ErrorKind::HostUnreachable))
    })
    .map_err(|e| web.explain(e))?;
    println!("told after {:?}: {told}", start.elapsed());
    let stats = web.believed(&["no_slot", "link_down"])?;
    ensure!(stats.errors.disbelieved.values().all(|n| *n == 0), "{:?}", stats.errors);
    web.spaces["r2"].ip("link set to-b up")?;
    wait::until("a ping once the link is back", 4 * DEADLINE, || {
        let answered = ping::once(&web.spaces["a"], web.agents["b"].address(), Duration::from_millis(500))?;
        Ok(answered.then_some(()))
    })
    .map_err(|e| web.explain(e))
}

/// b's agent is killed and starts again; how long after it is back pings get through.
fn restarted(link: Link, mode: Mode) -> Result<()> {
    let mut web = Web::start(&LINE, link, mode)?;
    let stream = Stream::start(&web.spaces["a"], &web.spaces["b"], web.agents["b"].address(), 5003)?;
    stream.limit(Some(1_000_000));
    wait::until("a stream", DEADLINE, || Ok((stream.bytes() > 100_000).then_some(())))?;
    let load = web.ping(Duration::from_millis(10))?;
    wait::until("pings", DEADLINE, || Ok((load.mark() >= 20).then_some(())))?;
    let b = web.agents.get_mut("b").context("b")?;
    b.kill9()?;
    b.start()?;
    web.agents["b"].wait_neighbour(web.id("r2"))?;
    let (back, mark) = (Instant::now(), load.mark());
    web.believed(&["no_session"])?;
    wait::until("pings again", DEADLINE, || {
        let now = load.mark();
        Ok((load.summary(mark, now).sent > load.summary(mark, now).lost()).then_some(()))
    })
    .map_err(|e| web.explain(e))?;
    println!("{link} {mode}: pings get through {:?} after b has its neighbour", back.elapsed());
    let bytes = stream.bytes();
    wait::until("the stream to go on", 2 * DEADLINE, || Ok((stream.bytes() > bytes + 100_000).then_some(())))
        .map_err(|e| web.explain(e))?;
    stream.finish().map(drop)
}

#[test]
fn a_restarted_end_is_talked_to_again_at_once() -> Result<()> {
    rovy_netns::root_only!();
    restarted(Link::Udp4, Mode::Native)
}

#[test]
fn a_restarted_end_without_xdp() -> Result<()> {
    rovy_netns::root_only!();
    restarted(Link::Eth, Mode::Userspace)
}

#[test]
fn what_does_not_fit_a_link_behind_others_is_told() -> Result<()> {
    rovy_netns::root_only!();
    for mode in [Mode::Native, Mode::Userspace] {
        let web = Web::start(&LINE, Link::Udp4, mode)?;
        for (at, interface) in [("r2", "to-b"), ("b", "to-r2")] {
            web.spaces[at].ip(&format!("link set {interface} mtu 1300"))?;
        }
        wait::until("a to be told", DEADLINE, || {
            // 1280 bytes with both headers: 1384 on the link.
            let big = Ping::start(&web.spaces["a"], web.agents["b"].address(), Duration::from_millis(50), 1232)?;
            wait::until("two pings", DEADLINE, || Ok((big.mark() >= 2).then_some(())))?;
            drop(big);
            Ok((believed(&web.agents["a"].stats()?, "too_big") > 0).then_some(()))
        })
        .map_err(|e| web.explain(e))?;
        let errors = web.agents["a"].stats()?.errors;
        ensure!(errors.disbelieved.values().all(|n| *n == 0), "{mode}: {errors:?}");
    }
    Ok(())
}
