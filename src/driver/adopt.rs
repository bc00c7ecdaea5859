use std::fmt;

use crate::transport::Stream;

/// A socket that somebody else accepted.
pub(crate) struct Adopted {
    pub(crate) stream: Stream,
    pub(crate) bytes: Vec<u8>,
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
    /// More bytes than `max_head_size` and `read_buffer_size` together.
    TooManyBytes,
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
            AdoptErrorKind::NoHandshake => "no handshake is free",
            AdoptErrorKind::ShuttingDown => "the loop shuts down",
            AdoptErrorKind::NoServer => "a lone client serves nobody",
        })
    }
}

impl std::error::Error for AdoptError {}
