//! Floor 5: the poll loop. The only place that asks for the time.
//!
//! | to fix | look in |
//! | --- | --- |
//! | polling, what a turn does in which order | this file |
//! | one connection without a loop | `client`, `pull` |

mod client;
mod pull;

use std::{
    fmt, io,
    os::fd::{AsFd, BorrowedFd},
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Poll, Registry, event::Event};

pub use self::{
    client::{Client, ClientState},
    pull::Pulled,
};
use rand_chacha::rand_core::CryptoRng;

use crate::{
    client::{Dialler, RESOLVER_MAILBOX},
    config::{Config, ConfigError},
    driver::{
        AdoptError, ConnId, Connect, Connections, Core, DialError, DialId, Driver, Handler,
        ListenerId, Readiness, Stats, Timer, handle_deadline,
    },
    server::{Server, Shutdown},
    transport::{ListenAddr, Mailbox, Registrar, Remote, Stream, TokenKind, Tokens},
};

/// One thread's event loop: listeners, handshakes, connections, their memory and their timers.
///
/// The application is lent to it: `run` until a shutdown, or `turn` by `turn` from a loop of the caller's. Everything that
/// needs no application stands here, the rest in the [`Handler`]'s handles; between turns,
/// [`connections`](Self::connections) gives the same handle.
///
/// `S` is the session type of the handler, `M` what other threads post; both are inferred from the handler.
pub struct EventLoop<S, M = ()> {
    /// `None` when the loop lives in the caller's poll.
    poll: Option<Poll>,
    /// Of the poll that the loop lives in.
    registry: Registry,
    events: Events,
    house: House<S, M>,
}

/// Everything but the poll and its events, so that those can be borrowed while this works.
struct House<S, M> {
    core: Core<S>,
    server: Server<S>,
    dialler: Dialler<S>,
    mailbox: Mailbox<M>,
    /// What connections are read into. Outside of the core: messages borrow from it during callbacks.
    scratch: Box<[u8]>,
}

/// Where a loop stands after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use = "a loop that has shut down does nothing any more"]
pub enum Progress {
    /// It goes on.
    Running,
    /// A shutdown was asked for and is complete.
    Finished(Shutdown),
}

/// Why a loop could not be made.
#[derive(Debug)]
#[non_exhaustive]
pub enum NewError {
    /// A setting that cannot work.
    Config(ConfigError),
    /// The operating system refused something.
    Io(io::Error),
}

/// The mailbox of the application, among those of a loop.
const APP_MAILBOX: u32 = 0;

impl<S, M> EventLoop<S, M> {
    /// A loop with a poll of its own.
    ///
    /// # Errors
    /// A setting that cannot work, or the operating system's refusal.
    pub fn new(config: Config) -> Result<Self, NewError> {
        let poll = Poll::new()?;
        let registry = poll.registry().try_clone()?;
        let events = Events::with_capacity(config.events_capacity);
        #[expect(clippy::expect_used, reason = "1 is a space")]
        let tokens = Tokens::space(1).expect("a valid space");
        Ok(Self {
            house: House::new(config, &registry, tokens)?,
            poll: Some(poll),
            registry,
            events,
        })
    }

    /// A loop inside the caller's poll, with tokens of `tokens` alone. The caller polls, for no longer than
    /// [`next_timeout`](Self::next_timeout), and passes the events to [`handle_events`](Self::handle_events).
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_poll(config: Config, poll: &Poll, tokens: Tokens) -> Result<Self, NewError> {
        let registry = poll.registry().try_clone()?;
        let events = Events::with_capacity(0);
        Ok(Self {
            house: House::new(config, &registry, tokens)?,
            poll: None,
            registry,
            events,
        })
    }

    /// Listens on an address. Any number of listeners share the loop.
    ///
    /// # Errors
    /// The operating system's refusal.
    pub fn listen(&mut self, address: impl Into<ListenAddr>) -> io::Result<ListenerId> {
        let House { server, core, .. } = &mut self.house;
        server.listen(&address.into(), &core.shared)
    }

    /// The address that a listener is bound to, with the port that the system chose for port 0.
    ///
    /// # Errors
    /// The operating system's refusal, or `NotFound` after a shutdown has closed the listener.
    pub fn local_addr(&self, listener: ListenerId) -> io::Result<ListenAddr> {
        self.house.server.local_addr(listener)
    }

    /// Takes over a connected socket that somebody else accepted. See [`Connections::adopt`].
    ///
    /// # Errors
    /// The stream and the bytes, untouched, with the reason.
    pub fn adopt(
        &mut self,
        stream: impl Into<Stream>,
        bytes: impl Into<Vec<u8>>,
    ) -> Result<(), AdoptError> {
        self.connections().adopt(stream, bytes)
    }

    /// All connections, between turns. What is sent here is written in the next turn.
    pub fn connections(&mut self) -> Connections<'_, S> {
        self.house.core.shared.now = Instant::now();
        Connections::new(&mut self.house.core)
    }

    /// A way to post messages to the loop from other threads.
    #[must_use]
    pub fn remote(&self) -> Remote<M> {
        self.house.mailbox.remote()
    }

    /// Supplies the generator that the mask keys and handshake keys of outbound connections are drawn from (RFC 6455 §10.3).
    /// It has to be a cryptographic one, seeded with 32 bytes that nobody can guess.
    pub fn set_rng(&mut self, rng: impl CryptoRng + Send + 'static) {
        self.house.core.shared.pools.mask_keys.supply(Box::new(rng));
    }

    /// Starts to connect to a server. See [`Connections::connect`].
    ///
    /// # Errors
    /// The session, with the reason.
    pub fn connect(&mut self, connect: Connect, session: S) -> Result<DialId, DialError<S>> {
        self.connections().connect(connect, session)
    }

    /// What the loop has done and what it holds.
    #[must_use]
    pub fn stats(&mut self) -> Stats {
        self.house.core.stats()
    }

    /// Turns until a shutdown is complete ([`Connections::shutdown`]).
    ///
    /// # Errors
    /// The poll's; see [`turn`](Self::turn).
    pub fn run<H: Handler<M, Session = S>>(&mut self, app: &mut H) -> io::Result<Shutdown> {
        loop {
            if let Progress::Finished(shutdown) = self.turn(app, None)? {
                return Ok(shutdown);
            }
        }
    }

    /// One pass: waits for events for at most `timeout` (`None`: until there is one; `ZERO`: not at all, for busy-polling),
    /// handles them, and writes what was staged.
    ///
    /// # Errors
    /// The poll's, or `Unsupported` for a loop in the caller's poll.
    pub fn turn<H: Handler<M, Session = S>>(
        &mut self,
        app: &mut H,
        timeout: Option<Duration>,
    ) -> io::Result<Progress> {
        let timeout = match timeout {
            Some(Duration::ZERO) => timeout,
            _ => earlier(timeout, self.next_timeout()),
        };
        let poll = self.poll.as_mut().ok_or(io::ErrorKind::Unsupported)?;
        match poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => self.events.clear(),
            result => result?,
        }
        Ok(self.house.turn(app, &self.events, Instant::now()))
    }

    /// One pass over events that the caller polled: for a loop in the caller's poll. Events with tokens of others are passed
    /// over. To be called after every poll, also without events: timers are handled here.
    pub fn handle_events<H: Handler<M, Session = S>>(
        &mut self,
        app: &mut H,
        events: &Events,
    ) -> Progress {
        self.house.turn(app, events, Instant::now())
    }

    /// How long polling may wait: `ZERO` when there is work that no event announces, `None` when only an event is awaited.
    #[must_use]
    pub fn next_timeout(&self) -> Option<Duration> {
        self.house.next_timeout()
    }
}

/// Readable when the loop has something to do, timers excepted: to nest the loop in another poller, together with
/// [`EventLoop::next_timeout`].
impl<S, M> AsFd for EventLoop<S, M> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.registry.as_fd()
    }
}

impl<S, M> fmt::Debug for EventLoop<S, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EventLoop")
            .field("connections", &self.house.core.slots.len())
            .finish_non_exhaustive()
    }
}

impl<S, M> House<S, M> {
    fn new(config: Config, registry: &Registry, tokens: Tokens) -> Result<Self, NewError> {
        config.validate()?;
        let registry = registry.try_clone()?;
        let registrar = Registrar::Loop { registry, tokens };
        Ok(Self {
            mailbox: Mailbox::new(config.mailbox_capacity, APP_MAILBOX, &registrar)?,
            dialler: Dialler::new(0),
            server: Server::new(config.initial_handshakes),
            scratch: vec![0; config.scratch_size].into_boxed_slice(),
            core: Core::new(Arc::new(config), registrar, Instant::now()),
        })
    }

    /// Events, then what no event announces, then the consequences of both.
    fn turn<H: Handler<M, Session = S>>(
        &mut self,
        app: &mut H,
        events: &Events,
        now: Instant,
    ) -> Progress {
        let Self {
            core,
            server,
            dialler,
            mailbox,
            scratch,
        } = self;
        core.shared.now = now;
        let mut driver = Driver::new(app, core, scratch);
        for event in events {
            handle_event(event, &mut driver, server, dialler, mailbox);
        }
        server.adopt(&mut driver);
        driver.open_upgraded();
        handle_ready(&mut driver);
        fire_timers(&mut driver, dialler, |driver, timer| match timer {
            Timer::Handshake(key) => server.handle_deadline(key, driver),
            _ => server.resume_accepting(),
        });
        for _ in 0..mailbox.waiting() {
            let Some(message) = mailbox.take() else { break };
            driver.handle_post(message);
        }
        driver.settle();
        server.accept(&mut driver);
        dialler.work(&mut driver);
        server.answer_deferred(&mut driver);
        server.step_shutdown(&mut driver);
        if driver.core.shared.shutting_down {
            dialler.abort(&mut driver);
        }
        driver.settle();
        match server.shutdown_outcome(core.slots.len()) {
            Some(shutdown) => Progress::Finished(shutdown),
            None => Progress::Running,
        }
    }

    fn next_timeout(&self) -> Option<Duration> {
        let shared = &self.core.shared;
        let threads_wait = self.mailbox.has_work() || self.dialler.has_work();
        if self.core.has_work() || self.server.has_work(&self.core) || threads_wait {
            return Some(Duration::ZERO);
        }
        let timer = shared.timers.next_deadline();
        let step = self.server.next_shutdown_step(shared.now);
        let next = match (timer, step) {
            (Some(timer), Some(step)) => timer.min(step),
            (timer, step) => timer.or(step)?,
        };
        Some(next.saturating_duration_since(Instant::now()))
    }
}

fn handle_event<H: Handler<M>, M>(
    event: &Event,
    driver: &mut Driver<'_, H, M>,
    server: &mut Server<H::Session>,
    dialler: &mut Dialler<H::Session>,
    mailbox: &mut Mailbox<M>,
) {
    let Some((kind, key)) = driver.core.shared.registrar.decode(event.token()) else {
        return;
    };
    match kind {
        TokenKind::Connection => {
            let ready = readiness(event);
            if !driver.handle_event(ConnId(key), ready) {
                server.handle_handshake(key, ready, driver);
            }
        }
        TokenKind::Listener => server.handle_listener(key),
        TokenKind::Source => driver.handle_source(key, event),
        TokenKind::Mailbox if key.index() == RESOLVER_MAILBOX => dialler.answer_bell(),
        TokenKind::Mailbox => mailbox.answer_bell(),
        TokenKind::Dial => dialler.handle_event(key, driver),
    }
}

#[inline]
fn readiness(event: &Event) -> Readiness {
    Readiness {
        readable: event.is_readable(),
        writable: event.is_writable(),
        hung_up: event.is_read_closed() || event.is_error(),
    }
}

/// Visits the connections that were ready at the beginning of the turn; those that become ready meanwhile have their next.
fn handle_ready<H: Handler<M>, M>(driver: &mut Driver<'_, H, M>) {
    for _ in 0..driver.core.shared.ready.len() {
        let Some(id) = driver.core.shared.ready.pop_front() else {
            return;
        };
        driver.handle_ready(id);
    }
}

/// Fires what is due. A timer that is set in here with no delay fires in the next turn at the earliest. What not both a loop
/// and a lone client have timers for goes to `other`.
fn fire_timers<H: Handler<M>, M>(
    driver: &mut Driver<'_, H, M>,
    dialler: &mut Dialler<H::Session>,
    mut other: impl FnMut(&mut Driver<'_, H, M>, Timer),
) {
    let now = driver.core.shared.now;
    let mark = driver.core.shared.timers.mark();
    while let Some((id, timer)) = driver.core.shared.timers.pop_due_before(now, mark) {
        match timer {
            Timer::Connection(conn) => handle_deadline(driver.core, conn),
            Timer::Dial(key) => dialler.handle_timer(key, driver),
            Timer::Application(data) => driver.handle_timer(id, data),
            Timer::Handshake(_) | Timer::Accept | Timer::Shutdown => other(driver, timer),
        }
    }
}

fn earlier(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}

impl fmt::Display for NewError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config(error) => error.fmt(f),
            Self::Io(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for NewError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Io(error) => Some(error),
        }
    }
}

impl From<ConfigError> for NewError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error)
    }
}

impl From<io::Error> for NewError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}
