//! The peer book: every peer ever seen, when last and how it came to be known, in a file of the state directory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::commands::Control;
use super::engine::Engine;
use super::{clock, memory};
use crate::api::PeerSource;
use crate::core;
use crate::identity::PeerId;

/// Peers remembered. Beyond it the one seen longest ago goes; configured ones stay.
pub(super) const MOST: usize = 4096;
/// How often peers are looked at, and written when there is a new one.
const EVERY: Duration = Duration::from_secs(5);
/// How often the file is written when all that changed is when they were seen: flash wears.
const SELDOM: Duration = Duration::from_secs(300);

const FIRST_LINE: &str = "rovy peers 1";
/// More than any book has.
const MAX_BYTES: u64 = 16 << 20;

/// What is remembered of a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Seen {
    /// In seconds since 1970.
    pub(super) last: u64,
    pub(super) source: PeerSource,
}

/// The book, and where it is written.
#[derive(Default)]
pub(super) struct Book {
    /// `None` when nothing is to outlive the agent, or a file that cannot be read is in the way.
    file: Option<(PathBuf, PeerId)>,
    seen: BTreeMap<PeerId, Seen>,
    /// Somebody came, went, or is known otherwise now.
    changed: bool,
    /// Somebody was seen again.
    drifted: bool,
    written: Option<Instant>,
}

impl Book {
    /// Reads it. One that cannot be read is left as it is, and nothing is written over it.
    pub(super) fn open(state: &Path, node: PeerId) -> Self {
        let path = state.join("peers");
        match read(&path, node) {
            Ok(seen) => Self { file: Some((path, node)), seen, ..Self::default() },
            Err(error) => {
                let path = path.display();
                tracing::warn!(%path, %error, "the peer book stays as it is and no peers are remembered: mend or remove it, and start again");
                Self::default()
            }
        }
    }

    pub(super) fn get(&self, id: &PeerId) -> Option<Seen> {
        self.seen.get(id).copied()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (PeerId, Seen)> {
        self.seen.iter().map(|(id, seen)| (*id, *seen))
    }

    /// A peer was seen. `stays`: those that never make room for others.
    pub(super) fn note(&mut self, id: PeerId, now: Seen, stays: &[PeerId]) {
        if let Some(seen) = self.seen.get_mut(&id) {
            // Who connects by itself may have been found before; only the operator's word is more than that.
            let source = if now.source == PeerSource::Configured { now.source } else { seen.source };
            self.changed |= seen.source != source;
            self.drifted |= seen.last != now.last;
            *seen = Seen { last: now.last, source };
            return;
        }
        if self.seen.len() >= MOST {
            let gone = self.seen.iter().filter(|(id, _)| !stays.contains(id)).min_by_key(|(_, s)| s.last);
            if let Some(gone) = gone.map(|(id, _)| *id) {
                self.seen.remove(&gone);
            } else if !stays.contains(&id) {
                return;
            }
        }
        self.changed = true;
        self.seen.insert(id, now);
    }

    /// The text to write now and where, if any.
    fn due(&mut self, last: bool) -> Option<(PathBuf, String)> {
        let (path, node) = self.file.as_ref()?;
        let rested = self.written.is_none_or(|at| at.elapsed() >= SELDOM);
        if !(self.changed || (self.drifted && (rested || last))) {
            return None;
        }
        let mut text = format!("{FIRST_LINE}\nnode {node}\n");
        for (peer, seen) in &self.seen {
            text.push_str(&format!("peer {peer} {} {}\n", seen.last, name(seen.source)));
        }
        (self.changed, self.drifted, self.written) = (false, false, Some(Instant::now()));
        Some((path.clone(), text))
    }
}

const SOURCES: [(PeerSource, &str); 4] = [
    (PeerSource::Configured, "configured"),
    (PeerSource::Discovered, "discovered"),
    (PeerSource::Probed, "probed"),
    (PeerSource::Incoming, "incoming"),
];

fn name(source: PeerSource) -> &'static str {
    SOURCES.iter().find(|(s, _)| *s == source).map_or("incoming", |(_, name)| name)
}

/// When something authentic last came from a peer, in seconds since 1970.
pub(super) fn seen_at(peer: &core::PeerView) -> Option<u64> {
    let now = clock::now();
    let ago = Duration::from_nanos(now.mono_ns.saturating_sub(peer.received_ns?));
    Some(now.wall.saturating_sub(ago).as_secs())
}

/// How the core came to know a peer.
pub(super) fn source(peer: &core::PeerView) -> PeerSource {
    match peer.source {
        core::PeerSource::Configured => PeerSource::Configured,
        core::PeerSource::Discovered => PeerSource::Discovered,
        core::PeerSource::Probed => PeerSource::Probed,
        core::PeerSource::Incoming => PeerSource::Incoming,
    }
}

impl Control {
    /// Notes who is seen now.
    pub(super) fn note_peers(&self, e: &mut Engine) {
        let configured = self.configured.borrow();
        let (node, book) = (&e.node, &mut e.book);
        for peer in node.peers() {
            let Some(last) = seen_at(&peer) else { continue };
            let source = if configured.contains(&peer.id) { PeerSource::Configured } else { source(&peer) };
            book.note(peer.id, Seen { last, source }, &configured);
        }
    }
}

/// Writes for as long as the agent runs.
pub(super) async fn keep(control: Rc<Control>) {
    let mut complained = false;
    loop {
        let due = {
            let mut e = control.engine.borrow_mut();
            control.note_peers(&mut e);
            e.book.due(false)
        };
        if let Some((path, text)) = due {
            // The disk may be slow; packets do not wait for it.
            let written = tokio::task::spawn_blocking(move || memory::write(&path, &text).map_err(|e| (path, e))).await;
            if let Ok(Err((path, error))) = written {
                control.engine.borrow_mut().book.drifted = true;
                if !std::mem::replace(&mut complained, true) {
                    tracing::warn!(path = %path.display(), %error, "cannot write the peer book: the one before stays; make room, it is tried again");
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Writes for the last time.
pub(super) fn finish(control: &Control) {
    let mut e = control.engine.borrow_mut();
    control.note_peers(&mut e);
    if let Some((path, text)) = e.book.due(true)
        && let Err(error) = memory::write(&path, &text)
    {
        tracing::warn!(path = %path.display(), %error, "cannot write the peer book: the one before stays");
    }
}

fn read(path: &Path, node: PeerId) -> io::Result<BTreeMap<PeerId, Seen>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        other => other?,
    };
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than it can be"));
    }
    parse(&text, node).ok_or_else(|| io::Error::other("not in the form this version writes, or of another node"))
}

fn parse(text: &str, node: PeerId) -> Option<BTreeMap<PeerId, Seen>> {
    let mut lines = text.lines();
    if lines.next()? != FIRST_LINE || lines.next()?.strip_prefix("node ")? != node.to_string() {
        return None;
    }
    let peer = |line: &str| {
        let mut words = line.strip_prefix("peer ")?.split(' ');
        let (id, last, kind) = (words.next()?, words.next()?, words.next()?);
        let (source, _) = SOURCES.iter().find(|(_, name)| *name == kind)?;
        Some((id.parse().ok()?, Seen { last: last.parse().ok()?, source: *source }))
    };
    lines.map(peer).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::peer_ids;

    fn seen(last: u64, source: PeerSource) -> Seen {
        Seen { last, source }
    }

    fn book(dir: &Path, node: PeerId) -> Book {
        Book::open(dir, node)
    }

    #[test]
    fn what_was_seen_survives_and_belongs_to_one_node() {
        let dir = tempfile::tempdir().expect("a directory");
        let ids = peer_ids(6);
        let mut before = book(dir.path(), ids[0]);
        for (n, (source, _)) in SOURCES.iter().enumerate() {
            before.note(ids[n + 1], seen(n as u64 + 10, *source), &[]);
        }
        let (path, text) = before.due(false).expect("somebody new");
        memory::write(&path, &text).expect("written");
        assert_eq!(before.due(true), None, "nothing changed since");
        assert!(book(dir.path(), ids[0]).iter().eq(before.iter()));
        assert_eq!(book(dir.path(), ids[5]).iter().count(), 0, "another node's");
    }

    #[test]
    fn the_longest_unseen_makes_room_and_configured_ones_stay() {
        let ids = peer_ids(MOST + 2);
        let mut all = Book::default();
        for (n, id) in ids[..MOST].iter().enumerate() {
            all.note(*id, seen(n as u64, PeerSource::Incoming), &ids[..1]);
        }
        all.note(ids[MOST], seen(9_999, PeerSource::Discovered), &ids[..1]);
        assert_eq!(all.seen.len(), MOST);
        assert!(all.get(&ids[0]).is_some() && all.get(&ids[1]).is_none(), "the oldest but the configured one");
        all.note(ids[MOST + 1], seen(0, PeerSource::Incoming), &ids);
        assert_eq!(all.seen.len(), MOST + 1, "the operator's come on top");
    }

    #[test]
    fn only_the_operators_word_changes_how_a_peer_came_to_be_known() {
        let id = peer_ids(1)[0];
        let mut b = Book::default();
        b.note(id, seen(1, PeerSource::Discovered), &[]);
        b.note(id, seen(2, PeerSource::Incoming), &[]);
        assert_eq!(b.get(&id), Some(seen(2, PeerSource::Discovered)));
        b.note(id, seen(1, PeerSource::Configured), &[]);
        assert_eq!(b.get(&id), Some(seen(1, PeerSource::Configured)), "also when the clock was set back");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_written_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let ids = peer_ids(2);
        let path = dir.path().join("peers");
        let good = format!("{FIRST_LINE}\nnode {}\n", ids[0]);
        assert!(parse(&good, ids[0]).is_some());
        for text in
            ["", "x", FIRST_LINE, &format!("{good}peer x 1 incoming\n"), &format!("{good}peer {} 1 y\n", ids[1])]
        {
            std::fs::write(&path, text).expect("written");
            let mut b = book(dir.path(), ids[0]);
            b.note(ids[1], seen(1, PeerSource::Incoming), &[]);
            assert_eq!(b.due(true), None, "{text}");
            assert_eq!(std::fs::read_to_string(&path).expect("still there"), text);
        }
    }

    #[test]
    fn a_write_that_fails_leaves_the_old_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("peers");
        memory::write(&path, "old").expect("written");
        // What is written first cannot be made: a directory is in its place.
        std::fs::create_dir(path.with_extension("new")).expect("made");
        assert!(memory::write(&path, "new").is_err());
        assert_eq!(std::fs::read_to_string(&path).expect("still there"), "old");
    }
}
