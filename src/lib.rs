//! WebSocket servers and clients in one thread: one poll loop, pooled connections, bounded memory, sends without a copy.
//!
//! The application is one value that implements [`Handler`] and is lent to an [`EventLoop`]. Every connection is addressed by
//! a [`ConnId`], never by a pointer; a stale id is `None` and never somebody else's connection. Payloads are moved into a send
//! and come back in [`Handler::on_write_complete`]. All sizes and limits are in [`Config`].
//!
//! ```no_run
//! use std::net::SocketAddr;
//! use wsloop::{Config, Conn, EventLoop, Handler, HttpResponse, Message, Request, Response};
//!
//! struct Echo;
//!
//! impl Handler for Echo {
//!     type Session = ();
//!
//!     fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<(), HttpResponse> {
//!         Ok(())
//!     }
//!
//!     fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
//!         let _ = conn.send_copy(message.kind(), message.as_bytes());
//!     }
//! }
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let mut event_loop = EventLoop::new(Config::default())?;
//!     event_loop.listen(SocketAddr::from(([127, 0, 0, 1], 9001)))?;
//!     event_loop.run(&mut Echo)?;
//!     Ok(())
//! }
//! ```
//!
//! How to use it well is in the [`guide`].
//!
//! # The house
//!
//! A file imports from its own folder and from folders further down in this table, and from nowhere else.
//!
//! | floor | folder | knows | holds |
//! | --- | --- | --- | --- |
//! | 5 | `event_loop` | the poll, the time | poll loop, one connection without a loop |
//! | 5 | `guide` | how the rest is used | nothing but documentation |
//! | 4 | `server` | sockets to accept | listeners and admission, the opening handshake, shutdown |
//! | 4 | `client` | sockets to dial | attempts to connect, the request and its answer |
//! | 3 | `driver` | the application | the only code that calls it: read, dispatch, flush, settle |
//! | 2 | `transport` | sockets | streams, listeners, socket options, host names, mailbox of other threads, tokens |
//! | 1 | `connection` | bytes, the time as an argument | state machine, inbox, outbox, deadlines |
//! | 1 | `blocking` | any stream | one connection over `Read` and `Write` |
//! | 1 | `memory` | nothing | buffer pool, slots, control ring, timers |
//! | 1 | `config` | numbers | settings and their checks |
//! | 0 | `protocol` | slices | frames, masking, UTF-8, close codes, the opening handshake as text |
//!
//! Bytes come in through `driver::receive`, which reads into one scratch buffer and asks the connection's `Inbox` what they
//! say. Sends and closes only stage: they check, queue and mark the connection. One place flushes (`driver::flush`), and one
//! place draws the consequences for the application (`driver::settle`). Nothing is called back from inside a send.
//!
//! # Without the loop
//!
//! [`protocol`] needs `alloc` and nothing else: without the default feature `std` it is all that there is, and the crate is
//! `no_std`. The default feature `simd` masks large payloads with the widest vector registers that the processor has; it needs Rust
//! 1.89, everything else 1.85.
#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![cfg_attr(
    not(feature = "std"),
    allow(
        dead_code,
        unused_imports,
        reason = "some of the protocol is for the loop alone"
    )
)]
#![cfg_attr(
    test,
    allow(clippy::unwrap_used, clippy::panic, clippy::cast_possible_truncation)
)]

extern crate alloc;

#[cfg(feature = "std")]
#[macro_use]
mod trace;

#[cfg(feature = "std")]
pub mod blocking;
#[cfg(feature = "std")]
mod client;
#[cfg(feature = "std")]
mod config;
#[cfg(feature = "std")]
mod connection;
#[cfg(feature = "std")]
mod driver;
#[cfg(feature = "std")]
mod event_loop;
#[cfg(all(feature = "std", any(doc, doctest)))]
pub mod guide;
#[cfg(feature = "std")]
mod memory;
#[cfg(feature = "std")]
mod server;
#[cfg(feature = "std")]
mod transport;

#[cfg(test)]
mod house;

pub mod protocol;

#[cfg(feature = "internals")]
#[doc(hidden)]
pub use connection::internals;

#[cfg(feature = "std")]
pub use config::{Compression, Config, ConfigError};
#[cfg(feature = "std")]
pub use connection::{
    Close, CloseCause, Frames, FramesBuilder, FramesError, Initiator, InvalidCloseCode, Outcome,
    Payload, SendError, SendErrorKind, Sent,
};
#[cfg(feature = "std")]
pub use driver::{
    AdoptError, AdoptErrorKind, Closed, Conn, ConnId, Connect, ConnectConfigError, ConnectError,
    Connections, Deferred, DialError, DialErrorKind, DialId, Fragment, Handler, HandshakeFailure,
    LimitReached, ListenerId, Message, Proxy, Refused, RefusedAnswer, Request, RoundTrips, Sender,
    SourceId, Stats, TimerId, Traffic, UpgradeId,
};
#[cfg(feature = "std")]
pub use event_loop::{Client, ClientState, EventLoop, NewError, Progress, Pulled};
#[cfg(feature = "std")]
pub use memory::{Occupancy, PoolBuf};
pub use protocol::{
    Backoff, CloseCode, MessageKind, ProtocolError, UrlError,
    handshake::{
        ClientRequestError, HandshakeError, HeaderError, HttpResponse, OriginPolicy, Response,
        ResponseError, ResponseHead,
    },
};
#[cfg(feature = "std")]
pub use server::Shutdown;
#[cfg(feature = "std")]
pub use transport::{ListenAddr, PeerAddr, PostError, PostErrorKind, Remote, Stream, Tokens};

/// Compiles and runs the code in the README.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
pub struct Readme;
