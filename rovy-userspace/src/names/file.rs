use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::net::Ipv6Addr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Petname;
use crate::identity::PeerId;

/// Names that are used at most.
pub const MOST: usize = 4096;
/// More than any file of names has.
const MAX_BYTES: u64 = 1 << 20;

/// Why the names could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NamesError {
    /// The file exists and cannot be read.
    #[error("{path}: cannot read the names: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Whoever writes it decides where this host's connections go.
    #[error("{0}: everybody may write it, so no name of it is used; `chmod go-w {0}`, and see who changed it")]
    Exposed(PathBuf),
    /// The name belongs to another peer.
    #[error("{name} is the name of {peer} already")]
    Taken {
        /// The name.
        name: Petname,
        /// Whose it is.
        peer: PeerId,
    },
    /// There are [`MOST`] names.
    #[error("there are {MOST} names, and no room for more")]
    Full,
}

/// A line that is not used.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Warning {
    /// Its number, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub why: String,
}

/// The names of a file, with its text: a change keeps comments, and lines that are not used.
///
/// A line is a name and a PeerID, with white space between them. What follows a `#` is a comment.
#[derive(Clone, Default, Debug)]
pub struct Names {
    text: String,
    names: BTreeMap<Petname, PeerId>,
    by_address: BTreeMap<Ipv6Addr, Vec<Petname>>,
    warnings: Vec<Warning>,
}

fn line(text: &str) -> Result<Option<(Petname, PeerId)>, String> {
    let mut words = text.split('#').next().unwrap_or_default().split_whitespace();
    let Some(name) = words.next() else { return Ok(None) };
    let name: Petname = name.parse().map_err(|e: super::PetnameError| e.to_string())?;
    let id = words.next().ok_or_else(|| format!("{name}: the PeerID behind the name is missing"))?;
    let id = id.parse().map_err(|e: crate::identity::IdentityError| format!("{name}: {e}"))?;
    match words.next() {
        None => Ok(Some((name, id))),
        Some(_) => Err(format!("{name}: only a PeerID and a comment may follow the name")),
    }
}

/// Whether a line says which peer a name means.
fn is_of(text: &str, name: &Petname) -> bool {
    line(text).is_ok_and(|found| found.is_some_and(|(n, _)| n == *name))
}

impl Names {
    /// Reads the text of a file. Lines that are wrong are left out, with a warning each.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut all = Self { text: text.to_owned(), ..Self::default() };
        for (number, content) in text.lines().enumerate() {
            if let Err(why) = line(content).and_then(|found| found.map_or(Ok(()), |(name, id)| all.insert(name, id))) {
                all.warnings.push(Warning { line: number + 1, why });
            }
        }
        all
    }

    /// Reads a file; one that is not there has no names.
    ///
    /// # Errors
    /// [`NamesError::Read`], [`NamesError::Exposed`].
    pub fn load(path: &Path) -> Result<Self, NamesError> {
        let failed = |source| NamesError::Read { path: path.into(), source };
        let file = match File::open(path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Self::default()),
            other => other.map_err(failed)?,
        };
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            return Err(failed(io::Error::other("not a regular file")));
        }
        if meta.permissions().mode() & 0o002 != 0 {
            return Err(NamesError::Exposed(path.into()));
        }
        let mut bytes = Vec::new();
        file.take(MAX_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(failed(io::Error::other("larger than 1 MiB")));
        }
        Ok(Self::parse(&String::from_utf8_lossy(&bytes)))
    }

    fn insert(&mut self, name: Petname, id: PeerId) -> Result<(), String> {
        if let Some(first) = self.names.get(&name) {
            return if *first == id { Ok(()) } else { Err(format!("{name} stands in a line above for another peer")) };
        }
        if self.names.len() >= MOST {
            return Err(format!("{name}: more than {MOST} names"));
        }
        self.by_address.entry(id.address()).or_default().push(name.clone());
        self.names.insert(name, id);
        Ok(())
    }

    /// Whom a label names, in any case.
    #[must_use]
    pub fn get(&self, label: &str) -> Option<PeerId> {
        self.names.get(label.to_ascii_lowercase().as_str()).copied()
    }

    /// The names of the node with an address, in the order of the file.
    #[must_use]
    pub fn of(&self, address: Ipv6Addr) -> &[Petname] {
        self.by_address.get(&address).map_or(&[], Vec::as_slice)
    }

    /// All names, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (&Petname, PeerId)> {
        self.names.iter().map(|(name, id)| (name, *id))
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The lines that are not used.
    #[must_use]
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The text, as it stands in the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// With one name more, or as it is when the name stands there for this peer.
    ///
    /// # Errors
    /// [`NamesError::Taken`], [`NamesError::Full`].
    pub fn with(&self, name: &Petname, id: PeerId) -> Result<Self, NamesError> {
        match self.names.get(name) {
            Some(peer) if *peer == id => return Ok(self.clone()),
            Some(peer) => return Err(NamesError::Taken { name: name.clone(), peer: *peer }),
            None if self.names.len() >= MOST => return Err(NamesError::Full),
            None => {}
        }
        let end = if self.text.is_empty() || self.text.ends_with('\n') { "" } else { "\n" };
        let text = format!("{}{end}{name} {id}\n", self.text);
        if text.len() as u64 > MAX_BYTES {
            return Err(NamesError::Full);
        }
        Ok(Self::parse(&text))
    }

    /// Without a name; `None` when it is not there.
    #[must_use]
    pub fn without(&self, name: &Petname) -> Option<Self> {
        self.names.get(name)?;
        let text: String = self.text.split_inclusive('\n').filter(|l| !is_of(l, name)).collect();
        Some(Self::parse(&text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::peer_ids;

    fn name(text: &str) -> Petname {
        text.parse().expect("a name")
    }

    #[test]
    fn a_wrong_line_is_named_and_the_rest_is_used() {
        let ids = peer_ids(2);
        let text = format!(
            "# friends\nAlice {}  # from work\n\nbücher {}\nbob\ncarol {} x\nalice {}\n\tdave\t{}\neve bafzqai\r\n",
            ids[0], ids[0], ids[0], ids[1], ids[1]
        );
        let all = Names::parse(&text);
        assert_eq!(
            all.iter().map(|(n, id)| (n.as_str(), id)).collect::<Vec<_>>(),
            [("alice", ids[0]), ("dave", ids[1])]
        );
        assert_eq!(all.warnings().iter().map(|w| w.line).collect::<Vec<_>>(), [4, 5, 6, 7, 9], "{:?}", all.warnings());
        assert_eq!(all.get("ALICE"), Some(ids[0]));
        assert_eq!(all.of(ids[1].address()), [name("dave")]);
    }

    #[test]
    fn a_change_keeps_comments_and_what_is_wrong() {
        let ids = peer_ids(2);
        let before = Names::parse(&format!("# mine\nalice {}\nbroken line here", ids[0]));
        let more = before.with(&name("bob"), ids[1]).expect("room");
        assert_eq!(more.text(), format!("# mine\nalice {}\nbroken line here\nbob {}\n", ids[0], ids[1]));
        assert_eq!(more.with(&name("bob"), ids[1]).expect("the same").text(), more.text());
        assert!(matches!(more.with(&name("bob"), ids[0]), Err(NamesError::Taken { peer, .. }) if peer == ids[1]));
        let less = more.without(&name("alice")).expect("there");
        assert_eq!(less.text(), format!("# mine\nbroken line here\nbob {}\n", ids[1]));
        assert!(less.without(&name("alice")).is_none());
    }

    #[test]
    fn a_peer_has_several_names_and_the_first_goes_first() {
        let id = peer_ids(1)[0];
        let all = Names::parse(&format!("zoe {id}\nalice {id}\nalice {id}\n"));
        assert_eq!(all.of(id.address()), [name("zoe"), name("alice")]);
        assert!(all.warnings().is_empty(), "{:?}", all.warnings());
        assert!(all.without(&name("alice")).is_some_and(|n| n.len() == 1));
    }

    #[test]
    fn names_are_bounded() {
        let id = peer_ids(1)[0];
        let text: String = (0..=MOST).map(|n| format!("n{n} {id}\n")).collect();
        let all = Names::parse(&text);
        assert_eq!((all.len(), all.warnings().len()), (MOST, 1));
        assert!(matches!(all.with(&name("more"), id), Err(NamesError::Full)));
    }

    #[test]
    fn files_that_are_no_file_of_the_operators_are_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("names");
        assert!(Names::load(&path).expect("a missing file has no names").is_empty());
        assert!(matches!(Names::load(dir.path()), Err(NamesError::Read { .. })));
        std::fs::write(&path, b"\xff\xfe\n").expect("written");
        assert_eq!(Names::load(&path).expect("readable").warnings().len(), 1);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).expect("set");
        assert!(matches!(Names::load(&path), Err(NamesError::Exposed(_))));
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("set");
        std::fs::write(&path, vec![b'#'; (MAX_BYTES + 1) as usize]).expect("written");
        assert!(matches!(Names::load(&path), Err(NamesError::Read { .. })));
    }
}
