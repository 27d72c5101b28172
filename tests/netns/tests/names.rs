//! Names with the programs that people use: `dig`, `getent`, `ping`, `curl`.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::DEADLINE;
use rovy_netns::names::{Switch, dig};
use rovy_netns::resolved::Resolved;
use rovy_netns::{Agent, Config, Line, Link, Mode, Namespace, wait};
use rovy_userspace::api::{NameInfo, PeerState};
use rustix::process::{Pid, Signal, kill_process};
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, TcpListener, UdpSocket};
use std::time::{Duration, Instant};

/// A key whose node nobody runs.
const STRANGER: &str = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";
const STRANGERS: &str = "fc89:54a1:b598:365f:357:d6a:b108:db7b";

/// An agent with a TUN device and no peers.
fn alone() -> Result<(Agent, Namespace)> {
    let ns = Namespace::new("alone")?;
    ns.ip("link set lo up")?;
    let mut agent = Agent::new(&ns, "alone")?;
    agent.configure(&Config { tun: Some("rovy0".into()), mode: Mode::Userspace, ..Config::default() })?;
    agent.start()?;
    Ok((agent, ns))
}

fn add(agent: &Agent, name: &str, peer: &str) -> Result<NameInfo> {
    agent.json(&["name", "add", name, peer])
}

#[test]
fn dig_is_answered_over_udp_and_tcp() -> Result<()> {
    rovy_netns::root_only!();
    let (agent, ns) = alone()?;
    add(&agent, "Alice", STRANGER)?;
    let own = agent.peer_id();
    for tcp in ["+notcp", "+tcp"] {
        let short = |question: &str| dig(&ns, &format!("{tcp} +short {question}")).map(|said| said.trim().to_owned());
        ensure!(short(&format!("{STRANGER}.rovy AAAA"))? == STRANGERS);
        ensure!(short("aLiCe.ROVY AAAA")? == STRANGERS);
        ensure!(short("localhost.rovy AAAA")? == agent.address().to_string());
        ensure!(short(&format!("-x {STRANGERS}"))? == "alice.rovy.");
        ensure!(short(&format!("-x {}", agent.address()))? == format!("{own}.rovy."));
        ensure!(short("-x fc00::1")? == "ns.rovy.");
        let said = |question: &str| dig(&ns, &format!("{tcp} {question}"));
        for (question, status, soa) in [
            ("alice.rovy A", "NOERROR", true),
            ("bob.rovy AAAA", "NXDOMAIN", true),
            ("rovy SOA", "NOERROR", true),
            ("example.com AAAA", "REFUSED", false),
            ("-x fd00::1", "REFUSED", false),
            ("alice.rovy ANY", "REFUSED", false),
            ("alice.rovy AAAA -c CH", "REFUSED", false),
            ("alice.rovy AAAA +opcode=STATUS", "NOTIMP", false),
            ("alice.rovy AAAA +edns=1 +noednsneg", "BADVERS", false),
            ("alice.rovy AAAA +header-only", "FORMERR", false),
        ] {
            let said = said(question)?;
            ensure!(said.contains(&format!("status: {status},")), "{tcp} {question}: {said}");
            ensure!(said.contains("\tSOA\t") == soa, "{tcp} {question}: {said}");
        }
    }
    ensure!(dig(&ns, "rovy AXFR")?.contains("Transfer failed"), "a zone was given away");
    // What does not fit is asked for again over TCP, by dig itself.
    for n in 0..40 {
        add(&agent, &format!("{}{n}", "x".repeat(50)), STRANGER)?;
    }
    let all = dig(&ns, &format!("-x {STRANGERS}"))?;
    ensure!(all.contains("Truncated, retrying in TCP mode") && all.contains("ANSWER: 41,"), "{all}");
    ensure!(dig(&ns, &format!("+ignore -x {STRANGERS}"))?.contains(" tc"), "the answer is not marked as cut");

    // The host's own port is free: nothing is bound there.
    let tables = ns.enter(|| {
        let table = |name: &str| std::fs::read_to_string(format!("/proc/thread-self/net/{name}"));
        ["tcp", "tcp6", "udp", "udp6"].map(table).into_iter().collect::<std::io::Result<String>>()
    })??;
    let bound = tables.lines().filter(|l| l.split_whitespace().nth(1).is_some_and(|local| local.ends_with(":0035")));
    ensure!(bound.count() == 0, "{tables}");
    Ok(())
}

#[test]
fn other_programs_than_dig_find_fc00_1_alive_and_its_other_ports_closed() -> Result<()> {
    rovy_netns::root_only!();
    let (agent, ns) = alone()?;
    ns.exec("ping -c 1 -w 10 fc00::1")?;
    let refused = ns.enter(|| std::net::TcpStream::connect(("fc00::1", 80)))?;
    let kind = refused.err().map(|e| e.kind());
    ensure!(kind == Some(std::io::ErrorKind::ConnectionRefused), "{kind:?}");
    // 64 KiB that are no question, and connections that say nothing, cost others nothing.
    let mut silent = Vec::new();
    ns.enter(|| {
        for _ in 0..20 {
            silent.push(std::net::TcpStream::connect(("fc00::1", 53))?);
        }
        let mut flood = std::net::TcpStream::connect(("fc00::1", 53))?;
        // The agent ends the connection: writing on may fail.
        let _ = flood.write_all(&[0xff; 65_537]);
        let _ = flood.read(&mut [0; 1]);
        Ok::<_, std::io::Error>(())
    })??;
    ensure!(dig(&ns, "+tcp +short localhost.rovy AAAA")?.trim() == agent.address().to_string());
    // Nobody else's packets come out of the device.
    ns.ip("addr add fc77::1/128 dev lo nodad")?;
    let output =
        ns.command("dig").args(["-b", "fc77::1", "@fc00::1", "+time=1", "+tries=1", "localhost.rovy"]).output()?;
    ensure!(!output.status.success(), "{output:?}");
    ensure!(agent.stats()?.drops.agent.get("bad_inner_source") > Some(&0));
    Ok(())
}

#[test]
fn without_dns_nothing_answers() -> Result<()> {
    rovy_netns::root_only!();
    let (mut agent, ns) = alone()?;
    agent.terminate()?;
    agent.edit("[fc00]", "[dns]\nenabled = false\n\n[fc00]")?;
    agent.start()?;
    ensure!(dig(&ns, "+time=1 +tries=1 localhost.rovy AAAA").is_err());
    let switch = Switch::new()?;
    // A PeerID needs nobody; a name does, and its absence is no lie about the name.
    ensure!(switch.read(&ns, &format!("getent hosts {STRANGER}.rovy"))?.starts_with(STRANGERS));
    ensure!(!switch.run(&ns, "getent hosts alice.rovy")?.status.success());
    Ok(())
}

/// Questions for DNS that reach 127.0.0.1.
fn leaked(server: &UdpSocket) -> Result<usize> {
    let mut count = 0;
    loop {
        match server.recv(&mut [0; 512]) {
            Ok(_) => count += 1,
            Err(e) if e.kind() == std::io::ErrorKind::WouldBlock => return Ok(count),
            Err(e) => return Err(e.into()),
        }
    }
}

#[test]
fn names_under_rovy_stay_on_this_host_and_a_stuck_agent_keeps_nobody_waiting() -> Result<()> {
    rovy_netns::root_only!();
    let (mut agent, ns) = alone()?;
    let switch = Switch::new()?;
    let server = ns.enter(|| UdpSocket::bind("127.0.0.1:53"))??;
    server.set_nonblocking(true)?;
    let finds = |name: &str| switch.run(&ns, &format!("getent hosts {name}")).map(|o| o.status.success());
    ensure!(!finds("nobody.example")? && leaked(&server)? > 0, "the test does not see what it looks for");
    ensure!(!finds("nobody.rovy")? && !finds("www.nobody.rovy")? && !finds("fc12::9")?);
    ensure!(leaked(&server)? == 0, "names nobody has were asked for elsewhere");

    let pid = agent.pid().and_then(|p| i32::try_from(p).ok()).and_then(Pid::from_raw).context("no process")?;
    kill_process(pid, Signal::STOP)?;
    let begun = Instant::now();
    let found = [finds("nobody.rovy"), finds(&format!("{STRANGER}.rovy"))];
    let took = begun.elapsed();
    kill_process(pid, Signal::CONT)?;
    ensure!(!found[0].as_ref().is_ok_and(|f| *f) && found[1].as_ref().is_ok_and(|f| *f), "{found:?}");
    // A second for both kinds of address; what a resolver waits usually is five.
    ensure!(took < Duration::from_secs(5), "{took:?}");
    agent.terminate()?;
    ensure!(!finds("nobody.rovy")? && finds(&format!("{STRANGER}.rovy"))?);
    ensure!(leaked(&server)? == 0, "without an agent names were asked for elsewhere");
    Ok(())
}

#[test]
fn names_live_in_a_file_that_people_edit() -> Result<()> {
    rovy_netns::root_only!();
    let (mut agent, ns) = alone()?;
    let file = agent.dir().join("names");
    let alice = add(&agent, "alice", STRANGER)?;
    ensure!(alice.name == "alice" && alice.peer_id.to_string() == STRANGER && alice.address.to_string() == STRANGERS);
    add(&agent, "alice", STRANGER)?;
    let other = agent.peer_id().to_string();
    let taken = agent.cli(&["name", "add", "ALICE", &other])?;
    let said = String::from_utf8_lossy(&taken.stderr).into_owned();
    ensure!(taken.status.code() == Some(1) && said.contains("next: rovy name del alice"), "{said}");
    let unknown = agent.cli(&["ping", "bob"])?;
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    ensure!(unknown.status.code() == Some(1) && said.contains("no peer has the name bob"), "{said}");

    // By hand, with a line that is wrong.
    let text = std::fs::read_to_string(&file)?;
    std::fs::write(&file, format!("# mine\n{text}wrong line\nself {other}  # this host\n"))?;
    wait::until("the new name", DEADLINE, || {
        Ok(agent.json::<Vec<NameInfo>>(&["name", "list"])?.iter().any(|n| n.name == "self").then_some(()))
    })
    .map_err(|e| agent.explain(e))?;
    let log = std::fs::read_to_string(agent.log())?;
    ensure!(log.contains("names:3: wrong: ") && log.contains("this line is not used"), "{}", agent.log_tail());
    ensure!(dig(&ns, "+short self.rovy AAAA")?.trim() == agent.address().to_string());

    agent.terminate()?;
    agent.start()?;
    ensure!(agent.json::<Vec<NameInfo>>(&["name", "list"])?.len() == 2);
    ensure!(agent.cli(&["name", "del", "alice"])?.status.success());
    ensure!(agent.cli(&["name", "del", "alice"])?.status.code() == Some(1));
    let left = std::fs::read_to_string(&file)?;
    ensure!(left == format!("# mine\nwrong line\nself {other}  # this host\n"), "{left}");
    ensure!(dig(&ns, "alice.rovy AAAA")?.contains("NXDOMAIN"));
    Ok(())
}

/// Answers one HTTP request at `address`.
fn serve(ns: &Namespace, address: Ipv6Addr) -> Result<std::thread::JoinHandle<std::io::Result<()>>> {
    let listener = ns.enter(|| TcpListener::bind((address, 80)))??;
    Ok(std::thread::spawn(move || {
        let (mut stream, _) = listener.accept()?;
        let mut request = [0; 1024];
        let _ = stream.read(&mut request)?;
        stream.write_all(b"HTTP/1.0 200 OK\r\ncontent-length: 6\r\n\r\nhello\n")
    }))
}

/// The line, without any route between its ends.
fn line() -> Result<Line> {
    let mut line = Line::new(Link::Udp4, Mode::Native)?;
    line.r.start()?;
    line.a.start()?;
    line.b.start()?;
    line.a.wait_neighbour(line.r.peer_id())?;
    line.b.wait_neighbour(line.r.peer_id())?;
    Ok(line)
}

#[test]
fn a_lookup_alone_finds_the_way() -> Result<()> {
    rovy_netns::root_only!();
    let line = line()?;
    let b = line.b.peer_id();
    ensure!(!line.a.peers()?.iter().any(|p| p.peer_id == b), "a knows b before anybody asked");
    ensure!(dig(&line.ns_a, &format!("+short {b}.rovy AAAA"))?.trim() == line.b.address().to_string());
    wait::until("a session with b", DEADLINE, || {
        let peers = line.a.peers()?;
        Ok(peers.iter().any(|p| p.peer_id == b && p.state == PeerState::Connected).then_some(()))
    })
    .map_err(|e| line.b.explain(line.a.explain(e)))
}

#[test]
fn programs_reach_a_peer_by_its_name() -> Result<()> {
    rovy_netns::root_only!();
    let line = line()?;
    let (switch, b) = (Switch::new()?, line.b.peer_id());
    let address = line.b.address().to_string();
    let by_key = switch.read(&line.ns_a, &format!("getent hosts {b}.rovy"))?;
    ensure!(by_key.split_whitespace().eq([address.as_str(), &format!("{b}.rovy")]), "{by_key}");
    ensure!(!switch.run(&line.ns_a, "getent hosts bob.rovy")?.status.success(), "nobody is called that");

    add(&line.a, "bob", &b.to_string())?;
    for name in ["bob.rovy", "BOB.rovy"] {
        let all = switch.read(&line.ns_a, &format!("getent ahosts {name}"))?;
        ensure!(all.lines().next().is_some_and(|l| l.starts_with(&address)), "{all}");
        ensure!(!all.contains('.') || all.contains("rovy"), "an IPv4 address: {all}");
    }
    ensure!(!switch.run(&line.ns_a, "getent ahostsv4 bob.rovy")?.status.success(), "bob has no IPv4 address");
    let reverse = switch.read(&line.ns_a, &format!("getent hosts {address}"))?;
    ensure!(reverse.split_whitespace().eq([address.as_str(), "bob.rovy"]), "{reverse}");
    // The host's other names are where they were.
    ensure!(switch.read(&line.ns_a, "getent hosts localhost")?.contains("localhost"));

    let ping = switch.read(&line.ns_a, "ping -c 1 -w 15 bob.rovy").map_err(|e| line.a.explain(e))?;
    ensure!(ping.contains("bob.rovy") && ping.contains(&address), "{ping}");
    ensure!(line.b.cli(&["fc00", "allow", "/tcp/80"])?.status.success());
    let server = serve(&line.ns_b, line.b.address())?;
    ensure!(switch.read(&line.ns_a, "curl -s -m 30 --retry 3 http://bob.rovy/")? == "hello\n");
    server.join().ok().context("the server panicked")??;

    // Each hop by its name: that of the router follows from its key.
    let router = line.r.peer_id();
    for program in ["traceroute -6 -I -q 1 -w 2 bob.rovy", "mtr -6 --report --report-wide -c 2 bob.rovy"] {
        wait::until(program, DEADLINE, || {
            let hops = switch.read(&line.ns_a, program)?;
            let (first, last) = (format!("{router}.rovy"), "bob.rovy");
            let found = hops.find(&first).is_some_and(|at| hops[at..].contains(last));
            Ok(found.then_some(()))
        })
        .map_err(|e| line.r.explain(line.a.explain(e)))?;
    }

    // And the command line, wherever it takes a peer.
    for args in [&["ping", "bob", "-c", "1"][..], &["trace", "Bob.rovy"], &["peer", "disconnect", "bob"]] {
        let output = line.a.cli(args)?;
        ensure!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let connect = line.a.cli(&["peer", "connect", "/ip4/10.77.1.2/udp/1312/rovy/nobody"])?;
    ensure!(connect.status.code() == Some(1), "{connect:?}");
    add(&line.a, "router", &line.r.peer_id().to_string())?;
    let connect = line.a.cli(&["peer", "connect", "/ip4/10.77.1.2/udp/1312/rovy/router"])?;
    ensure!(connect.status.success(), "{connect:?}");
    Ok(())
}

/// What `rovy doctor` says of names, and whether it finds no fault with that.
fn doctor(agent: &Agent) -> Result<(serde_json::Value, bool)> {
    let said: serde_json::Value = serde_json::from_slice(&agent.cli(&["--json", "doctor"])?.stdout)?;
    let findings = said["findings"].as_array().with_context(|| format!("no findings: {said}"))?;
    Ok((said["names"].clone(), !findings.iter().any(|f| f["kind"] == "names")))
}

#[test]
fn systemd_resolved_asks_the_agent_for_as_long_as_it_runs() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("resolved")?;
    ns.ip("link set lo up")?;
    let Some(resolved) = Resolved::start(&ns)? else {
        let lacks = "this machine lacks systemd-resolved or dbus-daemon, and cargo xtask setup could not unpack it";
        rovy_netns::skip::skip("systemd_resolved_asks_the_agent_for_as_long_as_it_runs", lacks);
        return Ok(());
    };
    let mut agent = Agent::with_binary(&resolved.wrap(&rovy_netns::agent::binary()?)?, &ns, "resolved")?;
    agent.configure(&Config { tun: Some("rovy0".into()), mode: Mode::Userspace, ..Config::default() })?;
    agent.start()?;
    add(&agent, "alice", STRANGER)?;
    let said = |arguments: &str| -> Result<String> {
        let output = resolved.resolvectl(arguments)?;
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    };
    let told = || {
        wait::until("systemd-resolved to be told", DEADLINE, || {
            let (domain, server) = (said("domain rovy0")?, said("dns rovy0")?);
            Ok((domain.contains("~rovy") && domain.contains("~c.f.ip6.arpa") && server.contains("fc00::1"))
                .then_some(()))
        })
    };
    told().map_err(|e| agent.explain(e))?;
    ensure!(said("default-route rovy0")?.contains("no"), "everything would be asked of the agent");
    for (question, answer) in [
        ("alice.rovy".to_owned(), STRANGERS),
        (format!("{STRANGER}.rovy"), STRANGERS),
        (STRANGERS.to_owned(), "alice.rovy"),
        ("bob.rovy".to_owned(), "not found"),
    ] {
        let got = said(&format!("query --legend=no {question}"))?;
        ensure!(got.contains(answer), "{question}: {got}");
    }
    let (names, good) = doctor(&agent)?;
    ensure!(good && names[0]["by"] == "systemd-resolved" && names[0]["ifname"] == "rovy0", "{names}");
    // Somebody takes it back: that is seen, with the command that mends it.
    ensure!(resolved.resolvectl("revert rovy0")?.status.success());
    let (names, good) = doctor(&agent)?;
    let next = names[0]["next"].as_str().unwrap_or_default().to_owned();
    ensure!(!good && next.contains("resolvectl dns rovy0 fc00::1"), "{names}");
    for command in next.split(" && ") {
        resolved.resolvectl(command.trim_start_matches("sudo resolvectl "))?;
    }
    ensure!(doctor(&agent)?.1, "the command does not mend it");

    // Nothing is left of it, however the agent ends.
    let undone = || -> Result<()> {
        let status = said("status")?;
        ensure!(!status.contains("fc00::1") && !status.contains("~rovy"), "{status}");
        Ok(())
    };
    agent.terminate()?;
    undone()?;
    agent.start()?;
    told().map_err(|e| agent.explain(e))?;
    agent.kill9()?;
    wait::until("the device to go", DEADLINE, || Ok(undone().is_ok().then_some(())))?;
    Ok(())
}

#[test]
fn doctor_says_how_names_are_looked_up() -> Result<()> {
    rovy_netns::root_only!();
    let (mut agent, ns) = alone()?;
    let (names, good) = doctor(&agent)?;
    ensure!(good && names[0]["ifname"] == "rovy0", "{names}");
    // What this machine has is not for the test to say; without systemd-resolved there it is told how to get there.
    if names[0]["by"].is_null() {
        ensure!(names[0]["next"].as_str().is_some_and(|n| n.contains("/etc/nsswitch.conf")), "{names}");
    }
    agent.terminate()?;
    ensure!(doctor(&agent)?.0 == serde_json::json!([]), "no agent, no names");
    drop(ns);
    Ok(())
}
