//! The payloads of the two handshake messages: TLVs of fixed total length, zero-padded.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use rovy_common::wire::{HELLO_PAYLOAD, RESPONSE_PAYLOAD, feature, tlv};

use super::aead::Suite;
use super::time::TAI64N_LEN;

/// What message 1 carries beside the timestamp.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Offer {
    pub(super) receive_mtu: Option<u16>,
    /// Suites the sender has, as bytes; unknown ones are kept out.
    pub(super) aes: bool,
    /// The sender wants the link sealed.
    pub(super) sealed: bool,
}

/// What message 2 carries.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Choice {
    pub(super) suite: Suite,
    pub(super) receive_mtu: Option<u16>,
    /// The endpoint the responder saw the hello come from.
    pub(super) observed: Option<SocketAddr>,
    /// The link is sealed.
    pub(super) sealed: bool,
}

struct Writer<'a> {
    out: &'a mut [u8],
    at: usize,
}

impl Writer<'_> {
    /// Appends a TLV; what does not fit is left out (the fixed sizes leave room for all that exist).
    fn put(&mut self, kind: u8, value: &[u8]) {
        let end = self.at + 2 + value.len();
        let Some(room) = self.out.get_mut(self.at..end) else { return };
        room[0] = kind;
        room[1] = value.len() as u8;
        room[2..].copy_from_slice(value);
        self.at = end;
    }

    /// Appends the feature bits, when there are any.
    fn put_features(&mut self, sealed: bool) {
        if sealed {
            self.put(tlv::FEATURES, &feature::SEALED.to_le_bytes());
        }
    }
}

/// Whether feature bits ask for a sealed link.
fn sealed(features: [u8; 4]) -> bool {
    u32::from_le_bytes(features) & feature::SEALED != 0
}

/// The TLVs of `bytes`, up to the padding or the first that overruns.
fn tlvs(bytes: &[u8]) -> impl Iterator<Item = (u8, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (&[kind, len], after) = rest.split_first_chunk::<2>()?;
        if kind == tlv::END {
            return None;
        }
        let value = after.get(..usize::from(len))?;
        rest = &after[usize::from(len)..];
        Some((kind, value))
    })
}

pub(super) fn hello(timestamp: &[u8; TAI64N_LEN], offer: &Offer) -> [u8; HELLO_PAYLOAD] {
    let mut out = [0; HELLO_PAYLOAD];
    out[..TAI64N_LEN].copy_from_slice(timestamp);
    let mut w = Writer { out: &mut out, at: TAI64N_LEN };
    if let Some(mtu) = offer.receive_mtu {
        w.put(tlv::RECEIVE_MTU, &mtu.to_le_bytes());
    }
    let suites = [Suite::ChaCha20Poly1305 as u8, Suite::Aes256Gcm as u8];
    w.put(tlv::AEAD, &suites[..if offer.aes { 2 } else { 1 }]);
    w.put_features(offer.sealed);
    out
}

pub(super) fn read_hello(payload: &[u8; HELLO_PAYLOAD]) -> ([u8; TAI64N_LEN], Offer) {
    let mut timestamp = [0; TAI64N_LEN];
    timestamp.copy_from_slice(&payload[..TAI64N_LEN]);
    let mut offer = Offer::default();
    for (kind, value) in tlvs(&payload[TAI64N_LEN..]) {
        match (kind, value) {
            (tlv::RECEIVE_MTU, &[a, b]) => offer.receive_mtu = Some(u16::from_le_bytes([a, b])),
            (tlv::FEATURES, &[a, b, c, d]) => offer.sealed = sealed([a, b, c, d]),
            (tlv::AEAD, suites) => offer.aes = suites.contains(&(Suite::Aes256Gcm as u8)),
            _ => {}
        }
    }
    (timestamp, offer)
}

pub(super) fn response(choice: &Choice) -> [u8; RESPONSE_PAYLOAD] {
    let mut out = [0; RESPONSE_PAYLOAD];
    let mut w = Writer { out: &mut out, at: 0 };
    w.put(tlv::AEAD, &[choice.suite as u8]);
    w.put_features(choice.sealed);
    if let Some(mtu) = choice.receive_mtu {
        w.put(tlv::RECEIVE_MTU, &mtu.to_le_bytes());
    }
    if let Some(seen) = choice.observed {
        let ip = match seen.ip() {
            IpAddr::V4(a) => a.to_ipv6_mapped(),
            IpAddr::V6(a) => a,
        };
        let mut value = [0; 18];
        value[..16].copy_from_slice(&ip.octets());
        value[16..].copy_from_slice(&seen.port().to_le_bytes());
        w.put(tlv::OBSERVED, &value);
    }
    out
}

/// `None` when no known suite is chosen.
pub(super) fn read_response(payload: &[u8; RESPONSE_PAYLOAD]) -> Option<Choice> {
    let (mut suite, mut receive_mtu, mut observed, mut is_sealed) = (None, None, None, false);
    for (kind, value) in tlvs(payload) {
        match (kind, value) {
            (tlv::FEATURES, &[a, b, c, d]) => is_sealed = sealed([a, b, c, d]),
            (tlv::AEAD, &[byte]) => suite = Suite::from_byte(byte),
            (tlv::RECEIVE_MTU, &[a, b]) => receive_mtu = Some(u16::from_le_bytes([a, b])),
            (tlv::OBSERVED, value) => {
                if let Some((ip, &[a, b])) = value.split_first_chunk::<16>() {
                    let ip = Ipv6Addr::from(*ip).to_canonical();
                    observed = Some(SocketAddr::new(ip, u16::from_le_bytes([a, b])));
                }
            }
            _ => {}
        }
    }
    Some(Choice { suite: suite?, receive_mtu, observed, sealed: is_sealed })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn both_ways() {
        for sealed in [false, true] {
            let offer = Offer { receive_mtu: Some(1424), aes: true, sealed };
            assert_eq!(read_hello(&hello(&[7; 12], &offer)), ([7; 12], offer));
        }
        for observed in [None, Some("192.0.2.1:1312".parse().unwrap()), Some("[2001:db8::1]:9".parse().unwrap())] {
            let choice =
                Choice { suite: Suite::Aes256Gcm, receive_mtu: Some(9000), observed, sealed: observed.is_some() };
            assert_eq!(read_response(&response(&choice)), Some(choice));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_panic(a in any::<[u8; 32]>(), n in 0usize..152) {
            let mut hello = [0xff; HELLO_PAYLOAD];
            hello[n..n + 32].copy_from_slice(&a);
            let _ = read_hello(&hello);
            let mut response = [0xff; RESPONSE_PAYLOAD];
            response[n % 32..n % 32 + 32].copy_from_slice(&a);
            let _ = read_response(&response);
        }
    }
}
