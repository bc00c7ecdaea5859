//! wsloop.
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)
)]

#[macro_use]
mod trace;

mod config;
mod connection;
mod driver;
mod event_loop;
mod memory;
mod server;
mod transport;

pub mod protocol;

pub use config::{Config, ConfigError};
pub use connection::{
    Close, CloseCause, Frames, FramesBuilder, FramesError, Initiator, InvalidCloseCode, Outcome,
    Payload, SendError, SendErrorKind, Sent,
};
pub use driver::{
    AdoptError, AdoptErrorKind, Closed, Conn, ConnId, Connections, Handler, HandshakeFailure,
    LimitReached, ListenerId, Message, Refused, Request, Sender, SourceId, Stats, TimerId, Traffic,
};
pub use event_loop::{EventLoop, NewError, PostError, PostErrorKind, Progress, Remote};
pub use memory::{Occupancy, PoolBuf};
pub use protocol::{
    CloseCode, MessageKind, ProtocolError,
    handshake::{HttpResponse, Response},
};
pub use server::Shutdown;
pub use transport::{ListenAddr, PeerAddr, Stream, Tokens};
