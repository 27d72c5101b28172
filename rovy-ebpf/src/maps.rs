//! The maps, and [`hop::Tables`](rovy_common::hop::Tables) over them. The loader sets their sizes and pins them by name.
#![allow(unsafe_code)]

use crate::atomic::{Word, opaque};
use aya_ebpf::Global;
use aya_ebpf::bindings::BPF_F_MMAPABLE;
use aya_ebpf::bindings::xdp_action::XDP_REDIRECT;
use aya_ebpf::helpers::generated::bpf_ktime_get_coarse_ns;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, DevMap, HashMap, PerCpuArray};
use rovy_common::hello;
use rovy_common::hop::Tables;
use rovy_common::maps::{Config, LocalKey, ReplayWords, RxLink, SlotStats, TransitRate, TxLink};
use rovy_common::replay::{WORDS, Words};

/// Entries of `RX` less one; the loader sets it. The low bits of a receiver index are its position.
#[unsafe(no_mangle)]
static RX_MASK: Global<u32> = Global::new(0);

#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static RX: Array<RxLink> = Array::with_max_entries(1, 0);
/// By position as well: the receiver index that the agent gave out, links' or not; 0 for none.
#[map]
static GIVEN: Array<u32> = Array::with_max_entries(1, 0);
/// The agent marks in the same words what goes up to it.
#[map]
static REPLAY: Array<Window> = Array::with_max_entries(1, BPF_F_MMAPABLE);
/// By slot: position in `TX` and one, 0 for an unknown slot.
#[map]
static SLOTS: Array<u32> = Array::with_max_entries(256, 0);
#[map]
static TX: Array<TxLink> = Array::with_max_entries(512, 0);
/// No map update ever writes here: agent and programs draw with atomic adds.
#[map]
static COUNTERS: Array<u64> = Array::with_max_entries(512, BPF_F_MMAPABLE);
/// By slot: the bucket of refused messages that go up.
#[map]
static REFUSED: Array<u64> = Array::with_max_entries(256, 0);
#[map]
static COUNTS: PerCpuArray<u64> = PerCpuArray::with_max_entries(rovy_common::count::COUNTERS, 0);
#[map]
static SLOT_STATS: PerCpuArray<SlotStats> = PerCpuArray::with_max_entries(256, 0);
#[map]
static PORTS: DevMap = DevMap::with_max_entries(64, 0);
#[map]
static LOCALS: HashMap<LocalKey, u64> = HashMap::with_max_entries(1024, 0);

/// A replay window in the map.
#[repr(transparent)]
pub struct Window(ReplayWords);

impl Window {
    #[inline(always)]
    fn word(&self, i: usize) -> Option<Word> {
        let i = opaque(i);
        if i >= WORDS {
            return None;
        }
        // SAFETY: `i` is below the array's length, and the window is a map value.
        Some(unsafe { Word::new((&raw const self.0.0).cast::<u64>().cast_mut().add(i)) })
    }
}

impl Words for Window {
    #[inline(always)]
    fn load(&self, i: usize) -> u64 {
        // A word that is not there refuses like one that is far ahead.
        self.word(i).map_or(u64::MAX, Word::load)
    }

    #[inline(always)]
    fn exchange(&self, i: usize, old: u64, new: u64) -> bool {
        self.word(i).is_some_and(|w| w.exchange(old, new))
    }
}

/// The maps as tables, at one moment of the coarse clock.
pub struct Maps {
    now_ns: u64,
}

impl Maps {
    /// The tables as of now.
    #[inline(always)]
    #[must_use]
    pub fn now() -> Self {
        // SAFETY: the helper has no conditions.
        Self { now_ns: unsafe { bpf_ktime_get_coarse_ns() } }
    }
}

impl Tables for Maps {
    type Window = Window;
    type Bucket<'a> = Word;

    #[inline(always)]
    fn now_ns(&self) -> u64 {
        self.now_ns
    }

    #[inline(always)]
    fn rx(&self, index: u32) -> Option<&RxLink> {
        RX.get(index & RX_MASK.load()).filter(|rx| rx.index == index && index != 0)
    }

    #[inline(always)]
    fn window(&self, index: u32) -> Option<&Window> {
        REPLAY.get(index & RX_MASK.load())
    }

    #[inline(always)]
    fn tx(&self, slot: u16) -> Option<&TxLink> {
        let entry = *SLOTS.get(u32::from(slot))?;
        TX.get(entry.checked_sub(1)?)
    }

    #[inline(always)]
    fn draw(&self, counter: u32) -> Option<u64> {
        // SAFETY: the word is a map value.
        COUNTERS.get_ptr_mut(counter).map(|p| unsafe { Word::new(p) }.fetch_add(1))
    }

    #[inline(always)]
    fn afford_refused(&self, slot: u16) -> bool {
        let (Some(config), Some(at)) = (config(), REFUSED.get_ptr_mut(u32::from(slot))) else { return false };
        // SAFETY: the word is a map value.
        hello::take(&unsafe { Word::new(at) }, self.now_ns, &config.limits.refused)
    }

    #[inline(always)]
    fn rate(&self, slot: u16) -> Option<(&TransitRate, Word)> {
        crate::rates::of(slot)
    }
}

/// Empties the first word of a replay window, for programs that are fed the same message again.
#[inline(always)]
pub fn forget(position: u32) {
    if let Some(word) = REPLAY.get(position).and_then(|w| w.word(0)) {
        word.store(0);
    }
}

/// What the loader configured; `None` before it did.
#[inline(always)]
#[must_use]
pub fn config() -> Option<&'static Config> {
    CONFIG.get(0)
}

/// Whether the agent gave this receiver index out, to whomever.
#[inline(always)]
#[must_use]
pub fn is_given(index: u32) -> bool {
    index != 0 && GIVEN.get(index & RX_MASK.load()).is_some_and(|given| *given == index)
}

/// Whether an address is this node's.
#[inline(always)]
#[must_use]
pub fn is_local(key: &LocalKey) -> bool {
    LOCALS.get_ptr(key).is_some()
}

/// The MAC address of an interface, in the low six bytes.
#[inline(always)]
#[must_use]
pub fn own_mac(ifindex: u32) -> Option<u64> {
    // SAFETY: the value is one word, which is read whole.
    unsafe { LOCALS.get(&LocalKey::interface(ifindex)) }.copied()
}

/// Chooses the device a redirected frame leaves by. Nothing happens before the program returns the redirect
/// verdict, so this may stand before the frame is rewritten. Whether there is such a device.
#[inline(always)]
#[must_use]
pub fn aim(port: u32) -> bool {
    matches!(PORTS.redirect(port, 0), Ok(XDP_REDIRECT))
}

/// Adds one to a counter of this CPU.
#[inline(always)]
pub fn count(index: u32) {
    if let Some(p) = COUNTS.get_ptr_mut(index) {
        // SAFETY: the value is this CPU's own.
        unsafe { *p = (*p).wrapping_add(1) };
    }
}

/// The statistics of a slot on this CPU.
#[inline(always)]
pub fn slot_stats(slot: u32, change: impl FnOnce(&mut SlotStats)) {
    if let Some(p) = SLOT_STATS.get_ptr_mut(slot) {
        // SAFETY: the value is this CPU's own.
        change(unsafe { &mut *p });
    }
}
