//! How long a message each of a peer's paths carries: limits that are known, errors of hops, and echoes of that length that
//! come back or do not.
//!
//! Sizes are bytes of the message of the session: header, codec, body, AEAD tag; without what links put around it.

mod path;

pub(super) use path::Ask;
use path::PathMtu;

use rovy_common::encap;
use rovy_common::hop::{Message, SEALED_MORE};

use super::routes::Way;

/// What every path carries: an underlay of 1280 bytes over UDP/IPv6, a long label, sealed. Less is not believed, whoever says it.
pub const FLOOR: u16 = (1280 - (encap::UDP6 - encap::ETH) - Message::<4>::HEAD) as u16 - SEALED_MORE as u16;
/// What a path is taken to carry whose first link nobody has measured: an underlay of 1500 bytes over UDP/IPv6.
pub(super) const USUAL: u16 = 1500 - 48;

/// Paths of a peer that are remembered.
const PATHS: usize = 8;

/// What is known of a peer's paths, the one used last behind.
#[derive(Default)]
pub(super) struct Mtus(Vec<(Way, PathMtu)>);

impl Mtus {
    /// A path that is used now.
    pub(super) fn of(&mut self, way: &Way) -> &mut PathMtu {
        let known = self.0.iter().position(|(w, _)| w == way);
        let entry = match known {
            Some(at) => self.0.remove(at),
            None => {
                if self.0.len() >= PATHS {
                    self.0.remove(0);
                }
                (way.clone(), PathMtu::default())
            }
        };
        self.0.push(entry);
        let last = self.0.len() - 1;
        &mut self.0[last].1
    }

    /// A path that was used.
    pub(super) fn get(&self, way: &Way) -> Option<&PathMtu> {
        self.0.iter().find(|(w, _)| w == way).map(|(_, mtu)| mtu)
    }

    /// As [`Mtus::get`], to change it.
    pub(super) fn get_mut(&mut self, way: &Way) -> Option<&mut PathMtu> {
        self.0.iter_mut().find(|(w, _)| w == way).map(|(_, mtu)| mtu)
    }
}

#[cfg(test)]
mod tests;
