//! Packets a second forwarded over veth: the whole hop, a bare XDP redirect, and the kernel's own IPv6 forwarding.
//!
//! ```text
//!   a: generator          r: what is measured            b: sink
//!      gen0  ------------ in0             out0 ------------ sink0
//! ```
//!
//! The generator sends the same frames for all of them: UDP over IPv6, transit messages sealed beforehand, each with a
//! counter of its own, from one program that copies 102 bytes a frame. Only the IPv6 destination differs: r for hop and
//! redirect, b for the kernel's forwarding. The sink counts and drops in XDP. One CPU does it all in batches of 64, so
//! that nothing is lost in a queue between two, and generator and sink cost the same in every rate.

mod frames;
mod stage;

use anyhow::{Result, ensure};
use serde::Serialize;
use stage::{Stage, Way};
use std::collections::BTreeMap;

/// Frame sizes in bytes, from the Ethernet header on.
const SIZES: [usize; 3] = [128, 512, 1400];

/// Medians for one frame size.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Size {
    /// Packets a second of the whole hop, with the UDP checksum left zero.
    pub(crate) hop_pps: u64,
    /// The same with the UDP checksum computed anew.
    pub(crate) hop_checksum_pps: u64,
    /// Of a program that does nothing but redirect.
    pub(crate) redirect_pps: u64,
    /// Of the kernel's IPv6 forwarding.
    pub(crate) kernel_ipv6_pps: u64,
    /// Of the rates above.
    pub(crate) hop_over_redirect: f64,
    /// Of the rates above.
    pub(crate) hop_over_kernel_ipv6: f64,
}

/// Measures `rounds` rounds, in each of which every way forwards once.
///
/// # Errors
/// When the network or the programs cannot be set up (not root, no BPF, no ethtool), or a way loses packets.
pub(crate) fn measure(rounds: usize, mut progress: impl FnMut(&str)) -> Result<BTreeMap<usize, Size>> {
    ensure!(rounds > 0, "nothing to measure in 0 rounds");
    let mut stage = Stage::new()?;
    let mut sizes = BTreeMap::new();
    for size in SIZES {
        progress(&format!("forwarding frames of {size} bytes"));
        let mut run = stage.prepare(size)?;
        let mut rates: BTreeMap<Way, Vec<u64>> = BTreeMap::new();
        for _ in 0..rounds {
            for way in Way::ALL {
                rates.entry(way).or_default().push(run.forward(way)?);
            }
        }
        let mut of = |way| median(rates.entry(way).or_default());
        let (hop, redirect, kernel) = (of(Way::Hop), of(Way::Redirect), of(Way::Kernel));
        let result = Size {
            hop_pps: hop,
            hop_checksum_pps: of(Way::HopChecksum),
            redirect_pps: redirect,
            kernel_ipv6_pps: kernel,
            hop_over_redirect: hop as f64 / redirect as f64,
            hop_over_kernel_ipv6: hop as f64 / kernel as f64,
        };
        sizes.insert(size, result);
    }
    Ok(sizes)
}

fn median(values: &mut [u64]) -> u64 {
    values.sort_unstable();
    values.get(values.len() / 2).copied().unwrap_or_default()
}
