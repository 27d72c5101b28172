use multibase::Base;

use crate::core::Stamp;
use crate::identity::PeerId;

/// What the file starts with.
pub(super) const FIRST_LINE: &str = "rovy timestamps 1";

/// Handshake timestamps as text: what an agent writes for the next one of the same node.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Remembered {
    /// No timestamp that was sent is later.
    pub sent: Stamp,
    /// The newest accepted of each peer, longest unchanged first.
    pub peers: Vec<(PeerId, Stamp)>,
}

impl Remembered {
    /// Reads the text that `node` wrote; `None` when it is of another form or of another node.
    #[must_use]
    pub fn parse(text: &str, node: PeerId) -> Option<Self> {
        let stamp = |text: &str| Stamp::try_from(Base::Base16Lower.decode(text).ok()?).ok();
        let mut lines = text.lines();
        if lines.next()? != FIRST_LINE || lines.next()?.strip_prefix("node ")? != node.to_string() {
            return None;
        }
        let sent = stamp(lines.next()?.strip_prefix("sent ")?)?;
        let peer = |line: &str| {
            let (peer, at) = line.strip_prefix("peer ")?.split_once(' ')?;
            Some((peer.parse().ok()?, stamp(at)?))
        };
        let peers = lines.map(peer).collect::<Option<_>>()?;
        Some(Self { sent, peers })
    }

    /// The text: a first line that names the form, the node, and a line for each timestamp in hex.
    #[must_use]
    pub fn text(&self, node: PeerId) -> String {
        let hex = |stamp: &Stamp| Base::Base16Lower.encode(stamp);
        let mut text = format!("{FIRST_LINE}\nnode {node}\nsent {}\n", hex(&self.sent));
        for (peer, stamp) in &self.peers {
            text.push_str(&format!("peer {peer} {}\n", hex(stamp)));
        }
        text
    }
}
