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
    pub(crate) clock: Duration,
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
