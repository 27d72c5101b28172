//! Floods, and a peer that wants to connect meanwhile.

use anyhow::{Context as _, Result, ensure};
use pnet::datalink::{self, Channel, DataLinkSender};
use rovy_common::encap::{self, Macs};
use rovy_common::hello::{self, Sealed};
use rovy_common::wire::MessageType;
use rovy_netns::agent::{DEADLINE, binary};
use rovy_netns::flood::{Kind, OPEN, Siege};
use rovy_netns::stream::Stream;
use rovy_netns::{Line, Link, Mode, device, process, wait};
use rovy_userspace::api::Stats;
use rovy_userspace::core::mac1_key;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A hello that nobody made, with the mac1 of who has this key.
fn forged(mac1: &[u64; 2], n: u32) -> Vec<u8> {
    let mut m = vec![0x5a; MessageType::Hello.min_len()];
    m[..4].copy_from_slice(&[1, 1, 64, 1]);
    m[8..12].copy_from_slice(&n.to_le_bytes());
    let at = m.len() - 32;
    m[at..].fill(0);
    let covered = Sealed::read(&m).map(|s| s.covered).unwrap_or_default();
    let [a, b] = hello::mac(mac1, &covered);
    m[at..at + 8].copy_from_slice(&a.to_le_bytes());
    m[at + 8..at + 16].copy_from_slice(&b.to_le_bytes());
    m
}

/// The frame of a hello from a forged address of b's network to r.
fn frame(macs: Macs, mac1: &[u64; 2], n: u32) -> Vec<u8> {
    let message = forged(mac1, n);
    let from = ([10, 77, 2, 10 + (n % 240) as u8], 1024 + (n / 240 % 60_000) as u16);
    let mut f = encap::udp4(macs, from, ([10, 77, 2, 2], 1312))[..encap::UDP4].to_vec();
    let ip = (28 + message.len()) as u16;
    let checksum = encap::ipv4_checksum(u16::from_be_bytes([f[24], f[25]]), ip, 0);
    f[16..18].copy_from_slice(&ip.to_be_bytes());
    f[24..26].copy_from_slice(&checksum.to_be_bytes());
    f[38..40].copy_from_slice(&(ip - 20).to_be_bytes());
    f.extend(message);
    f
}

fn sender(line: &Line) -> Result<Box<dyn DataLinkSender>> {
    line.ns_b.enter(|| {
        let interface = datalink::interfaces().into_iter().find(|i| i.name == "to-r").context("b has no to-r")?;
        match datalink::channel(&interface, datalink::Config::default())? {
            Channel::Ethernet(sender, _) => Ok(sender),
            _ => anyhow::bail!("to-r is no Ethernet device"),
        }
    })?
}

fn dropped(stats: &Stats, reason: &str) -> u64 {
    [&stats.drops.kernel, &stats.drops.agent].iter().filter_map(|d| d.get(reason)).sum()
}

/// r drops a flood from forged addresses, asks for cookies, and a connects with one.
fn a_new_peer_connects(mode: Mode) -> Result<Stats> {
    let mut line = Line::new(Link::Udp4, mode)?;
    line.r.start()?;
    line.b.start()?;
    line.r.wait_neighbour(line.b.peer_id())?;
    let macs = Macs { dst: device::mac(&line.ns_r, "to-b")?, src: device::mac(&line.ns_b, "to-r")? };
    let mac1 = mac1_key(line.r.peer_id().public_key());
    let mut out = sender(&line)?;
    let stop = AtomicBool::new(false);
    let (stats, took) = std::thread::scope(|s| {
        let flood = s.spawn(|| {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                // What the device has no room for is lost, as in any flood.
                let _ = out.send_to(&frame(macs, &mac1, n), None);
                n += 1;
            }
            n
        });
        let connected = (|| {
            let under_load = |s: &Stats| s.cookie_replies > 100 && dropped(s, "bad_mac2") > 100;
            line.r.wait_stats("r to ask for cookies", DEADLINE, under_load)?;
            let start = Instant::now();
            line.a.start()?;
            let r = line.r.peer_id();
            wait::until("a to connect", Duration::from_secs(10), || line.a.connected(r).map(|c| c.then_some(())))
                .map_err(|e| line.a.explain(line.r.explain(e)))?;
            anyhow::Ok((line.r.stats()?, start.elapsed()))
        })();
        stop.store(true, Ordering::Relaxed);
        let sent = flood.join();
        println!("{sent:?} hellos sent");
        connected
    })?;
    println!("connected after {took:?}");
    ensure!(line.r.peers()?.len() <= 2, "forged hellos became peers");
    Ok(stats)
}

#[test]
fn a_new_peer_connects_while_xdp_drops_a_flood() -> Result<()> {
    rovy_netns::root_only!();
    let stats = a_new_peer_connects(Mode::Native)?;
    let kernel = stats.drops.kernel.get("bad_mac2").copied().unwrap_or_default();
    ensure!(kernel > 100, "XDP took no part: {stats:?}");
    Ok(())
}

#[test]
fn a_new_peer_connects_while_the_agent_drops_a_flood() -> Result<()> {
    rovy_netns::root_only!();
    let stats = a_new_peer_connects(Mode::Userspace)?;
    let agent = stats.drops.agent.get("bad_mac2").copied().unwrap_or_default();
    ensure!(agent > 100, "the agent asked nobody: {stats:?}");
    Ok(())
}

/// Hellos a second: what a busy machine still sends.
const RATE: u64 = 20_000;
/// Hellos of a flood before anybody looks.
const SENT: u64 = 20_000;
/// What each kind of message may bring up in a second, and at once, and how many kinds a flood mixes at most.
const ADMITTED: f64 = 200.0;
const KINDS: f64 = 2.0;

/// Everything that the bench measures, with bounds that a busy machine keeps.
fn withstands(siege: &Siege, stream: &Stream, kind: Kind, link: Link) -> Result<()> {
    let r = &siege.line.r;
    let pid = siege.pid()?;
    let flood = siege.flood(kind, link, 1 << 12)?;
    let (before, memory, cpu, start) = (r.stats()?, process::resident(pid)?, process::cpu_time(pid)?, Instant::now());
    flood.send(&siege.ns_x, OPEN, RATE)?;
    wait::until("the flood", DEADLINE, || Ok((flood.sent() >= SENT).then_some(())))?;
    let connected = siege.newcomer(Mode::Native)?;
    let bytes = stream.bytes();
    wait::until("the stream to go on", DEADLINE, || Ok((stream.bytes() > bytes + 100_000).then_some(())))?;
    let sent = flood.finish()?;
    let (after, took) = (r.stats()?, start.elapsed().as_secs_f64());
    let used = (process::cpu_time(pid)? - cpu).as_secs_f64();
    println!("{kind} over {link}: {sent} in {took:.1} s, a new peer after {connected:?}, {used:.2} s of CPU");

    ensure!(connected.is_some_and(|d| d < Duration::from_secs(10)), "a new peer needs {connected:?}");
    let up = |s: &Stats| s.up.get("control").copied().unwrap_or_default();
    let (up, most) = ((up(&after) - up(&before)) as f64, KINDS * ADMITTED * (took + 1.0) + 100.0);
    ensure!(up <= most, "{up} messages reached the agent, {most} at most were to");
    let dropped = |s: &Stats| s.drops.kernel.values().sum::<u64>();
    let dropped = (dropped(&after) - dropped(&before)) as f64;
    ensure!(dropped + up >= 0.95 * sent as f64, "{sent} sent, {dropped} dropped by the kernel and {up} handed up");
    ensure!(used < 0.5 * took, "the agent used {used} s of CPU in {took} s");
    let grown = process::resident(pid)?.saturating_sub(memory);
    ensure!(grown < 8 << 20, "the agent grew by {grown} bytes");
    Ok(())
}

#[test]
fn each_kind_of_flood_costs_little_over_each_link() -> Result<()> {
    rovy_netns::root_only!();
    let siege = Siege::start(&binary()?, Link::Udp4, Mode::Native)?;
    let line = &siege.line;
    let stream = Stream::start(&line.ns_a, &line.ns_b, line.b.address(), 5201)?;
    for kind in Kind::ALL {
        for link in Link::ALL {
            // What differs from link to link is how a source is told and answered.
            if link == Link::Udp4 || matches!(kind, Kind::Spoofed | Kind::Strays) {
                withstands(&siege, &stream, kind, link)
                    .map_err(|e| siege.line.r.explain(e).context(format!("{kind} over {link}")))?;
            }
        }
    }
    stream.finish()?;
    Ok(())
}
