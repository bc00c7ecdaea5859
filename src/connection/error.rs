use std::fmt;

use super::Payload;
use crate::protocol::CloseCode;

/// A send that was refused, with the payload, unchanged.
#[derive(Debug)]
#[non_exhaustive]
pub struct SendError {
    /// Why.
    pub kind: SendErrorKind,
    /// What was to be sent.
    pub payload: Payload,
}

/// Why a send was refused. Nothing of it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum SendErrorKind {
    /// The connection is closing or closed.
    NotOpen,
    /// A message that was begun with `send_fragment` is open, and this is not its continuation.
    MessageOpen,
    /// As many payloads as `send_queue` allows are in flight; try again in `on_write_complete`.
    WriteBusy,
    /// More than `max_backlog` bytes would wait; try again in `on_drain`.
    BacklogFull,
    /// A bound of the buffer pool is reached.
    OutOfBuffers,
    /// More bytes than the largest buffer holds (`max_message_size` and a header, or what is larger of the other buffers):
    /// a copy can never be made. Hand the payload over with `send`.
    TooBig,
    /// More than 125 bytes in a ping or pong (RFC 6455 §5.5).
    ControlFrameTooBig,
    /// The ring of control frames is full.
    QueueFull,
}

impl fmt::Display for SendErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotOpen => "the connection is not open",
            Self::MessageOpen => "a message in fragments is open",
            Self::WriteBusy => "as many payloads as allowed are in flight",
            Self::BacklogFull => "too many bytes wait to be written",
            Self::OutOfBuffers => "no buffer is free",
            Self::TooBig => "more bytes than the largest buffer holds",
            Self::ControlFrameTooBig => "more than 125 bytes in a control frame",
            Self::QueueFull => "the ring of control frames is full",
        })
    }
}

impl std::error::Error for SendErrorKind {}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.kind.fmt(f)
    }
}

impl std::error::Error for SendError {}

/// A close code that must not be on the wire (RFC 6455 §7.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidCloseCode(pub CloseCode);

impl fmt::Display for InvalidCloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "close code {} must not be sent", self.0)
    }
}

impl std::error::Error for InvalidCloseCode {}
