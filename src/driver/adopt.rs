use std::fmt;

use mio::Interest;

use super::{Driver, Handler, HandshakeFailure, Opening};
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
pub(crate) struct Upgraded<S> {
    pub(crate) stream: Stream,
    /// What came behind the request.
    pub(crate) bytes: Vec<u8>,
    pub(crate) session: S,
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
        while let Some(upgraded) = self.core.upgraded.pop_front() {
            let Upgraded {
                mut stream,
                bytes,
                session,
            } = upgraded;
            let shared = &mut self.core.shared;
            shared.reserved -= 1;
            shared.stats.adopted += 1;
            if let Stream::Tcp(tcp) = &stream {
                // Options are wishes: a socket that does not take them is still a socket.
                let _ = shared.settings.sockets().apply_connected(tcp);
            }
            // Under nobody's name, until the connection has one.
            let nobody = (TokenKind::Handshake, Key::from_parts(0, u32::MAX));
            let interests = Interest::READABLE | Interest::WRITABLE;
            if let Err(error) = shared.registrar.register(&mut stream, nobody, interests) {
                self.handshake_failed(session, HandshakeFailure::Io(error.kind()));
                continue;
            }
            self.scratch[..bytes.len()].copy_from_slice(&bytes);
            let opening = Opening {
                session,
                agreement: Agreement::default(),
            };
            self.open(stream, Role::Server, opening, 0..bytes.len());
        }
    }
}
