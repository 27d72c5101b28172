//! Cookies that responders under load ask for, on the initiator's side.

use rovy_common::DropReason;
use rovy_common::hello::{self, REPLY, Sealed};
use rovy_common::siphash::Key;

use super::action::{Origin, Path};
use super::time::SECOND;
use crate::transport::Endpoint;

/// How long a cookie is used: the responder makes them by one secret for as long, and accepts them at least so long.
const LIFE_NS: u64 = 120 * SECOND;
/// Cookies kept of a peer: one for each path that hellos are sent over.
const PATHS: usize = 8;
/// Cookie replies that one hello is sent again for. More come only from who plays with this node.
const REPLIES: u8 = 4;

/// The cookies of a peer, each for the path it came by: it binds this node's address as it is seen there.
#[derive(Default)]
pub(super) struct Cookies {
    kept: Vec<(Path, Key, u64)>,
}

impl Cookies {
    /// Puts mac2 onto a hello that is to be sent over a path, when there is a cookie for it.
    pub(super) fn sign(&self, now_ns: u64, path: &Path, message: &mut [u8]) {
        let fresh = |at: u64| now_ns.saturating_sub(at) < LIFE_NS;
        let known = self.kept.iter().find(|(p, _, at)| p == path && fresh(*at));
        let (Some((_, cookie, _)), Some(sealed)) = (known, Sealed::read(message)) else { return };
        let [a, b] = hello::mac(cookie, &sealed.covered).map(u64::to_le_bytes);
        let at = message.len().saturating_sub(16);
        if let Some(mac2) = message.get_mut(at..) {
            mac2[..8].copy_from_slice(&a);
            mac2[8..].copy_from_slice(&b);
        }
    }

    fn keep(&mut self, now_ns: u64, path: &Path, cookie: Key) {
        self.kept.retain(|(p, ..)| p != path);
        if self.kept.len() >= PATHS {
            self.kept.remove(0);
        }
        self.kept.push((path.clone(), cookie, now_ns));
    }
}

/// A hello under way, as far as a cookie reply may answer it.
pub(super) struct Asked {
    message: Vec<u8>,
    paths: Vec<Path>,
    replies: u8,
}

impl Asked {
    /// A hello, without mac2, and the paths it was sent over.
    pub(super) const fn new(message: Vec<u8>, paths: Vec<Path>) -> Self {
        Self { message, paths, replies: 0 }
    }

    /// Whether the hello starts so.
    pub(super) fn begins(&self, start: &[u8]) -> bool {
        self.message.starts_with(start)
    }

    /// The hello, without mac2, to be sent over a path where the peer is.
    pub(super) fn again(&mut self, path: &Path) -> Vec<u8> {
        self.also(path).unwrap_or_else(|| self.message.clone())
    }

    /// The hello, without mac2, to be sent over one more path; `None` when it went over enough of them, or over this one.
    pub(super) fn also(&mut self, path: &Path) -> Option<Vec<u8>> {
        if self.paths.len() >= 2 * PATHS || self.paths.contains(path) {
            return None;
        }
        self.paths.push(path.clone());
        Some(self.message.clone())
    }

    /// Takes a cookie reply: the path to send the hello over again, at once, and the hello. It goes where it went before, not to
    /// where the reply came from.
    ///
    /// # Errors
    /// `BadTag` when it was not made by who saw the hello, `NotAllowed` when the hello did not go there, `Limit` when there were
    /// enough of them.
    pub(super) fn reply(
        &mut self,
        now_ns: u64,
        origin: &Origin,
        reply: &[u8],
        cookies: &mut Cookies,
    ) -> Result<(Path, Vec<u8>), DropReason> {
        let mut words = [0; REPLY];
        for (word, chunk) in words.iter_mut().zip(reply.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().map_err(|_| DropReason::BadLength)?);
        }
        let sealed = Sealed::read(&self.message).ok_or(DropReason::BadLength)?;
        let cookie = hello::open(&sealed.mac1, &words).ok_or(DropReason::BadTag)?;
        let path = self.paths.iter().find(|p| leads_to(p, origin)).ok_or(DropReason::NotAllowed)?;
        if self.replies >= REPLIES {
            return Err(DropReason::Limit);
        }
        self.replies += 1;
        cookies.keep(now_ns, path, cookie);
        let mut message = self.message.clone();
        cookies.sign(now_ns, path, &mut message);
        Ok((path.clone(), message))
    }
}

/// Whether what was sent over a path can be answered from there. Out of transit no cookie comes: it would bind nothing.
fn leads_to(path: &Path, origin: &Origin) -> bool {
    match (path, origin) {
        (Path::Direct(Endpoint::Udp { remote: a, .. }), Origin::Direct(Endpoint::Udp { remote: b, .. })) => a == b,
        (
            Path::Direct(Endpoint::Ethernet { ifindex, mac }),
            Origin::Direct(Endpoint::Ethernet { ifindex: i, mac: m }),
        ) => ifindex == i && (mac == m || mac[0] & 1 != 0),
        _ => false,
    }
}
