use arrayvec::ArrayVec;
use std::fmt;
use std::str::FromStr;

/// Route bytes after the sender's own slot that a normal label holds.
const SHORT: usize = 14;
/// Route bytes after the sender's own slot that a long label holds.
const LONG: usize = 30;

/// A route: the sender's own slot, then the slots of the hops behind it.
///
/// As text `/rovyrt/04.2a.0113`: one group of hex a hop, one or two bytes each. What travels in a label are the bytes
/// after the first group; where the groups part is for the reader alone, so it does not count when routes are compared.
#[derive(Clone)]
pub struct Route {
    first: u16,
    rest: ArrayVec<u8, LONG>,
    /// Bit i: a group begins at `rest[i]`.
    begins: u32,
}

/// Why the text of a route is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum RouteError {
    /// Something else than `/rovyrt/` in front.
    #[error("a route is written as /rovyrt/04.2a.0113: hex, one group of one or two bytes a hop, the own slot first")]
    NoPrefix,
    /// A group is not two or four hex digits.
    #[error("`{0}` is not a slot: two or four hex digits, such as 04 or 0113")]
    BadGroup(String),
    /// Slot 0 is never assigned.
    #[error("slot 0 is never assigned; `rovy peer list` shows the slots of this node")]
    SlotZero,
    /// More than a long label holds.
    #[error("the route has more than {LONG} bytes after the first slot")]
    TooLong,
}

impl Route {
    /// A route from this node's slot and the bytes of the label, shown as one-byte groups as far as none of them is zero.
    ///
    /// # Errors
    /// [`RouteError::SlotZero`] for `first == 0`, [`RouteError::TooLong`] beyond 30 bytes.
    pub fn new(first: u16, rest: &[u8]) -> Result<Self, RouteError> {
        if first == 0 {
            return Err(RouteError::SlotZero);
        }
        let rest = ArrayVec::try_from(rest).map_err(|_| RouteError::TooLong)?;
        let begins = groups(&rest);
        Ok(Self { first, rest, begins })
    }

    /// This node's slot: the link the packet leaves over.
    #[must_use]
    pub const fn first(&self) -> u16 {
        self.first
    }

    /// The route bytes of the label, for the hops behind the first link. Empty for a neighbour.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.rest
    }

    /// Links of the route, by its groups.
    #[must_use]
    pub const fn hops(&self) -> u8 {
        1 + self.begins.count_ones() as u8
    }

    /// Whether the route needs the long label.
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.rest.len() > SHORT
    }
}

impl PartialEq for Route {
    fn eq(&self, other: &Self) -> bool {
        self.first == other.first && self.rest == other.rest
    }
}

impl Eq for Route {}

impl std::hash::Hash for Route {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.first, &self.rest[..]).hash(state);
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("/rovyrt/")?;
        if self.first < 256 {
            write!(f, "{:02x}", self.first)?
        } else {
            write!(f, "{:04x}", self.first)?
        }
        for (i, byte) in self.rest.iter().enumerate() {
            let dot = if self.begins >> i & 1 == 1 { "." } else { "" };
            write!(f, "{dot}{byte:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Route {
    type Err = RouteError;

    fn from_str(text: &str) -> Result<Self, RouteError> {
        let mut groups = text.strip_prefix("/rovyrt/").ok_or(RouteError::NoPrefix)?.split('.').map(group);
        let first = groups.next().ok_or(RouteError::NoPrefix)??;
        let mut route = Self { first: first.0, rest: ArrayVec::new(), begins: 0 };
        for group in groups {
            let (slot, bytes) = group?;
            route.begins |= 1_u32.checked_shl(route.rest.len() as u32).unwrap_or(0);
            let wire = slot.to_be_bytes();
            route.rest.try_extend_from_slice(&wire[2 - bytes..]).map_err(|_| RouteError::TooLong)?;
        }
        Ok(route)
    }
}

/// Where groups may begin so that none of them is slot 0, with as many of one byte as can be: the text is to be read again.
fn groups(rest: &[u8]) -> u32 {
    let two = |i: usize| rest.get(i..i + 2).is_some_and(|pair| pair != [0, 0]);
    // Bit i: what is left from there can be split.
    let mut fits = 1_u32 << rest.len();
    for (i, byte) in rest.iter().enumerate().rev() {
        let can = (*byte != 0 && fits >> (i + 1) & 1 == 1) || (two(i) && fits >> (i + 2) & 1 == 1);
        fits |= u32::from(can) << i;
    }
    let (mut begins, mut at) = (0, 0);
    while let Some(byte) = rest.get(at) {
        begins |= 1 << at;
        let wide = two(at) && fits >> (at + 2) & 1 == 1;
        at += if wide && (*byte == 0 || fits >> (at + 1) & 1 == 0) { 2 } else { 1 };
    }
    begins
}

/// A slot and the bytes it takes.
fn group(text: &str) -> Result<(u16, usize), RouteError> {
    let bad = || RouteError::BadGroup(text.chars().take(20).collect());
    if !matches!(text.len(), 2 | 4) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(bad());
    }
    match u16::from_str_radix(text, 16) {
        Ok(0) => Err(RouteError::SlotZero),
        Ok(slot) => Ok((slot, text.len() / 2)),
        Err(_) => Err(bad()),
    }
}

super::serde_as_text!(Route);
