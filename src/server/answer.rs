use std::{
    io::{self, Read, Write},
    ops::Range,
};

use super::{
    Server,
    handshake::{Handshake, Phase, Then},
};
use crate::{
    driver::{Core, Driver, Handler, HandshakeFailure, Opening, Shared, Timer, Wire},
    memory::Key,
    protocol::{
        Role,
        handshake::{HandshakeError, HttpResponse},
    },
};

/// Why a handshake ended without a connection; each has its counter.
#[derive(Debug, Clone, Copy)]
pub(super) enum Refusal {
    Handshake(HandshakeError),
    Origin,
    Application,
    NoConnection,
    NoBuffer,
    Shutdown,
    Timeout,
    Lost,
}

impl From<HandshakeFailure> for Refusal {
    fn from(failure: HandshakeFailure) -> Self {
        match failure {
            HandshakeFailure::Io(_) => Self::Lost,
            HandshakeFailure::Timeout => Self::Timeout,
            HandshakeFailure::Shutdown => Self::Shutdown,
        }
    }
}

impl<S> Server<S> {
    /// Writes the 101 that lies in `self.answer`; the connection opens when all of it is written. `leftover` lies in the
    /// scratch buffer.
    pub(super) fn accept_upgrade<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        opening: Opening<S>,
        leftover: Range<usize>,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        match write_some(&mut handshake.stream, &self.answer) {
            Ok(written) if written == self.answer.len() => {
                self.open(key, opening, leftover, driver)
            }
            Ok(written) => {
                let rest = self.answer[written..].to_vec();
                let then = Then::Open(opening, driver.scratch[leftover].to_vec());
                handshake.watch_writes(&driver.core.shared);
                handshake.phase = Phase::Answer {
                    rest,
                    written: 0,
                    then,
                };
                driver.core.serving().reserved += 1;
            }
            Err(error) => {
                let session = opening.cancel(&mut driver.core.shared);
                driver.handshake_failed(session, HandshakeFailure::Io(error.kind()));
                self.lose(key, error.kind(), driver.core);
            }
        }
    }

    fn open<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        opening: Opening<S>,
        leftover: Range<usize>,
        driver: &mut Driver<'_, H, M>,
    ) {
        let shared = &mut driver.core.shared;
        if let Some(handshake) = self.take(key, shared) {
            let mut wire = Wire::new(handshake.stream, Role::Server, shared.now);
            wire.flags.readable = handshake.readable;
            wire.flags.hung_up = handshake.hung_up;
            driver.open(handshake.place, wire, opening, leftover);
        }
    }

    /// Answers with a refusal and ends the handshake.
    pub(super) fn refuse(
        &mut self,
        key: Key,
        answer: HttpResponse,
        include_body: bool,
        refusal: Refusal,
        core: &mut Core<S>,
    ) {
        trace!("handshake refused", key, refusal);
        count(refusal, &mut core.shared);
        self.write_answer(key, &answer, include_body, core);
    }

    pub(super) fn write_answer(
        &mut self,
        key: Key,
        answer: &HttpResponse,
        include_body: bool,
        core: &mut Core<S>,
    ) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        self.answer.clear();
        answer.encode(&mut self.answer, include_body);
        if let Phase::Head { buffer, len } = &mut handshake.phase {
            core.shared.pools.give_back(std::mem::take(buffer));
            *len = 0;
        }
        match write_some(&mut handshake.stream, &self.answer) {
            Ok(written) if written == self.answer.len() => self.start_draining(key, core),
            Ok(written) => {
                let rest = self.answer[written..].to_vec();
                handshake.watch_writes(&core.shared);
                handshake.phase = Phase::Answer {
                    rest,
                    written: 0,
                    then: Then::Close,
                };
            }
            Err(_) => {
                self.remove(key, core);
            }
        }
    }

    /// The kernel takes bytes again: the rest of the answer goes out.
    pub(super) fn write_rest<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        let Phase::Answer { rest, written, .. } = &mut handshake.phase else {
            return;
        };
        match write_some(&mut handshake.stream, &rest[*written..]) {
            Ok(count) if count < rest.len() - *written => *written += count,
            Ok(_) => self.answered(key, driver),
            Err(error) => self.abandon(key, HandshakeFailure::Io(error.kind()), driver),
        }
    }

    fn answered<H: Handler<M, Session = S>, M>(&mut self, key: Key, driver: &mut Driver<'_, H, M>) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        match std::mem::replace(&mut handshake.phase, Phase::Drain) {
            Phase::Answer {
                then: Then::Open(opening, leftover),
                ..
            } => {
                driver.core.serving().reserved -= 1;
                driver.scratch[..leftover.len()].copy_from_slice(&leftover);
                self.open(key, opening, 0..leftover.len(), driver);
            }
            _ => self.start_draining(key, driver.core),
        }
    }

    /// A refusal is written: our side is shut down, and the client has `close_timeout` to end its own.
    fn start_draining(&mut self, key: Key, core: &mut Core<S>) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        handshake.phase = Phase::Drain;
        if handshake.stream.shutdown_write().is_err() {
            self.remove(key, core);
            return;
        }
        let shared = &mut core.shared;
        let deadline = shared.now + shared.settings.config.close_timeout;
        if let Some(timer) = handshake.timer {
            shared.timers.reschedule(timer, deadline);
        }
    }

    /// Reads and throws away what a refused client has sent. An amount that is not worth serving ends it too: the rest would be a flood.
    pub(super) fn drain<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        if !(matches!(handshake.phase, Phase::Drain) && handshake.readable) {
            return;
        }
        for _ in 0..MAX_DRAIN_READS {
            match handshake.stream.read(driver.scratch) {
                Ok(count) if count > 0 => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    handshake.readable = false;
                    return;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        self.remove(key, driver.core);
    }

    /// The time of a handshake is over.
    pub(crate) fn handle_deadline<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        driver: &mut Driver<'_, H, M>,
    ) {
        let shared = &mut driver.core.shared;
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        // The timer is gone with its firing; a refusal gets a new one, for draining.
        handshake.timer = None;
        match handshake.phase {
            Phase::Head { len: 0, .. } => {
                count(Refusal::Timeout, shared);
                self.remove(key, driver.core);
            }
            Phase::Head { .. } => {
                let until = shared.now + shared.settings.config.close_timeout;
                handshake.timer = Some(shared.timers.insert(until, Timer::Handshake(key)));
                self.refuse(
                    key,
                    HttpResponse::request_timeout(),
                    true,
                    Refusal::Timeout,
                    driver.core,
                );
            }
            Phase::Deferred(_) => {
                let until = shared.now + shared.settings.config.close_timeout;
                handshake.timer = Some(shared.timers.insert(until, Timer::Handshake(key)));
                self.give_up_deferred(key, HandshakeFailure::Timeout, driver);
            }
            Phase::Answer { .. } => self.abandon(key, HandshakeFailure::Timeout, driver),
            Phase::Drain => {
                self.remove(key, driver.core);
            }
        }
    }

    /// The loop shuts down: a handshake that has not been answered is refused, one that is being accepted is given up.
    pub(super) fn abort_handshakes<H: Handler<M, Session = S>, M>(
        &mut self,
        driver: &mut Driver<'_, H, M>,
    ) {
        for index in 0..self.handshakes.index_bound() {
            let Some(key) = self.handshakes.key_at(index) else {
                continue;
            };
            let Some(handshake) = self.handshakes.get(key) else {
                continue;
            };
            match handshake.phase {
                Phase::Head { .. } => {
                    let shared = &mut driver.core.shared;
                    let answer = HttpResponse::unavailable(shared.settings.config.retry_after);
                    self.refuse(key, answer, true, Refusal::Shutdown, driver.core);
                }
                Phase::Deferred(_) => {
                    self.give_up_deferred(key, HandshakeFailure::Shutdown, driver);
                }
                Phase::Answer {
                    then: Then::Open(..),
                    ..
                } => {
                    self.abandon(key, HandshakeFailure::Shutdown, driver);
                }
                Phase::Answer {
                    then: Then::Close, ..
                }
                | Phase::Drain => {}
            }
        }
    }

    /// Ends all handshakes by force; returns how many there were.
    pub(super) fn drop_handshakes<H: Handler<M, Session = S>, M>(
        &mut self,
        driver: &mut Driver<'_, H, M>,
    ) -> usize {
        let dropped = self.handshakes.len();
        for index in 0..self.handshakes.index_bound() {
            if let Some(key) = self.handshakes.key_at(index) {
                self.abandon(key, HandshakeFailure::Shutdown, driver);
            }
        }
        dropped
    }

    /// The client went away before it had an answer.
    pub(super) fn lose(&mut self, key: Key, error: io::ErrorKind, core: &mut Core<S>) {
        trace!("handshake lost", key, error);
        count(Refusal::Lost, &mut core.shared);
        self.remove(key, core);
    }

    /// Ends a handshake whose answer cannot be written any more; a session comes back.
    pub(super) fn abandon<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        failure: HandshakeFailure,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(handshake) = self.remove(key, driver.core) else {
            return;
        };
        let session = match handshake.phase {
            Phase::Answer {
                then: Then::Open(opening, _),
                ..
            } => {
                driver.core.serving().reserved -= 1;
                Some(opening.cancel(&mut driver.core.shared))
            }
            // Gone already when the application has just refused.
            Phase::Deferred(id) => driver.core.take_deferred(id).map(|waiting| waiting.session),
            _ => None,
        };
        if let Some(session) = session {
            count(failure.into(), &mut driver.core.shared);
            driver.handshake_failed(session, failure);
        }
    }

    /// Ends a handshake; the slot that was reserved for its connection is free again.
    pub(super) fn remove(&mut self, key: Key, core: &mut Core<S>) -> Option<Handshake<S>> {
        let handshake = self.take(key, &mut core.shared)?;
        core.slots.release(handshake.place);
        Some(handshake)
    }

    /// Takes a handshake out of its slot; its buffer and its timer go back.
    fn take(&mut self, key: Key, shared: &mut Shared) -> Option<Handshake<S>> {
        let mut handshake = self.handshakes.remove(key)?;
        if let Some(timer) = handshake.timer.take() {
            shared.timers.remove(timer);
        }
        if let Phase::Head { buffer, .. } = &mut handshake.phase {
            shared.pools.give_back(std::mem::take(buffer));
        }
        note_handshakes(self.handshakes.len(), shared);
        Some(handshake)
    }
}

/// Scratch buffers full that a refused client may send after its request before the connection is cut.
const MAX_DRAIN_READS: usize = 16;

/// Writes as much as the kernel takes.
fn write_some(stream: &mut impl Write, bytes: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while written < bytes.len() {
        match stream.write(&bytes[written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => written += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(written)
}

fn count(refusal: Refusal, shared: &mut Shared) {
    let refused = &mut shared.counters.rare().refused;
    let counter = match refusal {
        Refusal::Handshake(HandshakeError::HeadTooLarge | HandshakeError::TooManyHeaders) => {
            &mut refused.head_too_large
        }
        Refusal::Handshake(HandshakeError::UnsupportedVersion) => &mut refused.version,
        Refusal::Handshake(_) => &mut refused.malformed,
        Refusal::Origin => &mut refused.origin,
        Refusal::Application => &mut refused.application,
        Refusal::NoConnection => &mut refused.no_connection,
        Refusal::NoBuffer => &mut refused.no_buffer,
        Refusal::Shutdown => &mut refused.shutdown,
        Refusal::Timeout => &mut refused.timeout,
        Refusal::Lost => &mut refused.lost,
    };
    *counter += 1;
}

/// Notes how many handshakes there are now.
pub(super) fn note_handshakes(current: usize, shared: &mut Shared) {
    let counters = shared.counters.rare();
    counters.handshakes_now = current;
    counters.handshakes.note(current);
}
