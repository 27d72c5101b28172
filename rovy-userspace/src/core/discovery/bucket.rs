//! Token buckets: one number, the time until which the tokens are spent. Zero is a full bucket.

/// How many at once, and how long one takes to come back.
#[derive(Clone, Copy)]
pub(super) struct Rate {
    pub(super) burst: u64,
    pub(super) each_ns: u64,
}

/// Takes a token, if there is one. A bucket from a later time, as after a clock that was set back, counts as empty and no
/// more than that.
pub(super) fn take(spent_until: &mut u64, now_ns: u64, rate: Rate) -> bool {
    let start = (*spent_until).clamp(now_ns, now_ns.saturating_add(rate.burst.saturating_mul(rate.each_ns)));
    *spent_until = start;
    if start - now_ns > (rate.burst - 1).saturating_mul(rate.each_ns) {
        return false;
    }
    *spent_until = start.saturating_add(rate.each_ns);
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_then_one_at_a_time_whatever_the_clock_does() {
        let rate = Rate { burst: 3, each_ns: 10 };
        let mut bucket = 0;
        let mut at = |now| (0..5).filter(|_| take(&mut bucket, now, rate)).count();
        assert_eq!([at(1_000), at(1_009), at(1_010), at(1_030)], [3, 0, 1, 2]);
        assert_eq!(at(1 << 60), 3, "a clock that jumped ahead finds it full");
        assert_eq!(at(500), 0, "a clock set back finds it empty");
        assert_eq!([at(510), at(600)], [1, 3], "and it fills as usual from there");
    }
}
