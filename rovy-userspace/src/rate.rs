//! Rates as operators write them: `10mbit`, `2000pps`, or both.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

use rovy_common::maps::TransitRate;
use serde::{Deserialize, Serialize};

/// What is let through at once, however slow the rate: a whole message, and enough for a window to open.
const BURST_BYTES: u32 = 65_536;
/// The same of a rate of packets.
const BURST_PACKETS: u64 = 32;
/// And however fast it is: a tenth of a second, as the kernel's coarse clock ticks every few milliseconds.
const BURST_NS: u64 = 100_000_000;

const SECOND_NS: u64 = 1_000_000_000;
const UNITS: [(&str, u64); 4] = [("gbit", 1_000_000_000), ("mbit", 1_000_000), ("kbit", 1_000), ("bit", 1)];
const BITS: std::ops::RangeInclusive<u64> = 1_000..=1_000_000_000_000;
const PACKETS: std::ops::RangeInclusive<u64> = 1..=1_000_000_000;

/// How much transit is sent on. At least one of the two is limited.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct RateLimit {
    /// Bits a second.
    bits: Option<NonZeroU64>,
    /// Packets a second.
    packets: Option<NonZeroU64>,
}

impl RateLimit {
    /// The rate as the tables hold it, with its bucket. Each packet pays for itself or for its bytes, whichever is dearer: so neither
    /// limit is exceeded.
    #[must_use]
    pub fn table(&self, bucket: u16) -> TransitRate {
        let byte_cost = self.bits.map_or(0, |bits| ((8 * SECOND_NS) << 16) / bits.get());
        let packet_ns = self.packets.map_or(0, |packets| SECOND_NS / packets.get());
        let rate = TransitRate { byte_cost, packet_ns: 0, burst_ns: 0, bucket: u32::from(bucket), padding: 0 };
        let largest = rate.toll(BURST_BYTES).interval_ns;
        let burst_ns = BURST_NS.max(largest).max(BURST_PACKETS * packet_ns);
        TransitRate { packet_ns, burst_ns, ..rate }
    }
}

impl fmt::Display for RateLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(bits) = self.bits.map(NonZeroU64::get) {
            let (unit, size) = UNITS.into_iter().find(|(_, size)| bits.is_multiple_of(*size)).unwrap_or(("bit", 1));
            write!(f, "{}{unit}", bits / size)?;
        }
        match (self.bits, self.packets) {
            (Some(_), Some(packets)) => write!(f, " {packets}pps"),
            (None, Some(packets)) => write!(f, "{packets}pps"),
            (_, None) => Ok(()),
        }
    }
}

impl From<RateLimit> for String {
    fn from(rate: RateLimit) -> Self {
        rate.to_string()
    }
}

impl TryFrom<String> for RateLimit {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

/// A rate that makes no sense; the text says why.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("`{text}` is no rate: {why}; write such as `10mbit`, `2000pps`, or `10mbit 2000pps`")]
pub struct RateError {
    text: String,
    why: &'static str,
}

impl FromStr for RateLimit {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        let wrong = |why| RateError { text: text.chars().take(40).collect(), why };
        let mut rate = Self { bits: None, packets: None };
        for word in text.split_ascii_whitespace() {
            let lower = word.to_ascii_lowercase();
            let at = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
            let (number, unit) = lower.split_at(at);
            let number: u64 = number.parse().map_err(|_| wrong("it starts with a whole number"))?;
            let (field, value, range) = if unit == "pps" {
                (&mut rate.packets, Some(number), PACKETS)
            } else {
                let size = UNITS.into_iter().find(|(name, _)| *name == unit);
                let (_, size) = size.ok_or_else(|| wrong("the unit is bit, kbit, mbit, gbit or pps"))?;
                (&mut rate.bits, number.checked_mul(size), BITS)
            };
            let value = value.filter(|v| range.contains(v)).and_then(NonZeroU64::new);
            let value = value.ok_or_else(|| wrong("it goes from 1kbit to 1000gbit, and from 1pps to 1000000000pps"))?;
            if field.replace(value).is_some() {
                return Err(wrong("the same twice"));
            }
        }
        if rate.bits.is_none() && rate.packets.is_none() {
            return Err(wrong("it is empty"));
        }
        Ok(rate)
    }
}

/// A rate, or `none`: as much as comes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize)]
#[serde(try_from = "String")]
pub struct TransitLimit(pub Option<RateLimit>);

impl TryFrom<String> for TransitLimit {
    type Error = RateError;

    fn try_from(text: String) -> Result<Self, RateError> {
        text.parse()
    }
}

impl FromStr for TransitLimit {
    type Err = RateError;

    fn from_str(text: &str) -> Result<Self, RateError> {
        if text.trim() == "none" { Ok(Self(None)) } else { text.parse().map(|limit| Self(Some(limit))) }
    }
}

impl fmt::Display for TransitLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(limit) => limit.fmt(f),
            None => f.write_str("none"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rovy_common::hello::spend;

    fn rate(text: &str) -> RateLimit {
        text.parse().expect(text)
    }

    #[test]
    fn rates_read_and_show_as_people_write_them() {
        for (text, shown) in [
            ("10mbit", "10mbit"),
            ("10000 KBIT".replace(' ', "").as_str(), "10mbit"),
            ("1500kbit", "1500kbit"),
            ("2000pps", "2000pps"),
            (" 2000pps  1gbit ", "1gbit 2000pps"),
            ("1001bit", "1001bit"),
        ] {
            assert_eq!(rate(text).to_string(), shown);
            assert_eq!(rate(shown), rate(text));
        }
        for text in ["", "mbit", "10", "10mbps", "1.5gbit", "-1mbit", "999bit", "1001gbit", "0pps", "1mbit 2mbit"] {
            let error = text.parse::<RateLimit>().expect_err(text).to_string();
            assert!(error.contains("10mbit 2000pps"), "{error}");
        }
        assert!("18446744073709551615gbit".parse::<RateLimit>().is_err());
    }

    /// Messages of `bytes` that are let through within `ns`, when they come all the time.
    fn through(rate: &TransitRate, bytes: u32, ns: u64) -> u64 {
        let (mut spent, mut count) = (1_000, 0);
        for now in (1_000..=1_000 + ns).step_by(ns as usize / 1000) {
            while let Some(new) = spend(spent, now, &rate.toll(bytes)) {
                (spent, count) = (new, count + 1);
            }
        }
        count
    }

    #[test]
    fn over_time_the_rate_is_kept_and_used() {
        for (text, bytes, a_second) in [
            ("10mbit", 1250, 1000),
            ("1gbit", 125, 1_000_000),
            ("1000gbit", 56, 2_232_142_857),
            ("1000pps", 1250, 1000),
            ("100mbit 1000pps", 125, 1000),
            ("1mbit 1000000pps", 1250, 100),
        ] {
            let table = rate(text).table(7);
            assert_eq!((table.bucket, table.padding), (7, 0));
            let burst = table.burst_ns / table.toll(bytes).interval_ns;
            let ns = if text == "1000gbit" { SECOND_NS / 1000 } else { 10 * SECOND_NS };
            let passed = through(&table, bytes, ns);
            let expected = (u128::from(ns) * a_second / u128::from(SECOND_NS)) as u64;
            assert!(passed <= expected + burst, "{text}: {passed} in place of {expected} and {burst}");
            // A terabit's packets take less than a nanosecond each; they are rounded up.
            assert!(passed * 2 > expected, "{text}: {passed} in place of {expected}");
        }
    }

    #[test]
    fn the_largest_message_fits_the_slowest_bucket() {
        let table = rate("1kbit").table(1);
        assert!(spend(0, 5, &table.toll(65_535)).is_some());
        assert!(spend(0, 5, &rate("1pps").table(1).toll(65_535)).is_some());
    }
}
