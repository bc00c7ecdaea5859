use std::io;

use crate::protocol::{CloseCode, ProtocolError};

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Close {
    /// Who ended it.
    pub initiator: Initiator,
    /// The code of the initiator's close frame; `None` when there was no frame, or none with a code.
    pub code: Option<CloseCode>,
    /// The reason of the initiator's close frame, at most 123 bytes.
    pub reason: String,
    /// Why it ended.
    pub cause: CloseCause,
    /// True exactly when both close frames went over the wire (RFC 6455 §7.1.4).
    pub clean: bool,
}

/// Who ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Initiator {
    /// This end: the application, a timeout, or the answer to a fault of the peer.
    Local,
    /// The peer.
    Remote,
}

/// Why a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum CloseCause {
    /// The application called `close` or `close_now`.
    Application,
    /// The loop shuts down.
    Shutdown,
    /// The peer sent a close frame.
    Peer,
    /// The peer broke the protocol.
    Protocol(ProtocolError),
    /// Nothing came for `idle_timeout`.
    IdleTimeout,
    /// Nothing came for `heartbeat_timeout` after a ping.
    HeartbeatTimeout,
    /// A bound of the buffer pool was reached.
    OutOfBuffers,
    /// The peer ended the TCP connection without a close frame.
    EndOfStream,
    /// The connection broke.
    Io(io::ErrorKind),
}
