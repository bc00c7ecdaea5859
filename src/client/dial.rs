use std::{
    io::{self, ErrorKind},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::race::Race;
use super::talk::Talk;
use crate::{
    driver::{Connect, ConnectError, DialId},
    memory::{Key, TimerId},
    protocol::{DeflateParams, DeflatePolicy, handshake::ClientKey},
    transport::{BOTH_WAYS, Registrar, SocketOptions, Stream, TokenKind, start_connect},
};

/// One attempt to connect.
pub(super) struct Dial<S> {
    pub(super) id: DialId,
    pub(super) session: S,
    pub(super) connect: Box<Connect>,
    pub(super) deadline: Instant,
    pub(super) timer: Option<TimerId>,
    key: ClientKey,
    /// True exactly when a decompressor is reserved for what the server sends, if it takes up the offer to keep its window.
    pub(super) keeps_peers: bool,
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
    /// The queue of a Unix socket is full. Nobody says when it has room, so it is tried again at `next_at`.
    Queueing {
        path: String,
        next_at: Instant,
        /// Until the next time but one.
        pause: Duration,
    },
    /// Connected: the request goes out and the answer comes in.
    Talking(Talk),
}

/// What a step of a dial leads to.
pub(super) enum Step {
    /// Something has to happen first.
    Wait,
    /// The server has accepted: the first so many bytes of the answer are its head.
    Open {
        head_len: usize,
        /// What was agreed on.
        deflate: Option<DeflateParams>,
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
    pub(super) sockets: SocketOptions,
    pub(super) now: Instant,
    /// The largest head of an answer in bytes.
    pub(super) max_head_size: usize,
    /// How many bytes are taken behind it before the connection opens.
    pub(super) max_leftover: usize,
}

/// The first and the longest pause before a full queue is tried again.
const MIN_QUEUE_PAUSE: Duration = Duration::from_millis(1);
const MAX_QUEUE_PAUSE: Duration = Duration::from_millis(64);

impl<S> Dial<S> {
    pub(super) fn new(
        id: DialId,
        connect: Box<Connect>,
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
            keeps_peers: false,
            phase: Phase::Resolving,
        }
    }

    /// True exactly while the resolver is asked.
    pub(super) fn is_resolving(&self) -> bool {
        matches!(self.phase, Phase::Resolving)
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
    pub(super) fn connect_unix(&mut self, path: String, around: &Surroundings<'_>) -> Step {
        self.phase = Phase::Queueing {
            path,
            next_at: around.now,
            pause: MIN_QUEUE_PAUSE,
        };
        self.step(around)
    }

    fn step_queue(&mut self, around: &Surroundings<'_>) -> Step {
        let Phase::Queueing {
            path,
            next_at,
            pause,
        } = &mut self.phase
        else {
            return Step::Wait;
        };
        if around.now < *next_at {
            return Step::Wait;
        }
        let connected = mio::net::UnixStream::connect(&*path).map(Stream::from);
        match connected.and_then(|stream| registered(stream, around)) {
            Ok(stream) => self.talk(stream, around),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                *next_at = around.now + *pause;
                *pause = (*pause * 2).min(MAX_QUEUE_PAUSE);
                Step::Wait
            }
            Err(error) => Step::Failed(ConnectError::Io(error.kind())),
        }
    }

    /// Goes on as far as the sockets allow.
    pub(super) fn step(&mut self, around: &Surroundings<'_>) -> Step {
        match &mut self.phase {
            Phase::Resolving => Step::Wait,
            Phase::Racing { .. } => self.step_race(around),
            Phase::Queueing { .. } => self.step_queue(around),
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
            let started = start_connect(address, self.connect.local, &around.sockets)
                .and_then(|stream| registered(stream, around));
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
        let talk = Talk::new(stream, tunnel, request);
        self.phase = Phase::Talking(talk);
        self.step(around)
    }

    /// The time is up.
    pub(super) fn time_out(&mut self) -> Step {
        match &mut self.phase {
            Phase::Talking(talk) if talk.is_refused() => talk.end(ErrorKind::TimedOut),
            _ => Step::Failed(ConnectError::Timeout),
        }
    }

    /// When the dial has to be looked at without an event.
    pub(super) fn next_look(&self) -> Instant {
        let next_at = match &self.phase {
            Phase::Racing { race, .. } => race.next_at(),
            Phase::Queueing { next_at, .. } => Some(*next_at),
            Phase::Resolving | Phase::Talking(_) => None,
        };
        next_at.map_or(self.deadline, |at| at.min(self.deadline))
    }

    /// The sockets of the attempt.
    pub(super) fn streams(&mut self) -> &mut [Stream] {
        match &mut self.phase {
            Phase::Resolving | Phase::Queueing { .. } => &mut [],
            Phase::Racing { attempts, .. } => attempts,
            Phase::Talking(talk) => std::slice::from_mut(&mut talk.stream),
        }
    }

    /// Offers compression.
    pub(super) fn offer(&mut self, (policy, keeps_peers): (DeflatePolicy, bool)) {
        self.connect.request.set_deflate(Some(policy));
        self.keeps_peers = keeps_peers;
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

fn registered(mut stream: Stream, around: &Surroundings<'_>) -> io::Result<Stream> {
    around
        .registrar
        .register(&mut stream, around.name, BOTH_WAYS)?;
    Ok(stream)
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
