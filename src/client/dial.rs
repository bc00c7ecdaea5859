use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    time::Instant,
};

use mio::Interest;

use super::race::Race;
use crate::{
    driver::{Connect, ConnectError, DialId, RefusedAnswer},
    memory::{Key, TimerId},
    protocol::{
        handshake::{
            BodyLength, ClientKey, HeaderSlots, MAX_HEADER_FIELDS, ResponseError, ResponseHead,
            body_length, check_response, find_head_end,
        },
        proxy::Tunnel,
    },
    transport::{Registrar, SocketOptions, Stream, TokenKind, start_connect},
};

/// One attempt to connect.
pub(super) struct Dial<S> {
    pub(super) id: DialId,
    pub(super) session: S,
    pub(super) connect: Connect,
    pub(super) deadline: Instant,
    pub(super) timer: Option<TimerId>,
    key: ClientKey,
    phase: Phase,
}

enum Phase {
    /// The resolver is asked.
    Resolving,
    /// Sockets that are connecting; the first one wins.
    Racing {
        race: Race,
        attempts: Vec<Stream>,
        last_error: ErrorKind,
    },
    /// Connected: the request goes out and the answer comes in.
    Talking(Talk),
}

struct Talk {
    stream: Stream,
    /// The conversation with the proxy, which comes first.
    tunnel: Tunnel,
    /// What is to be sent, and how much of it is.
    request: Vec<u8>,
    written: usize,
    /// What has come, and how much of it was searched for the end of the head.
    answer: Vec<u8>,
    scanned: usize,
}

/// What a step of a dial leads to.
pub(super) enum Step {
    /// Something has to happen first.
    Wait,
    /// The server has accepted: the first so many bytes of the answer are its head.
    Open {
        head_len: usize,
    },
    Failed(ConnectError),
}

/// A dial whose server has accepted.
pub(super) struct Accepted<S> {
    pub(super) stream: Stream,
    pub(super) session: S,
    /// Head of the answer, and what came behind it.
    pub(super) answer: Vec<u8>,
}

/// What an attempt needs to know of the loop.
pub(super) struct Surroundings<'a> {
    pub(super) registrar: &'a Registrar,
    /// Names the sockets of the attempt among those of the loop.
    pub(super) name: (TokenKind, Key),
    pub(super) sockets: &'a SocketOptions,
    pub(super) now: Instant,
    /// The largest head of an answer in bytes.
    pub(super) max_head_size: usize,
    /// How many bytes are taken behind it before the connection opens.
    pub(super) max_leftover: usize,
}

impl<S> Dial<S> {
    pub(super) fn new(
        id: DialId,
        connect: Connect,
        session: S,
        nonce: [u8; 16],
        deadline: Instant,
    ) -> Self {
        let key = ClientKey::new(nonce);
        Self {
            id,
            session,
            connect,
            deadline,
            timer: None,
            key,
            phase: Phase::Resolving,
        }
    }

    /// The addresses are known.
    pub(super) fn race(&mut self, addresses: &[SocketAddr], around: &Surroundings<'_>) -> Step {
        let local = self.connect.local;
        let reachable: Vec<SocketAddr> = addresses
            .iter()
            .copied()
            .filter(|address| local.is_none_or(|local| local.is_ipv4() == address.is_ipv4()))
            .collect();
        self.phase = Phase::Racing {
            race: Race::new(&reachable, around.now),
            attempts: Vec::new(),
            last_error: ErrorKind::AddrNotAvailable,
        };
        self.step(around)
    }

    /// Connects to a Unix socket.
    pub(super) fn connect_unix(&mut self, path: &str, around: &Surroundings<'_>) -> Step {
        match mio::net::UnixStream::connect(path).map(Stream::from) {
            Ok(mut stream) => match register(&mut stream, around) {
                Ok(()) => self.talk(stream, around),
                Err(error) => Step::Failed(ConnectError::Io(error.kind())),
            },
            Err(error) => Step::Failed(ConnectError::Io(error.kind())),
        }
    }

    /// Goes on as far as the sockets allow.
    pub(super) fn step(&mut self, around: &Surroundings<'_>) -> Step {
        match &mut self.phase {
            Phase::Resolving => Step::Wait,
            Phase::Racing { .. } => self.step_race(around),
            Phase::Talking(talk) => talk.step(&self.key, &self.connect, around),
        }
    }

    fn step_race(&mut self, around: &Surroundings<'_>) -> Step {
        let Phase::Racing {
            race,
            attempts,
            last_error,
        } = &mut self.phase
        else {
            return Step::Wait;
        };
        let mut winner = None;
        let mut at = 0;
        while at < attempts.len() && winner.is_none() {
            match connected(&attempts[at]) {
                Ok(true) => winner = Some(attempts.swap_remove(at)),
                Ok(false) => at += 1,
                Err(error) => {
                    *last_error = error.kind();
                    race.failed(around.now);
                    attempts.swap_remove(at);
                }
            }
        }
        if let Some(stream) = winner {
            return self.talk(stream, around);
        }
        while let Some(address) = race.next(around.now) {
            let started = start_connect(address, self.connect.local, around.sockets)
                .and_then(|mut stream| register(&mut stream, around).map(|()| stream));
            match started {
                Ok(stream) => attempts.push(stream),
                Err(error) => {
                    *last_error = error.kind();
                    race.failed(around.now);
                }
            }
        }
        if attempts.is_empty() && race.next_at().is_none() {
            return Step::Failed(ConnectError::Io(*last_error));
        }
        Step::Wait
    }

    fn talk(&mut self, stream: Stream, around: &Surroundings<'_>) -> Step {
        let tunnel = match self.connect.tunnel() {
            Ok(tunnel) => tunnel,
            Err(error) => return Step::Failed(error),
        };
        let mut request = Vec::new();
        self.connect.request.encode(&self.key, &mut request);
        let talk = Talk {
            stream,
            tunnel,
            request,
            written: 0,
            answer: Vec::new(),
            scanned: 0,
        };
        self.phase = Phase::Talking(talk);
        self.step(around)
    }

    /// When the dial has to be looked at without an event.
    pub(super) fn next_look(&self) -> Instant {
        match &self.phase {
            Phase::Racing { race, .. } => race
                .next_at()
                .map_or(self.deadline, |at| at.min(self.deadline)),
            _ => self.deadline,
        }
    }

    /// The sockets of the attempt.
    pub(super) fn streams(&mut self) -> &mut [Stream] {
        match &mut self.phase {
            Phase::Resolving => &mut [],
            Phase::Racing { attempts, .. } => attempts,
            Phase::Talking(talk) => std::slice::from_mut(&mut talk.stream),
        }
    }

    /// After [`Step::Open`].
    pub(super) fn into_accepted(self) -> Result<Accepted<S>, S> {
        match self.phase {
            Phase::Talking(Talk { stream, answer, .. }) => Ok(Accepted {
                stream,
                session: self.session,
                answer,
            }),
            _ => Err(self.session),
        }
    }
}

impl Talk {
    fn step(&mut self, key: &ClientKey, connect: &Connect, around: &Surroundings<'_>) -> Step {
        match self.step_tunnel() {
            Ok(true) => {}
            Ok(false) => return Step::Wait,
            Err(error) => return Step::Failed(error),
        }
        match self.write().and_then(|()| self.read(around)) {
            Err(error) => Step::Failed(ConnectError::Io(error.kind())),
            Ok(ended) => self.judge(ended, key, connect, around),
        }
    }

    /// Goes on with the conversation with the proxy. `Ok(false)` while it is not over.
    fn step_tunnel(&mut self) -> Result<bool, ConnectError> {
        let failed = |error: io::Error| ConnectError::Io(error.kind());
        while !self.tunnel.is_done() {
            if !self.write_to_proxy().map_err(failed)? {
                return Ok(false);
            }
            let mut chunk = [0; 512];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(ConnectError::Io(ErrorKind::UnexpectedEof)),
                Ok(count) => {
                    let progress = self
                        .tunnel
                        .handle_input(&chunk[..count])
                        .map_err(ConnectError::Proxy)?;
                    // What is behind the proxy's last word is the server's first.
                    self.answer
                        .extend_from_slice(&chunk[progress.consumed..count]);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(failed(error)),
            }
        }
        Ok(true)
    }

    /// Writes what the proxy has to be told. `Ok(false)` while there is more.
    fn write_to_proxy(&mut self) -> io::Result<bool> {
        while let Some(bytes) = self.tunnel.poll_output() {
            match self.stream.write(bytes) {
                Ok(count) => self.tunnel.advance(count),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(true)
    }

    fn write(&mut self) -> io::Result<()> {
        while self.written < self.request.len() {
            match self.stream.write(&self.request[self.written..]) {
                Ok(count) => self.written += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what is there, up to the bounds of head and leftover; true at the end of the stream.
    fn read(&mut self, around: &Surroundings<'_>) -> io::Result<bool> {
        let bound = around.max_head_size + around.max_leftover.max(RefusedAnswer::MAX_BODY);
        loop {
            let have = self.answer.len();
            if have >= bound {
                return Ok(false);
            }
            // In steps, so that a bound is not a reservation.
            self.answer.resize(bound.min(have + READ_STEP), 0);
            let result = self.stream.read(&mut self.answer[have..]);
            let count = *result.as_ref().unwrap_or(&0);
            self.answer.truncate(have + count);
            match result {
                Ok(0) => return Ok(true),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn judge(
        &mut self,
        ended: bool,
        key: &ClientKey,
        connect: &Connect,
        around: &Surroundings<'_>,
    ) -> Step {
        let Some(head_len) = find_head_end(&self.answer, self.scanned) else {
            self.scanned = self.answer.len();
            return match () {
                () if self.answer.len() >= around.max_head_size => {
                    Step::Failed(ConnectError::Response(ResponseError::HeadTooLarge))
                }
                () if ended => Step::Failed(ConnectError::Io(ErrorKind::UnexpectedEof)),
                () => Step::Wait,
            };
        };
        if head_len > around.max_head_size {
            return Step::Failed(ConnectError::Response(ResponseError::HeadTooLarge));
        }
        let mut slots = HeaderSlots::new(MAX_HEADER_FIELDS);
        let head = match ResponseHead::parse(&self.answer[..head_len], &mut slots) {
            Ok(head) => head,
            Err(error) => return Step::Failed(ConnectError::Response(error)),
        };
        if head.is_interim() {
            // An announcement, not an answer (RFC 9110 §15.2): the next head counts.
            self.answer.drain(..head_len);
            self.scanned = 0;
            return self.judge(ended, key, connect, around);
        }
        match check_response(&head, key, connect.request.subprotocols()) {
            Ok(_) => Step::Open { head_len },
            Err(ResponseError::NotSwitching { .. }) => {
                refusal(&head, &self.answer[head_len..], ended)
            }
            Err(error) => Step::Failed(ConnectError::Response(error)),
        }
    }
}

/// Bytes by which the buffer for an answer grows.
const READ_STEP: usize = 2048;

/// The refusal, once its body is complete, or as much of it as is kept.
fn refusal(head: &ResponseHead<'_>, body: &[u8], ended: bool) -> Step {
    let wanted = match body_length(head) {
        BodyLength::None => 0,
        BodyLength::Exact(len) => usize::try_from(len).unwrap_or(usize::MAX),
        _ => usize::MAX,
    };
    let wanted = wanted.min(RefusedAnswer::MAX_BODY);
    if body.len() < wanted && !ended {
        return Step::Wait;
    }
    Step::Failed(ConnectError::Refused(Box::new(RefusedAnswer {
        status: head.status(),
        headers: head
            .headers()
            .map(|(name, value)| (name.to_owned(), value.to_vec()))
            .collect(),
        body: body[..wanted.min(body.len())].to_vec(),
    })))
}

fn register(stream: &mut Stream, around: &Surroundings<'_>) -> io::Result<()> {
    let interests = Interest::READABLE | Interest::WRITABLE;
    around.registrar.register(stream, around.name, interests)
}

/// Whether a socket that was connecting is connected.
fn connected(stream: &Stream) -> io::Result<bool> {
    stream.take_error()?.map_or(Ok(()), Err)?;
    match stream.connected_to() {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotConnected => Ok(false),
        Err(error) => Err(error),
    }
}
