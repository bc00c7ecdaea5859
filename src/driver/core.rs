use std::{
    collections::VecDeque,
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Connect, DialId, adopt::Serving, counters::Counters, notices::Notices};
use crate::{
    config::Config,
    connection::{CloseCause, Due, Fault, Link, Pools, SendLimits, Timeouts},
    memory::{Key, Slots, TimerId, Timers},
    protocol::{CloseCode, ClosePayload, Role, Rules},
    transport::{Registrar, SocketOptions, Stream},
};

/// Names a connection, and never a later one in the same slot: a stale id is found to be stale.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub(crate) Key);

impl fmt::Debug for ConnId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConnId({:?})", self.0)
    }
}

/// All connections of a loop and what they share.
pub(crate) struct Core<S> {
    /// Attempts to connect that are to be begun or ended, in the order in which that was asked for.
    pub(crate) orders: Vec<DialOrder<S>>,
    /// Made when it is first needed: a lone client has none.
    pub(crate) serving: Option<Box<Serving<S>>>,
    pub(crate) slots: Slots<Slot<S>>,
    pub(crate) shared: Shared,
}

/// A connection in its slot.
pub(crate) struct Slot<S> {
    pub(crate) wire: Wire,
    pub(crate) session: S,
}

/// Everything of a connection but the application's session.
pub(crate) struct Wire {
    pub(crate) stream: Stream,
    pub(crate) link: Link,
    /// Set exactly while something is due later.
    pub(crate) timer: Option<TimerId>,
    pub(crate) flags: Flags,
}

/// What the loop has to remember of a connection.
#[derive(Debug, Default)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent facts, each true exactly when its line says"
)]
pub(crate) struct Flags {
    /// The socket may have bytes: the kernel said so, and no read has shown since that it is drained. Under edge-triggered
    /// polling nobody says it again.
    pub(crate) readable: bool,
    /// The kernel said that the peer will not send any more, so that a short read is not the last one.
    pub(crate) hung_up: bool,
    /// The poll says when the kernel takes bytes again. Asked for when it has first refused some: most connections never
    /// come to that, and would have an event more when they are accepted.
    pub(crate) watches_writes: bool,
    /// The application paused reading.
    pub(crate) paused: bool,
    /// The backlog has reached the high-water mark, and not fallen to the low one since: reading pauses.
    pub(crate) backlogged: bool,
    /// Reading goes on all the same.
    pub(crate) ignores_backlog: bool,
    /// Bytes of the largest send that was refused since `on_drain` was called last, at least 1 when that was asked for; 0
    /// otherwise.
    pub(crate) refused: usize,
    /// The id is in `Shared::dirty`.
    pub(crate) dirty: bool,
    /// The id is in `Shared::ready`.
    pub(crate) ready: bool,
}

impl Flags {
    /// True exactly when what comes is not to be looked at for now.
    #[inline]
    pub(crate) fn hold_reading(&self) -> bool {
        self.paused || self.is_backlogged()
    }

    /// True exactly when reading pauses because of the backlog.
    #[inline]
    pub(crate) fn is_backlogged(&self) -> bool {
        self.backlogged && !self.ignores_backlog
    }
}

/// The part of the core that does not depend on the application's types.
pub(crate) struct Shared {
    pub(crate) settings: Settings,
    pub(crate) pools: Pools,
    pub(crate) timers: Timers<Timer>,
    pub(crate) registrar: Registrar,
    /// The time of this turn.
    pub(crate) now: Instant,
    pub(crate) counters: Counters,

    /// Connections to be flushed at the end of the turn.
    pub(crate) dirty: Vec<ConnId>,
    /// Connections with something to read or to dispatch that no event will announce.
    pub(crate) ready: VecDeque<ConnId>,
    pub(crate) notices: Notices,

    /// Timers of the application among `timers`.
    pub(crate) app_timers: usize,
    /// Foreign sources; a key each, so that a stale event finds nobody. Made for the first.
    pub(crate) sources: Option<Box<Slots<()>>>,
    /// Attempts to connect, those in `Core::orders` included.
    pub(crate) dials: usize,
    /// The next attempt's name.
    pub(crate) next_dial: u64,
    /// Connections of the client role, attempts included.
    pub(crate) outbound: usize,
    /// The application asked for a shutdown within this time, staggered over that.
    pub(crate) shutdown: Option<Box<(Duration, Duration)>>,
    /// True exactly from the beginning of a shutdown on.
    pub(crate) shutting_down: bool,
}

/// What a timer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Timer {
    /// The deadlines of a connection.
    Connection(ConnId),
    /// The deadline of a handshake.
    Handshake(Key),
    /// Accepting goes on.
    Accept,
    /// An attempt to connect.
    Dial(Key),
    /// The deadline of a lone client's shutdown.
    Shutdown,
    /// The application's.
    Application(u64),
}

/// The configuration, and the shapes in which it is used.
#[derive(Debug)]
pub(crate) struct Settings {
    /// Shared by lone clients: with its 400 bytes it would be the largest part of one.
    pub(crate) config: Arc<Config>,
}

impl Settings {
    /// What is accepted from the peer of a connection.
    #[inline]
    pub(crate) fn rules(&self, link: &Link) -> Rules {
        Rules {
            role: link.role(),
            compression: link.compresses(),
            max_message_size: self.config.max_message_size,
            check_utf8: self.config.check_utf8,
        }
    }

    pub(crate) fn timeouts(&self) -> Timeouts {
        Timeouts {
            idle: self.config.idle_timeout,
            heartbeat_interval: self.config.heartbeat_interval,
            heartbeat_timeout: self.config.heartbeat_timeout,
            close: self.config.close_timeout,
        }
    }

    #[inline]
    pub(crate) fn send_limits(&self) -> SendLimits {
        SendLimits {
            queue: self.config.send_queue,
            backlog: self.config.max_backlog,
        }
    }

    pub(crate) fn sockets(&self) -> SocketOptions {
        SocketOptions::new(&self.config)
    }
}

/// What the application asked for about an attempt to connect.
pub(crate) enum DialOrder<S> {
    Begin {
        id: DialId,
        connect: Box<Connect>,
        session: S,
    },
    Cancel(DialId),
}

impl<S> Core<S> {
    /// The state of a loop; that of a lone client has room for one connection, and takes as little memory as it can.
    pub(crate) fn new(config: Arc<Config>, registrar: Registrar, now: Instant) -> Self {
        let alone = registrar.is_silent();
        let (connections, timers) = match alone {
            true => (1, 1),
            false => (config.initial_connections, config.initial_handshakes),
        };
        let shared = Shared {
            pools: Pools::new(&config, alone),
            timers: Timers::with_capacity(timers),
            registrar,
            now,
            counters: Counters::default(),
            dirty: Vec::with_capacity(connections),
            ready: VecDeque::with_capacity(connections),
            notices: Notices::default(),
            dials: 0,
            next_dial: 0,
            outbound: 0,
            app_timers: 0,
            sources: None,
            shutdown: None,
            shutting_down: false,
            settings: Settings { config },
        };
        Self {
            orders: Vec::new(),
            serving: None,
            slots: Slots::with_capacity(connections),
            shared,
        }
    }

    #[inline]
    pub(crate) fn slot_mut(&mut self, id: ConnId) -> Option<&mut Slot<S>> {
        self.slots.get_mut(id.0)
    }

    /// A connection and what all of them share, for a step that needs both.
    #[inline]
    pub(crate) fn wire_mut(&mut self, id: ConnId) -> Option<(&mut Wire, &mut Shared)> {
        let slot = self.slots.get_mut(id.0)?;
        Some((&mut slot.wire, &mut self.shared))
    }

    /// True exactly when something is left to do that no event will announce.
    pub(crate) fn has_work(&self) -> bool {
        let shared = &self.shared;
        !(shared.ready.is_empty()
            && shared.dirty.is_empty()
            && shared.notices.is_empty()
            && self.orders.is_empty()
            && self.serving.as_ref().is_none_or(|it| !it.has_work())
            && shared.shutdown.is_none())
    }

    pub(crate) fn serving(&mut self) -> &mut Serving<S> {
        self.serving.get_or_insert_default()
    }

    /// Sockets that the server is still to adopt.
    pub(crate) fn adopted(&self) -> usize {
        self.serving.as_ref().map_or(0, |it| it.adopted.len())
    }

    /// True exactly when one more connection may be accepted.
    pub(crate) fn has_room(&self) -> bool {
        let outbound = self.shared.outbound - self.shared.dials;
        let reserved = self.serving.as_ref().map_or(0, |it| it.reserved);
        self.slots.len() - outbound + reserved < self.shared.settings.config.max_connections
    }
}

impl Shared {
    /// The most attempts to connect; a lone client has one.
    pub(crate) fn max_dials(&self) -> usize {
        match self.registrar.is_silent() {
            true => 1,
            false => self.settings.config.max_dials,
        }
    }

    /// The most connections of the client role.
    pub(crate) fn max_outbound(&self) -> usize {
        match self.registrar.is_silent() {
            true => 1,
            false => self.settings.config.max_outbound,
        }
    }

    /// The connection has something staged: it is flushed at the end of the turn.
    #[inline]
    pub(crate) fn mark_dirty(&mut self, id: ConnId, flags: &mut Flags) {
        if !std::mem::replace(&mut flags.dirty, true) {
            self.dirty.push(id);
        }
    }

    /// The connection is looked at once more without an event.
    pub(crate) fn schedule(&mut self, id: ConnId, flags: &mut Flags) {
        if !std::mem::replace(&mut flags.ready, true) {
            self.ready.push_back(id);
        }
    }
}

impl Wire {
    pub(crate) fn new(stream: Stream, role: Role, now: Instant) -> Self {
        Self {
            stream,
            link: Link::new(role, now),
            timer: None,
            flags: Flags::default(),
        }
    }

    /// True exactly when messages are delivered as they come, with nothing else to be done before.
    #[inline]
    pub(crate) fn takes_messages(&self, shared: &Shared) -> bool {
        self.link.state().is_open()
            && !self.flags.hold_reading()
            && self.link.outbox.backlog() < shared.settings.config.high_water
    }

    /// True exactly when so much is staged that it has to be known whether the peer takes it, before more of its bytes are looked
    /// at.
    #[inline]
    pub(super) fn has_much_to_write(&self, shared: &Shared) -> bool {
        self.link.outbox.backlog() >= shared.settings.config.high_water && !self.flags.backlogged
    }

    /// Sets, moves or stops the timer, after something has changed that its deadline depends on. Returns what is due at
    /// once, if anything is.
    pub(crate) fn arm(&mut self, id: ConnId, shared: &mut Shared) -> Option<Due> {
        match self.link.due(shared.now, &shared.settings.timeouts()) {
            Due::Later(Some(at)) => {
                let moved = self
                    .timer
                    .is_some_and(|timer| shared.timers.reschedule(timer, at));
                if !moved {
                    self.timer = Some(shared.timers.insert(at, Timer::Connection(id)));
                }
                None
            }
            Due::Later(None) => {
                self.disarm(shared);
                None
            }
            due => Some(due),
        }
    }

    /// Something was sent: if a compressor was lent for it, it is known from now on when to check it.
    #[inline]
    pub(super) fn watch_compressor(&mut self, id: ConnId, shared: &mut Shared) {
        if self.link.outbox.has_new_compressor() {
            self.watch_new_compressor(id, shared);
        }
    }

    #[cold]
    fn watch_new_compressor(&mut self, id: ConnId, shared: &mut Shared) {
        if let Some(idle) = shared.settings.config.compression_idle_timeout {
            let at = shared.now + idle;
            self.link.outbox.check_compressor_at(at);
            // Nothing is asked what is due: a heartbeat that is counts as sent then, and would not be.
            let timers = &mut shared.timers;
            if !self.timer.is_some_and(|timer| timers.advance(timer, at)) {
                self.timer = Some(timers.insert(at, Timer::Connection(id)));
            }
        }
    }

    /// A compressor that is not used any more is for others.
    pub(super) fn check_compressor(&mut self, shared: &mut Shared) {
        if let Some(idle) = shared.settings.config.compression_idle_timeout {
            let next = shared.now + idle;
            self.link.outbox.check_compressor(next, &mut shared.pools);
        }
    }

    pub(crate) fn disarm(&mut self, shared: &mut Shared) {
        if let Some(timer) = self.timer.take() {
            shared.timers.remove(timer);
        }
    }

    /// A close frame was staged: it is written with the rest, and the time until the end runs.
    pub(crate) fn closing(&mut self, id: ConnId, shared: &mut Shared) {
        self.link
            .deadlines
            .closing(shared.now, &shared.settings.timeouts());
        // A close deadline is never due at once: no timeout is zero.
        let _ = self.arm(id, shared);
        shared.mark_dirty(id, &mut self.flags);
        // Whatever held reading up holds up the peer's close frame too.
        self.flags.paused = false;
        shared.schedule(id, &mut self.flags);
    }

    /// Closes because of something that the loop noticed, after what is staged has been written.
    pub(crate) fn close(
        &mut self,
        id: ConnId,
        code: CloseCode,
        cause: CloseCause,
        shared: &mut Shared,
    ) {
        if let Ok(true) = self.link.close(code, "", cause, &mut shared.pools) {
            self.closing(id, shared);
        }
    }

    /// Gives up on the peer because of what its bytes say, or because there is no room for them.
    pub(crate) fn fail(&mut self, id: ConnId, fault: Fault, shared: &mut Shared) {
        let (code, cause) = match fault {
            Fault::Protocol(error) => (error.close_code(), CloseCause::Protocol(error)),
            Fault::OutOfBuffers => (CloseCode::TRY_AGAIN_LATER, CloseCause::OutOfBuffers),
        };
        if self.link.fail(code, cause, &mut shared.pools) {
            self.closing(id, shared);
        }
    }

    /// The peer's close frame came.
    pub(crate) fn close_remote(
        &mut self,
        id: ConnId,
        payload: ClosePayload<'_>,
        shared: &mut Shared,
    ) {
        if self.link.close_remote(payload, &mut shared.pools) {
            self.closing(id, shared);
        }
    }

    /// The connection is over: its memory goes back and it waits to be retired.
    pub(crate) fn end(&mut self, id: ConnId, cause: CloseCause, shared: &mut Shared) {
        let notices = &mut shared.notices;
        if self.link.end(cause, &mut shared.pools, |payload| {
            notices.sent(id, payload)
        }) {
            notices.ended(id);
            self.disarm(shared);
        }
    }

    pub(crate) fn end_with_error(&mut self, id: ConnId, error: &io::Error, shared: &mut Shared) {
        self.end(id, CloseCause::Io(error.kind()), shared);
    }
}
