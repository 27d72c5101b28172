//! What a stranger on the wire may send to a running agent, and what must not come of it.

use anyhow::{Context as _, Result, ensure};
use pnet::datalink::{self, Channel, DataLinkSender};
use rovy_common::wire::{ETHERTYPE, MessageType, VERSION};
use rovy_netns::{Line, Link, Mode, device, ping};
use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

/// More than any message, and more than a jumbo frame would hold of random bytes.
const TYPES: u8 = 9;

/// Every type (and two that do not exist) truncated at every length, with the length field of the whole message
/// and with one that fits; headers alone; random bytes.
fn messages() -> Vec<Vec<u8>> {
    let mut all = vec![vec![], vec![1, 0, 0, 0], vec![0; 64], vec![0xff; 64]];
    for kind in 0..=TYPES {
        let whole = MessageType::from_byte(kind).map_or(64, MessageType::min_len);
        for len in 0..=whole + 24 {
            for says in [whole, len, 0xffff] {
                let mut m = vec![0xa5; len.max(4)];
                m[..2].copy_from_slice(&[kind, VERSION]);
                m[2..4].copy_from_slice(&(says as u16).to_le_bytes());
                m.truncate(len);
                all.push(m);
            }
        }
    }
    let mut x = 0x2545_f491_4f6c_dd1d_u64;
    for i in 0..3000_usize {
        let mut m: Vec<u8> = Vec::new();
        m.resize_with(i % 1400, || {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        });
        // Half of them get past the first look.
        if i % 2 == 0 && m.len() >= 4 {
            let len = m.len() as u16;
            m[..2].copy_from_slice(&[(i / 2 % 7 + 1) as u8, VERSION]);
            m[2..4].copy_from_slice(&len.to_le_bytes());
        }
        all.push(m);
    }
    all
}

/// Resident memory of a process in KiB.
fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches(" kB").parse().context("VmRSS is no number")
}

/// Lets `attack` run against r twice: what the first round makes it allocate is its own business, a second round must
/// not make it grow.
fn withstands(link: Link, mode: Mode, attack: impl Fn(&Line) -> Result<usize>) -> Result<()> {
    let mut line = Line::new(link, mode)?;
    line.start()?;
    let pid = line.r.pid().context("r has no process")?;
    let mut sizes = Vec::new();
    for round in 0..2 {
        let sent = attack(&line)?;
        ensure!(sent > 5000, "only {sent} messages sent");
        let answered = ping::once(&line.ns_a, line.b.address(), Duration::from_secs(5))?;
        ensure!(answered, "round {round}: r does not switch any more\n{}", line.r.log_tail());
        ensure!(line.r.ended()?.is_none(), "round {round}: r's agent ended\n{}", line.r.log_tail());
        ensure!(line.r.info()?.pid == pid, "round {round}: r's agent is another one");
        sizes.push(resident(pid)?);
    }
    ensure!(sizes[1] < sizes[0] + 2048, "r's agent grew: {sizes:?} KiB");
    let stats = line.r.stats()?;
    let dropped: u64 = stats.drops.kernel.values().chain(stats.drops.agent.values()).sum();
    ensure!(dropped > 1000, "hardly anything was counted as dropped: {stats:?}");
    ensure!(line.r.peers()?.len() == 2, "strangers became peers: {:?}", line.r.peers()?);
    Ok(())
}

fn over_udp(line: &Line) -> Result<usize> {
    let r = SocketAddr::from(([10, 77, 1, 2], 1312));
    let socket = line.ns_a.enter(|| UdpSocket::bind("10.77.1.1:0"))?.context("cannot bind")?;
    let all = messages();
    for message in &all {
        socket.send_to(message, r)?;
    }
    // The largest there is, in fragments.
    for first in [0_u8, 1, 6] {
        let mut largest = vec![0x5a; 65_507];
        largest[..4].copy_from_slice(&[first, VERSION, 0xe3, 0xff]);
        socket.send_to(&largest, r)?;
    }
    Ok(all.len() + 3)
}

fn over_ethernet(line: &Line) -> Result<usize> {
    let destination = device::mac(&line.ns_r, "to-a")?;
    let mut sender: Box<dyn DataLinkSender> = line.ns_a.enter(|| {
        let interface = datalink::interfaces().into_iter().find(|i| i.name == "to-r").context("a has no to-r")?;
        match datalink::channel(&interface, datalink::Config::default())? {
            Channel::Ethernet(sender, _) => Ok(sender),
            _ => anyhow::bail!("to-r is no Ethernet device"),
        }
    })??;
    let all = messages();
    for message in &all {
        let mut frame = destination.to_vec();
        frame.extend([2, 0, 0, 0, 0, 9]);
        frame.extend(ETHERTYPE.to_be_bytes());
        frame.extend(message);
        sender.send_to(&frame, None).context("the frame was not sent")??;
    }
    Ok(all.len())
}

#[test]
fn bad_datagrams_meet_xdp() -> Result<()> {
    rovy_netns::root_only!();
    withstands(Link::Udp4, Mode::Native, over_udp)
}

#[test]
fn bad_datagrams_meet_the_agent() -> Result<()> {
    rovy_netns::root_only!();
    withstands(Link::Udp4, Mode::Userspace, over_udp)
}

#[test]
fn bad_frames_meet_xdp() -> Result<()> {
    rovy_netns::root_only!();
    withstands(Link::Eth, Mode::Native, over_ethernet)
}

#[test]
fn bad_frames_meet_the_agent() -> Result<()> {
    rovy_netns::root_only!();
    withstands(Link::Eth, Mode::Userspace, over_ethernet)
}
