//! The XDP programs: parse, authenticate, check replay, switch, encapsulate, redirect.
//!
//! The way of a frame: [`parse`] reads it, [`decide`] finds out whether it is this node's and runs
//! [`rovy_common::hop::hop`] over the [`maps`], [`forward`] rewrites and redirects it; frames with a long label take their own turn in [`long`]. [`admit`] stands in front of the
//! handshake. What the kernel does not understand goes up unchanged; nothing of a packet is written before it is certain to be sent.
#![no_std]
#![allow(internal_features)]
#![feature(asm_experimental_arch, core_intrinsics)]

pub mod admit;
pub mod atomic;
pub mod checksum;
pub mod decide;
pub mod forward;
pub mod gate;
pub mod long;
pub mod maps;
pub mod packet;
pub mod parse;
pub mod rates;
pub mod reply;
pub mod tally;
