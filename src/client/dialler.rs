use std::{io, net::SocketAddr};

use mio::event::Source;

use super::dial::{Accepted, Dial, Step, Surroundings};
use crate::{
    config::Config,
    driver::{
        Connect, ConnectError, Core, DialId, DialOrder, Driver, Handler, Opening, Shared, Timer,
        Wire,
    },
    memory::{Key, Slots},
    protocol::{
        DeflateParams, Host, Role,
        handshake::{HeaderSlots, MAX_HEADER_FIELDS, ResponseHead},
    },
    transport::{Answer, BOTH_WAYS, Resolver, TokenKind},
};

/// The attempts to connect of a loop.
pub(crate) struct Dialler<S> {
    /// Boxed: most of the time there is none, and one takes much more room than the connection that it becomes.
    dials: Slots<Box<Dial<S>>>,
    /// Made for the first name.
    resolver: Option<Box<Resolver>>,
}

/// The mailbox of the resolver, among those of a loop.
pub(crate) const RESOLVER_MAILBOX: u32 = 1;

impl<S> Dialler<S> {
    /// `capacity`: attempts at a time without allocating again.
    pub(crate) fn new(capacity: usize) -> Self {
        Self {
            dials: Slots::with_capacity(capacity),
            resolver: None,
        }
    }

    /// Begins the attempts that the application asked for, and ends those that it has cancelled.
    pub(crate) fn work<H: Handler<M, Session = S>, M>(&mut self, driver: &mut Driver<'_, H, M>) {
        // Taken before more is asked, so that the resolver has room for every answer.
        let answers = self.answers();
        // Those that there are now: one that fails at once and is repeated at once has its next turn.
        for order in std::mem::take(&mut driver.core.orders) {
            match order {
                DialOrder::Begin {
                    id,
                    connect,
                    session,
                } => self.begin(id, connect, session, driver),
                DialOrder::Cancel(id) => {
                    if let Some(key) = self.find(id) {
                        self.fail(key, ConnectError::Cancelled, driver);
                    }
                }
            }
        }
        for answer in answers {
            self.resolved(answer, driver);
        }
    }

    /// The answers of the resolver that wait now.
    fn answers(&mut self) -> Vec<Answer> {
        let Some(resolver) = &mut self.resolver else {
            return Vec::new();
        };
        (0..resolver.waiting())
            .map_while(|_| resolver.take())
            .collect()
    }

    /// True exactly when `work` would find something to do although no event says so.
    pub(crate) fn has_work(&self) -> bool {
        self.resolver.as_ref().is_some_and(|it| it.has_work())
    }

    /// The resolver's mailbox has something.
    pub(crate) fn answer_bell(&mut self) {
        if let Some(resolver) = &mut self.resolver {
            resolver.answer_bell();
        }
    }

    fn find(&self, id: DialId) -> Option<Key> {
        self.dials
            .iter()
            .find(|(_, dial)| dial.id == id)
            .map(|(key, _)| key)
    }

    fn begin<H: Handler<M, Session = S>, M>(
        &mut self,
        id: DialId,
        connect: Box<Connect>,
        session: S,
        driver: &mut Driver<'_, H, M>,
    ) {
        let shared = &mut driver.core.shared;
        let timeout = connect
            .timeout
            .unwrap_or(shared.settings.config.connect_timeout);
        // A deadline beyond the end of time is none that comes; neither is one in a year.
        let deadline = shared.now + timeout.min(Config::MAX_TIMEOUT);
        let nonce = shared.pools.mask_keys.bytes();
        let (host, port) = connect.first_hop();
        let key = self
            .dials
            .insert(Box::new(Dial::new(id, connect, session, nonce, deadline)));
        let Some(dial) = self.dials.get_mut(key) else {
            return;
        };
        dial.timer = Some(shared.timers.insert(deadline, Timer::Dial(key)));
        if let Some(deflaters) = &mut shared.pools.deflaters {
            dial.offer(deflaters.offer());
        }
        let around = surroundings(key, shared);
        let step = match host {
            Host::Ipv4(address) => dial.race(&[SocketAddr::from((address, port))], &around),
            Host::Ipv6(address) => dial.race(&[SocketAddr::from((address, port))], &around),
            Host::UnixPath(path) => dial.connect_unix(path, &around),
            Host::Name(name) => match ask(&mut self.resolver, key, (&name, port), shared) {
                Ok(()) => Step::Wait,
                Err(error) => Step::Failed(ConnectError::Resolve(error.kind())),
            },
        };
        self.follow(key, step, driver);
    }

    fn resolved<H: Handler<M, Session = S>, M>(
        &mut self,
        Answer { id, result }: Answer,
        driver: &mut Driver<'_, H, M>,
    ) {
        let key = id_to_key(id);
        // The dial may have ended while the resolver was at work.
        let Some(dial) = self.dials.get_mut(key) else {
            return;
        };
        let step = match result {
            Ok(addresses) if addresses.is_empty() => {
                Step::Failed(ConnectError::Resolve(io::ErrorKind::NotFound))
            }
            Ok(addresses) => dial.race(&addresses, &surroundings(key, &driver.core.shared)),
            Err(error) => Step::Failed(ConnectError::Resolve(error.kind())),
        };
        self.follow(key, step, driver);
    }

    /// What the kernel says of a socket of a dial. A stale key is nobody's.
    pub(crate) fn handle_event<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(dial) = self.dials.get_mut(key) else {
            return;
        };
        let step = dial.step(&surroundings(key, &driver.core.shared));
        self.follow(key, step, driver);
    }

    /// Tries the sockets of all attempts: nobody says which are ready.
    pub(crate) fn try_all<H: Handler<M, Session = S>, M>(&mut self, driver: &mut Driver<'_, H, M>) {
        for index in 0..self.dials.index_bound() {
            if let Some(key) = self.dials.key_at(index) {
                self.handle_event(key, driver);
            }
        }
    }

    /// Everything that a poll has to watch.
    pub(crate) fn sources(&mut self) -> impl Iterator<Item = &mut dyn Source> {
        let bell = self.resolver.iter_mut();
        let bell = bell.map(|resolver| resolver.bell() as &mut dyn Source);
        let streams = self.dials.values_mut().flat_map(|dial| dial.streams());
        bell.chain(streams.map(|stream| stream as &mut dyn Source))
    }

    /// The timer of a dial fired: its time is up, or the next address is to be tried.
    pub(crate) fn handle_timer<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(dial) = self.dials.get_mut(key) else {
            return;
        };
        dial.timer = None;
        let shared = &driver.core.shared;
        let step = if dial.deadline <= shared.now {
            dial.time_out()
        } else {
            dial.step(&surroundings(key, shared))
        };
        self.follow(key, step, driver);
    }

    fn follow<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        step: Step,
        driver: &mut Driver<'_, H, M>,
    ) {
        match step {
            Step::Wait => self.set_timer(key, &mut driver.core.shared),
            Step::Open { head_len, deflate } => self.open(key, head_len, deflate, driver),
            Step::Failed(error) => self.fail(key, error, driver),
        }
    }

    fn set_timer(&mut self, key: Key, shared: &mut Shared) {
        let Some(dial) = self.dials.get_mut(key) else {
            return;
        };
        let at = dial.next_look();
        let moved = dial
            .timer
            .is_some_and(|timer| shared.timers.reschedule(timer, at));
        if !moved {
            dial.timer = Some(shared.timers.insert(at, Timer::Dial(key)));
        }
    }

    fn open<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        head_len: usize,
        deflate: Option<DeflateParams>,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(dial) = self.remove(key, &mut driver.core.shared) else {
            return;
        };
        let pools = &mut driver.core.shared.pools;
        let agreement = pools.agreed(deflate.as_ref(), dial.keeps_peers);
        let Ok(Accepted {
            stream,
            mut session,
            answer,
        }) = dial.into_accepted()
        else {
            return;
        };
        let (head, leftover) = answer.split_at(head_len);
        let mut slots = HeaderSlots::new(MAX_HEADER_FIELDS);
        if let Ok(head) = ResponseHead::parse(head, &mut slots) {
            Driver::tell_connected(driver.app, &mut session, &head);
        }
        driver.scratch[..leftover.len()].copy_from_slice(leftover);
        let opening = Opening { session, agreement };
        let mut wire = Wire::new(stream, Role::Client, driver.core.shared.now);
        wire.flags.watches_writes = true;
        let Core { slots, shared, .. } = &mut *driver.core;
        let place = slots.reserve(Key::NOBODY);
        let name = (TokenKind::Connection, place);
        let registered = shared
            .registrar
            .reregister(&mut wire.stream, name, BOTH_WAYS);
        if let Err(error) = registered {
            slots.release(place);
            shared.outbound -= 1;
            let session = opening.cancel(shared);
            return driver.connect_failed(session, ConnectError::Io(error.kind()));
        }
        driver.open(place, wire, opening, 0..leftover.len());
    }

    fn fail<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        error: ConnectError,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(dial) = self.remove(key, &mut driver.core.shared) else {
            return;
        };
        let shared = &mut driver.core.shared;
        shared.outbound -= 1;
        shared.pools.agreed(None, dial.keeps_peers);
        driver.connect_failed(dial.session, error);
    }

    /// Ends all attempts: the loop shuts down.
    pub(crate) fn abort<H: Handler<M, Session = S>, M>(&mut self, driver: &mut Driver<'_, H, M>) {
        for index in 0..self.dials.index_bound() {
            if let Some(key) = self.dials.key_at(index) {
                self.fail(key, ConnectError::Shutdown, driver);
            }
        }
        // No callback adds to these: the loop dials no more.
        for order in std::mem::take(&mut driver.core.orders) {
            if let DialOrder::Begin { session, .. } = order {
                let shared = &mut driver.core.shared;
                shared.dials -= 1;
                shared.outbound -= 1;
                driver.connect_failed(session, ConnectError::Shutdown);
            }
        }
    }

    fn remove(&mut self, key: Key, shared: &mut Shared) -> Option<Box<Dial<S>>> {
        let mut dial = self.dials.remove(key)?;
        if let Some(timer) = dial.timer.take() {
            shared.timers.remove(timer);
        }
        if let Some(resolver) = self.resolver.as_mut().filter(|_| dial.is_resolving()) {
            resolver.forget(key_to_id(key));
        }
        shared.dials -= 1;
        Some(dial)
    }

    #[cfg(test)]
    pub(crate) fn set_resolver(&mut self, resolver: Resolver) {
        self.resolver = Some(Box::new(resolver));
    }
}

/// Asks for the addresses of a host; the answer comes to the mailbox.
fn ask(
    resolver: &mut Option<Box<Resolver>>,
    key: Key,
    (host, port): (&str, u16),
    shared: &Shared,
) -> io::Result<()> {
    let resolver = match resolver {
        Some(resolver) => resolver,
        None => {
            let capacity = shared.max_dials();
            let new = Resolver::new(capacity, RESOLVER_MAILBOX, &shared.registrar)?;
            resolver.insert(Box::new(new))
        }
    };
    resolver.ask(key_to_id(key), host, port)
}

fn surroundings(key: Key, shared: &Shared) -> Surroundings<'_> {
    let config = &shared.settings.config;
    Surroundings {
        registrar: &shared.registrar,
        name: (TokenKind::Dial, key),
        sockets: shared.settings.sockets(),
        now: shared.now,
        max_head_size: config.max_head_size,
        max_leftover: config.read_buffer_size,
    }
}

/// The resolver's question for a dial, and back.
fn key_to_id(key: Key) -> u64 {
    u64::from(key.index()) << 32 | u64::from(key.generation())
}

#[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
fn id_to_key(id: u64) -> Key {
    Key::from_parts((id >> 32) as u32, id as u32)
}

// Elsewhere a full backlog does not hang.
#[cfg(all(test, target_os = "linux"))]
#[path = "dialler_tests.rs"]
mod tests;
