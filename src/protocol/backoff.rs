//! How long to wait before the next attempt.

use core::time::Duration;

/// Exponential backoff with full jitter: the n-th wait is anything from nothing to `initial · 2ⁿ`, and never more than `max`.
///
/// The whole range is used on purpose: clients that lost the same server at the same time come back spread out, not in step.
/// There is no clock and no generator in here; the random number is an argument.
///
/// ```
/// use std::time::Duration;
/// use wsloop::protocol::Backoff;
///
/// let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5)).max_attempts(2);
/// assert_eq!(backoff.next(u64::MAX), Some(Duration::from_millis(100)));
/// assert_eq!(backoff.next(u64::MAX / 2), Some(Duration::from_millis(100)));
/// assert_eq!(backoff.next(0), None);
/// backoff.reset();
/// assert_eq!(backoff.next(0), Some(Duration::ZERO));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    max_attempts: Option<u32>,
    /// The longest next wait: `min(initial · 2^attempts, max)`.
    ceiling: Duration,
    attempts: u32,
}

impl Backoff {
    /// Begins with at most `initial` (or `max`, if that is less) and goes on without end.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Self {
            initial,
            max,
            max_attempts: None,
            ceiling: initial.min(max),
            attempts: 0,
        }
    }

    /// Gives up after that many waits.
    #[must_use]
    pub fn max_attempts(mut self, max_attempts: u32) -> Self {
        self.max_attempts = Some(max_attempts);
        self
    }

    /// The time to wait before the next attempt, or `None` when there were enough. Every value of `random` must be equally
    /// likely.
    pub fn next(&mut self, random: u64) -> Option<Duration> {
        if self.max_attempts.is_some_and(|max| self.attempts >= max) {
            return None;
        }
        let wait = part_of(self.ceiling, random);
        self.attempts = self.attempts.saturating_add(1);
        self.ceiling = self.ceiling.saturating_mul(2).min(self.max);
        Some(wait)
    }

    /// Begins anew: to be called when an attempt has succeeded, better still when its connection has lived for a while.
    pub fn reset(&mut self) {
        self.ceiling = self.initial.min(self.max);
        self.attempts = 0;
    }

    /// The number of waits since the beginning or the last [`reset`](Self::reset).
    pub fn attempts(&self) -> u32 {
        self.attempts
    }
}

/// `random / 2⁶⁴` of the whole, both ends included. Whatever exceeds 584 years is cut.
fn part_of(whole: Duration, random: u64) -> Duration {
    let whole = u64::try_from(whole.as_nanos()).unwrap_or(u64::MAX);
    // At most `whole`: the product is below (whole + 1) · 2⁶⁴.
    let part = (u128::from(random) * (u128::from(whole) + 1)) >> 64;
    Duration::from_nanos(u64::try_from(part).unwrap_or(whole))
}

#[cfg(test)]
mod tests {
    use super::super::fuzz;
    use super::*;
    use rand_chacha::rand_core::Rng;

    const INITIAL: Duration = Duration::from_millis(100);
    const MAX: Duration = Duration::from_secs(10);

    /// In 128 bits, where nothing overflows: settings of the tests are below 2⁶⁴ ns.
    fn ceiling(initial: Duration, max: Duration, attempt: u32) -> Duration {
        let whole = (initial.as_nanos() << attempt.min(64)).min(max.as_nanos());
        Duration::from_nanos(whole as u64)
    }

    #[test]
    fn the_ends_of_the_range_are_reached() {
        let mut longest = Backoff::new(INITIAL, MAX);
        let mut shortest = longest.clone();
        for attempt in 0..100 {
            let expected = ceiling(INITIAL, MAX, attempt);
            assert_eq!(longest.next(u64::MAX), Some(expected), "{attempt}");
            assert_eq!(shortest.next(0), Some(Duration::ZERO), "{attempt}");
        }
        assert_eq!(longest.attempts(), 100);
    }

    #[test]
    fn waits_are_within_bounds_for_any_settings() {
        let mut rng = fuzz::rng(0xb0ff);
        for _ in 0..2_000 {
            let initial = Duration::from_nanos(rng.next_u64() >> (rng.next_u32() % 64));
            let max = Duration::from_nanos(rng.next_u64() >> (rng.next_u32() % 64));
            let mut backoff = Backoff::new(initial, max);
            for attempt in 0..80 {
                let wait = backoff.next(rng.next_u64()).unwrap();
                let ceiling = ceiling(initial, max, attempt);
                assert!(wait <= ceiling, "{wait:?} > {ceiling:?} at {attempt}");
            }
        }
    }

    #[test]
    fn the_mean_is_about_half_and_every_quarter_is_used() {
        let mut rng = fuzz::rng(0xb100);
        let rounds = 10_000;
        for attempt in [0, 3, 20] {
            let whole = ceiling(INITIAL, MAX, attempt);
            let mut quarters = [0_u32; 4];
            let mut sum = Duration::ZERO;
            for _ in 0..rounds {
                let mut backoff = Backoff::new(INITIAL, MAX);
                for _ in 0..attempt {
                    backoff.next(rng.next_u64());
                }
                let wait = backoff.next(rng.next_u64()).unwrap();
                sum += wait;
                quarters[((wait.as_nanos() * 4 / whole.as_nanos()) as usize).min(3)] += 1;
            }
            let mean = (sum / rounds).as_secs_f64() / whole.as_secs_f64();
            assert!((0.48..0.52).contains(&mean), "{mean}");
            for count in quarters {
                assert!((2_300..2_700).contains(&count), "{quarters:?}");
            }
        }
    }

    #[test]
    fn attempts_are_limited_until_a_reset() {
        let mut backoff = Backoff::new(INITIAL, MAX).max_attempts(3);
        for _ in 0..2 {
            let waits = [(); 4].map(|()| backoff.next(u64::MAX).map(|wait| wait.as_millis()));
            assert_eq!(waits, [Some(100), Some(200), Some(400), None]);
            assert_eq!(backoff.attempts(), 3);
            backoff.reset();
        }
        assert_eq!(Backoff::new(INITIAL, MAX).max_attempts(0).next(0), None);
    }

    #[test]
    fn extreme_settings() {
        let cases = [
            (Duration::ZERO, MAX, Duration::ZERO),
            (MAX, INITIAL, INITIAL),
            (MAX, Duration::ZERO, Duration::ZERO),
            (Duration::MAX, Duration::MAX, Duration::from_nanos(u64::MAX)),
        ];
        for (initial, max, expected) in cases {
            let mut backoff = Backoff::new(initial, max);
            for _ in 0..3 {
                assert_eq!(backoff.next(u64::MAX), Some(expected), "{initial:?}");
            }
        }
    }
}
