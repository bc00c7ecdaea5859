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
    /// Slots below this index have been told to close, of `bound` there were at the start. No connection opens any more.
    told: u32,
    bound: u32,
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
        if let Some((deadline, stagger)) = driver.core.shared.shutdown.take() {
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
        for index in stopping.told..due {
            close_at(index, driver);
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
        if self.stopping.is_some() {
            return;
        }
        driver.core.shared.shutting_down = true;
        self.close_ports();
        self.adopt(driver);
        self.abort_handshakes(driver);
        self.stopping = Some(Stopping {
            started: driver.core.shared.now,
            deadline,
            stagger,
            told: 0,
            bound: driver.core.slots.index_bound(),
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
        Some(if stopping.told < stopping.bound {
            end.min(now + STAGGER_STEP)
        } else {
            end
        })
    }
}

impl Stopping {
    /// Slots that are to be told by now, in proportion to the time.
    fn due(&self, elapsed: Duration) -> u32 {
        if elapsed >= self.stagger {
            return self.bound;
        }
        let share = elapsed.as_nanos() * u128::from(self.bound) / self.stagger.as_nanos().max(1);
        u32::try_from(share).unwrap_or(self.bound).max(self.told)
    }
}

fn close_at<H: Handler<M>, M>(index: u32, driver: &mut Driver<'_, H, M>) {
    let Some(key) = driver.core.slots.key_at(index) else {
        return;
    };
    if let Some((wire, shared)) = driver.core.wire_mut(ConnId(key)) {
        wire.close(
            ConnId(key),
            CloseCode::GOING_AWAY,
            CloseCause::Shutdown,
            shared,
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_staggered_shutdown_tells_all_slots_evenly_and_none_twice() {
        let mut stopping = Stopping {
            started: Instant::now(),
            deadline: Duration::from_secs(10),
            stagger: Duration::from_secs(4),
            told: 0,
            bound: 1000,
            forced: 0,
        };
        let shares: Vec<u32> = [0, 1000, 2000, 3999, 4000, 9000]
            .into_iter()
            .map(|millis| {
                stopping.told = stopping.due(Duration::from_millis(millis));
                stopping.told
            })
            .collect();
        assert_eq!(shares, [0, 250, 500, 999, 1000, 1000]);
    }
}
