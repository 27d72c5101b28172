//! What the agent remembers over a restart: handshake timestamps, in a file of the state directory.
//!
//! The core refuses hellos that are not newer than the last of their sender, and its own must be newer than the last it
//! sent, even when the machine woke up in 1970. What was sent is written ahead of time, so that a crash or a power cut
//! between a hello and the next write does no harm; what was accepted may lack the last seconds, and a hello replayed from
//! those makes an unconfirmed session and replaces nothing.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::clock;
use super::engine::Shared;
use super::remembered::Remembered;
use crate::core::{Node, STAMPS, Stamp, tai64n};
use crate::identity::PeerId;

/// How often the file is written, at most.
const EVERY: Duration = Duration::from_secs(5);
/// How far ahead of the clock the last timestamp sent is written, and when it is moved on.
const AHEAD: Duration = Duration::from_secs(3600);
const MOVE_ON: Duration = Duration::from_secs(1800);

/// More than [`STAMPS`] lines of a PeerID and a timestamp.
const MAX_BYTES: u64 = 128 * (STAMPS as u64 + 8);

/// Where the file is, and what of the core's memory stands in it.
pub(super) struct Memory {
    path: PathBuf,
    version: u64,
    sent: Stamp,
}

impl Memory {
    /// Gives a node its memory back. A file that cannot be read is said and costs no more than what it held.
    pub(super) fn open(state: &Path, node: &mut Node) -> Self {
        let path = state.join("timestamps");
        match read(&path, node.id()) {
            Ok(None) => {}
            Ok(Some(before)) => {
                node.restore_last_stamp(before.sent);
                for (peer, stamp) in before.peers {
                    node.restore_stamp(peer, stamp);
                }
            }
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "what a former agent remembered of handshakes is lost");
            }
        }
        Self { path, version: node.stamps_version(), sent: Stamp::default() }
    }

    /// The text to write now, if any. `last`: nothing is sent after this.
    fn due(&mut self, node: &Node, wall: Duration, last: bool) -> Option<String> {
        let unchanged = node.stamps_version() == self.version;
        let sent = node.last_stamp();
        if last {
            self.sent = sent;
        } else if self.sent < sent.max(tai64n(wall + MOVE_ON)) {
            self.sent = sent.max(tai64n(wall + AHEAD));
        } else if unchanged {
            return None;
        }
        self.version = node.stamps_version();
        let now = Remembered { sent: self.sent, peers: node.stamps().collect() };
        Some(now.text(node.id()))
    }
}

/// Writes for as long as the agent runs.
pub(super) async fn keep(engine: Shared) {
    let mut complained = false;
    loop {
        let due = {
            let mut e = engine.borrow_mut();
            let e = &mut *e;
            e.memory.as_mut().and_then(|m| Some((m.due(&e.node, clock::now().wall, false)?, m.path.clone())))
        };
        if let Some((text, path)) = due {
            // The disk may be slow; packets do not wait for it.
            let written = tokio::task::spawn_blocking(move || write(&path, &text).map_err(|e| (path, e))).await;
            if let Ok(Err((path, error))) = written
                && !std::mem::replace(&mut complained, true)
            {
                tracing::warn!(path = %path.display(), %error, "cannot remember handshakes over a restart");
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Writes for the last time.
pub(super) fn finish(engine: &Shared) {
    let mut e = engine.borrow_mut();
    let e = &mut *e;
    let Some(memory) = &mut e.memory else { return };
    if let Some(text) = memory.due(&e.node, clock::now().wall, true)
        && let Err(error) = write(&memory.path, &text)
    {
        tracing::debug!(path = %memory.path.display(), %error, "cannot remember handshakes over a restart");
    }
}

fn read(path: &Path, node: PeerId) -> io::Result<Option<Remembered>> {
    let file = match File::open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let mut text = String::new();
    file.take(MAX_BYTES + 1).read_to_string(&mut text)?;
    if text.len() as u64 > MAX_BYTES {
        return Err(io::Error::other("larger than it can be"));
    }
    let read = Remembered::parse(&text, node).map(Some);
    read.ok_or_else(|| io::Error::other("not in the form this version writes, or of another node"))
}

/// Replaces the file as a whole: a crash leaves the old one or the new one.
pub(super) fn write(path: &Path, text: &str) -> io::Result<()> {
    let new = path.with_extension("new");
    let written = replace(path, &new, text);
    if written.is_err() {
        // What was begun takes room on a disk that has none.
        let _ = std::fs::remove_file(&new);
    }
    written
}

fn replace(path: &Path, new: &Path, text: &str) -> io::Result<()> {
    if let Some(dir) = path.parent().filter(|d| !d.exists()) {
        DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    }
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::super::remembered::FIRST_LINE;
    use super::*;
    use crate::core::{Budget, NodeConfig, Psk};
    use crate::identity::SecretKey;
    use rovy_common::label::Width;

    fn secret(n: u8) -> SecretKey {
        SecretKey::generate(&mut |out| out.fill(n))
    }

    fn node(n: u8) -> Node {
        let config = NodeConfig {
            secret: secret(n),
            width: Width::One,
            transit: true,
            sessions: 16,
            peers: 16,
            handshakes: 16,
            receive_mtu: None,
            aes: false,
            psk: Psk::default(),
            probes: Budget::default(),
        };
        Node::new(config, [n; 32])
    }

    #[test]
    fn what_was_remembered_comes_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let state = dir.path().join("state");
        let mut before = node(1);
        let mut memory = Memory::open(&state, &mut before);
        before.restore_stamp(secret(2).peer_id(), [7; 12]);
        let text = memory.due(&before, Duration::from_secs(1_000), false).expect("something changed");
        write(&memory.path, &text).expect("written");
        let mut after = node(1);
        Memory::open(&state, &mut after);
        assert_eq!(after.stamps().collect::<Vec<_>>(), [(secret(2).peer_id(), [7; 12])]);
        assert_eq!(after.last_stamp(), tai64n(Duration::from_secs(4_600)), "an hour ahead: nothing sent was later");
        let mut other = node(3);
        Memory::open(&state, &mut other);
        assert_eq!(other.stamps().count(), 0, "another node's memory is not taken");
    }

    #[test]
    fn it_is_written_when_something_changed_and_every_half_hour() {
        let dir = tempfile::tempdir().expect("a directory");
        let mut node = node(1);
        let mut memory = Memory::open(dir.path(), &mut node);
        let mut due = |node: &Node, s| memory.due(node, Duration::from_secs(s), false).is_some();
        assert_eq!(
            [due(&node, 0), due(&node, 5), due(&node, 1800), due(&node, 1801), due(&node, 1802)],
            [true, false, false, true, false]
        );
        node.restore_stamp(secret(2).peer_id(), [7; 12]);
        assert_eq!([due(&node, 1803), due(&node, 1804)], [true, false]);
        node.restore_last_stamp([0x41; 12]);
        assert_eq!([due(&node, 1805), due(&node, 1806)], [true, false], "the clock was set back");
    }

    #[test]
    fn a_damaged_file_is_no_obstacle() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("timestamps");
        let good = format!("{FIRST_LINE}\nnode {}\nsent {}\n", secret(1).peer_id(), "40".repeat(12));
        assert!(Remembered::parse(&good, secret(1).peer_id()).is_some());
        for text in ["", "x", FIRST_LINE, &good[..good.len() - 3], &format!("{good}peer x y\n"), &"a\n".repeat(300_000)]
        {
            std::fs::write(&path, text).expect("written");
            assert!(read(&path, secret(1).peer_id()).is_err(), "{}", &text[..text.len().min(80)]);
            Memory::open(dir.path(), &mut node(1));
        }
    }
}
