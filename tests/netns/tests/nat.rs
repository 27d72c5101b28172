//! Two hosts behind two masquerading routers reach each other through a public neighbour, also after a long silence.
//!
//! ```text
//!   a ---- na ====== p ====== nb ---- b        a, b: 192.168.1.2 behind their routers
//!        masquerade     masquerade             p: 203.0.113.1 and 198.51.100.1
//! ```

use anyhow::{Result, ensure};
use rovy_netns::agent::{DEADLINE, Peer};
use rovy_netns::{Agent, Config, Mode, Namespace, command, count, device, ping, skip, wait};
use std::process::Command;
use std::time::Duration;

/// Seconds after which the routers forget a way that nothing takes, instead of thirty to hundred and twenty.
const FORGET: u32 = 5;
/// Keepalives that ten minutes hold, one every twenty-five seconds.
const SILENCE: u64 = 24;

struct Homes {
    a: Agent,
    p: Agent,
    b: Agent,
    ns_a: Namespace,
    ns_p: Namespace,
    _ns_b: Namespace,
    routers: [Namespace; 2],
}

/// A router between a home network and the public one, that lets nothing in which was not asked for.
fn masquerade(router: &Namespace) -> Result<()> {
    for (file, value) in [
        ("net/ipv4/ip_forward", "1".to_owned()),
        ("net/netfilter/nf_conntrack_udp_timeout", FORGET.to_string()),
        ("net/netfilter/nf_conntrack_udp_timeout_stream", FORGET.to_string()),
    ] {
        // The rules bring connection tracking, and with it its switches.
        if file.contains("conntrack_udp_timeout") && !file.ends_with("stream") {
            let rules = "table ip home {
                chain out { type nat hook postrouting priority srcnat; oifname \"public\" masquerade; }
                chain pass { type filter hook forward priority filter; policy drop;
                    iifname \"home\" accept; ct state established,related accept; }
            }";
            command::run(router.command("nft").arg(rules))?;
        }
        let path = format!("/proc/sys/{file}");
        router.enter(|| std::fs::write(&path, &value))??;
    }
    Ok(())
}

impl Homes {
    fn new() -> Result<Self> {
        let (ns_a, ns_p, ns_b) = (Namespace::new("a")?, Namespace::new("p")?, Namespace::new("b")?);
        let routers = [Namespace::new("na")?, Namespace::new("nb")?];
        let public = ["203.0.113", "198.51.100"];
        let (a, p, b) = (Agent::new(&ns_a, "a")?, Agent::new(&ns_p, "p")?, Agent::new(&ns_b, "b")?);
        for (n, (ns, host, end)) in [(&ns_a, &a, "to-na"), (&ns_b, &b, "to-nb")].into_iter().enumerate() {
            device::veth(ns, "home", &routers[n], "home", 1500)?;
            device::veth(&routers[n], "public", &ns_p, end, 1500)?;
            device::address(ns, "home", "192.168.1.2/24")?;
            device::address(&routers[n], "home", "192.168.1.1/24")?;
            device::address(&routers[n], "public", &format!("{}.2/24", public[n]))?;
            device::address(&ns_p, end, &format!("{}.1/24", public[n]))?;
            ns.ip("route add default via 192.168.1.1")?;
            masquerade(&routers[n])?;
            host.configure(&Config {
                listen: vec!["/ip4/0.0.0.0/udp/1312".into()],
                mode: Mode::Userspace,
                peers: vec![Peer { id: p.peer_id(), addresses: vec![format!("/ip4/{}.1/udp/1312", public[n])] }],
                tun: Some("rovy0".into()),
                ..Config::default()
            })?;
        }
        p.configure(&Config { listen: vec!["/ip4/0.0.0.0/udp/1312".into()], mode: Mode::Native, ..Config::default() })?;
        Ok(Self { a, p, b, ns_a, ns_p, _ns_b: ns_b, routers })
    }

    /// Starts all three; `keepalive`: seconds between two through the NAT.
    fn start(&mut self, keepalive: &str) -> Result<()> {
        self.p.start()?;
        for host in [&mut self.a, &mut self.b] {
            host.with_arguments(&["--nat-keepalive", keepalive]);
            host.start()?;
        }
        for host in [&self.a, &self.b] {
            host.wait_neighbour(self.p.peer_id()).map_err(|e| self.p.explain(e))?;
            self.p.wait_neighbour(host.peer_id()).map_err(|e| host.explain(e))?;
        }
        Ok(())
    }

    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        self.a.explain(self.p.explain(self.b.explain(error)))
    }

    /// Packets that a router has passed on from home.
    fn passed(&self, router: usize) -> Result<u64> {
        Ok(count::traffic(&self.routers[router], "home")?.rx_packets)
    }
}

/// Whether this machine has what makes a NAT. Says why not.
fn nat(test: &str) -> Result<bool> {
    if Command::new("nft").arg("--version").output().is_err() {
        skip::skip(test, "nft is missing: `cargo xtask setup` installs nftables");
        return Ok(false);
    }
    let ns = Namespace::new("try")?;
    let rules = "table ip t { chain c { type nat hook postrouting priority srcnat; masquerade; }; }";
    match command::run(ns.command("nft").arg(rules)) {
        Ok(_) => Ok(true),
        Err(error) if ["not supported", "No such file"].iter().any(|t| error.to_string().contains(t)) => {
            skip::skip(test, &format!("this kernel has no NAT: {error:#}"));
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

#[test]
fn two_hosts_behind_nat_reach_each_other_also_after_ten_idle_minutes() -> Result<()> {
    rovy_netns::root_only!();
    if !nat("two_hosts_behind_nat")? {
        return Ok(());
    }
    let mut homes = Homes::new()?;
    homes.start("1")?;
    for host in [&homes.a, &homes.b] {
        ensure!(host.peers()?.iter().any(|p| p.nat), "{} does not see its NAT", host.peer_id());
    }
    ensure!(homes.p.peers()?.iter().all(|p| !p.nat), "there is no NAT in front of p");
    let answered = || ping::once(&homes.ns_a, homes.b.address(), Duration::from_millis(500));
    wait::until("a ping from a to b", DEADLINE, || Ok(answered()?.then_some(()))).map_err(|e| homes.explain(e))?;
    // As many keepalives as ten minutes hold; the routers would have forgotten the way many times over.
    let before = [homes.passed(0)?, homes.passed(1)?];
    wait::until("ten idle minutes in short", 8 * DEADLINE, || {
        let idle = homes.passed(0)? >= before[0] + SILENCE && homes.passed(1)? >= before[1] + SILENCE;
        Ok(idle.then_some(()))
    })
    .map_err(|e| homes.explain(e))?;
    for host in [&homes.a, &homes.b] {
        let handshakes = host.stats()?.handshakes;
        ensure!(handshakes <= 3, "{handshakes} handshakes: it was not the keepalives that held the way open");
    }
    ensure!(ping::once(&homes.ns_a, homes.b.address(), Duration::from_secs(2))?, "{}", homes.b.log_tail());
    let _ = &homes.ns_p;
    Ok(())
}

/// The counter-check: without keepalives the routers forget, and nothing of p's gets in.
#[test]
fn without_keepalives_the_way_in_is_shut() -> Result<()> {
    rovy_netns::root_only!();
    if !nat("without_keepalives")? {
        return Ok(());
    }
    let mut homes = Homes::new()?;
    homes.start("3600")?;
    wait::until("a ping from a to b", DEADLINE, || {
        Ok(ping::once(&homes.ns_a, homes.b.address(), Duration::from_millis(500))?.then_some(()))
    })
    .map_err(|e| homes.explain(e))?;
    wait::until("the router of b to forget", 6 * DEADLINE, || {
        let left = homes.routers[1].enter(|| std::fs::read_to_string("/proc/thread-self/net/nf_conntrack"))??;
        Ok((!left.contains("udp")).then_some(()))
    })?;
    ensure!(!ping::once(&homes.ns_a, homes.b.address(), Duration::from_secs(1))?, "it got through a way that was shut");
    Ok(())
}
