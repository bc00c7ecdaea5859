use std::{
    fmt, io,
    sync::Arc,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Registry, Token, event::Source};
use rand_chacha::rand_core::CryptoRng;

use super::{fire_timers, readiness};
use crate::{
    client::Dialler,
    config::{Config, ConfigError},
    connection::CloseCause,
    driver::{
        Conn, ConnId, Connect, Connections, Core, DialError, DialId, Driver, Handler, Readiness,
        Timer, Visit,
    },
    protocol::CloseCode,
    transport::{BOTH_WAYS, Registrar},
};

/// One connection that its owner drives: no loop, and no poll unless it has to wait.
///
/// It is made of the parts of an [`EventLoop`](crate::EventLoop) with room for one connection, and calls the same [`Handler`].
/// There are three ways to drive it:
///
/// * [`run`](Self::run) waits for events until the connection is over;
/// * [`turn`](Self::turn) does one pass; with a timeout of `ZERO` it reads without asking a poll first, which is the fastest
///   way to spin on one socket;
/// * on a poll of the owner's, or as a foreign source of an event loop: it is a [`Source`]. After each event with its token,
///   and when [`deadline`](Self::deadline) is over, call `turn` with `ZERO`.
///
/// It is on one poll at a time, the last one that it was put on: registering it anywhere takes it off the poll where it was, and
/// so does waiting by itself.
///
/// [`Connections::shutdown`] is for good, as that of a loop: the attempt is given up, the connection closed with 1001 and ended
/// by force after the deadline, and `connect` is refused from then on.
///
/// Mask keys and the handshake's key are drawn from a cryptographic generator that the owner supplies.
///
/// ```no_run
/// use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
/// use wsloop::{Client, CloseCode, Config, Conn, Connect, Handler, Message, MessageKind};
///
/// struct Greeter;
///
/// impl Handler for Greeter {
///     type Session = ();
///
///     fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
///         let _ = conn.send(MessageKind::Text, "hello");
///     }
///
///     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
///         println!("{:?}", message.text());
///         let _ = conn.close(CloseCode::NORMAL, "that was all");
///     }
/// }
///
/// # fn seed() -> [u8; 32] { [0; 32] }
/// let rng = ChaCha20Rng::from_seed(seed()); // 32 bytes that nobody can guess
/// let mut client = Client::new(Config::default(), rng)?;
/// client.connect(Connect::to("ws://localhost:9001/")?, ()).map_err(|error| error.to_string())?;
/// client.run(&mut Greeter)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Client<S> {
    core: Core<S>,
    dialler: Dialler<S>,
    scratch: Box<[u8]>,
    /// For waiting; made when the client first has to, and not when somebody else polls it.
    poll: Option<Box<(Poll, Events)>>,
}

/// Where a [`Client`] stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientState {
    /// There is no connection: never dialled, failed, or over.
    Idle,
    /// An attempt is under way.
    Connecting,
    /// Messages go both ways.
    Open,
    /// The close handshake is under way.
    Closing,
}

/// The client's own token in its own poll, where it is alone.
const OWN_TOKEN: Token = Token(0);
/// Events that are fetched at a time: what they say does not matter, only that there is one.
const MAX_EVENTS: usize = 2;

impl<S> Client<S> {
    /// A client that is not connected. Of the configuration, everything counts that is not about listening or about how many
    /// connections there are. Clients may share one, in an `Arc`.
    ///
    /// # Errors
    /// A setting that cannot work.
    pub fn new(
        config: impl Into<Arc<Config>>,
        rng: impl CryptoRng + Send + 'static,
    ) -> Result<Self, ConfigError> {
        let config = config.into();
        config.validate()?;
        let registrar = Registrar::Alone(None);
        let scratch = vec![0; config.scratch_size].into_boxed_slice();
        let mut core = Core::new(config, registrar, Instant::now());
        core.shared.pools.mask_keys.supply(Box::new(rng));
        Ok(Self {
            core,
            dialler: Dialler::new(1),
            scratch,
            poll: None,
        })
    }

    /// Starts to connect; what becomes of it comes to the handler. See [`Connections::connect`].
    ///
    /// # Errors
    /// The session, with the reason: above all `TooManyDials` and `TooManyConnections` while there is a connection already.
    pub fn connect(&mut self, connect: Connect, session: S) -> Result<DialId, DialError<S>> {
        self.connections().connect(connect, session)
    }

    /// The connection, to send on it between turns; what is staged is written in the next. `None` unless there is one.
    pub fn conn(&mut self) -> Option<Conn<'_, S>> {
        let id = only(&self.core)?;
        Conn::new(&mut self.core, id, &Visit::NONE)
    }

    /// As in callbacks: timers, cancelling, statistics.
    pub fn connections(&mut self) -> Connections<'_, S> {
        self.core.shared.now = Instant::now();
        Connections::new(&mut self.core)
    }

    /// Where the client stands.
    #[must_use]
    pub fn state(&self) -> ClientState {
        match only(&self.core).and_then(|id| self.core.slots.get(id.0)) {
            Some(slot) if slot.wire.link.state().is_open() => ClientState::Open,
            Some(_) => ClientState::Closing,
            None if self.core.shared.dials > 0 => ClientState::Connecting,
            None => ClientState::Idle,
        }
    }

    /// When [`turn`](Self::turn) has to be called at the latest, also without an event; `None`: only an event matters.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        let now = || Some(self.core.shared.now);
        if self.has_work() {
            now()
        } else {
            self.core.shared.timers.next_deadline()
        }
    }

    /// Turns until nothing is to come any more: no connection, no attempt, and no timer of the application's, which may be
    /// the one that connects again.
    ///
    /// # Errors
    /// The poll's.
    pub fn run<H: Handler<M, Session = S>, M>(&mut self, app: &mut H) -> io::Result<()> {
        self.turn(app, None)?;
        while self.expects_something() {
            self.turn(app, None)?;
        }
        Ok(())
    }

    /// One pass: reads what is there, calls the handler, writes what was staged. When there is nothing to do it waits for at
    /// most `timeout` (`None`: until there is); with `ZERO` it never asks a poll. It does not wait when nothing is to come:
    /// `Idle`, without a timer of the application's.
    ///
    /// # Errors
    /// The poll's. Errors of the connection come to the handler.
    pub fn turn<H: Handler<M, Session = S>, M>(
        &mut self,
        app: &mut H,
        timeout: Option<Duration>,
    ) -> io::Result<ClientState> {
        self.core.shared.now = Instant::now();
        let before = self.progress();
        let spins = timeout == Some(Duration::ZERO);
        // Sockets that our poll watches need not be tried: what was read until it was dry will be announced.
        let tried = spins || self.poll.is_none();
        self.pass(app, tried.then(|| self.guess()));
        let idle = self.progress() == before && !self.has_work() && self.expects_something();
        if !spins && idle {
            let ready = self.wait(timeout)?;
            self.core.shared.now = Instant::now();
            self.pass(app, Some(ready));
        }
        Ok(self.state())
    }

    /// True exactly when an event or a timer is to come.
    fn expects_something(&self) -> bool {
        let shared = &self.core.shared;
        // As a loop that has shut down, it does not wait for what can begin nothing any more.
        let awaits_timer = shared.app_timers > 0 && !shared.shutting_down;
        self.state() != ClientState::Idle || awaits_timer
    }

    /// Something that changes with whatever a pass does.
    fn progress(&self) -> impl PartialEq + use<S> {
        let shared = &self.core.shared;
        (shared.counters.progress(), shared.app_timers, self.state())
    }

    fn has_work(&self) -> bool {
        self.core.has_work() || self.dialler.has_work()
    }

    /// What to take the sockets for when nobody has said what they are ready for.
    fn guess(&self) -> Readiness {
        Readiness {
            readable: true,
            writable: true,
            // The owner's poll tells the owner, and only once: a short read must not be taken for the last.
            hung_up: self.poll.is_none() && self.core.shared.registrar.is_watched(),
        }
    }

    /// Tries the sockets if they are `ready` for something, and does everything else that is to be done.
    fn pass<H: Handler<M, Session = S>, M>(&mut self, app: &mut H, ready: Option<Readiness>) {
        let mut driver = Driver::new(app, &mut self.core, &mut self.scratch);
        self.dialler.answer_bell();
        if let Some(ready) = ready {
            self.dialler.try_all(&mut driver);
            // One that has just opened too: behind the 101 there may be more.
            if let Some(id) = only(driver.core) {
                driver.handle_event(id, ready);
            }
        }
        for _ in 0..driver.core.shared.ready.len() {
            let Some(id) = driver.core.shared.ready.pop_front() else {
                break;
            };
            driver.handle_ready(id);
        }
        // A client accepts nothing: what is neither a connection's nor an attempt's is the end of a shutdown.
        fire_timers(&mut driver, &mut self.dialler, |driver, _| {
            force(driver.core)
        });
        if let Some(asked) = driver.core.shared.shutdown.take() {
            let (deadline, _) = *asked;
            shut_down(&mut driver, &mut self.dialler, deadline);
        }
        driver.settle();
        self.dialler.work(&mut driver);
    }

    /// Waits for an event, and returns what the events say.
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Readiness> {
        if self.poll.is_none() {
            let poll = Poll::new()?;
            self.watch(poll.registry(), OWN_TOKEN)?;
            self.poll = Some(Box::new((poll, Events::with_capacity(MAX_EVENTS))));
        }
        let left = self
            .deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        let timeout = match (timeout, left) {
            (Some(timeout), Some(left)) => Some(timeout.min(left)),
            (timeout, left) => timeout.or(left),
        };
        let mut ready = self.guess();
        if let Some(waiting) = &mut self.poll {
            let (poll, events) = &mut **waiting;
            match poll.poll(events, timeout) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => {
                    result?;
                    ready.hung_up = events.iter().any(|event| readiness(event).hung_up);
                }
            }
        }
        Ok(ready)
    }

    /// Announces every socket to a poll, those that come later too.
    fn watch(&mut self, registry: &Registry, token: Token) -> io::Result<()> {
        self.leave()?;
        self.core.shared.registrar = Registrar::Alone(Some((registry.try_clone()?, token)));
        self.sources()
            .try_for_each(|source| source.register(registry, token, BOTH_WAYS))
    }

    /// Takes every socket off the poll that watches them, if there is one.
    fn leave(&mut self) -> io::Result<()> {
        let left = std::mem::replace(&mut self.core.shared.registrar, Registrar::Alone(None));
        self.sources()
            .try_for_each(|source| left.deregister(source))?;
        if let Some(slot) = only(&self.core).and_then(|id| self.core.slot_mut(id)) {
            // The next poll says it again; without one, every turn asks.
            slot.wire.flags.hung_up = false;
        }
        self.poll = None;
        Ok(())
    }

    /// Everything that a poll has to watch.
    fn sources(&mut self) -> impl Iterator<Item = &mut dyn Source> {
        let stream = self
            .core
            .slots
            .values_mut()
            .map(|slot| &mut slot.wire.stream as &mut dyn Source);
        self.dialler.sources().chain(stream)
    }
}

/// What a shutdown means to a lone client: the attempt is given up, the connection is closed, and after `deadline` ended.
fn shut_down<H: Handler<M>, M>(
    driver: &mut Driver<'_, H, M>,
    dialler: &mut Dialler<H::Session>,
    deadline: Duration,
) {
    driver.core.shared.shutting_down = true;
    dialler.abort(driver);
    let Some(id) = only(driver.core) else {
        return;
    };
    if let Some((wire, shared)) = driver.core.wire_mut(id) {
        wire.close(id, CloseCode::GOING_AWAY, CloseCause::Shutdown, shared);
        // A second call can bring the deadline forward: the earlier one ends it.
        let at = shared.now + deadline;
        shared.timers.insert(at, Timer::Shutdown);
    }
}

/// The deadline of a shutdown is over.
fn force<S>(core: &mut Core<S>) {
    let Some(id) = only(core) else {
        return;
    };
    if let Some((wire, shared)) = core.wire_mut(id) {
        wire.end(id, CloseCause::Shutdown, shared);
    }
}

/// The one connection, if there is one.
fn only<S>(core: &Core<S>) -> Option<ConnId> {
    core.slots.key_at(0).map(ConnId)
}

/// On a poll of the owner's. Everything that the client watches gets the one token, and is watched for reading and writing,
/// whatever `interests` says.
impl<S> Source for Client<S> {
    fn register(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        self.watch(registry, token)
    }

    fn reregister(&mut self, registry: &Registry, token: Token, _: Interest) -> io::Result<()> {
        self.watch(registry, token)
    }

    fn deregister(&mut self, _: &Registry) -> io::Result<()> {
        match self.poll {
            // It has left the owner's poll to wait by itself.
            Some(_) => Ok(()),
            None => self.leave(),
        }
    }
}

impl<S> fmt::Debug for Client<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
#[path = "client_tests.rs"]
mod tests;
