//! The maps in front of the handshake, and [`hello::Gate`](rovy_common::hello::Gate) over them.
#![allow(unsafe_code)]

use crate::atomic::Word;
use aya_ebpf::helpers::bpf_get_prandom_u32;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, LruHashMap};
use rovy_common::hello::{self, Bucket, Load, Prefix};
use rovy_common::maps::{Buckets, Secrets};

#[map]
static SECRETS: Array<Secrets> = Array::with_max_entries(1, 0);
/// Sources that nobody hears of any more make room for new ones.
#[map]
static BUCKETS: LruHashMap<Prefix, Buckets> = LruHashMap::with_max_entries(1024, 0);
/// The buckets of the whole node, by [`Load`].
#[map]
static LOAD: Array<u64> = Array::with_max_entries(hello::LOADS, 0);

impl Bucket for Word {
    #[inline(always)]
    fn load(&self) -> u64 {
        Self::load(*self)
    }

    #[inline(always)]
    fn exchange(&self, old: u64, new: u64) -> bool {
        Self::exchange(*self, old, new)
    }
}

/// The maps as a gate, at one moment of the coarse clock.
pub struct Gate {
    now_ns: u64,
}

impl Gate {
    /// The gate as of now.
    #[inline(always)]
    #[must_use]
    pub fn now() -> Self {
        // SAFETY: the helper has no conditions.
        Self { now_ns: unsafe { bpf_ktime_get_coarse_ns() } }
    }
}

impl hello::Gate for Gate {
    type Bucket<'a> = Word;

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    #[inline(always)]
    fn secrets(&self) -> Option<&Secrets> {
        SECRETS.get(0)
    }

    #[inline(always)]
    fn bucket(&self, prefix: &Prefix, proven: bool) -> Option<Word> {
        let at = match BUCKETS.get_ptr_mut(prefix) {
            Some(at) => at,
            None => {
                // Another CPU may have been faster, which is as good.
                let _ = BUCKETS.insert(prefix, Buckets::default(), 0);
                BUCKETS.get_ptr_mut(prefix)?
            }
        };
        // SAFETY: both words lie in the map value, which stays readable until the program returns.
        Some(unsafe { Word::new(at.cast::<u64>().add(usize::from(proven))) })
    }

    #[inline(always)]
    fn load(&self, of: Load) -> Option<Word> {
        // SAFETY: the word is a map value.
        LOAD.get_ptr_mut(of as u32).map(|at| unsafe { Word::new(at) })
    }

    #[inline(always)]
    fn nonce(&self) -> u64 {
        // SAFETY: the helper has no conditions.
        let half = || u64::from(unsafe { bpf_get_prandom_u32() });
        half() << 32 | half()
    }
}
