//! What the generator sends.

use anyhow::{Context as _, Result, ensure};
use rovy_common::encap;
use rovy_common::hop::{Message, seal};
use rovy_common::label::Label;
use rovy_common::maps::HopKeys;
use rovy_common::wire::{MessageType, VERSION};
use rovy_netns::traffic::{Stamp, TEMPLATE};

/// Header words in front of the inner message: `Message::<2>::HEAD`.
const HEAD: usize = Message::<2>::HEAD;

/// Frames of one size: one to start from, and what each of them differs in.
pub(super) struct Frames {
    pub(super) frame: Vec<u8>,
    pub(super) template: [u8; TEMPLATE],
    pub(super) stamps: Vec<Stamp>,
}

impl Frames {
    /// `count` frames of `size` bytes behind the header template of [`encap::udp6`], along a label of one slot.
    ///
    /// # Errors
    /// When a transit message does not fit into `size`.
    pub(super) fn seal(header: &[u8], size: usize, count: u32, keys: &HopKeys, index: u32, slot: u16) -> Result<Self> {
        ensure!(size >= encap::UDP6 + HEAD + 16, "a transit message does not fit into {size} bytes");
        let message = size - encap::UDP6;
        let mut frame = header.to_vec();
        frame.resize(size, 0);
        let udp = u16::try_from(message + 8)?.to_be_bytes();
        frame[18..20].copy_from_slice(&udp);
        frame[58..60].copy_from_slice(&udp);
        let inner_at = encap::UDP6 + HEAD;
        frame[inner_at..inner_at + 2].copy_from_slice(&[MessageType::Data as u8, VERSION]);
        let inner_len = u16::try_from(size - inner_at)?;
        frame[inner_at + 2..inner_at + 4].copy_from_slice(&inner_len.to_le_bytes());

        let word = |at: usize| {
            let bytes = frame.get(at..).and_then(<[u8]>::first_chunk).context("the frame is too short")?;
            anyhow::Ok(u64::from_le_bytes(*bytes))
        };
        let inner = [word(inner_at)?, word(inner_at + 8)?];
        let label = Label::<2>::from_route(&[slot as u8]).context("the route does not fit")?;
        let head0 = MessageType::Transit as u64 | u64::from(VERSION) << 8 | (message as u64) << 16;
        let sealed = |counter| seal(keys, index, counter, head0, &label, inner);
        let stamps = (0..u64::from(count)).map(sealed).map(|m| [m.head[1], m.tag, m.label[0], m.label[1]]).collect();

        frame[encap::UDP6..TEMPLATE].copy_from_slice(&sealed(0).head[0].to_le_bytes());
        let mut template = [0; TEMPLATE];
        template.copy_from_slice(&frame[..TEMPLATE]);
        Ok(Self { frame, template, stamps })
    }
}
