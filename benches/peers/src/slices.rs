//! Peers side by side: each is given a slice of the time, then the next one, A B C A B C.
//!
//! Whatever else runs on the machine comes in bursts, which last longer than a slice. So it meets the slices of all peers that lie
//! beside each other, and their ratios are what they are without it.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use crate::{
    load::Outcome,
    process::Server,
    run::{Run, Times},
    scenario::Metric,
    servers::Peer,
    watch::{self, Passed, Watch},
};

/// How long a slice takes, at least: thousands of small messages, so that what a server does only now and then is in each.
const SLICE: Duration = Duration::from_millis(20);
/// Slices of a run, at least: where one takes long, because all connections have their turn in it, there would be one or two.
const MIN_SLICES: usize = 5;
/// Rounds of warming up, at least: memory is taken in the first ones.
const WARM_UPS: u32 = 3;
/// What a server does before, uncounted, to find its way back into the caches.
const WAY_BACK: Duration = Duration::from_millis(5);
/// A slice of whose time more than this was lost to others is taken again.
pub(crate) const MAX_DISTURBED: f64 = 0.08;

/// A server and its load.
pub(crate) struct Session {
    pub(crate) peer: Peer,
    server: Server,
    work: Work,
    slices: Vec<(Done, Passed)>,
    failure: Option<Box<dyn Error>>,
}

/// Work for a server, for at least so long.
pub(crate) type Work = Box<dyn FnMut(&Server, Duration) -> Outcome<Done>>;

/// What was done.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Done {
    pub(crate) count: usize,
    /// How long it took, without what was between.
    pub(crate) within: Duration,
}

/// Has all of them work in turn, each for as long as is asked for.
pub(crate) fn run(sessions: &mut [Session], times: Times, tries: u32) {
    let way_back = if sessions.len() > 1 {
        WAY_BACK
    } else {
        Duration::ZERO
    };
    for session in &mut *sessions {
        for _ in 0..WARM_UPS {
            session.attempt(|session| session.work(times.warm_up / WARM_UPS).map(drop));
        }
    }
    let begin = Instant::now();
    let time = times.measured * u32::try_from(sessions.len()).unwrap_or(u32::MAX);
    let goes_on = |session: &Session| {
        session.failure.is_none() && (begin.elapsed() < time || session.slices.len() < MIN_SLICES)
    };
    while sessions.iter().any(goes_on) {
        for session in &mut *sessions {
            session.attempt(|session| {
                if way_back > Duration::ZERO {
                    session.work(way_back)?;
                }
                let slice = watch::undisturbed(
                    tries,
                    MAX_DISTURBED,
                    || session.slice(),
                    |(_, passed)| passed.disturbed(),
                )?;
                session.slices.push(slice);
                Ok(())
            });
        }
    }
}

impl Session {
    pub(crate) fn new(peer: Peer, server: Server, work: Work) -> Self {
        Self {
            peer,
            server,
            work,
            slices: Vec::new(),
            failure: None,
        }
    }

    fn work(&mut self, time: Duration) -> Outcome<Done> {
        (self.work)(&self.server, time)
    }

    /// Nothing more, once something has failed.
    fn attempt(&mut self, work: impl FnOnce(&mut Self) -> Outcome<()>) {
        if self.failure.is_none() {
            self.failure = work(self).err();
        }
    }

    fn slice(&mut self) -> Outcome<(Done, Passed)> {
        let watch = Watch::start(&self.server)?;
        let done = self.work(SLICE)?;
        Ok((done, watch.stop(&self.server)?))
    }

    /// What each slice cost.
    pub(crate) fn end(self) -> Outcome<Vec<Run>> {
        if let Some(failure) = self.failure {
            return Err(failure);
        }
        let slices = self.slices.iter();
        Ok(slices
            .map(|(done, passed)| Run {
                figures: vec![
                    (
                        Metric::Cpu,
                        passed.cpu.as_nanos() as f64 / done.count as f64,
                    ),
                    (Metric::Rate, done.count as f64 / done.within.as_secs_f64()),
                ],
                disturbed: passed.disturbed(),
            })
            .collect())
    }
}
