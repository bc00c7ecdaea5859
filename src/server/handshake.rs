use std::io::{self, Read};

use super::{Server, answer::Refusal};
use crate::{
    driver::{Core, Driver, Handler, ListenerId, Opening, Readiness, Request, Shared, UpgradeId},
    memory::{Buffer, Key, TimerId},
    protocol::{
        accept_deflate,
        handshake::{
            HandshakeError, HeaderSlots, HttpResponse, RequestHead, Response, check_upgrade,
            find_head_end,
        },
    },
    transport::{BOTH_WAYS, PeerAddr, Stream, TokenKind},
};

/// An accepted socket that is not a connection yet.
pub(crate) struct Handshake<S> {
    pub(super) stream: Stream,
    peer: PeerAddr,
    listener: Option<ListenerId>,
    /// The slot that is reserved for the connection. The socket is registered under its name.
    pub(super) place: Key,
    /// The socket may have bytes: the kernel said so, and no read has shown since that it is drained. It is not said again
    /// to the connection.
    pub(super) readable: bool,
    /// The kernel said that the client will not send any more, so that a short read is not the last one.
    pub(super) hung_up: bool,
    /// `Some` from admission on.
    pub(super) timer: Option<TimerId>,
    pub(super) phase: Phase<S>,
}

pub(super) enum Phase<S> {
    /// The request head is coming in. A head that comes in one piece never needs a buffer.
    Head { buffer: Buffer, len: usize },
    /// The application will decide later. Nothing is read meanwhile. The upgrade is the core's, until it is decided or lost.
    Deferred(UpgradeId),
    /// The answer is going out and the kernel did not take all of it: of `rest` it has `written` bytes.
    Answer {
        rest: Vec<u8>,
        written: usize,
        then: Then<S>,
    },
    /// A refusal is written and our side is shut down. Input is thrown away until the client ends its side, so that a
    /// reset does not overtake the answer.
    Drain,
}

/// What follows when the answer is written.
pub(super) enum Then<S> {
    /// The connection opens, with the session and what came behind the request.
    Open(Opening<S>, Vec<u8>),
    /// It was a refusal, or the answer to a plain request.
    Close,
}

impl<S> Handshake<S> {
    pub(super) fn new(stream: Stream, peer: PeerAddr, listener: Option<ListenerId>) -> Self {
        let phase = Phase::Head {
            buffer: Buffer::default(),
            len: 0,
        };
        Self {
            stream,
            peer,
            listener,
            place: Key::NOBODY,
            readable: false,
            hung_up: false,
            timer: None,
            phase,
        }
    }

    /// The kernel did not take all of the answer. If the poll cannot be told, the deadline ends the handshake.
    pub(super) fn watch_writes(&mut self, shared: &Shared) {
        let name = (TokenKind::Connection, self.place);
        let registrar = &shared.registrar;
        let _ = registrar.reregister(&mut self.stream, name, BOTH_WAYS);
    }
}

impl<S> Server<S> {
    /// What the kernel says of a socket in its handshake, for whose connection `place` is reserved. A stale key is nobody's.
    pub(crate) fn handle_handshake<H: Handler<M, Session = S>, M>(
        &mut self,
        place: Key,
        readiness: Readiness,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(key) = driver.core.slots.reserved_by(place) else {
            return;
        };
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        handshake.readable |= readiness.readable | readiness.hung_up;
        handshake.hung_up |= readiness.hung_up;
        match &handshake.phase {
            Phase::Head { .. } if handshake.readable => self.read_head(key, driver),
            Phase::Answer { .. } if readiness.writable => self.write_rest(key, driver),
            _ => {}
        }
        // Also right after a refusal: what came before it is not announced again.
        self.drain(key, driver);
        // Also right after the head was read: that the client has gone is not announced again.
        if readiness.hung_up {
            self.lose_deferred(key, driver);
        }
    }

    /// Reads until the head is complete or the socket is drained. The first read goes into the scratch buffer; what is not
    /// a whole head moves into a leased buffer, which later reads go to directly, so that the cost is linear in the bytes
    /// however they are cut.
    fn read_head<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        driver: &mut Driver<'_, H, M>,
    ) {
        loop {
            let Some(handshake) = self.handshakes.get_mut(key) else {
                return;
            };
            let Phase::Head { buffer, len } = &mut handshake.phase else {
                return;
            };
            if !handshake.readable {
                return;
            }
            let scanned = *len;
            let room = if scanned == 0 {
                &mut *driver.scratch
            } else {
                // A whole head goes back to the scratch buffer, with what came behind it.
                let end = buffer.len().min(driver.scratch.len());
                &mut buffer[scanned..end]
            };
            let offered = room.len();
            match handshake.stream.read(room) {
                Ok(0) => return self.lose(key, io::ErrorKind::UnexpectedEof, driver.core),
                Ok(count) => {
                    // A short read has drained the socket; but an end of the stream that came with it is not announced again.
                    handshake.readable = count == offered || handshake.hung_up;
                    self.head_arrived(key, scanned, scanned + count, driver);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    handshake.readable = false;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.lose(key, error.kind(), driver.core),
            }
        }
    }

    /// Bytes that came with an adopted socket.
    pub(super) fn take_head_bytes<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        bytes: &[u8],
        driver: &mut Driver<'_, H, M>,
    ) {
        if !bytes.is_empty() {
            driver.scratch[..bytes.len()].copy_from_slice(bytes);
            self.head_arrived(key, 0, bytes.len(), driver);
        }
    }

    /// `end` bytes are there, of which `scanned` were known: in the scratch buffer if none were, in the handshake's own
    /// buffer otherwise.
    fn head_arrived<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        scanned: usize,
        end: usize,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(handshake) = self.handshakes.get_mut(key) else {
            return;
        };
        let Phase::Head { buffer, len } = &mut handshake.phase else {
            return;
        };
        *len = end;
        let shared = &mut driver.core.shared;
        let bytes = if scanned == 0 {
            &driver.scratch[..end]
        } else {
            &buffer[..end]
        };
        let max_head_size = shared.settings.config.max_head_size;
        let may_be_http = bytes
            .first()
            .is_none_or(|&byte| byte.is_ascii_alphabetic() || matches!(byte, b'\r' | b'\n'));
        match find_head_end(bytes, scanned) {
            // A TLS handshake or the like: there is nothing to wait for.
            _ if !may_be_http => {
                self.refuse_head(key, HandshakeError::Malformed, driver.core);
            }
            Some(head_end) if head_end <= max_head_size => {
                if scanned > 0 {
                    driver.scratch[..end].copy_from_slice(&buffer[..end]);
                }
                shared.pools.give_back(std::mem::take(buffer));
                self.decide(key, head_end, end, driver);
            }
            None if end < max_head_size => {
                if keep_head(buffer, end, driver.scratch, shared).is_none() {
                    let answer = HttpResponse::unavailable(shared.settings.config.retry_after);
                    self.refuse(key, answer, true, Refusal::NoBuffer, driver.core);
                }
            }
            _ => {
                self.refuse_head(key, HandshakeError::HeadTooLarge, driver.core);
            }
        }
    }

    /// Refuses a request whose head cannot be read.
    fn refuse_head(&mut self, key: Key, error: HandshakeError, core: &mut Core<S>) {
        self.refuse(key, error.into(), true, Refusal::Handshake(error), core);
    }

    /// The head is in the first `head_end` of `end` bytes in the scratch buffer: answers it.
    fn decide<H: Handler<M, Session = S>, M>(
        &mut self,
        key: Key,
        head_end: usize,
        end: usize,
        driver: &mut Driver<'_, H, M>,
    ) {
        let Some(handshake) = self.handshakes.get(key) else {
            return;
        };
        let config = &driver.core.shared.settings.config;
        let retry_after = config.retry_after;
        let mut slots = HeaderSlots::new(config.max_header_fields);
        let head = match RequestHead::parse(&driver.scratch[..head_end], &mut slots) {
            Ok(head) => head,
            Err(error) => {
                return self.refuse_head(key, error, driver.core);
            }
        };
        let include_body = head.method() != "HEAD";
        let request = Request::new(head, &handshake.peer, handshake.listener);
        let (answer, refusal) = match check_upgrade(&head) {
            Err(error) => (error.into(), Some(Refusal::Handshake(error))),
            Ok(None) => (Driver::ask_request(driver.app, &request), None),
            Ok(Some(_))
                if !config
                    .allowed_origins
                    .allows(head.header_values("Origin"), head.host()) =>
            {
                (HttpResponse::forbidden(), Some(Refusal::Origin))
            }
            Ok(Some(_)) if !driver.core.has_room() => (
                HttpResponse::unavailable(retry_after),
                Some(Refusal::NoConnection),
            ),
            Ok(Some(upgrade)) => {
                let mut response = Response::new(&head);
                if let Some(deflaters) = &driver.core.shared.pools.deflaters {
                    response.set_deflate(accept_deflate(head.extensions(), &deflaters.policy()));
                }
                let answer = Driver::ask_upgrade(driver.app, &request, &mut response);
                response.choose_subprotocol(&driver.core.shared.settings.config.subprotocols);
                match answer {
                    Ok(session) if response.is_deferred() => {
                        let response = response.into_deferred(upgrade.accept());
                        return self.defer(key, session, response, head_end..end, driver);
                    }
                    Ok(session) => {
                        let mut params = response.deflate().copied();
                        let agreement = driver.core.shared.pools.agree(&mut params);
                        response.set_deflate(params);
                        let opening = Opening { session, agreement };
                        self.answer.clear();
                        response.encode(&upgrade.accept(), &mut self.answer);
                        return self.accept_upgrade(key, opening, head_end..end, driver);
                    }
                    Err(answer) => (answer, Some(Refusal::Application)),
                }
            }
        };
        match refusal {
            Some(refusal) => self.refuse(key, answer, include_body, refusal, driver.core),
            None => {
                driver.core.shared.counters.rare().requests += 1;
                self.write_answer(key, &answer, include_body, driver.core);
            }
        }
    }
}

/// Makes sure that the first `end` bytes of a head lie in `buffer`, with room behind them. `None` when no buffer is free.
fn keep_head(buffer: &mut Buffer, end: usize, scratch: &[u8], shared: &mut Shared) -> Option<()> {
    if end < buffer.len() {
        return Some(());
    }
    let mut larger = shared.pools.buffers.lease(end + 1)?;
    let source = if buffer.is_empty() {
        &scratch[..end]
    } else {
        &buffer[..end]
    };
    larger[..end].copy_from_slice(source);
    shared.pools.give_back(std::mem::replace(buffer, larger));
    Some(())
}
