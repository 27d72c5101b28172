//! The label: a route as a string of slots, and the step a hop takes along it.
//!
//! A label block is `pos:u8 | len:u8 | route[14]` (16 bytes), or `route[30]` (32 bytes) in a long label.
//! It is held as little-endian words, two or four, because a byte at a variable offset of a packet
//! is what the BPF verifier refuses and a shift of a register is what it accepts.
//!
//! Each hop replaces its own slot bytes by the byte-reversed slot of the neighbour the packet came
//! from, so the first `len` bytes as they arrive, reversed as a whole, are the route back.

use crate::DropReason;

/// How many bytes a node's slots take on the wire: a constant of the node, nobody else needs it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Width {
    /// Up to 255 neighbours.
    One,
    /// Up to 65,535 neighbours, big-endian on the wire.
    Two,
}

impl Width {
    /// Bytes of a slot.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Two => 2,
        }
    }

    /// How many slots there are, the unassigned slot 0 included.
    #[must_use]
    pub const fn slots(self) -> u32 {
        1 << (8 * self.bytes())
    }
}

/// What the label asks of this hop.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// The label ends here: the inner message is for this node.
    Here,
    /// Send it on over this slot.
    Slot(u16),
}

/// A label block of `W` little-endian words: 2 for the normal label, 4 for the long one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label<const W: usize>(pub [u64; W]);

/// The normal label, 14 route bytes.
pub type Short = Label<2>;
/// The long label, 30 route bytes.
pub type Long = Label<4>;

impl<const W: usize> Label<W> {
    /// Route bytes that fit.
    pub const CAPACITY: usize = W * 8 - 2;

    /// The byte `i` of the block.
    #[inline(always)]
    fn byte(&self, i: u32) -> u8 {
        // A chain of selects over constant positions: a computed array index would spill the words to
        // the stack, and the verifier refuses to read them back.
        let mut word = self.0[0];
        let mut k = 1;
        while k < W {
            if i / 8 == k as u32 {
                word = self.0[k];
            }
            k += 1;
        }
        (word >> ((i % 8) * 8)) as u8
    }

    #[inline(always)]
    fn set_byte(&mut self, i: u32, value: u8) {
        let shift = (i % 8) * 8;
        let keep = !(0xff_u64 << shift);
        let put = u64::from(value) << shift;
        let mut k = 0;
        while k < W {
            if i / 8 == k as u32 {
                self.0[k] = (self.0[k] & keep) | put;
            }
            k += 1;
        }
    }

    /// Position of the next unread route byte.
    #[inline(always)]
    #[must_use]
    pub fn pos(&self) -> u8 {
        self.0[0] as u8
    }

    /// Number of route bytes.
    #[inline(always)]
    #[must_use]
    pub fn len(&self) -> u8 {
        (self.0[0] >> 8) as u8
    }

    /// Whether the label has no hops at all.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What the label asks of a hop whose slots are `width` wide.
    ///
    /// # Errors
    /// [`DropReason::BadLabel`] when the position is beyond the length, the length beyond the
    /// capacity, or the slot would run over the end.
    #[inline(always)]
    pub fn next(&self, width: Width) -> Result<Next, DropReason> {
        let (pos, len) = (u32::from(self.pos()), u32::from(self.len()));
        if pos > len || len > Self::CAPACITY as u32 {
            return Err(DropReason::BadLabel);
        }
        if pos == len {
            return Ok(Next::Here);
        }
        if pos + width.bytes() > len {
            return Err(DropReason::BadLabel);
        }
        let first = self.byte(2 + pos);
        Ok(Next::Slot(match width {
            Width::One => u16::from(first),
            Width::Two => u16::from_be_bytes([first, self.byte(3 + pos)]),
        }))
    }

    /// The label after this hop: `back`, the slot towards where the packet came from, stands
    /// byte-reversed where the hop's slot was, and the position has moved on.
    ///
    /// Only meaningful after [`Label::next`] returned [`Next::Slot`].
    #[inline(always)]
    #[must_use]
    pub fn advance(mut self, width: Width, back: u16) -> Self {
        let pos = u32::from(self.pos());
        self.set_byte(2 + pos, back as u8);
        if matches!(width, Width::Two) {
            self.set_byte(3 + pos, (back >> 8) as u8);
        }
        self.0[0] = self.0[0].wrapping_add(u64::from(width.bytes()));
        self
    }

    /// A label at its start that carries `route`, the hops after the sender's own.
    /// `None` when the route does not fit.
    #[must_use]
    pub fn from_route(route: &[u8]) -> Option<Self> {
        if route.len() > Self::CAPACITY {
            return None;
        }
        let mut label = Self([0; W]);
        label.0[0] = (route.len() as u64) << 8;
        for (i, b) in route.iter().enumerate() {
            label.set_byte(2 + i as u32, *b);
        }
        Some(label)
    }

    /// Copies the route back to the sender into `out` and returns its length: the first `pos` bytes, reversed.
    /// Where the label ends that is the whole of it. `None` for a label that [`Label::next`] refuses or a short `out`.
    pub fn way_back(&self, out: &mut [u8]) -> Option<usize> {
        let pos = usize::from(self.pos());
        if self.pos() > self.len() || usize::from(self.len()) > Self::CAPACITY {
            return None;
        }
        for (i, b) in out.get_mut(..pos)?.iter_mut().enumerate() {
            *b = self.byte((2 + pos - 1 - i) as u32);
        }
        Some(pos)
    }

    /// The block's bytes as words become bytes on the wire.
    pub fn write(&self, out: &mut [u8]) {
        for (chunk, word) in out.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
    }

    /// Reads a block from exactly `8 * W` bytes, `None` when there are fewer.
    #[must_use]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let mut words = [0; W];
        for (word, chunk) in words.iter_mut().zip(bytes.get(..8 * W)?.chunks_exact(8)) {
            *word = u64::from_le_bytes(chunk.try_into().ok()?);
        }
        Some(Self(words))
    }
}

#[cfg(test)]
mod tests;
