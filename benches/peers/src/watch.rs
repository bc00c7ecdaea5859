//! Looks at the clock, a server, the load and the machine, and what lies between two of them.

use std::time::{Duration, Instant};

use crate::{
    load::Outcome,
    process::{self, Ran, Server},
};

/// A look at a start.
pub(crate) struct Watch {
    clock: Instant,
    server: Ran,
    load: Ran,
    stolen: Duration,
}

/// What lies between a start and a stop.
pub(crate) struct Passed {
    clock: Duration,
    /// CPU time of the server.
    pub(crate) cpu: Duration,
    /// Time in which the server or the load did not run, and would have.
    lost: Duration,
}

impl Watch {
    pub(crate) fn start(server: &Server) -> Outcome<Self> {
        Ok(Self {
            clock: Instant::now(),
            server: server.ran()?,
            load: process::own_ran()?,
            stolen: process::stolen()?,
        })
    }

    pub(crate) fn stop(&self, server: &Server) -> Outcome<Passed> {
        let end = Self::start(server)?;
        let ran = end.server - self.server;
        Ok(Passed {
            clock: end.clock - self.clock,
            cpu: ran.cpu,
            lost: ran.waited
                + (end.load - self.load).waited
                + end.stolen.saturating_sub(self.stolen),
        })
    }
}

impl Passed {
    /// The share of the time in which one of the two was ready to run, and did not.
    pub(crate) fn disturbed(&self) -> f64 {
        self.lost.as_secs_f64() / self.clock.as_secs_f64()
    }
}

/// The first of so many tries that lost no more of its time than `max`, else the one that lost least.
pub(crate) fn undisturbed<T>(
    tries: u32,
    max: f64,
    mut attempt: impl FnMut() -> Outcome<T>,
    disturbed: impl Fn(&T) -> f64,
) -> Outcome<T> {
    let mut best = attempt()?;
    for _ in 1..tries {
        if disturbed(&best) <= max {
            break;
        }
        let next = attempt()?;
        if disturbed(&next) < disturbed(&best) {
            best = next;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_end_with_the_first_that_is_let_alone() -> Outcome<()> {
        let of = |lost: &[f64], tries| {
            let mut tried = lost.iter();
            let best = undisturbed(
                tries,
                0.1,
                || tried.next().copied().ok_or("too many tries".into()),
                |lost| *lost,
            )?;
            Outcome::Ok((best, tried.len()))
        };
        assert_eq!(of(&[0.1, 0.0], 5)?, (0.1, 1));
        assert_eq!(of(&[0.5, 0.3, 0.05, 0.0], 5)?, (0.05, 1));
        assert_eq!(of(&[0.5, 0.2, 0.4], 3)?, (0.2, 0));
        assert_eq!(of(&[0.5, 0.2], 1)?, (0.5, 1));
        assert!(of(&[0.5], 2).is_err());
        Ok(())
    }
}
