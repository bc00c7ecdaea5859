use std::{collections::VecDeque, fmt};

use mio::Interest;

use super::{Driver, Handler, HandshakeFailure, Opening, Wire, deferred::Upgrades};
use crate::{
    connection::Agreement,
    memory::Key,
    protocol::Role,
    transport::{Stream, TokenKind},
};

/// A socket that somebody else accepted.
pub(crate) struct Adopted {
    pub(crate) stream: Stream,
    pub(crate) bytes: Vec<u8>,
}

/// A socket behind whose opening handshake somebody else stands.
pub(super) struct Upgraded<S> {
    pub(super) stream: Stream,
    /// What came behind the request.
    pub(super) bytes: Vec<u8>,
    pub(super) session: S,
}

/// What only a loop that serves has to do.
pub(crate) struct Serving<S> {
    /// Sockets to be adopted by the server.
    pub(crate) adopted: VecDeque<Adopted>,
    /// Connections that were upgraded elsewhere, and are to be opened.
    pub(super) upgraded: VecDeque<Upgraded<S>>,
    pub(crate) upgrades: Upgrades<S>,
    /// Connections that the application has accepted, or has put off, and whose 101 is not written yet.
    pub(crate) reserved: usize,
}

impl<S> Default for Serving<S> {
    fn default() -> Self {
        Self {
            adopted: VecDeque::new(),
            upgraded: VecDeque::new(),
            upgrades: Upgrades::new(),
            reserved: 0,
        }
    }
}

impl<S> Serving<S> {
    /// True exactly when something is left to do that no event will announce.
    pub(super) fn has_work(&self) -> bool {
        !(self.adopted.is_empty() && self.upgraded.is_empty() && self.upgrades.answers.is_empty())
    }
}

/// A socket that could not be adopted; it comes back.
#[derive(Debug)]
#[non_exhaustive]
pub struct AdoptError {
    /// Why.
    pub kind: AdoptErrorKind,
    /// The socket, untouched.
    pub stream: Stream,
    /// The bytes that came with it.
    pub bytes: Vec<u8>,
}

/// Why a socket could not be adopted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum AdoptErrorKind {
    /// More bytes than `max_head_size` and `read_buffer_size` together; behind an upgrade, than the latter.
    TooManyBytes,
    /// As many connections as `max_connections` allows are open.
    NoConnection,
    /// As many handshakes as `max_handshakes` allows are under way.
    NoHandshake,
    /// The loop shuts down.
    ShuttingDown,
    /// A lone [`Client`](crate::Client) serves nobody.
    NoServer,
}

impl fmt::Display for AdoptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            AdoptErrorKind::TooManyBytes => "more bytes than a head and a read buffer hold",
            AdoptErrorKind::NoConnection => "no connection is free",
            AdoptErrorKind::NoHandshake => "no handshake is free",
            AdoptErrorKind::ShuttingDown => "the loop shuts down",
            AdoptErrorKind::NoServer => "a lone client serves nobody",
        })
    }
}

impl std::error::Error for AdoptError {}

impl<H: Handler<M>, M> Driver<'_, H, M> {
    /// Opens the connections that were upgraded elsewhere.
    pub(crate) fn open_upgraded(&mut self) {
        while let Some(upgraded) = self
            .core
            .serving
            .as_mut()
            .and_then(|it| it.upgraded.pop_front())
        {
            let Upgraded {
                mut stream,
                bytes,
                session,
            } = upgraded;
            self.core.serving().reserved -= 1;
            let shared = &mut self.core.shared;
            shared.counters.rare().adopted += 1;
            if let Stream::Tcp(tcp) = &stream {
                // Options are wishes: a socket that does not take them is still a socket.
                let _ = shared.settings.sockets().apply_connected(tcp);
            }
            let place = self.core.slots.reserve(Key::NOBODY);
            let name = (TokenKind::Connection, place);
            if let Err(error) = shared
                .registrar
                .register(&mut stream, name, Interest::READABLE)
            {
                self.core.slots.release(place);
                self.handshake_failed(session, HandshakeFailure::Io(error.kind()));
                continue;
            }
            self.scratch[..bytes.len()].copy_from_slice(&bytes);
            let opening = Opening {
                session,
                agreement: Agreement::default(),
            };
            let wire = Wire::new(stream, Role::Server, self.core.shared.now);
            self.open(place, wire, opening, 0..bytes.len());
        }
    }
}
