//! A bucket of tokens: what may be done at once, and how often from then on. Time is an argument.

/// So many tokens at most, and so many more every second.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    most: u64,
    per_second: u64,
    thousandths: u64,
    at_ms: u64,
}

impl Bucket {
    /// A full one.
    pub(crate) fn new(most: u64, per_second: u64, now_ms: u64) -> Self {
        Self { most, per_second, thousandths: most * 1000, at_ms: now_ms }
    }

    /// Takes tokens, at most as many as it can hold. When there are too few none is taken, and the answer is in how many
    /// milliseconds there are enough.
    pub(crate) fn take(&mut self, tokens: u64, now_ms: u64) -> Result<(), u64> {
        // A clock that is set back gives nothing, and takes nothing away.
        let passed = now_ms.saturating_sub(self.at_ms);
        self.at_ms = now_ms;
        let more = passed.saturating_mul(self.per_second);
        self.thousandths = self.thousandths.saturating_add(more).min(self.most * 1000);
        let wanted = tokens.min(self.most) * 1000;
        match self.thousandths.checked_sub(wanted) {
            Some(left) => {
                self.thousandths = left;
                Ok(())
            }
            None => Err((wanted - self.thousandths).div_ceil(self.per_second.max(1))),
        }
    }
}

/// How fast the other side speaks in its turn: a byte now and then keeps nobody waiting for ever.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pace {
    grace_ms: u64,
    bytes_per_second: u64,
    since_ms: u64,
    bytes: u64,
}

impl Pace {
    /// Begins now. Nothing has to come before the grace is over.
    pub(crate) fn new(grace_ms: u64, bytes_per_second: u64, now_ms: u64) -> Self {
        Self { grace_ms, bytes_per_second, since_ms: now_ms, bytes: 0 }
    }

    /// Something has come.
    pub(crate) fn count(&mut self, bytes: usize) {
        self.bytes = self.bytes.saturating_add(bytes as u64);
    }

    /// This side did not listen for a time.
    pub(crate) fn pause(&mut self, ms: u64) {
        self.since_ms = self.since_ms.saturating_add(ms);
    }

    /// For how many milliseconds the next word may be waited for.
    pub(crate) fn left_ms(&self, now_ms: u64) -> u64 {
        let earned = self.bytes.saturating_mul(1000) / self.bytes_per_second.max(1);
        let end = self.since_ms.saturating_add(self.grace_ms).saturating_add(earned);
        end.saturating_sub(now_ms).min(self.grace_ms)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_bucket_gives_all_at_once_and_then_so_many_a_second() {
        let mut bucket = Bucket::new(10, 5, 1_000);
        assert_eq!(bucket.take(10, 1_000), Ok(()));
        assert_eq!(bucket.take(1, 1_000), Err(200));
        assert_eq!(bucket.take(1, 1_199), Err(1));
        assert_eq!(bucket.take(1, 1_200), Ok(()));
        assert_eq!(bucket.take(3, 1_400), Err(400));
        assert_eq!(bucket.take(3, 1_800), Ok(()));
        assert_eq!(bucket.take(11, 100_000), Ok(()), "more than it can hold is all that it holds");
        assert_eq!(bucket.take(1, 100_000), Err(200));
    }

    #[test]
    fn a_clock_that_is_set_back_gives_nothing() {
        let mut bucket = Bucket::new(2, 1, 10_000);
        assert_eq!(bucket.take(2, 10_000), Ok(()));
        assert_eq!(bucket.take(1, 3_000), Err(1_000));
        assert_eq!(bucket.take(1, 3_999), Err(1));
        assert_eq!(bucket.take(1, 4_000), Ok(()));
    }

    #[test]
    fn a_turn_keeps_a_pace_after_its_grace() {
        let mut pace = Pace::new(20_000, 1_024, 5_000);
        assert_eq!(pace.left_ms(5_000), 20_000);
        assert_eq!(pace.left_ms(24_000), 1_000);
        assert_eq!(pace.left_ms(25_000), 0);
        pace.count(10 * 1_024);
        assert_eq!(pace.left_ms(25_000), 10_000);
        pace.pause(1_000);
        assert_eq!(pace.left_ms(25_000), 11_000);
        pace.count(1 << 40);
        assert_eq!(pace.left_ms(25_000), 20_000, "what was fast may not be silent for longer");
    }

    proptest! {
        #[test]
        fn no_more_is_given_in_any_time_than_at_once_and_by_the_rate(
            most in 1..50_u64,
            per_second in 1..2_000_u64,
            steps in prop::collection::vec((0..3_000_u64, 1..60_u64), 1..200),
        ) {
            let mut bucket = Bucket::new(most, per_second, 0);
            let (mut now, mut given) = (0, 0);
            for (ms, tokens) in steps {
                now += ms;
                match bucket.take(tokens, now) {
                    Ok(()) => given += tokens.min(most),
                    Err(wait) => {
                        prop_assert!(bucket.clone().take(tokens, now + wait).is_ok());
                        prop_assert!(wait == 0 || bucket.clone().take(tokens, now + wait - 1).is_err());
                    }
                }
                prop_assert!(given * 1_000 <= most * 1_000 + now * per_second);
            }
        }
    }
}
