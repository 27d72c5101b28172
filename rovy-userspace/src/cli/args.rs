use crate::api::{Command, Fc00Device};
use crate::config::{XdpMode, listenable};
use crate::fc00::firewall::Service;
use crate::identity::PeerId;
use crate::multiaddr::{Multiaddr, Route};
use crate::names::{NodeName, Petname, Whom};
use crate::rate::TransitLimit;
use clap::{Parser, Subcommand, ValueEnum};
use std::path::PathBuf;

const EXIT_CODES: &str = "Exit codes: 0 ok, 1 negative answer, 2 usage, 3 agent unreachable, 4 permission";

/// A global encrypted network for Linux routers and servers.
///
/// Without a command it shows the state of the running agent.
#[derive(Parser, Debug)]
#[command(name = "rovy", version, after_help = EXIT_CODES, disable_help_subcommand = true)]
pub(super) struct Args {
    /// Control socket of the agent
    #[arg(long, global = true, value_name = "PATH")]
    pub(super) socket: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    pub(super) json: bool,
    #[command(subcommand)]
    pub(super) command: Option<Group>,
}

#[derive(Subcommand, Debug)]
pub(super) enum Group {
    /// Make a keyfile and a configuration; never overwrites
    Init(Init),
    /// Run the agent in the foreground
    Start(Box<Start>),
    /// Make and check keyfiles
    #[command(subcommand)]
    Key(KeyCommand),
    /// Check a configuration file without starting anything; exit code 1 when it is wrong
    Check {
        /// The file; the one that `rovy start` would read when absent
        file: Option<PathBuf>,
    },
    /// Look for what is wrong on this host; exit code 1 when something is
    Doctor,
    /// Print what makes a shell complete rovy's commands
    Completions {
        #[arg(value_enum)]
        shell: clap_complete::Shell,
    },
    /// Write the manual pages into a directory
    #[command(hide = true)]
    Man { directory: PathBuf },
    /// Send echoes to a peer over the route in use; exit code 1 when none comes back
    Ping(Ping),
    #[command(flatten)]
    Ask(Question),
}

#[derive(clap::Args, Debug)]
pub(super) struct Init {
    /// Put everything into this directory
    #[arg(short = 'D', long, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// Keyfile
    #[arg(short = 'K', long, value_name = "FILE")]
    pub(super) keyfile: Option<PathBuf>,
    /// Configuration file
    #[arg(short = 'C', long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
}

#[derive(clap::Args, Debug)]
pub(super) struct Start {
    /// Keyfile, configuration, state and control socket are in this directory
    #[arg(short = 'D', long, value_name = "DIR")]
    pub(super) directory: Option<PathBuf>,
    /// Keyfile; `-` reads one from standard input, `@` makes a key for this run only
    #[arg(short = 'K', long, value_name = "FILE")]
    pub(super) keyfile: Option<PathBuf>,
    /// Configuration file
    #[arg(short = 'C', long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// How transit is switched, instead of the configured way
    #[arg(long, value_enum, value_name = "MODE")]
    pub(super) xdp: Option<Xdp>,
    /// Name of the TUN device, instead of the configured one
    #[arg(long, value_name = "NAME", value_parser = ifname)]
    pub(super) ifname: Option<String>,
    /// Make no TUN device
    #[arg(long)]
    pub(super) no_fc00: bool,
    /// error, warn, info, debug, trace, or a filter
    #[arg(long, value_name = "LEVEL", value_parser = filter)]
    pub(super) log: Option<String>,
    /// Renew keys after so many seconds instead of 120; for tests
    #[arg(long, hide = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..=120))]
    pub(super) rekey_after: Option<u64>,
    /// Send a keepalive through a NAT every so many seconds instead of 25; for tests
    #[arg(long, hide = true, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(1..))]
    pub(super) nat_keepalive: Option<u64>,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
pub(super) enum Xdp {
    /// Native, else generic, else the agent switches
    Auto,
    /// Native only, else the agent switches
    Native,
    /// Generic only, else the agent switches
    Generic,
    /// The agent switches
    Off,
}

impl From<Xdp> for XdpMode {
    fn from(xdp: Xdp) -> Self {
        match xdp {
            Xdp::Auto => Self::Auto,
            Xdp::Native => Self::Native,
            Xdp::Generic => Self::Generic,
            Xdp::Off => Self::Off,
        }
    }
}

#[derive(clap::Args, Debug)]
pub(super) struct Ping {
    /// Its PeerID or name
    #[arg(value_name = "PEER")]
    pub(super) peer: Whom,
    /// Echoes to send
    #[arg(short = 'c', long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub(super) count: u32,
    /// Seconds between them, at least 0.1
    #[arg(short = 'i', long, value_name = "SECONDS", default_value = "1", value_parser = interval)]
    pub(super) interval: f64,
}

#[derive(Subcommand, Debug)]
pub(super) enum KeyCommand {
    /// Make a key; prints the keyfile when no FILE is given
    New {
        /// File to make; an existing one is never overwritten
        file: Option<PathBuf>,
    },
    /// Check a keyfile and show PeerID and address
    Inspect {
        /// Keyfile; `-` for standard input
        file: PathBuf,
    },
}

/// What the running agent is asked.
#[derive(Subcommand, Debug)]
pub(super) enum Question {
    /// End the agent
    Stop {
        /// Let the kernel go on switching transit (for up to 180 s)
        #[arg(long)]
        keep_transit: bool,
    },
    /// Show who the agent is
    Info,
    /// Where the agent listens
    #[command(subcommand)]
    Listener(Listener),
    /// The nodes it knows
    #[command(subcommand)]
    Peer(Peer),
    /// Nodes on the links of this host
    #[command(subcommand)]
    Discovery(Discovery),
    /// The ways to them
    #[command(subcommand)]
    Route(RouteCommand),
    /// Names for peers, for commands and as NAME.rovy
    #[command(subcommand)]
    Name(Name),
    /// The TUN device, and what it lets in
    #[command(subcommand)]
    Fc00(Fc00),
    /// Show who sits at each hop of the route to a peer; exit code 1 when the peer does not answer
    Trace {
        /// Its PeerID or name
        #[arg(value_name = "PEER")]
        peer: Whom,
        /// Echoes to each hop, 1 to 10
        #[arg(short = 'q', long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u8).range(1..=10))]
        probes: u8,
    },
    /// Counters: drops by reason, transit, links
    Stats,
}

#[derive(Subcommand, Debug)]
pub(super) enum Listener {
    /// Show the listeners and how XDP is attached
    List,
    /// Listen, such as on /ethif/eth0 or /ip4/0.0.0.0/udp/1312
    Start {
        #[arg(value_parser = listener)]
        multiaddr: Multiaddr,
        /// Write it into the configuration too
        #[arg(long)]
        persist: bool,
    },
    /// Listen there no more
    Stop {
        #[arg(value_parser = listener)]
        multiaddr: Multiaddr,
        /// Take it out of the configuration too
        #[arg(long)]
        persist: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Peer {
    /// Show the peers
    List,
    /// Connect, such as to /ip4/192.0.2.1/udp/1312/rovy/<PeerID>
    Connect {
        #[arg(value_parser = Whom::at_address)]
        multiaddr: (Multiaddr, Whom),
        /// Write it into the configuration too
        #[arg(long)]
        persist: bool,
    },
    /// Drop a peer and connect no more
    Disconnect {
        /// Its PeerID or name
        #[arg(value_name = "PEER")]
        peer: Whom,
    },
    /// Send on only so much of what a peer routes through this node
    Limit {
        /// Its PeerID or name
        #[arg(value_name = "PEER")]
        peer: Whom,
        /// Such as 10mbit, 2000pps, or '10mbit 2000pps'; none for all of it
        #[arg(value_name = "RATE")]
        limit: TransitLimit,
        /// Write it into the configuration too
        #[arg(long)]
        persist: bool,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Discovery {
    /// Show where nodes are looked for, and what is heard
    List,
    /// Look for nodes, and be found
    Enable {
        kind: Kind,
        /// On this listener only; on all there are and will be without one
        #[arg(value_parser = listener)]
        multiaddr: Option<Multiaddr>,
    },
    /// No more
    Disable {
        kind: Kind,
        /// On this listener only; on all there are and will be without one
        #[arg(value_parser = listener)]
        multiaddr: Option<Multiaddr>,
    },
}

/// Kinds of discovery.
#[derive(ValueEnum, Clone, Copy, Debug)]
pub(super) enum Kind {
    /// Beacons on the links of this host
    Linklocal,
}

#[derive(Subcommand, Debug)]
pub(super) enum RouteCommand {
    /// Show the routes
    List,
    /// Route to a peer, such as by /rovyrt/04.2a.0113: this node's slot, then one of each hop
    Add {
        /// Its PeerID or name
        #[arg(value_name = "PEER")]
        peer: Whom,
        route: Route,
    },
    /// Remove a route made by hand, or all of a peer
    Del {
        /// Its PeerID or name
        #[arg(value_name = "PEER")]
        peer: Whom,
        route: Option<Route>,
    },
}

#[derive(Subcommand, Debug)]
pub(super) enum Name {
    /// Show the names
    List,
    /// Give a peer a name
    Add {
        name: Petname,
        #[arg(value_name = "PEERID", value_parser = peer)]
        peer: PeerId,
    },
    /// Take a name away
    Del { name: Petname },
}

#[derive(Subcommand, Debug)]
pub(super) enum Fc00 {
    /// Make the TUN device
    Start {
        /// Its name, instead of the configured one
        #[arg(long, value_name = "NAME", value_parser = ifname)]
        ifname: Option<String>,
        /// Make it in this network namespace, of `ip netns` or a path; the agent stays where it is
        #[arg(long, value_name = "NAME")]
        netns: Option<String>,
        /// Use one that is there: its name, or the number of an open descriptor
        #[arg(long, value_name = "NAME|FD", conflicts_with = "ifname")]
        existing: Option<String>,
    },
    /// Remove it
    Stop,
    /// Show it
    Status,
    /// Let services in from the network, such as /tcp/80 /tcp/443; /tcp/0 is every port. Holds after a restart too
    Allow(Ports),
    /// Let them in no more; /icmp is echo requests. Connections that are there go on. Holds after a restart too
    Deny(Ports),
    /// Show what comes in
    Ports,
}

#[derive(clap::Args, Debug)]
pub(super) struct Ports {
    /// /tcp/PORT, /udp/PORT or /icmp
    #[arg(required = true, value_name = "SERVICE")]
    pub(super) services: Vec<Service>,
    /// Only from this node: a PeerID, a name, or its address
    #[arg(long, value_name = "NODE")]
    pub(super) from: Option<NodeName>,
}

impl From<Question> for Command {
    fn from(question: Question) -> Self {
        match question {
            Question::Stop { keep_transit } => Self::Stop { keep_transit },
            Question::Info => Self::Info,
            Question::Listener(Listener::List) => Self::ListenerList,
            Question::Listener(Listener::Start { multiaddr: address, persist }) => {
                Self::ListenerStart { address, persist }
            }
            Question::Listener(Listener::Stop { multiaddr: address, persist }) => {
                Self::ListenerStop { address, persist }
            }
            Question::Peer(Peer::List) => Self::PeerList,
            Question::Peer(Peer::Connect { multiaddr: (address, peer), persist }) => {
                Self::PeerConnect { address, peer, persist }
            }
            Question::Peer(Peer::Disconnect { peer }) => Self::PeerDisconnect { peer },
            Question::Peer(Peer::Limit { peer, limit, persist }) => Self::PeerLimit { peer, limit: limit.0, persist },
            Question::Discovery(Discovery::List) => Self::DiscoveryList,
            Question::Discovery(Discovery::Enable { kind: Kind::Linklocal, multiaddr: listener }) => {
                Self::DiscoverySwitch { listener, on: true }
            }
            Question::Discovery(Discovery::Disable { kind: Kind::Linklocal, multiaddr: listener }) => {
                Self::DiscoverySwitch { listener, on: false }
            }
            Question::Route(RouteCommand::List) => Self::RouteList,
            Question::Route(RouteCommand::Add { peer, route }) => Self::RouteAdd { peer, route },
            Question::Route(RouteCommand::Del { peer, route }) => Self::RouteDel { peer, route },
            Question::Name(Name::List) => Self::NameList,
            Question::Name(Name::Add { name, peer }) => Self::NameAdd { name, peer },
            Question::Name(Name::Del { name }) => Self::NameDel { name },
            Question::Fc00(Fc00::Start { ifname, netns, existing }) => {
                Self::Fc00Start(Fc00Device { ifname, netns, existing })
            }
            Question::Fc00(Fc00::Stop) => Self::Fc00Stop,
            Question::Fc00(Fc00::Status) => Self::Fc00Status,
            Question::Fc00(Fc00::Allow(Ports { services, from })) => Self::Fc00Allow { services, from },
            Question::Fc00(Fc00::Deny(Ports { services, from })) => Self::Fc00Deny { services, from },
            Question::Fc00(Fc00::Ports) => Self::Fc00Ports,
            Question::Trace { peer, probes } => Self::Trace { peer, probes },
            Question::Stats => Self::Stats,
        }
    }
}

fn listener(text: &str) -> Result<Multiaddr, String> {
    let address: Multiaddr = text.parse().map_err(|e: crate::multiaddr::MultiaddrError| e.why)?;
    listenable(&address).map(|()| address)
}

fn peer(text: &str) -> Result<PeerId, String> {
    text.strip_prefix("/rovy/").unwrap_or(text).parse().map_err(|e: crate::identity::IdentityError| e.to_string())
}

fn ifname(text: &str) -> Result<String, String> {
    match format!("/ethif/{text}").parse() {
        Ok(Multiaddr::Ethernet { .. }) => Ok(text.into()),
        _ => Err("an interface's name has 1 to 15 bytes, without space, `/` or `:`".into()),
    }
}

fn interval(text: &str) -> Result<f64, String> {
    let seconds = text.parse().ok().filter(|s| (0.1..=3600.0).contains(s));
    seconds.ok_or_else(|| "it is a number of seconds from 0.1 to 3600".into())
}

fn filter(text: &str) -> Result<String, String> {
    tracing_subscriber::EnvFilter::builder().parse(text).map(|_| text.into()).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_definition_holds_together() {
        Args::command().debug_assert();
    }

    #[test]
    fn commands_read_as_people_type_them() {
        let ask = |line: &str| match Args::try_parse_from(line.split(' ')).unwrap().command {
            Some(Group::Ask(question)) => Command::from(question),
            other => panic!("{other:?}"),
        };
        let address: Multiaddr = "/ethif/wlp3s0".parse().unwrap();
        assert_eq!(
            ask("rovy listener start /ethif/wlp3s0 --persist --json"),
            Command::ListenerStart { address, persist: true }
        );
        assert_eq!(ask("rovy --socket /x stop --keep-transit"), Command::Stop { keep_transit: true });
        assert_eq!(ask("rovy discovery disable linklocal"), Command::DiscoverySwitch { listener: None, on: false });
        assert!(matches!(
            ask("rovy discovery enable linklocal /ethif/eth0"),
            Command::DiscoverySwitch { listener: Some(_), on: true }
        ));
        assert_eq!(
            ask("rovy fc00 start --ifname r1"),
            Command::Fc00Start(Fc00Device { ifname: Some("r1".into()), ..Fc00Device::default() })
        );
        let services = vec![Service::Tcp(80), Service::Udp(0)];
        assert_eq!(ask("rovy fc00 allow /tcp/80 /udp/0"), Command::Fc00Allow { services, from: None });
        let from = Some("fc02::1".parse().unwrap());
        assert_eq!(
            ask("rovy fc00 deny /icmp --from fc02::1"),
            Command::Fc00Deny { services: vec![Service::Icmp], from }
        );
        assert!(Args::try_parse_from(["rovy", "fc00", "allow"]).is_err());
        assert!(Args::try_parse_from(["rovy"]).unwrap().command.is_none());
        let known = "bafzqaid26tco5uc5y22nhd6xuglvbmij5yx6iok7pzrgzf3mz3m6mellee";
        let peer: Whom = known.parse().unwrap();
        assert_eq!(ask(&format!("rovy trace {known} -q 3")), Command::Trace { peer, probes: 3 });
        assert_eq!(ask("rovy trace Alice.rovy"), Command::Trace { peer: "alice".parse().unwrap(), probes: 1 });
        let (name, peer) = ("alice".parse().unwrap(), known.parse().unwrap());
        assert_eq!(ask(&format!("rovy name add ALICE {known}")), Command::NameAdd { name, peer });
        for (text, limit) in [("none", None), ("10mbit", "10mbit".parse().ok())] {
            let command = Command::PeerLimit { peer: known.parse().unwrap(), limit, persist: true };
            assert_eq!(ask(&format!("rovy peer limit {known} {text} --persist")), command);
        }
        assert!(Args::try_parse_from(["rovy", "peer", "limit", known, "10mbps"]).is_err());
        for (interval, good) in [("0.1", true), ("0.05", false), ("NaN", false), ("-1", false)] {
            assert_eq!(Args::try_parse_from(["rovy", "ping", known, "-i", interval]).is_ok(), good, "{interval}");
        }
    }
}
