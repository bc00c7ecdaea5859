use std::{fmt, io, time::Duration};

use mio::{Interest, event::Source};

use super::{
    AdoptError, AdoptErrorKind, Adopted, ConnId, Connect, Core, Deferred, DialError, DialErrorKind,
    DialId, DialOrder, Stats, Timer, UpgradeId, Visit, adopt::Upgraded, conn::Conn,
};
use crate::{memory, transport::Stream, transport::TokenKind};

/// All connections of a loop, and what the loop offers besides.
pub struct Connections<'a, S> {
    core: &'a mut Core<S>,
    visit: &'a Visit<'a>,
}

impl<S> fmt::Debug for Connections<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connections({})", self.core.slots.len())
    }
}

/// Names a timer that was set.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TimerId(pub(crate) memory::TimerId);

/// Names a foreign event source that was registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SourceId(pub(crate) memory::Key);

/// A limit of the configuration that is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LimitReached(pub &'static str);

impl fmt::Display for LimitReached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is reached", self.0)
    }
}

impl std::error::Error for LimitReached {}

impl<'a, S> Connections<'a, S> {
    pub(crate) fn new(core: &'a mut Core<S>) -> Self {
        Self::within(core, &Visit::NONE)
    }

    pub(crate) fn within(core: &'a mut Core<S>, visit: &'a Visit<'a>) -> Self {
        Self { core, visit }
    }

    /// The connection with this id; `None` when it is gone.
    #[must_use]
    pub fn get(&mut self, id: ConnId) -> Option<Conn<'_, S>> {
        Conn::new(self.core, id, self.visit)
    }

    /// The upgrade with this id, whose answer was put off; `None` when it is answered or lost.
    #[must_use]
    pub fn deferred(&mut self, id: UpgradeId) -> Option<Deferred<'_, S>> {
        Deferred::new(self.core, id)
    }

    /// The ids of all connections, those that are being closed included.
    pub fn ids(&self) -> impl Iterator<Item = ConnId> + '_ {
        self.core.slots.keys().map(ConnId)
    }

    /// Calls `f` with every connection that is open. For a broadcast: encode [`Frames`](crate::Frames) once and send them
    /// here.
    pub fn for_each(&mut self, mut f: impl FnMut(&mut Conn<'_, S>)) {
        // By index, so that nothing is borrowed while `f` runs; `f` can neither add nor remove a slot.
        for index in 0..self.core.slots.index_bound() {
            match self.core.slots.at(index) {
                Some((key, slot)) if slot.wire.link.state().is_open() => {
                    f(&mut Conn::at_hand(self.core, ConnId(key), self.visit));
                }
                _ => {}
            }
        }
    }

    /// Number of connections, those that are being closed included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.core.slots.len()
    }

    /// True exactly when there is no connection.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.core.slots.is_empty()
    }

    /// Has [`on_timer`](super::Handler::on_timer) called once, `delay` after the beginning of this turn.
    ///
    /// # Errors
    /// `max_timers` timers are set.
    pub fn set_timer(&mut self, delay: Duration, data: u64) -> Result<TimerId, LimitReached> {
        let shared = &mut self.core.shared;
        if shared.app_timers >= shared.settings.config.max_timers {
            return Err(LimitReached("max_timers"));
        }
        shared.app_timers += 1;
        shared.counters.rare().timers.note(shared.app_timers);
        // A delay beyond the end of time never comes due; a century does not either.
        let at = shared
            .now
            .checked_add(delay)
            .unwrap_or(shared.now + FAR_AWAY);
        Ok(TimerId(shared.timers.insert(at, Timer::Application(data))))
    }

    /// Takes a timer back. False when it has fired or was taken back before.
    pub fn cancel_timer(&mut self, timer: TimerId) -> bool {
        let shared = &mut self.core.shared;
        let cancelled = shared.timers.remove(timer.0).is_some();
        if cancelled {
            shared.app_timers -= 1;
        }
        cancelled
    }

    /// Puts an event source of the application's on the loop: a socket, a pipe, signals. Its events come to
    /// [`on_source`](super::Handler::on_source). Polling is edge-triggered: read until it would block.
    ///
    /// # Errors
    /// The poll's; `QuotaExceeded` when `max_sources` are registered; `Unsupported` on a lone [`Client`](crate::Client).
    pub fn register(
        &mut self,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
    ) -> io::Result<SourceId> {
        let shared = &mut self.core.shared;
        if shared.registrar.is_silent() {
            // A lone client has one token for everything: a source's events could not be told from its own.
            return Err(io::ErrorKind::Unsupported.into());
        }
        let sources = shared.sources.get_or_insert_default();
        if sources.len() >= shared.settings.config.max_sources {
            return Err(io::Error::new(
                io::ErrorKind::QuotaExceeded,
                LimitReached("max_sources"),
            ));
        }
        let key = sources.insert(());
        let name = (TokenKind::Source, key);
        if let Err(error) = shared.registrar.register(source, name, interest) {
            sources.remove(key);
            return Err(error);
        }
        shared.counters.rare().sources.note(sources.len());
        Ok(SourceId(key))
    }

    /// Changes what a source is watched for.
    ///
    /// # Errors
    /// The poll's, or `NotFound` for an id that is not registered.
    pub fn reregister(
        &mut self,
        id: SourceId,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
    ) -> io::Result<()> {
        let shared = &mut self.core.shared;
        let sources = shared.sources.as_ref();
        sources
            .and_then(|it| it.get(id.0))
            .ok_or(io::ErrorKind::NotFound)?;
        shared
            .registrar
            .reregister(source, (TokenKind::Source, id.0), interest)
    }

    /// Takes a source off the loop. Events of it that are under way are dropped.
    ///
    /// # Errors
    /// The poll's, or `NotFound` for an id that is not registered.
    pub fn deregister(
        &mut self,
        id: SourceId,
        source: &mut (impl Source + ?Sized),
    ) -> io::Result<()> {
        let shared = &mut self.core.shared;
        let sources = shared.sources.as_mut();
        sources
            .and_then(|it| it.remove(id.0))
            .ok_or(io::ErrorKind::NotFound)?;
        shared.registrar.deregister(source)
    }

    /// Takes over a connection behind whose opening handshake somebody else stands, such as an HTTP server: its 101 is written, and
    /// `bytes` were read behind the request. `on_open` follows; nothing is compressed.
    ///
    /// # Errors
    /// The stream and the bytes, untouched, with the reason, and the session.
    pub fn adopt_upgraded(
        &mut self,
        stream: impl Into<Stream>,
        bytes: impl Into<Vec<u8>>,
        session: S,
    ) -> Result<(), (AdoptError, S)> {
        let (stream, bytes) = (stream.into(), bytes.into());
        let has_room = self.core.has_room();
        let shared = &mut self.core.shared;
        let kind = if shared.registrar.is_silent() {
            AdoptErrorKind::NoServer
        } else if shared.shutting_down {
            AdoptErrorKind::ShuttingDown
        } else if bytes.len() > shared.settings.config.read_buffer_size {
            AdoptErrorKind::TooManyBytes
        } else if !has_room {
            AdoptErrorKind::NoConnection
        } else {
            let serving = self.core.serving();
            serving.reserved += 1;
            serving.upgraded.push_back(Upgraded {
                stream,
                bytes,
                session,
            });
            return Ok(());
        };
        let error = AdoptError {
            kind,
            stream,
            bytes,
        };
        Err((error, session))
    }

    /// Takes over a connected socket that somebody else accepted, with the bytes that were read from it: nothing, a part of
    /// the request, or the request and frames behind it. The handshake follows as with a socket of the loop's own. The
    /// stream must be non-blocking, which the conversions from the standard library's types take care of.
    ///
    /// # Errors
    /// The stream and the bytes, untouched, with the reason.
    pub fn adopt(
        &mut self,
        stream: impl Into<Stream>,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<(), AdoptError> {
        let (stream, bytes) = (stream.into(), bytes.into());
        let adopted = self.core.adopted();
        let shared = &mut self.core.shared;
        let config = &shared.settings.config;
        let under_way = shared.counters.handshakes() + adopted;
        let kind = if shared.registrar.is_silent() {
            AdoptErrorKind::NoServer
        } else if shared.shutting_down {
            AdoptErrorKind::ShuttingDown
        } else if bytes.len() > config.max_head_size + config.read_buffer_size {
            AdoptErrorKind::TooManyBytes
        } else if under_way >= config.max_handshakes {
            AdoptErrorKind::NoHandshake
        } else {
            self.core
                .serving()
                .adopted
                .push_back(Adopted { stream, bytes });
            return Ok(());
        };
        Err(AdoptError {
            kind,
            stream,
            bytes,
        })
    }

    /// Starts to connect to a server. What becomes of it comes to [`on_connected`](super::Handler::on_connected) and
    /// [`on_open`](super::Handler::on_open), or to [`on_connect_failed`](super::Handler::on_connect_failed), never from inside
    /// this call. Frames are masked with keys from the generator that was supplied with
    /// [`EventLoop::set_rng`](crate::EventLoop::set_rng).
    ///
    /// # Errors
    /// The session, with the reason.
    pub fn connect(&mut self, connect: Connect, session: S) -> Result<DialId, DialError<S>> {
        let shared = &mut self.core.shared;
        let kind = if shared.shutting_down {
            DialErrorKind::ShuttingDown
        } else if !shared.pools.mask_keys.is_supplied() {
            DialErrorKind::NoRng
        } else if shared.dials >= shared.max_dials() {
            DialErrorKind::TooManyDials
        } else if shared.outbound >= shared.max_outbound() {
            DialErrorKind::TooManyConnections
        } else {
            let id = DialId(shared.next_dial);
            shared.next_dial += 1;
            shared.dials += 1;
            shared.outbound += 1;
            shared.counters.dials.note(shared.dials);
            self.core.orders.push(DialOrder::Begin {
                id,
                connect: Box::new(connect),
                session,
            });
            return Ok(id);
        };
        Err(DialError { kind, session })
    }

    /// Gives an attempt to connect up: it fails with `Cancelled`. Does nothing when it has become a connection or failed.
    pub fn cancel_connect(&mut self, id: DialId) {
        self.core.orders.push(DialOrder::Cancel(id));
    }

    /// Ends the loop in order: no connection is accepted any more, handshakes are answered with 503, every connection is
    /// closed with 1001, and what has not ended within `deadline` is ended by force. A second call can bring the deadline
    /// forward.
    pub fn shutdown(&mut self, deadline: Duration) {
        self.shutdown_staggered(deadline, Duration::ZERO);
    }

    /// As [`shutdown`](Self::shutdown), but the connections are closed one after the other, evenly over `stagger`, so that
    /// their clients do not all come back at the same moment. At most `deadline`.
    pub fn shutdown_staggered(&mut self, deadline: Duration, stagger: Duration) {
        // Added to a point in time, a longer one could overflow.
        let deadline = deadline.min(FAR_AWAY);
        self.core.shared.shutdown = Some(Box::new((deadline, stagger.min(deadline))));
    }

    /// What the loop has done and what it holds.
    #[must_use]
    pub fn stats(&mut self) -> Stats {
        self.core.stats()
    }
}

/// A century.
const FAR_AWAY: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
