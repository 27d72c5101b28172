//! What comes in from the network, with real programs on three hosts that are neighbours of each other.
//!
//! ```text
//!   a, b, c -- to-m [ bridge br0, namespace m ]
//! ```

use anyhow::{Context as _, Result, ensure};
use rovy_netns::agent::{DEADLINE, Peer};
use rovy_netns::scratch::Scratch;
use rovy_netns::{Agent, Config, Mode, Namespace, command, count, device, ping, wait};
use rovy_userspace::api::{PortRule, Ports};
use rovy_userspace::fc00::firewall::Action;
use rovy_userspace::identity::PeerId;
use rustix::io::Errno;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use std::io::{Read as _, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

const NAMES: [&str; 3] = ["a", "b", "c"];
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// Three hosts. The agents are declared first: they stop before their namespaces go.
struct Hosts {
    agents: [Agent; 3],
    spaces: [Namespace; 3],
    _between: Namespace,
}

impl Hosts {
    /// `lines` stand in the `[fc00]` of b's configuration.
    fn new(lines: &str) -> Result<Self> {
        let between = Namespace::new("m")?;
        let spaces = [Namespace::new("a")?, Namespace::new("b")?, Namespace::new("c")?];
        for (ns, name) in spaces.iter().zip(NAMES) {
            device::veth(ns, "to-m", &between, &format!("to-{name}"), 1500)?;
        }
        device::bridge(&between, "br0", &["to-a", "to-b", "to-c"])?;
        let new = |n: usize| Agent::new(&spaces[n], NAMES[n]);
        let mut agents = [new(A)?, new(B)?, new(C)?];
        let ids = agents.each_ref().map(Agent::peer_id);
        for (n, agent) in agents.iter().enumerate() {
            let others = ids.iter().enumerate().filter(|(other, _)| *other != n);
            let peers = others.map(|(_, id)| Peer { id: *id, addresses: vec!["/ethif/to-m".into()] }).collect();
            let (listen, tun) = (vec!["/ethif/to-m".into()], Some("rovy0".into()));
            agent.configure(&Config { listen, mode: Mode::Userspace, peers, tun, ..Config::default() })?;
        }
        agents[B].edit("allow = []\n", lines)?;
        for agent in &mut agents {
            agent.start()?;
        }
        let hosts = Self { agents, spaces, _between: between };
        for (from, to) in [(A, B), (A, C), (B, C), (B, A), (C, A), (C, B)] {
            hosts.agents[from].wait_neighbour(ids[to])?;
        }
        Ok(hosts)
    }

    fn address(&self, n: usize) -> Ipv6Addr {
        self.agents[n].address()
    }

    /// The exit code of curl: 0 for an answer, 7 when it is refused, 28 when nothing comes back.
    fn curl(&self, from: usize, to: usize, patience: &str) -> Result<i32> {
        let url = format!("http://[{}]/", self.address(to));
        let mut curl = self.spaces[from].command("curl");
        curl.args(["-g", "-s", "-o", "/dev/null", "--connect-timeout", patience, "--max-time", "15", &url]);
        command::output(&mut curl)?.status.code().context("curl was killed")
    }

    /// Whether an echo request is answered.
    fn pings(&self, from: usize, to: usize) -> Result<bool> {
        ping::once(&self.spaces[from], self.address(to), Duration::from_secs(1))
    }

    fn connect(&self, from: usize, to: usize, port: u16, patience: Duration) -> Result<std::io::Result<TcpStream>> {
        let at = SocketAddr::from((self.address(to), port));
        self.spaces[from].enter(|| TcpStream::connect_timeout(&at, patience))
    }

    /// `rovy fc00` at a host; it must succeed.
    fn fc00(&self, n: usize, words: &str) -> Result<Ports> {
        let words: Vec<&str> = std::iter::once("fc00").chain(words.split(' ')).collect();
        self.agents[n].json(&words)
    }
}

/// A program that ends with the test.
struct Server(Child, #[allow(dead_code)] Scratch);

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// socat at a TCP port, with a shell script for each connection.
fn serve(ns: &Namespace, port: u16, script: &str) -> Result<Server> {
    let dir = Scratch::new("serve")?;
    let path = dir.path().join("serve.sh");
    std::fs::write(&path, format!("#!/bin/sh\n{script}\n"))?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    let mut socat = ns.command("socat");
    socat.arg(format!("TCP6-LISTEN:{port},fork,reuseaddr")).arg(format!("EXEC:{}", path.display()));
    let child = socat.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let server = Server(child.context("cannot run socat")?, dir);
    wait::until("socat to listen", DEADLINE, || {
        let at = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        Ok(ns.enter(|| TcpStream::connect_timeout(&at, Duration::from_secs(1)))?.is_ok().then_some(()))
    })?;
    Ok(server)
}

const WEB: &str = r#"cr=$(printf '\r')
while read -r line && [ "$line" != "$cr" ]; do :; done
printf 'HTTP/1.0 200 OK\r\n\r\nhello\n'"#;

fn rule<'p>(ports: &'p Ports, service: &str) -> Result<&'p PortRule> {
    let found = ports.rules.iter().find(|r| r.service == service);
    found.with_context(|| format!("no rule for {service}: {ports:?}"))
}

#[test]
fn nothing_comes_in_until_a_rule_says_so() -> Result<()> {
    rovy_netns::root_only!();
    let mut hosts = Hosts::new("")?;
    let _web = [serve(&hosts.spaces[B], 80, WEB)?, serve(&hosts.spaces[A], 80, WEB)?];
    let _shell = serve(&hosts.spaces[B], 22, "exec cat")?;

    ensure!(hosts.curl(A, B, "2")? == 28, "b's server answered");
    let refused = hosts.agents[B].stats()?.drops.agent.get("firewall").copied().unwrap_or(0);
    ensure!(refused > 0, "{:?}", hosts.fc00(B, "ports")?);
    ensure!(hosts.pings(A, B)?, "echo requests are answered");

    let ports = hosts.fc00(B, "allow /tcp/80 /tcp/443")?;
    ensure!(rule(&ports, "/tcp/80")?.action == Action::Allow && ports.default == Action::Deny, "{ports:?}");
    ensure!(hosts.curl(A, B, "10")? == 0 && hosts.curl(C, B, "10")? == 0, "{}", hosts.agents[B].log_tail());
    let counted = rule(&hosts.fc00(B, "ports")?, "/tcp/80")?.packets;
    ensure!(counted >= 2, "{counted} packets of two connections");
    let again = hosts.fc00(B, "allow /tcp/80")?;
    ensure!(again.rules.len() == 2 && rule(&again, "/tcp/80")?.packets == counted, "said twice: {again:?}");
    hosts.fc00(B, "deny /tcp/80 /tcp/443")?;
    ensure!(hosts.curl(A, B, "2")? == 28, "it is closed again");

    // b begins connections itself, to a that has opened the port.
    ensure!(hosts.curl(B, A, "2")? == 28);
    hosts.fc00(A, "allow /tcp/80")?;
    ensure!(hosts.curl(B, A, "10")? == 0, "the answer to b's own request: {}", hosts.agents[B].log_tail());

    // For one peer, by its key and by its address.
    for from in [hosts.agents[A].peer_id().to_string(), hosts.address(A).to_string()] {
        hosts.fc00(B, &format!("allow /tcp/22 --from {from}"))?;
        let mut shell = hosts.connect(A, B, 22, DEADLINE)?.context("a is not let in")?;
        ensure!(hosts.connect(C, B, 22, Duration::from_secs(2))?.is_err(), "c is let in");
        let mut echoed = |text: &[u8; 5]| -> Result<()> {
            shell.set_read_timeout(Some(DEADLINE))?;
            shell.write_all(text)?;
            let mut answer = [0; 5];
            shell.read_exact(&mut answer)?;
            ensure!(&answer == text);
            Ok(())
        };
        echoed(b"first")?;
        hosts.fc00(B, "deny /tcp/22")?;
        ensure!(hosts.connect(A, B, 22, Duration::from_secs(2))?.is_err(), "a new connection is let in");
        echoed(b"after").context("the connection that was there goes on")?;
    }

    hosts.fc00(B, "deny /icmp")?;
    ensure!(!hosts.pings(A, B)?, "b answers echo requests");
    ensure!(hosts.pings(B, A)?, "b gets no answers");
    hosts.fc00(B, "allow /udp/0 /tcp/80")?;

    // All of it is there after a restart.
    hosts.agents[B].terminate()?;
    hosts.agents[B].start()?;
    hosts.agents[B].wait_neighbour(hosts.agents[A].peer_id())?;
    let ports = hosts.fc00(B, "ports")?;
    let rules: Vec<_> = ports.rules.iter().map(|r| (r.service.as_str(), r.action)).collect();
    let wanted = [("/icmp", Action::Deny), ("/tcp/80", Action::Allow), ("/udp/0", Action::Allow)];
    ensure!(rules == wanted, "{rules:?}");
    ensure!(hosts.curl(A, B, "10")? == 0 && !hosts.pings(A, B)?);
    Ok(())
}

#[test]
fn wrong_rules_are_refused_and_say_why() -> Result<()> {
    rovy_netns::root_only!();
    let ns = Namespace::new("b")?;
    let mut agent = Agent::new(&ns, "b")?;
    agent.configure(&Config { mode: Mode::Userspace, ..Config::default() })?;
    agent.become_nobody()?;
    agent.start()?;
    for (words, part) in [
        (&["allow", "/sctp/80"][..], "not supported; there are /tcp/PORT, /udp/PORT and /icmp"),
        (&["allow", "/tcp/99999"], "1 to 65535"),
        (&["deny", "tcp/80"], "begins with a /"),
        (&["allow", "/tcp/80", "--from", "2001:db8::1"], "not in fc00::/8"),
        (&["allow"], "required"),
    ] {
        let output = agent.cli(&[&["fc00"], words].concat())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.code() == Some(2) && said.contains(part), "{words:?}: {output:?}");
    }
    // An ordinary user's agent has its own firewall: its rules take no root, TUN device or not.
    let allowed = agent.cli(&["fc00", "allow", "/tcp/80"])?;
    ensure!(allowed.status.success(), "{allowed:?}");
    ensure!(std::fs::read_to_string(agent.dir().join("config.toml"))?.contains("allow = ['/tcp/80']"));
    // A rule for a name is one for whom the name is of now.
    let known = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";
    let unknown = agent.cli(&["fc00", "allow", "/tcp/81", "--from", "alice"])?;
    let said = String::from_utf8_lossy(&unknown.stderr).into_owned();
    ensure!(unknown.status.code() == Some(1) && said.contains("alice"), "{unknown:?}");
    ensure!(agent.cli(&["name", "add", "alice", known])?.status.success());
    ensure!(agent.cli(&["fc00", "allow", "/tcp/81", "--from", "alice"])?.status.success());
    ensure!(std::fs::read_to_string(agent.dir().join("config.toml"))?.contains(&format!("/tcp/81/rovy/{known}")));
    // What cannot be written holds all the same, and is said.
    std::fs::write(agent.dir().join("config.toml"), "[fc00]\nallow = 7\n")?;
    let unwritten = agent.cli(&["fc00", "deny", "/icmp"])?;
    let said = String::from_utf8_lossy(&unwritten.stderr).into_owned();
    ensure!(unwritten.status.code() == Some(1) && said.contains("it holds now, but was not written"), "{said}");
    let ports: Ports = agent.json(&["fc00", "ports"])?;
    ensure!(rule(&ports, "/icmp")?.action == Action::Deny, "{ports:?}");
    Ok(())
}

/// What a program gets that tries: the error of connecting, or of what it sent.
#[test]
fn programs_fail_fast() -> Result<()> {
    rovy_netns::root_only!();
    let hosts = Hosts::new("reject = true\n")?;
    ensure!(hosts.curl(A, B, "10")? == 7, "refused by a reset");
    let error = |e: std::io::Result<TcpStream>| e.err().and_then(|e| e.raw_os_error());
    let udp = hosts.spaces[A].enter(|| UdpSocket::bind((hosts.address(A), 0)))??;
    udp.connect((hosts.address(B), 53))?;
    udp.set_read_timeout(Some(DEADLINE))?;
    udp.send(b"?")?;
    let told = udp.recv(&mut [0; 9]).err().and_then(|e| e.raw_os_error());
    ensure!(told == Some(Errno::ACCESS.raw_os_error()), "administratively prohibited: {told:?}");

    let begun = Instant::now();
    for nobody in ["fc00::2", "fc00::dead:beef:1:2"] {
        let at = SocketAddr::from((nobody.parse::<Ipv6Addr>()?, 80));
        let refused = hosts.spaces[A].enter(|| TcpStream::connect_timeout(&at, DEADLINE))?;
        ensure!(error(refused) == Some(Errno::NETUNREACH.raw_os_error()), "{nobody}");
    }
    ensure!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    // A peer that is configured and not there.
    let gone: PeerId = Agent::new(&hosts.spaces[A], "gone")?.peer_id();
    hosts.agents[A].cli(&["peer", "connect", &format!("/ethif/to-m/rovy/{gone}")])?;
    let at = SocketAddr::from((gone.address(), 80));
    let refused = hosts.spaces[A].enter(|| TcpStream::connect_timeout(&at, DEADLINE * 2))?;
    ensure!(error(refused) == Some(Errno::HOSTUNREACH.raw_os_error()));

    // Not with this address.
    device::address(&hosts.spaces[A], "lo", "fc77::1/128")?;
    let wrong = hosts.spaces[A].enter(|| {
        let socket = Socket::new(Domain::IPV6, Type::STREAM, None)?;
        socket.bind(&SocketAddr::from(("fc77::1".parse::<Ipv6Addr>().unwrap(), 0)).into())?;
        socket.connect_timeout(&SocketAddr::from((hosts.address(B), 80)).into(), DEADLINE)
    })?;
    ensure!(
        wrong.as_ref().err().and_then(std::io::Error::raw_os_error) == Some(Errno::ACCESS.raw_os_error()),
        "{wrong:?}"
    );
    Ok(())
}

#[test]
fn all_neighbours_answer_a_ping_to_all() -> Result<()> {
    rovy_netns::root_only!();
    let hosts = Hosts::new("deny = ['/tcp/0/ip6/fc99::1']\n")?;
    let ping = || hosts.spaces[A].exec("ping -6 -c 3 -i 0.3 -W 3 ff02::1%rovy0");
    // a's own kernel answers too, as on any link.
    wait::until("both neighbours to answer", DEADLINE, || {
        let said = ping()?;
        Ok([B, C].iter().all(|n| said.contains(&format!("from {}", hosts.address(*n)))).then_some(()))
    })
    .map_err(|e| hosts.agents[A].explain(hosts.agents[B].explain(e)))?;
    hosts.fc00(B, "deny /icmp")?;
    let said = ping()?;
    ensure!(said.contains(&hosts.address(C).to_string()) && !said.contains(&hosts.address(B).to_string()), "{said}");
    Ok(())
}

/// Every type of ICMPv6 there is, from a peer's raw socket, as a router on the link would send it.
#[test]
fn icmpv6_of_any_type_gets_a_peer_no_further_than_an_echo() -> Result<()> {
    rovy_netns::root_only!();
    for lines in ["", "firewall = \"off\"\n"] {
        let hosts = Hosts::new(lines)?;
        let ns = &hosts.spaces[B];
        ns.enter(|| {
            for (key, value) in [("accept_ra", "2"), ("accept_redirects", "1"), ("forwarding", "0")] {
                std::fs::write(format!("/proc/sys/net/ipv6/conf/rovy0/{key}"), value)?;
            }
            std::io::Result::Ok(())
        })??;
        let routes = || anyhow::Ok((ns.ip("-6 route show table all")?, ns.ip("-6 neigh show")?));
        let (before, arrived) = (routes()?, count::traffic(ns, "rovy0")?.rx_packets);
        let socket = hosts.spaces[A].enter(|| Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6)))??;
        socket.set_unicast_hops_v6(255)?;
        let to = SockAddr::from(SocketAddr::from((hosts.address(B), 0)));
        // A router advertisement's body: lifetime, and 2001:db8::/64 for addresses; the redirect's begins with addresses too.
        let mut body = vec![64, 0, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        body.extend([3, 4, 64, 0xc0, 0, 1, 0x51, 0x80, 0, 0, 0x38, 0x40, 0, 0, 0, 0]);
        body.extend("2001:db8::".parse::<Ipv6Addr>()?.octets());
        for kind in 0..=255 {
            let message = [&[kind, 0, 0, 0][..], &body].concat();
            // The sender's kernel may know better for one or another.
            let _ = socket.send_to(&message, &to);
        }
        ensure!(hosts.pings(A, B)?, "b is well: {}", hosts.agents[B].log_tail());
        ensure!(routes()? == before, "b's routes changed: {before:?} {:?}", routes()?);
        let came = count::traffic(ns, "rovy0")?.rx_packets - arrived;
        if lines.is_empty() {
            ensure!((2..=4).contains(&came), "{came} packets came in: an echo request of each kind, a few pings");
        }
        for counter in ["Icmp6InRouterAdvertisements", "Icmp6InRedirects", "Icmp6InNeighborSolicits"] {
            ensure!(count::snmp6(ns, counter)? == 0, "{counter}, {lines}");
        }
    }
    Ok(())
}

/// b only receives, from a connection that it began: the agent's restart does not cut it.
#[test]
fn a_download_outlives_a_restart() -> Result<()> {
    rovy_netns::root_only!();
    let mut hosts = Hosts::new("")?;
    hosts.fc00(A, "allow /tcp/7000")?;
    let at = SocketAddr::from((hosts.address(A), 7000));
    let listener = hosts.spaces[A].enter(|| TcpListener::bind(at))??;
    let mut download = hosts.connect(B, A, 7000, DEADLINE)?.context("b cannot connect")?;
    let (mut upload, _) = listener.accept()?;
    download.set_read_timeout(Some(DEADLINE * 2))?;
    let mut read = |upload: &mut TcpStream, text: &[u8; 5]| -> Result<()> {
        upload.write_all(text)?;
        let mut got = [0; 5];
        download.read_exact(&mut got)?;
        ensure!(&got == text);
        Ok(())
    };
    read(&mut upload, b"first")?;
    hosts.agents[B].terminate()?;
    hosts.agents[B].start()?;
    hosts.agents[B].wait_neighbour(hosts.agents[A].peer_id())?;
    read(&mut upload, b"after").map_err(|e| hosts.agents[B].explain(e))
}
