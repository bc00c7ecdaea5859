use super::{Closed, Core, Refused, RoundTrips, Stats, Traffic};
use crate::memory::Occupancy;

/// What is counted as the loop goes; [`Stats`](super::Stats) is made of it, the settings and what there is.
#[derive(Default)]
pub(crate) struct Counters {
    pub(crate) opened: u64,
    pub(crate) received: Traffic,
    pub(crate) sent: Traffic,
    pub(crate) connections: Peak,
    pub(crate) dials: Peak,
    /// Made when the first of them is needed: a lone client that is open has none.
    rare: Option<Box<RareCounters>>,
}

/// What a lone client counts at its end, if at all.
#[derive(Clone, Copy, Default)]
pub(crate) struct RareCounters {
    pub(crate) accepted: u64,
    pub(crate) adopted: u64,
    pub(crate) accept_backoffs: u64,
    pub(crate) requests: u64,
    pub(crate) refused: Refused,
    pub(crate) closed: Closed,
    pub(crate) round_trips: RoundTrips,
    pub(crate) timers: Peak,
    pub(crate) sources: Peak,
    pub(crate) handshakes: Peak,
    /// Handshakes under way: the server's own, but what is adopted has to fit in beside them.
    pub(crate) handshakes_now: usize,
}

/// The most that there were at a time.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Peak(u32);

impl Peak {
    /// Notes how many there are now.
    #[inline]
    pub(crate) fn note(&mut self, current: usize) {
        // Pools hold fewer than 2^32 values.
        self.0 = self.0.max(u32::try_from(current).unwrap_or(u32::MAX));
    }

    /// With how many there are now, and how many there may be.
    pub(super) fn of(self, current: usize, max: usize) -> Occupancy {
        Occupancy {
            current,
            peak: self.0 as usize,
            max,
        }
    }
}

impl Counters {
    /// Something that changes whenever bytes or messages come or go, or a connection opens.
    pub(crate) fn progress(&self) -> impl PartialEq + use<> {
        (self.opened, self.received, self.sent)
    }

    /// Handshakes under way.
    pub(super) fn handshakes(&self) -> usize {
        self.rare.as_ref().map_or(0, |it| it.handshakes_now)
    }

    /// The rare ones, to count.
    pub(crate) fn rare(&mut self) -> &mut RareCounters {
        self.rare.get_or_insert_default()
    }
}

impl<S> Core<S> {
    pub(crate) fn stats(&mut self) -> Stats {
        let shared = &mut self.shared;
        let counters = &shared.counters;
        shared.pools.buffers.reclaim();
        let buffers = &shared.pools.buffers;
        let (compressors, decompressors) = shared
            .pools
            .deflaters
            .as_ref()
            .map_or_else(Default::default, |it| it.contexts());
        let sources = shared.sources.as_ref().map_or(0, |it| it.len());
        let config = &shared.settings.config;
        let RareCounters {
            accepted,
            adopted,
            accept_backoffs,
            requests,
            refused,
            closed,
            round_trips,
            timers,
            sources: most_sources,
            handshakes,
            handshakes_now,
        } = counters.rare.as_deref().copied().unwrap_or_default();
        Stats {
            connections: counters
                .connections
                .of(self.slots.len(), config.max_connections),
            dials: counters.dials.of(shared.dials, shared.max_dials()),
            handshakes: handshakes.of(handshakes_now, config.max_handshakes),
            read_buffers: buffers.read_buffers(),
            large_buffers: buffers.large_buffers(),
            buffer_memory: buffers.memory(),
            compressors,
            decompressors,
            timers: timers.of(shared.app_timers, config.max_timers),
            sources: most_sources.of(sources, config.max_sources),
            accepted,
            adopted,
            accept_backoffs,
            opened: counters.opened,
            requests,
            refused,
            received: counters.received,
            sent: counters.sent,
            round_trips,
            closed,
        }
    }
}
