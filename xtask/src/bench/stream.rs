//! What one TCP stream reaches between programs of two hosts, and what the agents spend on it.

use anyhow::{Context as _, Result, ensure};
use rovy_netns::process::cpu_time;
use rovy_netns::stream::{SERVICE, Stream};
use rovy_netns::{Agent, Line, Link, Mode, Namespace, device, namespace, wait};
use serde::Serialize;
use std::net::Ipv6Addr;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a stream is measured.
const RUN: Duration = Duration::from_secs(3);

/// A way from one host to the other.
#[derive(Serialize)]
pub(crate) struct Way {
    /// What it is.
    pub(crate) way: String,
    /// What arrives over TCP.
    pub(crate) mbit_s: u64,
    /// To plain forwarding by the kernel of the host in the middle, veth offloads off.
    pub(crate) ratio: f64,
    /// CPU seconds of the sending host's agent for a gigabyte.
    pub(crate) sender_s_a_gb: f64,
    /// Likewise of the receiving host's.
    pub(crate) receiver_s_a_gb: f64,
}

/// How packets go.
#[derive(Clone, Copy)]
enum Over {
    /// Kernel forwarding, without agents.
    Kernel,
    /// To the next host.
    Direct(Link),
    /// Over the host in the middle, in its kernel.
    Middle(Link),
    /// The same with the TUN offloads of both ends off.
    Bare(Link),
}

/// One round of one way: Mbit/s, and CPU seconds a gigabyte at both ends.
type Seen = (f64, f64, f64);

/// Measures all ways in turn, so often; medians. `binary`: in place of one that is built; `other`: measured beside it.
///
/// # Errors
/// Without root, or when something does not come about.
pub(crate) fn measure(
    rounds: usize,
    binary: Option<&Path>,
    other: Option<&Path>,
    progress: impl Fn(&str),
) -> Result<Vec<Way>> {
    ensure!(crate::sh::is_root(), "network namespaces need root: run `cargo xtask bench stream` as root");
    let binary = binary.map_or_else(crate::demo::optimised, |b| Ok(b.to_owned()))?;
    namespace::sweep();
    let ours = [
        ("direct, udp4", Over::Direct(Link::Udp4)),
        ("over r, eth", Over::Middle(Link::Eth)),
        ("over r, udp4", Over::Middle(Link::Udp4)),
        ("over r, udp4, offloads off", Over::Bare(Link::Udp4)),
    ];
    let mut ways = vec![("kernel forwarding".to_owned(), Over::Kernel, binary.as_path())];
    ways.extend(ours.iter().map(|(name, over)| ((*name).to_owned(), *over, binary.as_path())));
    if let Some(other) = other {
        let comparable = ours.iter().filter(|(_, over)| !matches!(over, Over::Bare(_)));
        ways.extend(comparable.map(|(name, over)| (format!("{name}, the other binary"), *over, other)));
    }
    let mut seen: Vec<Vec<Seen>> = vec![Vec::new(); ways.len()];
    for round in 1..=rounds {
        for ((name, over, binary), seen) in ways.iter().zip(&mut seen) {
            progress(&format!("{name}, round {round} of {rounds}"));
            seen.push(once(binary, *over).with_context(|| name.clone())?);
        }
    }
    let base = median(seen.first().into_iter().flatten().map(|s| s.0))?;
    let way = |((way, ..), seen): ((String, Over, &Path), &Vec<Seen>)| {
        let rate = median(seen.iter().map(|s| s.0))?;
        let (sender_s_a_gb, receiver_s_a_gb) = (median(seen.iter().map(|s| s.1))?, median(seen.iter().map(|s| s.2))?);
        Ok(Way { way, mbit_s: rate as u64, ratio: rate / base, sender_s_a_gb, receiver_s_a_gb })
    };
    ways.into_iter().zip(&seen).map(way).collect()
}

fn median(all: impl Iterator<Item = f64>) -> Result<f64> {
    let mut all: Vec<f64> = all.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().context("no round was run")
}

fn once(binary: &Path, over: Over) -> Result<Seen> {
    match over {
        Over::Kernel => {
            let line = Line::with_binary(binary, Link::Udp6, [Mode::Userspace; 3])?;
            let to = forward(&line)?;
            stream(&line.ns_a, &line.ns_b, to, [None, None])
        }
        Over::Direct(link) => {
            let mut line = Line::with_binary(binary, link, [Mode::Native; 3])?;
            line.r.edit("enabled = false", &format!("enabled = true\nallow = [{SERVICE:?}]"))?;
            line.start()?;
            let to = line.r.address();
            stream(&line.ns_a, &line.ns_r, to, [Some(&line.a), Some(&line.r)])
        }
        Over::Middle(link) | Over::Bare(link) => {
            let mut line = Line::with_binary(binary, link, [Mode::Native; 3])?;
            if matches!(over, Over::Bare(_)) {
                for end in [&line.a, &line.b] {
                    end.edit("ifname = ", "offload.csum = false\nifname = ")?;
                }
            }
            line.start()?;
            let to = line.b.address();
            stream(&line.ns_a, &line.ns_b, to, [Some(&line.a), Some(&line.b)])
        }
    }
}

/// Has r's kernel forward between a and b, packet by packet; b's address.
fn forward(line: &Line) -> Result<Ipv6Addr> {
    line.ns_r.exec("sysctl -qw net.ipv6.conf.all.forwarding=1")?;
    line.ns_a.ip("route add fd77:2::/64 via fd77:1::2")?;
    line.ns_b.ip("route add fd77:1::/64 via fd77:2::2")?;
    for (ns, interface) in [(&line.ns_a, "to-r"), (&line.ns_r, "to-a"), (&line.ns_r, "to-b"), (&line.ns_b, "to-r")] {
        for feature in ["tso", "gso", "gro", "tx"] {
            device::offload(ns, interface, feature, false)?;
        }
    }
    Ok(Ipv6Addr::new(0xfd77, 2, 0, 0, 0, 0, 0, 1))
}

fn stream(from: &Namespace, to: &Namespace, address: Ipv6Addr, agents: [Option<&Agent>; 2]) -> Result<Seen> {
    let stream = Stream::start(from, to, address, 5201)?;
    wait::until("a stream under way", Duration::from_secs(10), || Ok((stream.bytes() > 1_000_000).then_some(())))?;
    let spent = || -> Result<[f64; 2]> {
        let of = |agent: Option<&Agent>| -> Result<f64> {
            let pid = agent.map(|a| a.pid().context("an agent has no process")).transpose()?;
            Ok(pid.map(cpu_time).transpose()?.unwrap_or_default().as_secs_f64())
        };
        Ok([of(agents[0])?, of(agents[1])?])
    };
    let (bytes, before, began) = (stream.bytes(), spent()?, Instant::now());
    wait::until("the measured time", RUN * 2, || Ok((began.elapsed() >= RUN).then_some(())))?;
    let (bytes, after, seconds) = ((stream.bytes() - bytes) as f64, spent()?, began.elapsed().as_secs_f64());
    stream.finish()?;
    let gb = bytes / 1e9;
    Ok((bytes * 8e-6 / seconds, (after[0] - before[0]) / gb, (after[1] - before[1]) / gb))
}
