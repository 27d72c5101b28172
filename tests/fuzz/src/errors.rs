//! Errors about routes: any bytes, true ones that were changed, from anywhere.

use std::time::Duration;

use arbitrary::{Result, Unstructured};
use rovy_common::wire::{Control, ErrorKind, ErrorMessage, Header, MessageType, QUOTE, control};
use rovy_userspace::core::{
    Action, HEADROOM, Hops, LEAST_FIT, Node, Now, Origin, Path, RouteState, Sent, TAILROOM, error_check,
};
use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U64};

use crate::keys::{endpoint, id, node};

const SECOND: u64 = 1_000_000_000;
/// Errors in one run.
const STEPS: usize = 16;
/// The rest of a's route to b, and of b's to a.
const THERE: u8 = 5;
const BACK: u8 = 9;
/// Bytes of the packet behind its header: it fits what a first link takes.
const PAYLOAD: usize = 1200;

/// a, its neighbour r, and b behind r.
struct World {
    a: Node,
    r: Node,
    b: Node,
    slot: u16,
    now_ns: u64,
}

impl World {
    fn now(&self) -> Now {
        Now { mono_ns: self.now_ns, wall: Duration::from_nanos(1_700_000_000 * SECOND + self.now_ns) }
    }

    fn new() -> Option<Self> {
        let mut w = Self { a: node(0), r: node(1), b: node(2), slot: 0, now_ns: SECOND };
        let now = w.now();
        w.a.connect(now, id(1), vec![endpoint(1)], true);
        w.settle();
        w.slot = w.a.peers().find(|p| p.id == id(1))?.slot?;
        w.a.add_route(now, id(2), w.slot, Hops::from_iter([THERE]));
        w.settle();
        Some(w)
    }

    /// Carries messages until there are none. What takes another way is lost.
    fn settle(&mut self) {
        let (now, there, back) = (self.now(), Hops::from_iter([THERE]), Hops::from_iter([BACK]));
        let mut quiet = false;
        while !quiet {
            quiet = true;
            while let Some(action) = self.a.poll() {
                quiet = false;
                let _ = match action {
                    Action::Send(Path::Direct(to), mut m) if to == endpoint(1) => {
                        self.r.message(now, &Origin::Direct(endpoint(0)), &mut m).map(drop)
                    }
                    Action::Send(Path::Routed { slot, hops }, mut m) if slot == self.slot && hops == there => {
                        self.b.message(now, &Origin::Routed { slot: 1, hops: back.clone() }, &mut m).map(drop)
                    }
                    _ => Ok(()),
                };
            }
            while let Some(action) = self.r.poll() {
                quiet = false;
                if let Action::Send(Path::Direct(_), mut m) = action {
                    let _ = self.a.message(now, &Origin::Direct(endpoint(1)), &mut m);
                }
            }
            while let Some(action) = self.b.poll() {
                quiet = false;
                if let Action::Send(Path::Routed { .. }, mut m) = action {
                    let _ = self.a.message(now, &Origin::Routed { slot: self.slot, hops: there.clone() }, &mut m);
                }
            }
        }
    }

    /// How a packet of a's to b, or its first piece, starts in transit. `None` when a knows no way to b any more.
    fn sent(&mut self) -> Option<[u8; QUOTE]> {
        let mut packet = vec![0; 40 + PAYLOAD];
        packet[0] = 0x60;
        packet[4..6].copy_from_slice(&(PAYLOAD as u16).to_be_bytes());
        packet[8..24].copy_from_slice(&id(0).address().octets());
        packet[24..40].copy_from_slice(&id(2).address().octets());
        let mut buf = vec![0; HEADROOM];
        buf.extend(&packet);
        let range = HEADROOM..buf.len();
        buf.resize(range.end + TAILROOM, 0);
        let now = self.now();
        let whole = self.a.packet(now, &mut buf, range).ok()?.map(|out| Sent { buf, out });
        let pieces: Vec<Sent> = std::iter::from_fn(|| self.a.piece()).collect();
        let first = whole.or_else(|| pieces.into_iter().next())?;
        first.buf.get(first.out.message)?.first_chunk().copied()
    }

    fn state(&self) -> Option<RouteState> {
        self.a.routes().into_iter().find(|r| r.peer == id(2)).map(|r| r.state)
    }
}

/// Runs a sequence of errors.
pub fn errors(data: &[u8]) {
    let Some(mut world) = World::new() else { unreachable!("two handshakes are made") };
    assert!(world.sent().is_some(), "the target cannot play its part");
    let mut input = Unstructured::new(data);
    for _ in 0..STEPS {
        if input.is_empty() || step(&mut world, &mut input).is_err() {
            break;
        }
    }
}

fn step(w: &mut World, u: &mut Unstructured<'_>) -> Result<()> {
    let Some(inner) = w.sent() else { return Ok(()) };
    let mut label = [0; 32];
    label[..3].copy_from_slice(&[0, 1, THERE]);
    let kind = *u.choose(&ErrorKind::ALL)?;
    let mtu = u.arbitrary()?;
    let header = Header::new(MessageType::Control, 80);
    let (kind_byte, reason) = (control::ERROR, kind as u8);
    let control = Control { header, kind: kind_byte, reason, mtu: U16::new(mtu), nonce: U64::ZERO };
    let mut error = ErrorMessage { control, label, inner };
    let mut from = (w.slot, Hops::new());
    for _ in 0..u.int_in_range(0..=3)? {
        let at = u.int_in_range(0..=63)?;
        let change = u.arbitrary::<u8>()?;
        match at {
            0..32 => error.label[at] ^= change,
            _ => error.inner[at - 32] ^= change,
        }
    }
    error.control.nonce = U64::new(error_check(&error.label, &error.inner));
    if u.ratio(1, 4)? {
        from = (u.int_in_range(0..=3)?, (0..u.int_in_range(0..=2)?).map(|_| THERE).collect());
    }
    let late = u.int_in_range(0..=20 * SECOND)?;
    let mut bytes = error.as_bytes().to_vec();
    if u.ratio(1, 4)? {
        let at = u.int_in_range(4..=79)?;
        bytes[at] ^= u.arbitrary::<u8>()?;
    }
    w.now_ns += late;
    let now = w.now();
    let before = (w.state(), w.a.path_mtu(id(2)));
    let origin = Origin::Routed { slot: from.0, hops: from.1.clone() };
    let believed = w.a.message(now, &origin, &mut bytes.clone()).is_ok();
    let counts = w.a.error_counts();
    assert!(counts.received.iter().zip(counts.disbelieved).all(|(all, not)| *all >= not));
    if believed {
        // Type, length, index, counter and codec of the message, version, payload length and source of the packet.
        let tells = |at: &usize| ![1, 21, 22, 23, 26, 27].contains(at) && *at != 20;
        assert!((0..QUOTE).filter(tells).all(|at| bytes[48 + at] == inner[at]), "a quote of what was not sent");
        assert_eq!((bytes[48 + 20] ^ inner[20]) >> 4, 0, "the version");
        let ended = bytes[5] == ErrorKind::NoSession as u8;
        let hops = if ended { vec![THERE] } else { vec![] };
        assert_eq!(from, (w.slot, Hops::from_iter(hops)), "from elsewhere");
        assert!(late <= 10 * SECOND, "too late");
        if bytes[5] == ErrorKind::TooBig as u8 {
            let mtu = u16::from_le_bytes([bytes[6], bytes[7]]);
            assert!((LEAST_FIT..(40 + PAYLOAD + 36) as u16).contains(&mtu), "a size that cannot be");
        }
    } else {
        assert_eq!((w.state(), w.a.path_mtu(id(2))), before, "what is not believed changes nothing");
    }
    w.settle();
    w.a.timeout(now);
    w.settle();
    Ok(())
}
