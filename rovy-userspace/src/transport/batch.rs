//! Receive buffers, allocated once.

use super::Received;

/// Buffers for several receives, and what came with each.
#[derive(Debug)]
pub struct Batch {
    pub(super) buffers: Vec<Box<[u8]>>,
    pub(super) received: Vec<Received>,
    size: usize,
    truncated: u64,
}

impl Batch {
    /// Bytes that hold anything UDP or Ethernet delivers in one receive, joined datagrams included.
    pub const LARGEST: usize = 65_535;

    /// `count` buffers (at least one) of `size` bytes; [`Batch::LARGEST`] loses nothing. UDP sockets want that, because
    /// the kernel joins datagrams up to it.
    #[must_use]
    pub fn new(count: usize, size: usize) -> Self {
        let count = count.max(1);
        // One byte more tells a message that fills the buffer from one that was cut.
        let buffers = vec![vec![0; size + 1].into_boxed_slice(); count];
        Self { buffers, received: Vec::with_capacity(count), size, truncated: 0 }
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
        self.received.iter().zip(&mut self.buffers).flat_map(|(r, b)| {
            let bytes = b.get_mut(..r.len).unwrap_or_default();
            let empty = if r.len == 0 { Some(<&mut [u8]>::default()) } else { None };
            empty.into_iter().chain(bytes.chunks_mut(r.stride.max(1))).map(move |m| (r, m))
        })
    }

    /// How many receives were thrown away since the last call, because they did not fit a buffer.
    pub fn take_truncated(&mut self) -> u64 {
        std::mem::take(&mut self.truncated)
    }

    pub(super) fn clear(&mut self) {
        self.received.clear();
    }

    /// The buffer the next [`Self::keep`] refers to. `None` when all are filled.
    pub(super) fn next_buffer(&mut self) -> Option<&mut [u8]> {
        self.buffers.get_mut(self.received.len()).map(|b| &mut b[..])
    }

    /// Counts the buffer at `index`, at or behind the next free one, as filled, unless its content was cut.
    pub(super) fn keep(&mut self, index: usize, received: Received) {
        if received.len > self.size || received.stride > received.len {
            self.truncated += 1;
            return;
        }
        self.buffers.swap(self.received.len(), index);
        self.received.push(received);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::Endpoint;

    fn received(len: usize, stride: usize) -> Received {
        let from = Endpoint::Ethernet { ifindex: 1, mac: [2; 6] };
        Received { len, stride, from, to_port: 0, ifindex: 1, broadcast: false, ecn: 0 }
    }

    #[test]
    fn joined_messages_are_split_and_cut_ones_thrown_away() {
        let mut batch = Batch::new(4, 10);
        for (i, b) in batch.buffers.iter_mut().enumerate() {
            b.fill(i as u8);
        }
        batch.keep(0, received(11, 11));
        batch.keep(1, received(10, 4));
        batch.keep(2, received(0, 0));
        batch.keep(3, received(10, 10));
        let seen: Vec<(usize, u8)> =
            batch.messages_mut().map(|(_, m)| (m.len(), m.first().copied().unwrap_or(99))).collect();
        assert_eq!(seen, [(4, 1), (4, 1), (2, 1), (0, 99), (10, 3)]);
        assert_eq!(batch.take_truncated(), 1);
        assert_eq!(batch.take_truncated(), 0);
        assert_eq!(batch.buffer_mut(0), [1; 10]);
        assert!(batch.buffer_mut(7).is_empty());
    }
}
