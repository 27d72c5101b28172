//! What a hop costs in the kernel, by test runs of `rovy-ebpf/src/bin/bench.rs`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, HashMap};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader, Pod};
use rovy_common::encap::{self, Macs};
use rovy_common::hop::{self, Message};
use rovy_common::label::Label;
use rovy_common::maps::{Config, HopKeys, LocalKey, RxLink, Source, TransitRate, TxLink, kind, rx_flag, tx_flag};
use rovy_common::wire::{ETHERTYPE, FLAG_LONG_LABEL, MessageType, VERSION};
use serde::Serialize;
use zerocopy::{IntoBytes, transmute};

static OBJECT: &[u8] = aya::include_bytes_aligned!("../../../rovy-ebpf/prebuilt/bench.bpf.o");

/// Runs of a program in one round.
const REPEAT: u32 = 200_000;
/// Position of the link in `RX`; what the programs put back is there.
const POSITION: u32 = 1;
const SLOT: u32 = 2;
const STATION: [u8; 6] = [2, 0, 0, 0, 0, 8];
/// Test runs happen on the loopback device.
const LOOPBACK: u32 = 1;
const XDP_DROP: u32 = 1;
const XDP_REDIRECT: u32 = 4;

/// Nanoseconds a packet, medians over the rounds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Nanoseconds {
    /// A program that does nothing.
    pub(crate) empty: u64,
    /// Puts the packet and the replay window back, nothing else: the part of `hop` that is the measurement's own.
    pub(crate) restore: u64,
    /// The label switch alone.
    pub(crate) label: u64,
    /// The whole hop, the restoring included.
    pub(crate) hop: u64,
    /// The whole hop of a message with a long label.
    pub(crate) hop_long: u64,
    /// The whole hop of a message from a neighbour with a rate limit.
    pub(crate) hop_limited: u64,
    /// A hello to another node, dropped: what each of a flood costs.
    pub(crate) refusal: u64,
}

/// What is timed, and the program that does it.
const RUNS: [(&str, &str); 7] = [
    ("empty", "empty"),
    ("restore", "restore"),
    ("label", "label"),
    ("hop", "hop"),
    ("hop long", "long"),
    ("hop limited", "hop"),
    ("refusal", "hop"),
];

/// Measures `rounds` rounds, in each of which every program runs.
///
/// # Errors
/// When the programs cannot be loaded (not root, no BPF), or do not do what they should.
pub(crate) fn measure(rounds: usize) -> Result<Nanoseconds> {
    ensure!(rounds > 0, "nothing to measure in 0 rounds");
    let Prepared { mut ebpf, rx, frame, plain, long } = prepare()?;
    let hello = hello();
    let mut times = [const { Vec::new() }; RUNS.len()];
    for _ in 0..rounds {
        for ((name, program), times) in RUNS.iter().zip(&mut times) {
            let input = match *name {
                "label" => &plain,
                "hop long" => &long,
                "refusal" => &hello,
                _ => &frame,
            };
            let flags = if *name == "hop limited" { rx_flag::LIMITED } else { 0 };
            let rx: [u8; size_of::<RxLink>()] = transmute!(RxLink { flags, ..rx });
            set(&mut ebpf, "RX", POSITION, rx)?;
            // What the program puts back.
            set(&mut ebpf, "TEMPLATE", 0, template(input)?)?;
            let (verdict, time) = run(&mut ebpf, program, input, REPEAT)?;
            let expected = match *name {
                "hop" | "hop long" | "hop limited" => XDP_REDIRECT,
                "label" => SLOT,
                "refusal" => XDP_DROP,
                _ => 2,
            };
            ensure!(verdict == expected, "the program {name} returned {verdict} instead of {expected}");
            times.push(time.as_nanos() as u64);
        }
    }
    let median = |times: &mut Vec<u64>| {
        times.sort_unstable();
        times[times.len() / 2]
    };
    let [empty, restore, label, hop, hop_long, hop_limited, refusal] = times.each_mut().map(median);
    Ok(Nanoseconds { empty, restore, label, hop, hop_long, hop_limited, refusal })
}

/// A hello with a mac1 of nobody's, to the address that [`prepare`] makes this node's.
fn hello() -> Vec<u8> {
    let macs = Macs { dst: STATION, src: [2, 0, 0, 0, 0, 9] };
    let mut frame = encap::ethernet(macs, ETHERTYPE)[..encap::ETH].to_vec();
    let length = (MessageType::Hello.min_len() as u16).to_le_bytes();
    frame.extend([MessageType::Hello as u8, VERSION, length[0], length[1]]);
    frame.resize(encap::ETH + MessageType::Hello.min_len(), 0x5a);
    frame
}

fn run(ebpf: &mut Ebpf, name: &str, frame: &[u8], repeat: u32) -> Result<(u32, Duration)> {
    let program: &mut Xdp = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
    let mut out = [0; 2048];
    let mut options = TestRunOptions::new();
    options.data_in = Some(frame);
    options.data_out = Some(&mut out);
    options.repeat = repeat;
    let result = program.test_run(options).with_context(|| format!("cannot run the program {name}"))?;
    Ok((result.return_value, result.duration))
}

/// What is measured: the object with one link from Ethernet and one to it.
struct Prepared {
    ebpf: Ebpf,
    /// The link that the frames come by.
    rx: RxLink,
    /// Crosses.
    frame: Vec<u8>,
    /// Its label is not masked.
    plain: Vec<u8>,
    /// Crosses with a long label.
    long: Vec<u8>,
}

/// The frame of a message with a label of one hop, behind `frame`.
fn sealed<const W: usize>(mut frame: Vec<u8>, rx: &RxLink, flags: u8) -> Result<Vec<u8>> {
    let inner = [4 | 1 << 8, 7];
    let length = Message::<W>::HEAD + 16;
    let label = Label::<W>::from_route(&[SLOT as u8]).context("the route fits")?;
    let head0 = 6 | u64::from(flags) << 8 | (length as u64) << 16;
    let m = hop::seal(&rx.keys, rx.index, 0, head0, &label, inner);
    frame.resize(encap::ETH + Message::<W>::HEAD, 0);
    m.write(&mut frame[encap::ETH..]).context("the head fits")?;
    frame.extend(inner.as_bytes());
    Ok(frame)
}

fn prepare() -> Result<Prepared> {
    let mask = POSITION;
    let mut ebpf = EbpfLoader::new()
        .override_global("RX_MASK", &mask, true)
        .override_global("AYA_LOG_LEVEL", &0_u8, true)
        .map_max_entries("RX", mask + 1)
        .map_max_entries("REPLAY", mask + 1)
        .load(OBJECT)
        .context("cannot load the benchmark's programs: run as root, on a kernel with BPF")?;
    for name in ["empty", "restore", "label", "hop", "long"] {
        let program: &mut Xdp = ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
        program.load().with_context(|| format!("cannot load the program {name}"))?;
    }
    let keys = |n| HopKeys { tag: [n, n + 1], mask: [n + 2, n + 3] };
    let macs = |n| Macs { dst: [2, 0, 0, 0, 0, n], src: [2, 0, 0, 0, 0, n + 1] };
    let index = 0x1234_0000 | POSITION;
    let header = encap::ethernet(macs(1), ETHERTYPE)[..encap::ETH].to_vec();
    let word = |i: usize| u32::from_ne_bytes([header[i], header[i + 1], header[i + 2], header[i + 3]]);
    let source = Source { macs: [word(0), word(4), word(8)], kind: kind::ETHERNET, ifindex: 1, ..Source::default() };
    let rx = RxLink { expires_ns: u64::MAX, neighbour: 1, keys: keys(10), source, index, slot: 1, flags: 0 };
    let tx = TxLink {
        expires_ns: u64::MAX,
        neighbour: 2,
        keys: keys(20),
        index: 9,
        counter: 2 * SLOT,
        mtu: 1500,
        flags: tx_flag::REDIRECT,
        kind: kind::ETHERNET,
        slot: SLOT,
        header: encap::ethernet(macs(3), ETHERTYPE),
        ..TxLink::default()
    };
    let config = Config { ethertype_be: u32::from(ETHERTYPE.to_be()), slot_width: 1, ..Config::default() };

    let frame = sealed::<2>(header.clone(), &rx, VERSION)?;
    let long = sealed::<4>(header, &rx, VERSION | FLAG_LONG_LABEL)?;
    let mut plain = frame.clone();
    let label = Label::<2>::from_route(&[SLOT as u8]).context("the route fits")?;
    label.write(&mut plain[encap::ETH + 24..encap::ETH + 40]);

    // So much that no run reaches it.
    let rate = TransitRate { byte_cost: 1, packet_ns: 1, burst_ns: u64::MAX / 2, bucket: 1, padding: 0 };
    let rate: [u8; size_of::<TransitRate>()] = transmute!(rate);
    let config: [u8; size_of::<Config>()] = transmute!(config);
    let tx: [u8; size_of::<TxLink>()] = transmute!(tx);
    set(&mut ebpf, "CONFIG", 0, config)?;
    set(&mut ebpf, "RATES", u32::from(rx.slot), rate)?;
    set(&mut ebpf, "TX", 2 * SLOT, tx)?;
    set(&mut ebpf, "SLOTS", SLOT, 2 * SLOT + 1)?;
    let mut ports: aya::maps::DevMap<_> = ebpf.map_mut("PORTS").context("no map PORTS")?.try_into()?;
    ports.set(0, LOOPBACK, None, 0).context("loopback cannot be a redirect target")?;
    let mut addr = [0; 16];
    addr[..6].copy_from_slice(&STATION);
    let local = LocalKey { addr, port_or_ifindex: LOOPBACK, kind: kind::ETHERNET };
    let mut key = [0; size_of::<LocalKey>()];
    key[..16].copy_from_slice(&local.addr);
    key[16..20].copy_from_slice(&local.port_or_ifindex.to_ne_bytes());
    key[20..].copy_from_slice(&local.kind.to_ne_bytes());
    let mut locals: HashMap<_, [u8; size_of::<LocalKey>()], u64> =
        ebpf.map_mut("LOCALS").context("no map LOCALS")?.try_into()?;
    locals.insert(key, 1, 0).context("cannot write the map LOCALS")?;
    Ok(Prepared { ebpf, rx, frame, plain, long })
}

/// The beginning of a frame.
fn template(frame: &[u8]) -> Result<[u8; encap::ETH + Message::<4>::HEAD]> {
    frame.first_chunk().copied().context("the frame is too short")
}

fn set<V: Pod>(ebpf: &mut Ebpf, name: &str, at: u32, value: V) -> Result<()> {
    let mut map: Array<_, V> = ebpf.map_mut(name).with_context(|| format!("no map {name}"))?.try_into()?;
    map.set(at, value, 0).with_context(|| format!("cannot write the map {name}"))
}
