//! What fits a route, as far as errors have told. Sizes are those of data messages, without any transit header.

use std::collections::BTreeMap;

use rovy_common::encap;
use rovy_common::hop::{Message, SEALED_MORE};

use crate::core::routes::Way;
use crate::core::time::SECOND;

/// Bytes that fit every link whose underlay carries 1280, whatever its kind and the label. Less is not believed.
pub const LEAST: u16 = (1280 - (encap::UDP6 - encap::ETH) - Message::<4>::HEAD) as u16 - SEALED_MORE as u16;

/// Routes remembered.
const ROUTES: usize = 1024;
/// How long a size is remembered: then the route may have become better (RFC 8201).
const LIFE_NS: u64 = 600 * SECOND;

/// The largest data messages that fit.
#[derive(Default)]
pub(in crate::core) struct Fits(BTreeMap<Way, (u16, u64)>);

impl Fits {
    /// No more than `bytes` fit; whether that is less than was known.
    pub(in crate::core) fn learn(&mut self, now_ns: u64, way: Way, bytes: u16) -> bool {
        let bytes = bytes.max(LEAST);
        let less = self.of(now_ns, &way).is_none_or(|known| bytes < known);
        if less {
            if self.0.len() >= ROUTES && !self.0.contains_key(&way) {
                let oldest = self.0.iter().min_by_key(|(_, (_, until))| *until).map(|(way, _)| way.clone());
                oldest.map(|way| self.0.remove(&way));
            }
            self.0.insert(way, (bytes, now_ns + LIFE_NS));
        }
        less
    }

    /// Bytes that fit a route; `None` while nothing was too large.
    pub(in crate::core) fn of(&self, now_ns: u64, way: &Way) -> Option<u16> {
        self.0.get(way).filter(|(_, until)| now_ns < *until).map(|(bytes, _)| *bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::Hops;

    #[test]
    fn sizes_shrink_end_and_are_bounded() {
        let mut fits = Fits::default();
        let way = |n: u16| (n, Hops::from_iter([1, 2]));
        assert_eq!(LEAST, 1164);
        assert!(fits.learn(0, way(1), 1400) && !fits.learn(1, way(1), 1400) && !fits.learn(1, way(1), 1450));
        assert!(fits.learn(2, way(1), 1300));
        assert_eq!((fits.of(3, &way(1)), fits.of(3, &way(2))), (Some(1300), None));
        assert_eq!(fits.of(2 + LIFE_NS, &way(1)), None);
        assert!(fits.learn(2 + LIFE_NS, way(1), 1350), "the route became better");
        assert!(fits.learn(3 + LIFE_NS, way(1), 3));
        assert_eq!(fits.of(4 + LIFE_NS, &way(1)), Some(LEAST));
        for n in 0..3000 {
            fits.learn(5 + LIFE_NS + u64::from(n), way(n), 1200);
        }
        assert_eq!(fits.0.len(), ROUTES);
        assert_eq!(fits.of(5 + LIFE_NS, &way(2999)), Some(1200));
    }
}
