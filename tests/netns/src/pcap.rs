//! What travels on a TUN device, as tcpdump writes it and tshark reads it.

use crate::agent::DEADLINE;
use crate::scratch::Scratch;
use crate::{Namespace, command, wait};
use anyhow::{Context as _, Result};
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command};

/// Bytes of the file's header, and of each packet's.
const FILE_HEADER: usize = 24;
const PACKET_HEADER: usize = 16;

/// A running tcpdump, ended on drop.
#[derive(Debug)]
pub struct Pcap {
    child: Child,
    dir: Scratch,
}

impl Pcap {
    /// Begins to write what travels on `interface`.
    ///
    /// # Errors
    /// When tcpdump is missing or does not begin in time.
    pub fn start(ns: &Namespace, interface: &str) -> Result<Self> {
        let dir = Scratch::new("pcap")?;
        let file = dir.path().join("packets");
        let child = ns.spawn(&format!("tcpdump -i {interface} -Z root -U -s 0 -w {}", file.display()))?;
        let pcap = Self { child, dir };
        let begun = || Ok(fs::metadata(&file).ok().filter(|m| m.len() >= FILE_HEADER as u64).map(drop));
        wait::until("tcpdump to begin", DEADLINE, begun)?;
        Ok(pcap)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("packets")
    }

    /// The packets so far, as they are.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn packets(&self) -> Result<Vec<Vec<u8>>> {
        let bytes = fs::read(self.file())?;
        let mut rest = bytes.get(FILE_HEADER..).context("no header")?;
        let mut packets = Vec::new();
        while let Some((head, behind)) = rest.split_at_checked(PACKET_HEADER) {
            let length = head.get(8..12).and_then(|b| b.first_chunk()).map_or(0, |b| u32::from_le_bytes(*b)) as usize;
            // The last one may not be there as a whole yet.
            let Some((packet, behind)) = behind.split_at_checked(length) else { break };
            packets.push(packet.to_vec());
            rest = behind;
        }
        Ok(packets)
    }

    /// The `fields` of each packet that `filter` lets through, all occurrences of a field separated by commas, as tshark prints them.
    ///
    /// # Errors
    /// When tshark is missing or does not understand the filter.
    pub fn decode(&self, filter: &str, fields: &[&str]) -> Result<Vec<Vec<String>>> {
        let mut tshark = Command::new("tshark");
        tshark.arg("-r").arg(self.file()).args(["-n", "-Y", filter, "-T", "fields", "-E", "separator=|"]);
        for field in fields {
            tshark.args(["-e", field]);
        }
        let said = command::run(&mut tshark)?;
        Ok(said.lines().map(|line| line.split('|').map(str::to_owned).collect()).collect())
    }
}

impl Drop for Pcap {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
