//! What stands at the receiver indices.

use super::{Action, Entry, Node};
use crate::core::session::Session;

/// Whether the other side has yet to show that it wants the session and has its keys.
fn half_open(entry: Option<&Entry>) -> bool {
    match entry {
        Some(Entry::Attempt(_)) => true,
        Some(Entry::Session(session)) => !session.confirmed,
        Some(Entry::Link { .. } | Entry::Reserved(_)) | None => false,
    }
}

/// Whether this node gave the index out itself.
fn in_use(entry: Option<&Entry>) -> bool {
    matches!(entry, Some(Entry::Attempt(_) | Entry::Session(_)))
}

impl Node {
    /// Whether a message to this receiver index could be for a session or handshake of this node.
    #[must_use]
    pub fn expects(&self, index: u32) -> bool {
        let entry = self.indices.position(index).and_then(|at| self.entries.get(at)?.as_ref());
        in_use(entry)
    }

    /// All that [`Node::expects`], for a kernel that comes late.
    pub fn expected(&self) -> impl Iterator<Item = u32> {
        let entries = self.entries.iter().enumerate();
        entries.filter(|(_, entry)| in_use(entry.as_ref())).map(|(position, _)| self.indices.at(position))
    }

    /// Changes what stands at an index in use, and tells when messages to it begin and cease to be expected.
    pub(super) fn set_entry(&mut self, index: u32, entry: Option<Entry>) {
        let Some(position) = self.indices.position(index) else { return };
        let Some(at) = self.entries.get_mut(position) else { return };
        let (before, after) = (half_open(at.as_ref()), half_open(entry.as_ref()));
        if entry.is_none() && at.is_some() {
            self.actions.push_back(Action::Forget(index));
        } else if in_use(entry.as_ref()) && !in_use(at.as_ref()) {
            self.actions.push_back(Action::Expect(index));
        }
        *at = entry;
        self.half_open = self.half_open + usize::from(after) - usize::from(before);
    }

    pub(super) fn session(&mut self, index: u32) -> Option<&mut Session> {
        let position = self.indices.position(index)?;
        match self.entries.get_mut(position)? {
            Some(Entry::Session(s)) => Some(s),
            _ => None,
        }
    }

    pub(super) fn session_ref(&self, index: u32) -> Option<&Session> {
        match self.entries.get(self.indices.position(index)?)? {
            Some(Entry::Session(s)) => Some(s),
            _ => None,
        }
    }

    /// The peer has the session's keys. Whether that is new.
    pub(super) fn confirm(&mut self, index: u32) -> bool {
        let Some(session) = self.session(index).filter(|s| !s.confirmed) else { return false };
        session.confirmed = true;
        self.half_open -= 1;
        true
    }

    pub(super) fn release(&mut self, index: u32) {
        self.set_entry(index, None);
        self.indices.release(index);
    }

    /// Ends a session with its links.
    pub(super) fn end_session(&mut self, index: u32) {
        let links = self.session(index).map(|s| s.links.iter().map(|(_, l)| l.index).collect::<Vec<_>>());
        self.joiner.forget(index);
        for index in links.into_iter().flatten().filter(|i| *i != 0).chain([index]) {
            self.release(index);
        }
    }
}
