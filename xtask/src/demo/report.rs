//! What the demo found, and whether it is what the mode promises.

use anyhow::{Result, bail};
use rovy_netns::{Link, Mode};
use serde::Serialize;

/// The object `--json` prints. Times and sizes carry their unit in the name.
#[derive(Serialize, Debug)]
pub(super) struct Report {
    pub(super) link: String,
    pub(super) mode: String,
    pub(super) ping: Ping,
    pub(super) tcp: Tcp,
    pub(super) transit: Transit,
    pub(super) agent_kill: AgentKill,
}

/// Pings from a to b over the whole run.
#[derive(Serialize, Debug)]
pub(super) struct Ping {
    pub(super) sent: u64,
    pub(super) received: u64,
    /// Before the TCP stream began.
    pub(super) rtt_us_median: u64,
    /// Beside the TCP stream at full speed.
    pub(super) rtt_us_median_loaded: u64,
}

/// The TCP stream from a to b.
#[derive(Serialize, Debug)]
pub(super) struct Tcp {
    /// All bytes that arrived.
    pub(super) bytes: u64,
    /// While nothing held it back.
    pub(super) gbit_s: f64,
}

/// Packets r has switched since its links were ready.
#[derive(Serialize, Debug)]
pub(super) struct Transit {
    /// By its kernel.
    pub(super) kernel_packets: u64,
    /// By its agents, the one before and the one after the kill.
    pub(super) agent_packets: u64,
}

/// What happened when r's agent was killed. Everything is counted at a and b.
#[derive(Serialize, Debug)]
pub(super) struct AgentKill {
    /// Pings sent from the kill until the new agent had its sessions.
    pub(super) pings: u64,
    /// How many of them were not answered.
    pub(super) lost_pings: u64,
    /// Packets that arrived at b's TUN device while r had no agent.
    pub(super) transit_packets_while_dead: u64,
    /// Echo requests among them.
    pub(super) echo_requests_while_dead: u64,
    /// How long r had no agent.
    pub(super) dead_ms: u64,
    /// From the start of the new agent until it had its sessions.
    pub(super) take_over_ms: u64,
    /// The longest time without an answered ping.
    pub(super) longest_gap_ms: u64,
    /// What the TCP stream was held to, so that a lost ping is no matter of full queues.
    pub(super) tcp_limit_gbit_s: f64,
}

impl Report {
    /// The closing lines.
    pub(super) fn summary(&self) -> String {
        let (p, t, x, k) = (&self.ping, &self.tcp, &self.transit, &self.agent_kill);
        format!(
            "
What happened, {link} links, {mode} mode
  ping      {} sent, {} answered, median {} µs (beside the full stream {} µs)
  TCP       {:.2} Gbit/s, {:.1} MB arrived, every byte checked
  transit   r's kernel switched {} packets, r's agents {}
  the kill  r had no agent for {:.1} s: {} packets arrived at b meanwhile, {} of them echo requests
            the new agent had its sessions after {} ms; {} of {} pings lost, longest gap {} ms
",
            p.sent,
            p.received,
            p.rtt_us_median,
            p.rtt_us_median_loaded,
            t.gbit_s,
            t.bytes as f64 / 1e6,
            x.kernel_packets,
            x.agent_packets,
            k.dead_ms as f64 / 1e3,
            k.transit_packets_while_dead,
            k.echo_requests_while_dead,
            k.take_over_ms,
            k.lost_pings,
            k.pings,
            k.longest_gap_ms,
            link = self.link,
            mode = self.mode,
        )
    }

    /// Whether it is what the mode promises.
    ///
    /// # Errors
    /// Names every promise that was not kept.
    pub(super) fn check(&self, mode: Mode) -> Result<()> {
        let (x, k) = (&self.transit, &self.agent_kill);
        let mut broken = Vec::new();
        let mut promise = |kept: bool, what: String| {
            if !kept {
                broken.push(what);
            }
        };
        promise(self.ping.received > 0, "no ping was answered".into());
        promise(self.tcp.bytes > 0, "no TCP byte arrived".into());
        if mode.kernel() {
            promise(x.kernel_packets > 0, "r's kernel switched nothing".into());
            promise(x.agent_packets == 0, format!("r's agents switched {} packets", x.agent_packets));
            promise(k.transit_packets_while_dead > 0, "nothing crossed r while its agent was dead".into());
            promise(
                k.lost_pings * 100 <= k.pings,
                format!("{} of {} pings were lost over the kill", k.lost_pings, k.pings),
            );
        } else {
            promise(x.agent_packets > 0, "r's agent switched nothing".into());
            promise(x.kernel_packets == 0, format!("r's kernel switched {} packets", x.kernel_packets));
            promise(k.lost_pings < k.pings, "r did not come back".into());
        }
        if broken.is_empty() {
            return Ok(());
        }
        bail!("not what {} mode promises: {}", self.mode, broken.join("; "))
    }
}

/// What to try now.
pub(super) fn next(link: Link, mode: Mode) -> String {
    let link = Link::ALL.into_iter().find(|l| *l != link).unwrap_or(link);
    let mode = Mode::ALL.into_iter().find(|m| *m != mode).unwrap_or(mode);
    format!(
        "Next
  cargo xtask demo --link {link} --mode {mode}    the same over another underlay
  cargo xtask install                          put rovy into /usr/local/bin
  sudo rovy start                              run a node of your own
  sudo rovy listener start /ethif/<interface>  take neighbours on an Ethernet segment"
    )
}
