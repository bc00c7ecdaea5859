//! Floor 0: the WebSocket protocol over byte slices (RFC 6455).
//!
//! Nothing here knows a socket, a clock or the application. The event loop uses exactly these pieces, and a program that
//! has its own transport can use them too.
//!
//! | to fix | look in |
//! | --- | --- |
//! | how a frame header is read or written | `frame` |
//! | which frames a peer may send when | `rules` |
//! | masking | `mask` |
//! | text validation | `utf8` |
//! | close codes and close payloads | `close` |
//! | compression | `deflate` |
//! | the HTTP part | [`handshake`] |
//! | what a client may name as its server | `url`, `host` |
//! | the way through a proxy | [`proxy`] |
//! | how long to wait before the next attempt | `backoff` |

mod backoff;
mod close;
mod deflate;
mod error;
mod frame;
#[cfg(test)]
mod fuzz;
mod host;
mod mask;
mod message;
mod opcode;
mod role;
mod rules;
mod url;
mod utf8;

pub mod handshake;
pub mod proxy;

pub use backoff::Backoff;
pub use close::{CloseCode, ClosePayload, MAX_CLOSE_REASON};
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
pub use host::Host;
pub use mask::apply_mask;
pub use message::{Compress, MessageKind, Outgoing};
pub use opcode::Opcode;
pub use role::Role;
pub use rules::Rules;
pub use url::{Scheme, Url, UrlError};
pub use utf8::{InvalidUtf8, Utf8Validator, is_valid_utf8};
