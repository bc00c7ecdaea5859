use std::time::Duration;

use crate::{connection::CloseCause, memory::Occupancy, protocol::ProtocolError};

/// What a loop has done and what it holds. Counters start at 0 with the loop and only grow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Stats {
    /// Open connections, those that are being closed included.
    pub connections: Occupancy,
    /// Attempts to connect under way.
    pub dials: Occupancy,
    /// Handshakes under way.
    pub handshakes: Occupancy,
    /// Fixed read buffers that are leased.
    pub read_buffers: Occupancy,
    /// Large-message buffers that are leased.
    pub large_buffers: Occupancy,
    /// Bytes of all buffers, leased and kept.
    pub buffer_memory: Occupancy,
    /// Windows that are reserved for what connections send, with [`Compression::Dedicated`](crate::Compression::Dedicated).
    /// They take memory from a connection's first compressed message on.
    pub compressors: Occupancy,
    /// The same of what they receive.
    pub decompressors: Occupancy,
    /// Timers of the application.
    pub timers: Occupancy,
    /// Foreign event sources.
    pub sources: Occupancy,
    /// Sockets that were accepted.
    pub accepted: u64,
    /// Sockets that were adopted.
    pub adopted: u64,
    /// Times that accepting paused because descriptors or memory had run out.
    pub accept_backoffs: u64,
    /// Connections that were opened.
    pub opened: u64,
    /// Plain HTTP requests that the application answered.
    pub requests: u64,
    /// Handshakes that did not become connections, by cause.
    pub refused: Refused,
    /// What came in.
    pub received: Traffic,
    /// What was staged to go out.
    pub sent: Traffic,
    /// How long peers took to answer heartbeats.
    pub round_trips: RoundTrips,
    /// Connections that ended, by cause.
    pub closed: Closed,
}

/// Times from a heartbeat's ping until the peer's next byte, over all connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct RoundTrips {
    /// Heartbeats that were answered.
    pub count: u64,
    /// The latest time; 0 before the first.
    pub last: Duration,
    /// The shortest time; 0 before the first.
    pub min: Duration,
    /// The longest time.
    pub max: Duration,
}

impl RoundTrips {
    pub(crate) fn add(&mut self, time: Duration) {
        self.min = if self.count == 0 {
            time
        } else {
            self.min.min(time)
        };
        self.max = self.max.max(time);
        self.last = time;
        self.count += 1;
    }
}

/// Messages, control frames and bytes in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Traffic {
    /// Messages.
    pub messages: u64,
    /// Pings.
    pub pings: u64,
    /// Pongs.
    pub pongs: u64,
    /// Received: bytes on the wire, frame headers included. Sent: bytes of payload, counted as a message is accepted; of frames
    /// that were encoded before, all of theirs.
    pub bytes: u64,
}

/// Handshakes that did not become connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Refused {
    /// Malformed or broken requests (400, 405).
    pub malformed: u64,
    /// Another version of the protocol (426).
    pub version: u64,
    /// Heads above a limit (431).
    pub head_too_large: u64,
    /// From a page that may not connect (403).
    pub origin: u64,
    /// Refused by the application.
    pub application: u64,
    /// No connection was free (503).
    pub no_connection: u64,
    /// No buffer was free (503).
    pub no_buffer: u64,
    /// The loop was shutting down (503).
    pub shutdown: u64,
    /// Too slow (408).
    pub timeout: u64,
    /// The client went away.
    pub lost: u64,
}

/// Connections that ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Closed {
    /// [`CloseCause::Application`].
    pub application: u64,
    /// [`CloseCause::Shutdown`].
    pub shutdown: u64,
    /// [`CloseCause::Peer`].
    pub peer: u64,
    /// [`CloseCause::Protocol`], other than the two below.
    pub protocol: u64,
    /// [`ProtocolError::InvalidUtf8`].
    pub invalid_utf8: u64,
    /// [`ProtocolError::MessageTooBig`].
    pub message_too_big: u64,
    /// [`CloseCause::IdleTimeout`].
    pub idle_timeout: u64,
    /// [`CloseCause::HeartbeatTimeout`].
    pub heartbeat_timeout: u64,
    /// [`CloseCause::OutOfBuffers`].
    pub out_of_buffers: u64,
    /// [`CloseCause::EndOfStream`].
    pub end_of_stream: u64,
    /// [`CloseCause::Io`].
    pub io: u64,
}

impl Closed {
    pub(crate) fn count(&mut self, cause: CloseCause) {
        let counter = match cause {
            CloseCause::Application => &mut self.application,
            CloseCause::Shutdown => &mut self.shutdown,
            CloseCause::Peer => &mut self.peer,
            CloseCause::Protocol(ProtocolError::InvalidUtf8) => &mut self.invalid_utf8,
            CloseCause::Protocol(ProtocolError::MessageTooBig) => &mut self.message_too_big,
            CloseCause::Protocol(_) => &mut self.protocol,
            CloseCause::IdleTimeout => &mut self.idle_timeout,
            CloseCause::HeartbeatTimeout => &mut self.heartbeat_timeout,
            CloseCause::OutOfBuffers => &mut self.out_of_buffers,
            CloseCause::EndOfStream => &mut self.end_of_stream,
            CloseCause::Io(_) => &mut self.io,
        };
        *counter += 1;
    }
}
