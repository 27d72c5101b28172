//! SipHash-2-4 with 64 and 128 bit output, over whole 64-bit words.
//!
//! Every input in rovy is a multiple of eight bytes, so the state takes words: this keeps the
//! BPF code free of byte loops. The words are the little-endian reading of the bytes, and the length block
//! is the standard one, so the results equal any other SipHash-2-4.
//!
//! Source: Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012; the 128 bit variant is
//! the reference implementation's `HASHLEN = 16`.

/// A 128 bit key as two little-endian words.
pub type Key = [u64; 2];

/// A running SipHash state. Feed words with [`Sip::word`], then take one of the two outputs.
#[derive(Clone, Copy)]
pub struct Sip {
    v: [u64; 4],
    words: u64,
}

impl Sip {
    /// A state for 64 bit output.
    #[inline(always)]
    #[must_use]
    pub const fn new64(key: &Key) -> Self {
        Self {
            v: [
                key[0] ^ 0x736f_6d65_7073_6575,
                key[1] ^ 0x646f_7261_6e64_6f6d,
                key[0] ^ 0x6c79_6765_6e65_7261,
                key[1] ^ 0x7465_6462_7974_6573,
            ],
            words: 0,
        }
    }

    /// A state for 128 bit output.
    #[inline(always)]
    #[must_use]
    pub const fn new128(key: &Key) -> Self {
        let mut s = Self::new64(key);
        s.v[1] ^= 0xee;
        s
    }

    /// Absorbs eight bytes, read as a little-endian word.
    #[inline(always)]
    #[must_use]
    pub const fn word(mut self, m: u64) -> Self {
        self.words += 1;
        self.absorb(m)
    }

    #[inline(always)]
    const fn absorb(mut self, m: u64) -> Self {
        self.v[3] ^= m;
        self = self.round().round();
        self.v[0] ^= m;
        self
    }

    #[inline(always)]
    const fn round(self) -> Self {
        let [mut a, mut b, mut c, mut d] = self.v;
        a = a.wrapping_add(b);
        b = b.rotate_left(13) ^ a;
        a = a.rotate_left(32);
        c = c.wrapping_add(d);
        d = d.rotate_left(16) ^ c;
        a = a.wrapping_add(d);
        d = d.rotate_left(21) ^ a;
        c = c.wrapping_add(b);
        b = b.rotate_left(17) ^ c;
        c = c.rotate_left(32);
        Self { v: [a, b, c, d], words: self.words }
    }

    #[inline(always)]
    const fn four(self) -> Self {
        self.round().round().round().round()
    }

    /// The 64 bit output of a state made by [`Sip::new64`].
    #[inline(always)]
    #[must_use]
    pub const fn finish64(self) -> u64 {
        let mut s = self.absorb((self.words * 8) << 56);
        s.v[2] ^= 0xff;
        s = s.four();
        s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3]
    }

    /// The 128 bit output, as two little-endian words, of a state made by [`Sip::new128`].
    #[inline(always)]
    #[must_use]
    pub const fn finish128(self) -> [u64; 2] {
        let mut s = self.absorb((self.words * 8) << 56);
        s.v[2] ^= 0xee;
        s = s.four();
        let first = s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3];
        s.v[1] ^= 0xdd;
        s = s.four();
        [first, s.v[0] ^ s.v[1] ^ s.v[2] ^ s.v[3]]
    }
}

/// SipHash-2-4 of whole words, 64 bit.
#[inline(always)]
#[must_use]
pub fn sip64(key: &Key, words: &[u64]) -> u64 {
    words.iter().fold(Sip::new64(key), |s, w| s.word(*w)).finish64()
}

/// SipHash-2-4 of whole words, 128 bit.
#[inline(always)]
#[must_use]
pub fn sip128(key: &Key, words: &[u64]) -> [u64; 2] {
    words.iter().fold(Sip::new128(key), |s, w| s.word(*w)).finish128()
}

#[cfg(test)]
mod tests;
