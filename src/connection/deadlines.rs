use std::time::{Duration, Instant};

use crate::protocol::{Beat, Heartbeat};

/// The timeouts of a connection, as configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    pub(crate) idle: Option<Duration>,
    pub(crate) heartbeat_interval: Option<Duration>,
    pub(crate) heartbeat_timeout: Duration,
    pub(crate) close: Duration,
}

/// When something has to happen to a connection that is silent.
///
/// Nothing is rescheduled when bytes arrive: the moment is noted, and a deadline that comes due looks at it and may find that
/// it has moved.
#[derive(Debug)]
pub(crate) enum Deadlines {
    /// The peer is listened to.
    Alive(Heartbeat<Instant>),
    /// The close handshake is under way.
    End { by: Instant },
}

/// What a deadline asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Nothing yet: look again then, or never.
    Later(Option<Instant>),
    /// Send a ping.
    Heartbeat,
    HeartbeatTimeout,
    IdleTimeout,
    CloseTimeout,
    /// Find out whether the compressor is still used.
    Compressor,
}

impl Deadlines {
    pub(crate) fn new(now: Instant) -> Self {
        Self::Alive(Heartbeat::new(now))
    }

    /// Bytes of the peer's arrived. After a heartbeat's ping: how long that took.
    #[inline]
    pub(crate) fn heard(&mut self, now: Instant) -> Option<Duration> {
        match self {
            Self::Alive(heartbeat) => heartbeat.heard(now),
            Self::End { .. } => None,
        }
    }

    /// The close handshake began; only the first call counts.
    pub(crate) fn closing(&mut self, now: Instant, timeouts: &Timeouts) {
        if matches!(self, Self::Alive(_)) {
            *self = Self::End {
                by: now + timeouts.close,
            };
        }
    }

    /// What is due at `now`. A due heartbeat counts as sent.
    pub(crate) fn poll(&mut self, now: Instant, timeouts: &Timeouts) -> Due {
        let heartbeat = match self {
            Self::End { by } if *by <= now => return Due::CloseTimeout,
            Self::End { by } => return Due::Later(Some(*by)),
            Self::Alive(heartbeat) => heartbeat,
        };
        let idle_at = timeouts.idle.map(|idle| heartbeat.last_heard() + idle);
        if idle_at.is_some_and(|at| at <= now) {
            return Due::IdleTimeout;
        }
        let (interval, timeout) = (timeouts.heartbeat_interval, timeouts.heartbeat_timeout);
        match heartbeat.poll(now, interval, timeout) {
            Beat::Later(at) => Due::Later(earlier(at, idle_at)),
            Beat::Ping => Due::Heartbeat,
            Beat::TimedOut => Due::HeartbeatTimeout,
        }
    }
}

pub(super) fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const TIMEOUTS: Timeouts = Timeouts {
        idle: Some(Duration::from_secs(60)),
        heartbeat_interval: Some(Duration::from_secs(20)),
        heartbeat_timeout: Duration::from_secs(5),
        close: Duration::from_secs(3),
    };

    #[test]
    fn without_timeouts_nothing_is_ever_due() {
        let now = Instant::now();
        let timeouts = Timeouts {
            idle: None,
            heartbeat_interval: None,
            ..TIMEOUTS
        };
        let mut deadlines = Deadlines::new(now);
        assert_eq!(
            deadlines.poll(now + 1_000_000 * SECOND, &timeouts),
            Due::Later(None)
        );
    }

    #[test]
    fn the_idle_timeout_fires_at_its_time_and_every_byte_moves_it() {
        let start = Instant::now();
        let timeouts = Timeouts {
            heartbeat_interval: None,
            ..TIMEOUTS
        };
        let mut deadlines = Deadlines::new(start);
        assert_eq!(
            deadlines.poll(start, &timeouts),
            Due::Later(Some(start + 60 * SECOND))
        );
        assert_eq!(deadlines.heard(start + 10 * SECOND), None);
        assert_eq!(
            deadlines.poll(start + 60 * SECOND, &timeouts),
            Due::Later(Some(start + 70 * SECOND))
        );
        let just_before = start + 70 * SECOND - Duration::from_nanos(1);
        assert_eq!(
            deadlines.poll(just_before, &timeouts),
            Due::Later(Some(start + 70 * SECOND))
        );
        assert_eq!(
            deadlines.poll(start + 70 * SECOND, &timeouts),
            Due::IdleTimeout
        );
    }

    #[test]
    fn a_heartbeat_is_sent_once_and_answered_by_any_byte() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        assert_eq!(
            deadlines.poll(start, &TIMEOUTS),
            Due::Later(Some(start + 20 * SECOND))
        );
        assert_eq!(
            deadlines.poll(start + 20 * SECOND, &TIMEOUTS),
            Due::Heartbeat
        );
        assert_eq!(
            deadlines.poll(start + 20 * SECOND, &TIMEOUTS),
            Due::Later(Some(start + 25 * SECOND))
        );
        assert_eq!(
            deadlines.heard(start + 21 * SECOND),
            Some(SECOND),
            "the round trip"
        );
        assert_eq!(
            deadlines.poll(start + 25 * SECOND, &TIMEOUTS),
            Due::Later(Some(start + 41 * SECOND))
        );
        assert_eq!(
            deadlines.poll(start + 41 * SECOND, &TIMEOUTS),
            Due::Heartbeat
        );
        assert_eq!(
            deadlines.poll(start + 46 * SECOND, &TIMEOUTS),
            Due::HeartbeatTimeout
        );
    }

    #[test]
    fn the_close_deadline_is_not_moved_by_bytes_or_by_a_second_close() {
        let start = Instant::now();
        let mut deadlines = Deadlines::new(start);
        deadlines.closing(start, &TIMEOUTS);
        assert_eq!(deadlines.heard(start + 2 * SECOND), None);
        deadlines.closing(start + 2 * SECOND, &TIMEOUTS);
        assert_eq!(
            deadlines.poll(start + 2 * SECOND, &TIMEOUTS),
            Due::Later(Some(start + 3 * SECOND))
        );
        assert_eq!(
            deadlines.poll(start + 3 * SECOND, &TIMEOUTS),
            Due::CloseTimeout
        );
    }
}
