//! The node in memory: what `docs/protocol.md` says about a frame, in plain slices and without regard to speed.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet, HashSet};

use rovy_common::hello::Bucket;
use rovy_common::hop::{self, Message, Place, Tables, Verdict};
use rovy_common::label::Width;
use rovy_common::maps::{LocalKey, RxLink, SlotStats, Source, TransitRate, TxLink, kind, tx_flag};
use rovy_common::replay::Window;
use rovy_common::wire::{self, ETHERTYPE, FLAG_LONG_LABEL, MessageType};
use rovy_common::{Counter, DropReason, UpReason, encap};

const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;
pub(crate) const XDP_TX: u32 = 3;
const XDP_REDIRECT: u32 = 4;

/// A test run splits longer frames into fragments; none between these two limits is tried.
pub(crate) const LINEAR_AT_MOST: usize = 3000;
pub(crate) const FRAGMENTED_FROM: usize = 4000;

/// Refused messages of each link that go up; no token grows during a test.
pub(crate) const REFUSED: u64 = 30;

/// What becomes of a frame.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) action: u32,
    pub(crate) bytes: Vec<u8>,
    pub(crate) counter: Option<Counter>,
}

/// Tables of the node.
pub(crate) struct Model {
    width: Width,
    rx: BTreeMap<u32, (RxLink, Window)>,
    tx: BTreeMap<u16, TxLink>,
    drawn: RefCell<BTreeMap<u32, u64>>,
    /// Refused messages of each slot that went up.
    refused: RefCell<BTreeMap<u16, u64>>,
    stats: BTreeMap<u16, SlotStats>,
    rates: BTreeMap<u16, TransitRate>,
    spent: BTreeMap<u32, Cell<u64>>,
    ports: BTreeSet<u32>,
    pub(crate) locals: HashSet<LocalKey>,
    /// Receiver indexes that the agent gave out.
    pub(crate) given: HashSet<u32>,
    pub(crate) gate: crate::hellos::Gate,
}

impl Tables for Model {
    type Window = Window;
    type Bucket<'a> = Spent<'a>;

    fn now_ns(&self) -> u64 {
        // Links of the test expire at 1 or never.
        2
    }
    fn rx(&self, index: u32) -> Option<&RxLink> {
        self.rx.get(&index).map(|r| &r.0)
    }
    fn window(&self, index: u32) -> Option<&Window> {
        self.rx.get(&index).map(|r| &r.1)
    }
    fn tx(&self, slot: u16) -> Option<&TxLink> {
        self.tx.get(&slot)
    }
    fn draw(&self, counter: u32) -> Option<u64> {
        let mut drawn = self.drawn.borrow_mut();
        let next = drawn.get_mut(&counter)?;
        *next += 1;
        Some(*next - 1)
    }
    fn afford_refused(&self, slot: u16) -> bool {
        let mut refused = self.refused.borrow_mut();
        let so_far = refused.entry(slot).or_default();
        let affords = *so_far < REFUSED;
        *so_far += u64::from(affords);
        affords
    }
    fn rate(&self, slot: u16) -> Option<(&TransitRate, Spent<'_>)> {
        let rate = self.rates.get(&slot)?;
        Some((rate, Spent(self.spent.get(&rate.bucket)?)))
    }
}

/// A bucket of a neighbour's.
pub(crate) struct Spent<'a>(&'a Cell<u64>);

impl Bucket for Spent<'_> {
    fn load(&self) -> u64 {
        self.0.get()
    }
    fn exchange(&self, old: u64, new: u64) -> bool {
        self.0.replace(new) == old
    }
}

/// What a frame says before anybody asks whose it is.
pub(crate) struct Parsed {
    pub(crate) source: Source,
    pub(crate) header: usize,
    /// Bytes for the message by the headers.
    available: usize,
    sound: bool,
}

fn be16(b: &[u8], at: usize) -> usize {
    usize::from(u16::from_be_bytes([b[at], b[at + 1]]))
}

fn ne64(b: &[u8], at: usize) -> u64 {
    u64::from_ne_bytes(b[at..at + 8].try_into().unwrap())
}

fn ne32(b: &[u8], at: usize) -> u32 {
    u32::from_ne_bytes(b[at..at + 4].try_into().unwrap())
}

pub(crate) fn parse(f: &[u8]) -> Option<Parsed> {
    let mut source = Source { macs: [ne32(f, 0), ne32(f, 4), ne32(f, 8)], ifindex: 1, ..Source::default() };
    match be16(f, 12) as u16 {
        ETHERTYPE => {
            source.kind = kind::ETHERNET;
            Some(Parsed { source, header: 14, available: f.len() - 14, sound: true })
        }
        0x0800 => {
            if f.len() < 42 || f[14] != 0x45 || f[23] != 17 || be16(f, 20) & 0x3fff != 0 {
                return None;
            }
            source.kind = kind::UDP4;
            source.addrs_be[0] = ne64(f, 26);
            source.ports_be = ne32(f, 34);
            let (ip, udp) = (be16(f, 16), be16(f, 38));
            let sound = ip >= 28 && ip + 14 <= f.len() && udp + 20 == ip;
            Some(Parsed { source, header: 42, available: udp.saturating_sub(8), sound })
        }
        0x86dd => {
            if f.len() < 62 || f[14] >> 4 != 6 || f[20] != 17 {
                return None;
            }
            source.kind = kind::UDP6;
            source.addrs_be = [ne64(f, 22), ne64(f, 30), ne64(f, 38), ne64(f, 46)];
            source.ports_be = ne32(f, 54);
            let (ip, udp) = (be16(f, 18), be16(f, 58));
            let sound = ip >= 8 && ip + 54 <= f.len() && udp == ip;
            Some(Parsed { source, header: 62, available: udp.saturating_sub(8), sound })
        }
        _ => None,
    }
}

fn same(seen: &Source, known: &Source) -> bool {
    let mac = |s: &Source| [s.macs[0].to_ne_bytes(), s.macs[1].to_ne_bytes(), s.macs[2].to_ne_bytes()].concat();
    let (a, b) = (mac(seen), mac(known));
    let place = if seen.kind == kind::ETHERNET { a == b && seen.ifindex == known.ifindex } else { a[..6] == b[..6] };
    let udp = seen.kind == kind::ETHERNET || (seen.addrs_be == known.addrs_be && seen.ports_be == known.ports_be);
    seen.kind == known.kind && place && udp
}

impl Model {
    pub(crate) fn new(width: Width, ports: BTreeSet<u32>) -> Self {
        let (rx, tx, drawn) = (BTreeMap::new(), BTreeMap::new(), RefCell::default());
        Self {
            width,
            rx,
            tx,
            drawn,
            refused: RefCell::default(),
            stats: BTreeMap::new(),
            rates: BTreeMap::new(),
            spent: BTreeMap::new(),
            ports,
            locals: HashSet::new(),
            given: HashSet::new(),
            gate: Default::default(),
        }
    }

    pub(crate) fn add(&mut self, rx: RxLink, tx: TxLink) {
        self.rx.insert(rx.index, (rx, Window::new()));
        self.tx.insert(rx.slot, tx);
        if tx.counter != u32::MAX {
            self.drawn.borrow_mut().insert(tx.counter, 0);
        }
    }

    pub(crate) fn limit(&mut self, slot: u16, rate: TransitRate) {
        self.rates.insert(slot, rate);
        self.spent.entry(rate.bucket).or_default();
    }

    pub(crate) fn stats(&self, slot: u16) -> SlotStats {
        self.stats.get(&slot).copied().unwrap_or_default()
    }

    pub(crate) fn drawn(&self, counter: u32) -> Option<u64> {
        self.drawn.borrow().get(&counter).copied()
    }

    /// A hello, or a response, which answers something of the node's own.
    fn admit(&self, p: &Parsed, message: &[u8]) -> Counter {
        match wire::receiver_index(MessageType::from_byte(message[0]).unwrap(), message) {
            Some(index) if !self.given.contains(&index) => Counter::Drop(DropReason::UnknownIndex),
            _ => self.gate.admit(p, message, self.locals.contains(&LocalKey::mute(p.source.ifindex))),
        }
    }

    fn ours(&self, f: &[u8], p: &Parsed) -> bool {
        let mut addr = [0; 16];
        addr[..6].copy_from_slice(&f[..6]);
        let station = LocalKey { addr, port_or_ifindex: 1, kind: kind::ETHERNET };
        let mut addr = [0; 16];
        let port_or_ifindex = match p.source.kind {
            kind::UDP4 => {
                addr[..4].copy_from_slice(&f[30..34]);
                u32::from(u16::from_ne_bytes([f[36], f[37]]))
            }
            kind::UDP6 => {
                addr.copy_from_slice(&f[38..54]);
                u32::from(u16::from_ne_bytes([f[56], f[57]]))
            }
            _ => return crate::is_local(self, station),
        };
        let socket = LocalKey { addr, port_or_ifindex, kind: p.source.kind };
        crate::is_local(self, station) && crate::is_local(self, socket)
    }

    /// What becomes of a frame that came in by interface 1.
    pub(crate) fn judge(&mut self, f: &[u8]) -> Outcome {
        assert!(f.len() <= LINEAR_AT_MOST || f.len() >= FRAGMENTED_FROM, "{} bytes", f.len());
        let unchanged = |action, counter| Outcome { action, bytes: f.to_vec(), counter };
        match self.decide(f) {
            None => unchanged(XDP_PASS, None),
            Some(Err(Counter::CookieReply)) => {
                let counter = Some(Counter::Drop(DropReason::BadMac2));
                Outcome { action: XDP_TX, bytes: Vec::new(), counter }
            }
            Some(Err(Counter::Drop(r))) => unchanged(XDP_DROP, Some(Counter::Drop(r))),
            Some(Err(c)) => unchanged(XDP_PASS, Some(c)),
            Some(Ok(bytes)) => Outcome { action: XDP_REDIRECT, bytes, counter: Some(Counter::Forwarded) },
        }
    }

    /// `None` for a frame that is not touched at all.
    fn decide(&mut self, f: &[u8]) -> Option<Result<Vec<u8>, Counter>> {
        let p = parse(f)?;
        let exact = p.source.kind != kind::ETHERNET;
        let message = &f[p.header..];
        let first = message.first_chunk().copied().unwrap_or([0; 4]);
        let available = if message.len() < 4 { 0 } else { p.available };
        let checked = wire::check(u32::from_le_bytes(first), available, exact);
        let long = first[1] & FLAG_LONG_LABEL != 0;
        let whole = f.len() <= LINEAR_AT_MOST;
        let transit = matches!(checked, Ok((MessageType::Transit, _))) && p.sound && whole;
        let index = message.get(4..8).filter(|_| transit).map(|b| u32::from_le_bytes(b.try_into().unwrap()));
        let known = index.and_then(|index| self.rx(index)).copied();
        let moved = known.is_none_or(|rx| !same(&p.source, &rx.source));
        if moved {
            if !exact && f[0] & 1 != 0 {
                let admitted = matches!(checked, Ok((MessageType::Hello | MessageType::Response, _))) && whole;
                return Some(Err(if admitted {
                    self.admit(&p, message)
                } else {
                    self.gate.other(&p, UpReason::Control)
                }));
            }
            if !self.ours(f, &p) {
                return None;
            }
        }
        let (length, rx) = match self.find(f, &p, checked, known) {
            Ok(found) => found,
            Err(counter) => return Some(Err(counter)),
        };
        Some(if long { self.hop::<4>(f, &p, length, rx, moved) } else { self.hop::<2>(f, &p, length, rx, moved) })
    }

    /// The length and link of transit; everything else ends here.
    fn find(
        &self,
        f: &[u8],
        p: &Parsed,
        checked: Result<(MessageType, usize), DropReason>,
        known: Option<RxLink>,
    ) -> Result<(usize, RxLink), Counter> {
        let message = &f[p.header..];
        let index = message.get(4..8).map_or(0, |b| u32::from_le_bytes(b.try_into().unwrap()));
        let given = self.given.contains(&index) || self.rx.contains_key(&index);
        let large = || if given { Counter::Up(UpReason::Oversized) } else { self.gate.other(p, UpReason::Oversized) };
        if f.len() > LINEAR_AT_MOST {
            return Err(large());
        }
        if !p.sound {
            return Err(Counter::Drop(DropReason::BadLength));
        }
        match checked {
            Err(DropReason::BadLength) if f.len() > 1514 => Err(large()),
            Err(r) => Err(Counter::Drop(r)),
            Ok((MessageType::Transit, length)) => {
                known.map(|rx| (length, rx)).ok_or(Counter::Drop(DropReason::UnknownIndex))
            }
            Ok((MessageType::Control, _)) => Err(Counter::Drop(DropReason::Malformed)),
            Ok((MessageType::Hello | MessageType::Response, _)) => Err(self.admit(p, message)),
            Ok((MessageType::Beacon, _)) => Err(self.gate.other(p, UpReason::Control)),
            Ok(_) if given => Err(Counter::Up(UpReason::Control)),
            Ok(_) => Err(Counter::Drop(DropReason::UnknownIndex)),
        }
    }

    fn hop<const W: usize>(
        &mut self,
        f: &[u8],
        p: &Parsed,
        length: usize,
        rx: RxLink,
        moved: bool,
    ) -> Result<Vec<u8>, Counter> {
        let m = Message::<W>::read(&f[p.header..]).unwrap();
        let (tx, out) = match hop::hop(self, self.width, Place::Kernel { moved }, &rx, &m) {
            Verdict::Here(_) => return Err(Counter::Up(UpReason::Local)),
            Verdict::Up(r) => return Err(Counter::Up(r)),
            Verdict::Seal(..) => return Err(Counter::Up(UpReason::Sealed)),
            Verdict::Drop(r) | Verdict::Refused(r) => {
                let refused = matches!(r, DropReason::NotAllowed | DropReason::RateLimited);
                self.stats.entry(rx.slot).or_default().refused_packets += u64::from(refused);
                return Err(Counter::Drop(r));
            }
            Verdict::Forward(tx, out) => (*tx, out),
        };
        if !self.ports.contains(&tx.port) {
            return Err(Counter::Drop(DropReason::EgressDown));
        }
        let from = self.stats.entry(rx.slot).or_default();
        from.rx_packets += 1;
        from.rx_bytes += length as u64;
        let to = self.stats.entry(tx.slot as u16).or_default();
        to.tx_packets += 1;
        to.tx_bytes += length as u64;
        Ok(encapsulate(&tx, &out, &f[p.header + Message::<W>::HEAD..p.header + length]))
    }
}

/// The frame that leaves.
pub(crate) fn encapsulate<const W: usize>(tx: &TxLink, m: &Message<W>, rest: &[u8]) -> Vec<u8> {
    let header = encap::header_len(tx.kind);
    let mut out = tx.header[..header].to_vec();
    out.resize(header + Message::<W>::HEAD, 0);
    m.write(&mut out[header..]).unwrap();
    out.extend(rest);
    let (udp, ip) = ((out.len() + 8 - header) as u16, (out.len() - 14) as u16);
    let addrs = match tx.kind {
        kind::UDP4 => {
            out[16..18].copy_from_slice(&ip.to_be_bytes());
            out[24..26].fill(0);
            let sum = internet_checksum(&out[14..34], 0);
            out[24..26].copy_from_slice(&sum.to_be_bytes());
            26
        }
        kind::UDP6 => {
            out[18..20].copy_from_slice(&udp.to_be_bytes());
            22
        }
        _ => return out,
    };
    out[header - 4..header - 2].copy_from_slice(&udp.to_be_bytes());
    if tx.flags & tx_flag::ZERO_CHECKSUM == 0 {
        let sum = match internet_checksum(&out[addrs..], 17 + u32::from(udp)) {
            0 => 0xffff,
            sum => sum,
        };
        out[header - 2..header].copy_from_slice(&sum.to_be_bytes());
    }
    out
}

/// RFC 1071, byte pair by byte pair.
fn internet_checksum(bytes: &[u8], start: u32) -> u16 {
    let mut sum = start;
    for pair in bytes.chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}
