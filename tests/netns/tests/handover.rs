//! An ordinary user's agent that root gives what it may not open itself.

use anyhow::{Context as _, Result, ensure};
use rovy_common::label::Width;
use rovy_netns::agent::DEADLINE;
use rovy_netns::ping::Ping;
use rovy_netns::traffic::Traffic;
use rovy_netns::{Agent, Config, Line, Link, Mode, Namespace, device, ping, wait};
use rovy_userspace::api::{Fc00Status, Listener, Peer, Stats};
use rovy_userspace::dataplane::xdp;
use rovy_userspace::transport::ethernet;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::io::{IoSlice, Read as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

/// The line with an ordinary user's agent in the middle, started.
fn line(link: Link) -> Result<Line> {
    let mut line = Line::new(link, Mode::Native)?;
    line.r.become_nobody()?;
    line.r.start()?;
    line.a.start()?;
    line.b.start()?;
    Ok(line)
}

/// 100 pings from a to b; how many packets kernel and agent of r switched meanwhile.
fn hundred(line: &Line) -> Result<(u64, u64)> {
    let before = line.r.stats()?;
    let ping = Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(5), 1000)?;
    wait::until("100 pings", DEADLINE, || Ok((ping.mark() >= 100).then_some(())))?;
    let pings = ping.finish(Duration::from_secs(1))?;
    let after = line.r.stats()?;
    ensure!(pings.lost() == 0, "{pings:?}\n{after:?}\n{}", line.r.log_tail());
    let since = |of: fn(&Stats) -> u64| of(&after) - of(&before);
    Ok((since(|s| s.transit.kernel_packets), since(|s| s.transit.agent_packets)))
}

fn has_xdp(ns: &Namespace, interface: &str) -> Result<bool> {
    Ok(ns.ip(&format!("link show {interface}"))?.contains("xdp"))
}

#[test]
fn transit_crosses_the_kernel_of_an_ordinary_users_agent() -> Result<()> {
    rovy_netns::root_only!();
    let mut line = line(Link::Eth)?;
    ensure!(line.r.json::<Vec<Listener>>(&["listener", "list"])?.is_empty(), "nobody opened a packet socket");
    for interface in ["to-a", "to-b"] {
        let started: Listener = line.r.root_json(&["listener", "start", &format!("/ethif/{interface}")])?;
        ensure!(started.xdp_mode == "native" && started.ifname.as_deref() == Some(interface), "{started:?}");
        ensure!(has_xdp(&line.ns_r, interface)?, "no program on {interface}");
    }
    line.connect().map_err(|e| line.r.explain(e))?;
    let (kernel, agent) = hundred(&line)?;
    ensure!(kernel >= 200 && agent == 0, "kernel {kernel}, agent {agent}");

    let status = std::fs::read_to_string(format!("/proc/{}/status", line.r.pid().context("it does not run")?))?;
    ensure!(status.contains("\nUid:\t65534\t65534\t65534\t65534\n"), "{status}");
    ensure!(status.contains("\nCapPrm:\t0000000000000000\n"), "{status}");

    // Transit of this agent cannot outlive it, and the agent says so.
    let kept = line.r.cli(&["stop", "--keep-transit"])?;
    ensure!(!kept.status.success(), "{kept:?}");

    // What was given ends with its listener, and the rest with the agent.
    ensure!(line.r.cli(&["listener", "stop", "/ethif/to-a"])?.status.success());
    ensure!(!has_xdp(&line.ns_r, "to-a")? && has_xdp(&line.ns_r, "to-b")?, "the program of to-a should be gone");
    line.r.kill9()?;
    wait::until("the program to go with the agent", DEADLINE, || Ok((!has_xdp(&line.ns_r, "to-b")?).then_some(())))
}

#[test]
fn links_that_run_already_move_into_the_kernel() -> Result<()> {
    rovy_netns::root_only!();
    let line = line(Link::Udp4)?;
    line.connect().map_err(|e| line.r.explain(e))?;
    let (kernel, agent) = hundred(&line)?;
    ensure!(kernel == 0 && agent >= 200, "kernel {kernel}, agent {agent}");
    let handshakes = line.r.stats()?.handshakes;

    let ping = Ping::start(&line.ns_a, line.b.address(), Duration::from_millis(5), 1000)?;
    device::idle(&line.ns_r, "side0", "side1")?;
    let started: Listener = line.r.root_json(&["listener", "start", "/ethif/side0"])?;
    ensure!(started.xdp_mode == "native", "{started:?}");
    line.r.wait_stats("transit in the kernel", DEADLINE, |s| {
        s.transit.kernel_packets > 200 && s.links.iter().filter(|l| l.redirect).count() == 2
    })?;
    let pings = ping.finish(Duration::from_secs(1))?;
    let (kernel, agent) = hundred(&line)?;
    ensure!(kernel >= 200 && agent == 0, "kernel {kernel}, agent {agent}");

    // The same sessions go on: no counter came twice, none was refused, nothing was lost on the way.
    let stats = line.r.stats()?;
    let refused: u64 = stats.drops.kernel.values().sum();
    ensure!(pings.lost() == 0 && stats.handshakes == handshakes && refused == 0, "{pings:?} {stats:?}");
    for end in [&line.a, &line.b] {
        let drops = end.stats()?.drops;
        let replays = |of: &std::collections::BTreeMap<String, u64>| of.get("replay").copied();
        ensure!((replays(&drops.kernel), replays(&drops.agent)) == (Some(0), Some(0)), "{drops:?}");
    }
    Ok(())
}

#[test]
fn fc00_of_an_ordinary_users_agent() -> Result<()> {
    rovy_netns::root_only!();
    let line = line(Link::Udp6)?;
    let rules = || line.ns_r.ip("-6 rule").map(|r| r.matches("fc00::/8").count());
    line.a.wait_neighbour(line.r.peer_id())?;
    let refused = line.r.cli(&["fc00", "start"])?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(4), "{refused:?}");
    ensure!(said.contains("next: sudo rovy --socket ") && said.contains(" fc00 start"), "{said}");

    let started: Fc00Status = line.r.root_json(&["fc00", "start", "--ifname", "rovy5"])?;
    ensure!(started.running && started.ifname.as_deref() == Some("rovy5"), "{started:?}");
    for (ns, to) in [(&line.ns_a, &line.r), (&line.ns_r, &line.a)] {
        wait::until("an answer", DEADLINE, || {
            Ok(ping::once(ns, to.address(), Duration::from_millis(500))?.then_some(()))
        })
        .map_err(|e| line.r.explain(e))?;
    }
    ensure!(rules()? == 2, "{}", line.ns_r.ip("-6 rule")?);
    ensure!(line.r.root_cli(&["fc00", "start"])?.status.code() == Some(1), "a second one");

    // The user stops it, what root made beside it stays and is named; root removes that too.
    let stopped: Fc00Status = line.r.json(&["fc00", "stop"])?;
    ensure!(
        !stopped.running && stopped.why.as_deref().is_some_and(|w| w.contains("sudo rovy fc00 stop")),
        "{stopped:?}"
    );
    ensure!(line.ns_r.ip("link show rovy5").is_err(), "the device stays");
    ensure!(rules()? == 2);
    ensure!(line.r.root_cli(&["fc00", "stop"])?.status.success());
    ensure!(rules()? == 0, "{}", line.ns_r.ip("-6 rule")?);
    ensure!(line.r.root_cli(&["fc00", "stop"])?.status.code() == Some(1), "nothing is left to stop");

    // Root stops all of it at once; and sweeps behind an agent that was killed.
    for kill in [false, true] {
        ensure!(line.r.root_json::<Fc00Status>(&["fc00", "start"])?.running);
        if kill {
            break;
        }
        let stopped: Fc00Status = line.r.root_json(&["fc00", "stop"])?;
        ensure!(!stopped.running && stopped.why.is_none() && rules()? == 0, "{stopped:?}");
    }
    let Line { mut r, .. } = line;
    r.kill9()?;
    ensure!(r.root_cli(&["fc00", "stop"])?.status.success(), "the rules of an agent that is gone");
    Ok(())
}

/// An ordinary user's agent in a namespace with an interface that leads nowhere.
fn lonely() -> Result<(Agent, Namespace)> {
    let ns = Namespace::new("host")?;
    device::idle(&ns, "wan0", "wan1")?;
    let mut agent = Agent::new(&ns, "host")?;
    agent.configure(&Config { mode: Mode::Native, ..Config::default() })?;
    agent.become_nobody()?;
    agent.start()?;
    Ok((agent, ns))
}

#[test]
fn wrong_commands_change_nothing() -> Result<()> {
    rovy_netns::root_only!();
    let (mut agent, ns) = lonely()?;
    let start = ["listener", "start", "/ethif/wan0"];
    let refused = agent.cli(&start)?;
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    ensure!(refused.status.code() == Some(4), "{refused:?}");
    ensure!(said.contains("next: sudo rovy --socket ") && said.contains(" listener start /ethif/wan0"), "{said}");
    for missing in ["/ethif/nope", "/ethif/lo"] {
        let refused = agent.root_cli(&["listener", "start", missing])?;
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        ensure!(
            String::from_utf8_lossy(&refused.stderr).contains(missing.trim_start_matches("/ethif/")),
            "{refused:?}"
        );
    }
    ensure!(agent.root_cli(&["fc00", "start", "--ifname", "wan0"])?.status.code() == Some(1), "a name that is taken");
    ensure!(agent.json::<Vec<Listener>>(&["listener", "list"])?.is_empty());
    ensure!(!ns.ip("-6 rule")?.contains("fc00::/8"), "{}", ns.ip("-6 rule")?);

    // Somebody else's program stays where it is; the listener goes without.
    let mut foreign = Traffic::passive()?;
    foreign.attach(&ns, "pass", "wan0")?;
    let before = ns.ip("link show wan0")?;
    let started: Listener = agent.root_json(&start)?;
    ensure!(started.xdp_mode == "off" && started.xdp_why.contains("which rovy does not replace"), "{started:?}");
    ensure!(ns.ip("link show wan0")? == before, "the program was replaced");
    ensure!(agent.root_cli(&start)?.status.code() == Some(1), "a second one");

    agent.kill9()?;
    ensure!(agent.root_cli(&start)?.status.code() == Some(3), "no agent");
    Ok(())
}

#[test]
fn a_listener_that_is_given_follows_its_interface() -> Result<()> {
    rovy_netns::root_only!();
    let line = line(Link::Eth)?;
    for interface in ["to-a", "to-b"] {
        line.r.root_json::<Listener>(&["listener", "start", &format!("/ethif/{interface}")])?;
    }
    line.connect().map_err(|e| line.r.explain(e))?;
    // Without a new socket, which the agent could not open.
    device::set_mac(&line.ns_r, "to-a", "02:00:00:00:77:01")?;
    let moved = |listeners: Vec<Listener>| listeners.iter().any(|l| l.effective == ["02:00:00:00:77:01"]);
    wait::until("the listener to have the new address", DEADLINE, || {
        Ok(moved(line.r.json(&["listener", "list"])?).then_some(()))
    })?;
    wait::until("a ping over the new address", DEADLINE, || {
        Ok(ping::once(&line.ns_a, line.b.address(), Duration::from_millis(500))?.then_some(()))
    })
    .map_err(|e| line.r.explain(e))?;
    let peers: Vec<Peer> = line.r.json(&["peer", "list"])?;
    ensure!(peers.iter().filter(|p| p.direct).count() == 2, "{peers:?}");
    Ok(())
}

/// Sends a request with descriptors to an agent from its namespace, as root or as nobody; the status of the answer.
fn give(agent: &Agent, ns: &Namespace, target: &str, descriptors: &[OwnedFd], root: bool) -> Result<u16> {
    let socket = agent.dir().join("api.sock");
    ns.enter(|| {
        if !root {
            let nobody = rustix::process::Uid::from_raw(65_534);
            rustix::thread::set_thread_res_uid(nobody, nobody, nobody)?;
        }
        let mut stream = UnixStream::connect(&socket)?;
        let method = if target == "/v0/info" { "GET" } else { "POST" };
        let head = format!("{method} {target} HTTP/1.1\r\nhost: rovy\r\n\r\n");
        let descriptors: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(200))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        ensure!(control.push(SendAncillaryMessage::ScmRights(&descriptors)), "too many descriptors");
        sendmsg(&stream, &[IoSlice::new(head.as_bytes())], &mut control, SendFlags::empty())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let status = answer.split(' ').nth(1).and_then(|s| s.parse().ok());
        status.with_context(|| format!("no HTTP: {answer}"))
    })?
}

#[test]
fn what_is_wrong_is_refused_and_closed() -> Result<()> {
    rovy_netns::root_only!();
    let (agent, ns) = lonely()?;
    let index = device::index(&ns, "wan0")?;
    let other = device::index(&ns, "wan1")?;
    let descriptors = format!("/proc/{}/fd", agent.pid().context("it does not run")?);
    let open = || anyhow::Ok(std::fs::read_dir(&descriptors)?.count());
    let socket = |index, ethertype| {
        ns.enter(|| ethernet::raw_for_others(index, "wan0", ethertype))?.map_err(anyhow::Error::from)
    };
    let null = || anyhow::Ok(OwnedFd::from(std::fs::File::open("/dev/null")?));
    let nulls = |n: usize| (0..n).map(|_| null()).collect::<Result<Vec<_>>>();
    let with = |rest: Vec<OwnedFd>| anyhow::Ok(std::iter::once(socket(index, 0x88b5)?).chain(rest).collect::<Vec<_>>());
    let programs = || xdp::make_for_others(1024, Width::One).map_err(anyhow::Error::from);
    let (listener, fc00) = ("/v0/handover/listener?/ethif/wan0", "/v0/handover/fc00");
    let mut backwards = programs()?;
    backwards.reverse();
    let mut short = programs()?;
    short.pop();
    agent.info()?;
    let before: usize = wait::until("the agent to be at rest", DEADLINE, || open().map(Some))?;
    for (what, target, given, root, status) in [
        ("an ordinary user", fc00, nulls(1)?, false, 403),
        ("an ordinary user with all that is right", listener, with(programs()?)?, false, 403),
        ("descriptors nobody asked for", "/v0/info", nulls(1)?, true, 400),
        ("no such path", "/v0/handover/nothing", nulls(1)?, true, 404),
        ("too many", fc00, nulls(40)?, true, 400),
        ("more than the kernel hands over", fc00, nulls(200)?, true, 400),
        ("no TUN device", fc00, nulls(1)?, true, 400),
        ("two of them", fc00, nulls(2)?, true, 400),
        ("no socket", listener, nulls(1)?, true, 400),
        ("a socket of another interface", listener, vec![socket(other, 0x88b5)?], true, 400),
        ("a socket of another EtherType", listener, vec![socket(index, 0x88b6)?], true, 400),
        ("no maps", listener, with(nulls(14)?)?, true, 400),
        ("another order", listener, with(backwards)?, true, 400),
        ("too few maps", listener, with(short)?, true, 400),
        ("maps of other sizes", listener, with(xdp::make_for_others(64, Width::One)?)?, true, 400),
        ("a UDP listener", "/v0/handover/listener?/ip4/0.0.0.0/udp/99", with(vec![])?, true, 400),
    ] {
        let got = give(&agent, &ns, target, &given, root).with_context(|| what.to_owned())?;
        ensure!(got == status, "{what}: {got} instead of {status}\n{}", agent.log_tail());
        drop(given);
        wait::until(&format!("descriptors to be closed after: {what}"), DEADLINE, || {
            Ok((open()? <= before).then_some(()))
        })?;
    }
    ensure!(agent.json::<Vec<Listener>>(&["listener", "list"])?.is_empty());
    ensure!(agent.info()?.xdp.starts_with("off: ") && !agent.json::<Fc00Status>(&["fc00", "status"])?.running);
    ensure!(!has_xdp(&ns, "wan0")?);

    // And the same from root as it should be.
    ensure!(give(&agent, &ns, listener, &with(programs()?)?, true)? == 200, "{}", agent.log_tail());
    ensure!(has_xdp(&ns, "wan0")?);
    // The agent has XDP by now; another one is in the way.
    let second = "/v0/handover/listener?/ethif/wan1";
    let given = std::iter::once(socket(other, 0x88b5)?).chain(programs()?).collect::<Vec<_>>();
    ensure!(give(&agent, &ns, second, &given, true)? == 409);
    Ok(())
}
