//! Counters of the kernel, read where the traffic arrives.

use crate::Namespace;
use anyhow::{Context as _, Result};

/// ICMPv6 echo requests a namespace has received.
///
/// # Errors
/// When the namespace cannot be entered.
pub fn echo_requests(ns: &Namespace) -> Result<u64> {
    snmp6(ns, "Icmp6InEchos")
}

/// A counter of `/proc/net/snmp6`.
///
/// # Errors
/// When the namespace cannot be entered or the kernel has no such counter.
pub fn snmp6(ns: &Namespace, counter: &str) -> Result<u64> {
    let text = ns.enter(|| std::fs::read_to_string("/proc/thread-self/net/snmp6"))??;
    text.lines()
        .filter_map(|l| l.split_once(char::is_whitespace))
        .find(|(name, _)| *name == counter)
        .and_then(|(_, value)| value.trim().parse().ok())
        .with_context(|| format!("no counter {counter} in {}", ns.name()))
}

/// What a device has received and sent.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Traffic {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

/// The counters of a device.
///
/// # Errors
/// When there is no such device.
pub fn traffic(ns: &Namespace, interface: &str) -> Result<Traffic> {
    let text = ns.enter(|| std::fs::read_to_string("/proc/thread-self/net/dev"))??;
    parse(&text, interface).with_context(|| format!("no device {interface} in {}", ns.name()))
}

fn parse(text: &str, interface: &str) -> Option<Traffic> {
    let (_, values) = text.lines().filter_map(|l| l.split_once(':')).find(|(name, _)| name.trim() == interface)?;
    let values: Vec<u64> = values.split_whitespace().map_while(|v| v.parse().ok()).collect();
    Some(Traffic {
        rx_bytes: *values.first()?,
        rx_packets: *values.get(1)?,
        tx_bytes: *values.get(8)?,
        tx_packets: *values.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_columns_of_a_device_are_told_apart() {
        let text =
            "Inter-|   Receive  |  Transmit\n face |bytes packets errs\n    lo:  1 2 0 0 0 0 0 0 3 4 0 0 0 0 0 0\n";
        let expected = Traffic { rx_packets: 2, rx_bytes: 1, tx_packets: 4, tx_bytes: 3 };
        assert_eq!(parse(text, "lo"), Some(expected));
        assert_eq!(parse(text, "eth0"), None);
    }
}
