use core::{
    ops::{Add, Sub},
    time::Duration,
};

/// Finds out whether a silent peer is still there, and how long it takes to answer (RFC 6455 §5.5.2). Without a clock: the time
/// is an argument, an `Instant` or a `Duration` since any moment.
///
/// A peer that has been silent for an interval is sent a ping. Whatever it sends then is an answer; if nothing comes in time,
/// it is gone.
///
/// ```
/// use std::time::Duration;
/// use wsloop::protocol::{Beat, Heartbeat};
///
/// let second = Duration::from_secs;
/// let (interval, timeout) = (second(30), second(5));
/// let mut heartbeat = Heartbeat::new(second(0));
/// assert_eq!(heartbeat.poll(second(10), Some(interval), timeout), Beat::Later(Some(second(30))));
/// assert_eq!(heartbeat.poll(second(30), Some(interval), timeout), Beat::Ping);
/// assert_eq!(heartbeat.heard(second(32)), Some(second(2)), "the round trip");
/// assert_eq!(heartbeat.poll(second(62), Some(interval), timeout), Beat::Ping);
/// assert_eq!(heartbeat.poll(second(67), Some(interval), timeout), Beat::TimedOut);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat<T> {
    last_heard: T,
    /// When the ping was sent that nothing has come after.
    sent: Option<T>,
}

/// What a [`Heartbeat`] asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Beat<T> {
    /// Nothing yet: ask again then, or never.
    Later(Option<T>),
    /// Send a ping. It counts as sent.
    Ping,
    /// The peer has not answered in time.
    TimedOut,
}

impl<T> Heartbeat<T>
where
    T: Copy + Ord + Add<Duration, Output = T> + Sub<T, Output = Duration>,
{
    /// The connection is open.
    #[must_use]
    pub fn new(now: T) -> Self {
        Self {
            last_heard: now,
            sent: None,
        }
    }

    /// Bytes of the peer's arrived. After a ping: how long that took.
    #[inline]
    pub fn heard(&mut self, now: T) -> Option<Duration> {
        self.last_heard = now;
        let sent = self.sent.take()?;
        Some(now.max(sent) - sent)
    }

    /// When bytes of the peer's arrived last.
    #[must_use]
    pub fn last_heard(&self) -> T {
        self.last_heard
    }

    /// What is due at `now`. Without an `interval` there are no pings.
    pub fn poll(&mut self, now: T, interval: Option<Duration>, timeout: Duration) -> Beat<T> {
        if let Some(sent) = self.sent {
            let at = sent + timeout;
            return if at <= now {
                Beat::TimedOut
            } else {
                Beat::Later(Some(at))
            };
        }
        let at = interval.map(|interval| self.last_heard + interval);
        if at.is_some_and(|at| at <= now) {
            self.sent = Some(now);
            return Beat::Ping;
        }
        Beat::Later(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(5);
    const INTERVAL: Option<Duration> = Some(Duration::from_secs(30));

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn bytes_put_the_ping_off() {
        let mut heartbeat = Heartbeat::new(at(0));
        assert_eq!(heartbeat.heard(at(20)), None);
        assert_eq!(
            heartbeat.poll(at(49), INTERVAL, TIMEOUT),
            Beat::Later(Some(at(50)))
        );
        assert_eq!(heartbeat.poll(at(50), INTERVAL, TIMEOUT), Beat::Ping);
    }

    #[test]
    fn one_ping_at_a_time_and_any_answer_counts() {
        let mut heartbeat = Heartbeat::new(at(0));
        assert_eq!(heartbeat.poll(at(31), INTERVAL, TIMEOUT), Beat::Ping);
        let later = Beat::Later(Some(at(36)));
        assert_eq!(heartbeat.poll(at(31), INTERVAL, TIMEOUT), later);
        assert_eq!(heartbeat.poll(at(35), INTERVAL, TIMEOUT), later);
        assert_eq!(heartbeat.heard(at(35)), Some(at(4)));
        assert_eq!(heartbeat.heard(at(36)), None);
        assert_eq!(heartbeat.last_heard(), at(36));
    }

    #[test]
    fn silence_is_told() {
        let mut heartbeat = Heartbeat::new(at(0));
        assert_eq!(heartbeat.poll(at(30), INTERVAL, TIMEOUT), Beat::Ping);
        assert_eq!(heartbeat.poll(at(35), INTERVAL, TIMEOUT), Beat::TimedOut);
    }

    #[test]
    fn without_an_interval_there_is_no_ping() {
        let mut heartbeat = Heartbeat::new(at(0));
        assert_eq!(
            heartbeat.poll(at(1 << 40), None, TIMEOUT),
            Beat::Later(None)
        );
    }

    #[test]
    fn a_clock_that_goes_back_measures_nothing() {
        let mut heartbeat = Heartbeat::new(at(0));
        assert_eq!(heartbeat.poll(at(30), INTERVAL, TIMEOUT), Beat::Ping);
        assert_eq!(heartbeat.heard(at(29)), Some(Duration::ZERO));
    }
}
