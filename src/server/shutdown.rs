use std::time::{Duration, Instant};

use super::Server;
use crate::{
    connection::CloseCause,
    driver::{ConnId, Driver, Handler},
    protocol::CloseCode,
};

/// How a shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shutdown {
    /// Connections and handshakes that had to be ended by force at the deadline.
    pub forced: usize,
}

impl Shutdown {
    /// True exactly when everything ended by itself before the deadline.
    #[must_use]
    pub fn is_clean(&self) -> bool {
        self.forced == 0
    }
}

/// A shutdown under way.
pub(super) struct Stopping {
    started: Instant,
    deadline: Duration,
    stagger: Duration,
    /// The connections there were at the start. None opens any more.
    targets: Vec<ConnId>,
    /// So many of them have been told to close.
    told: usize,
    forced: usize,
}

/// How often a staggered shutdown closes the next few connections.
const STAGGER_STEP: Duration = Duration::from_millis(10);

impl<S> Server<S> {
    /// Begins a shutdown if one was asked for, and goes on with one that has begun.
    pub(crate) fn step_shutdown<H: Handler<M, Session = S>, M>(
        &mut self,
        driver: &mut Driver<'_, H, M>,
    ) {
        if let Some(asked) = driver.core.shared.shutdown.take() {
            let (deadline, stagger) = *asked;
            self.begin_shutdown(deadline, stagger, driver);
        }
        let Some(stopping) = &mut self.stopping else {
            return;
        };
        let elapsed = driver
            .core
            .shared
            .now
            .saturating_duration_since(stopping.started);
        let due = stopping.due(elapsed);
        for &id in &stopping.targets[stopping.told..due] {
            close(id, driver);
        }
        stopping.told = due;
        if elapsed >= stopping.deadline {
            self.force(driver);
        }
    }

    fn begin_shutdown<H: Handler<M, Session = S>, M>(
        &mut self,
        deadline: Duration,
        stagger: Duration,
        driver: &mut Driver<'_, H, M>,
    ) {
        let now = driver.core.shared.now;
        if let Some(stopping) = &mut self.stopping {
            let elapsed = now.saturating_duration_since(stopping.started);
            stopping.deadline = stopping.deadline.min(elapsed + deadline);
            stopping.stagger = stopping.stagger.min(elapsed + stagger);
            return;
        }
        driver.core.shared.shutting_down = true;
        self.close_ports();
        self.adopt(driver);
        driver.open_upgraded();
        self.abort_handshakes(driver);
        self.stopping = Some(Stopping {
            started: now,
            deadline,
            stagger,
            targets: driver.core.slots.keys().map(ConnId).collect(),
            told: 0,
            forced: 0,
        });
    }

    fn force<H: Handler<M, Session = S>, M>(&mut self, driver: &mut Driver<'_, H, M>) {
        let mut forced = self.drop_handshakes(driver);
        for index in 0..driver.core.slots.index_bound() {
            let Some(key) = driver.core.slots.key_at(index) else {
                continue;
            };
            let id = ConnId(key);
            if let Some((wire, shared)) = driver.core.wire_mut(id) {
                forced += usize::from(!wire.link.state().has_ended());
                wire.end(id, CloseCause::Shutdown, shared);
            }
        }
        if let Some(stopping) = &mut self.stopping {
            stopping.forced += forced;
        }
    }

    /// The outcome, once nothing is left.
    pub(crate) fn shutdown_outcome(&self, connections: usize) -> Option<Shutdown> {
        let stopping = self.stopping.as_ref()?;
        let over = connections == 0 && self.handshakes.is_empty();
        over.then_some(Shutdown {
            forced: stopping.forced,
        })
    }

    /// When the shutdown under way has to be looked at again.
    pub(crate) fn next_shutdown_step(&self, now: Instant) -> Option<Instant> {
        let stopping = self.stopping.as_ref()?;
        let end = stopping.started + stopping.deadline;
        Some(if stopping.told < stopping.targets.len() {
            end.min(now + STAGGER_STEP)
        } else {
            end
        })
    }
}

impl Stopping {
    /// Connections that are to be told by now, in proportion to the time.
    fn due(&self, elapsed: Duration) -> usize {
        let all = self.targets.len();
        if elapsed >= self.stagger {
            return all;
        }
        let share = elapsed.as_nanos() * all as u128 / self.stagger.as_nanos().max(1);
        usize::try_from(share).unwrap_or(all).max(self.told)
    }
}

fn close<H: Handler<M>, M>(id: ConnId, driver: &mut Driver<'_, H, M>) {
    if let Some((wire, shared)) = driver.core.wire_mut(id) {
        wire.close(id, CloseCode::GOING_AWAY, CloseCause::Shutdown, shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Key;

    #[test]
    fn a_staggered_shutdown_tells_all_slots_evenly_and_none_twice() {
        let mut stopping = Stopping {
            started: Instant::now(),
            deadline: Duration::from_secs(10),
            stagger: Duration::from_secs(4),
            targets: vec![ConnId(Key::from_parts(0, 0)); 1000],
            told: 0,
            forced: 0,
        };
        let shares: Vec<usize> = [0, 1000, 2000, 3999, 4000, 9000]
            .into_iter()
            .map(|millis| {
                stopping.told = stopping.due(Duration::from_millis(millis));
                stopping.told
            })
            .collect();
        assert_eq!(shares, [0, 250, 500, 999, 1000, 1000]);
    }
}
