//! Floor 0: the WebSocket protocol over byte slices (RFC 6455).
//!
//! Nothing here knows a socket, a clock or the application. The event loop uses exactly these pieces, and a program that
//! has its own transport can use them too.
//!
//! | to fix | look in |
//! | --- | --- |
//! | how a frame header is read or written | `frame` |
//! | which frames a peer may send when | `rules` |
//! | encoding frames, splitting messages | `builder` |
//! | messages that do not come in one piece | `incoming` |
//! | who may do what when | `state` |
//! | one connection without a transport | `codec` |
//! | masking | `mask`, `mask_keys` |
//! | whether a silent peer is still there | `heartbeat` |
//! | text validation | `utf8` |
//! | close codes and close payloads | `close` |
//! | compression | `deflate` |
//! | the HTTP part | [`handshake`] |
//! | what a client may name as its server | `url`, `host` |
//! | the way through a proxy | [`proxy`] |
//! | how long to wait before the next attempt | `backoff` |

mod backoff;
mod builder;
mod close;
mod codec;
mod deflate;
mod error;
mod frame;
#[cfg(test)]
mod fuzz;
mod heartbeat;
mod host;
mod incoming;
mod mask;
mod mask_keys;
mod message;
mod opcode;
mod plain;
mod role;
mod rules;
mod state;
mod url;
mod utf8;

pub mod handshake;
pub mod proxy;

pub use backoff::Backoff;
pub use builder::{BuildError, Fragmenter, FrameBuilder};
pub use close::{CloseCode, ClosePayload, MAX_CLOSE_REASON};
pub use codec::{Codec, ConnectionState, EncodeError, Event, Limits};
#[cfg(feature = "deflate")]
pub use deflate::{Compressor, CompressorError, Decompressor};
#[cfg(not(feature = "deflate"))]
pub(crate) use deflate::{Compressor, Decompressor};
pub use deflate::{
    DeflateDirection, DeflateParams, DeflatePolicy, ExtensionError, InflateStep, Inflating,
    accept_deflate, check_deflate_answer,
};
pub use error::ProtocolError;
pub(crate) use frame::FIN;
pub use frame::{FrameHeader, MAX_CONTROL_PAYLOAD, MAX_HEADER_LEN, ParsedHeader, RSV1};
pub use heartbeat::{Beat, Heartbeat};
pub use host::Host;
pub(crate) use incoming::{Incoming, Progress};
pub use mask::apply_mask;
pub(crate) use mask_keys::MaskKeys;
pub use message::{Compress, MessageKind, Outgoing};
pub use opcode::Opcode;
pub(crate) use plain::PlainHeader;
pub use role::Role;
pub use rules::{InProgress, Rules};
pub(crate) use state::State;
pub use url::{Scheme, Url, UrlError};
pub use utf8::{InvalidUtf8, Utf8Validator, is_valid_utf8};
