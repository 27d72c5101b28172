//! Receive buffers, allocated once.

use super::Received;

/// Buffers for several receives, and what came with each.
#[derive(Debug)]
pub struct Batch {
    pub(super) buffers: Vec<Box<[u8]>>,
    pub(super) received: Vec<Received>,
}

impl Batch {
    /// Bytes that hold anything UDP or Ethernet delivers in one receive, GRO included.
    pub const LARGEST: usize = 65_535;

    /// `count` buffers (at least one) of `size` bytes; [`Batch::LARGEST`] loses nothing.
    #[must_use]
    pub fn new(count: usize, size: usize) -> Self {
        let count = count.max(1);
        Self { buffers: vec![vec![0; size].into_boxed_slice(); count], received: Vec::with_capacity(count) }
    }

    /// What the last receive filled, a buffer each.
    #[must_use]
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    /// The bytes of buffer `index`. Empty when the last receive did not fill it.
    pub fn buffer_mut(&mut self, index: usize) -> &mut [u8] {
        match (self.received.get(index), self.buffers.get_mut(index)) {
            (Some(r), Some(b)) => b.get_mut(..r.len).unwrap_or_default(),
            _ => &mut [],
        }
    }

    /// Every message of the last receive, those that the kernel joined split again.
    pub fn messages_mut(&mut self) -> impl Iterator<Item = (&Received, &mut [u8])> {
        self.received
            .iter()
            .zip(&mut self.buffers)
            .flat_map(|(r, b)| b.get_mut(..r.len).unwrap_or_default().chunks_mut(r.stride.max(1)).map(move |m| (r, m)))
    }
}
