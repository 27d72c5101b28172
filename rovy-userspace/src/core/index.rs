//! Receiver indices: an array position in the low bits, random above, so that the lookup is an array access
//! and a stranger cannot guess one.

use super::random::Rng;

/// Positions and the whole index that stands at each.
pub(super) struct Indices {
    entries: Vec<u32>,
    free: Vec<u32>,
}

impl Indices {
    /// `capacity` is a power of two.
    pub(super) fn new(capacity: u32) -> Self {
        Self { entries: vec![0; capacity as usize], free: (0..capacity).rev().collect() }
    }

    fn mask(&self) -> u32 {
        self.entries.len() as u32 - 1
    }

    /// The position of an index that is in use.
    pub(super) fn position(&self, index: u32) -> Option<usize> {
        let position = (index & self.mask()) as usize;
        (index != 0 && self.entries.get(position) == Some(&index)).then_some(position)
    }

    /// The index at a position, 0 for none.
    pub(super) fn at(&self, position: usize) -> u32 {
        self.entries.get(position).copied().unwrap_or(0)
    }

    /// A fresh index that is not 0, or `None` when all are in use.
    pub(super) fn take(&mut self, rng: &mut Rng) -> Option<u32> {
        let position = self.free.pop()?;
        let mut high = rng.u32() & !self.mask();
        while high == 0 {
            high = rng.u32() & !self.mask();
        }
        let index = high | position;
        self.entries[position as usize] = index;
        Some(index)
    }

    /// Gives an index back. The position is used again last, so that stragglers meet another index there late.
    pub(super) fn release(&mut self, index: u32) {
        if let Some(position) = self.position(index) {
            self.entries[position] = 0;
            self.free.insert(0, position as u32);
        }
    }

    /// Marks an index as in use that a former agent gave out; whether its position was free. 0 stands for an empty
    /// position and is never given out: it would be taken for good.
    pub(super) fn reserve(&mut self, index: u32) -> bool {
        if index == 0 {
            return false;
        }
        let position = index & self.mask();
        let Some(at) = self.free.iter().position(|p| *p == position) else { return false };
        self.free.remove(at);
        self.entries[position as usize] = index;
        true
    }
}
