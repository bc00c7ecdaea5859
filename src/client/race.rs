use std::{
    collections::VecDeque,
    net::SocketAddr,
    time::{Duration, Instant},
};

/// Which of several addresses to try, and when (RFC 8305): families in turn, one attempt after the other with a head start
/// each, the next one at once when one has failed.
#[derive(Debug)]
pub(super) struct Race {
    waiting: VecDeque<SocketAddr>,
    next_at: Instant,
}

/// Head start of an attempt (RFC 8305 §5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

impl Race {
    /// `addresses` in the order of the resolver, whose first family goes first (RFC 8305 §4).
    pub(super) fn new(addresses: &[SocketAddr], now: Instant) -> Self {
        let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
        let (preferred, others): (Vec<SocketAddr>, Vec<SocketAddr>) = addresses
            .iter()
            .copied()
            .partition(|address| address.is_ipv6() == first_is_v6);
        let mut waiting = VecDeque::with_capacity(addresses.len());
        let (mut preferred, mut others) = (preferred.into_iter(), others.into_iter());
        loop {
            let pair = (preferred.next(), others.next());
            waiting.extend(pair.0);
            waiting.extend(pair.1);
            if pair == (None, None) {
                break;
            }
        }
        Self {
            waiting,
            next_at: now,
        }
    }

    /// The address to try now, if its time has come.
    pub(super) fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        if now < self.next_at {
            return None;
        }
        let address = self.waiting.pop_front()?;
        self.next_at = now + ATTEMPT_DELAY;
        Some(address)
    }

    /// An attempt has failed: nobody waits for the next.
    pub(super) fn failed(&mut self, now: Instant) {
        self.next_at = now;
    }

    /// When the next address is to be tried; `None` when all have been.
    pub(super) fn next_at(&self) -> Option<Instant> {
        (!self.waiting.is_empty()).then_some(self.next_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: u8) -> SocketAddr {
        ([10, 0, 0, last], 80).into()
    }

    fn v6(last: u16) -> SocketAddr {
        ([0xfe80, 0, 0, 0, 0, 0, 0, last], 80).into()
    }

    #[test]
    fn families_take_turns_and_the_resolvers_first_goes_first() {
        let now = Instant::now();
        let race = Race::new(&[v6(1), v6(2), v6(3), v4(1), v4(2)], now);
        assert_eq!(race.waiting, [v6(1), v4(1), v6(2), v4(2), v6(3)]);
        let race = Race::new(&[v4(1), v6(1), v6(2)], now);
        assert_eq!(race.waiting, [v4(1), v6(1), v6(2)]);
    }

    #[test]
    fn each_attempt_has_a_head_start_unless_it_fails() {
        let start = Instant::now();
        let mut race = Race::new(&[v4(1), v4(2), v4(3)], start);
        assert_eq!(race.next(start), Some(v4(1)));
        assert_eq!(race.next(start), None);
        assert_eq!(race.next_at(), Some(start + ATTEMPT_DELAY));
        assert_eq!(race.next(start + ATTEMPT_DELAY), Some(v4(2)));
        let soon = start + ATTEMPT_DELAY + Duration::from_millis(1);
        assert_eq!(race.next(soon), None);
        race.failed(soon);
        assert_eq!(race.next(soon), Some(v4(3)));
        assert_eq!(race.next_at(), None);
        assert_eq!(race.next(soon + 10 * ATTEMPT_DELAY), None);
    }
}
