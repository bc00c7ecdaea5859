//! One connection of the protocol over byte slices, for programs with a transport of their own.
//!
//! | to fix | look in |
//! | --- | --- |
//! | what comes in | `receive` |
//! | what goes out | `send` |
//! | who may send what when | `status` |

mod receive;
mod send;
mod status;
#[cfg(test)]
mod tests;

use alloc::{boxed::Box, vec::Vec};
use core::fmt;

use rand_chacha::rand_core::CryptoRng;

use super::{
    ClosePayload, Compressor, Decompressor, Incoming, MAX_CONTROL_PAYLOAD, MAX_HEADER_LEN,
    MaskKeys, MessageKind, ProtocolError, Role, Rules, State,
};

pub use send::EncodeError;
pub use status::ConnectionState;

/// One WebSocket connection of either role without a transport: bytes in, events out; messages in, bytes out.
///
/// ```
/// use wsloop::{MessageKind, protocol::{Codec, Event, Limits}};
///
/// let mut server = Codec::server(Limits::default());
/// let mut input = *b"\x81\x82\0\0\0\0hi\x89\x80\0\0\0\0"; // a masked message and a ping
/// let mut out = [0; 16];
///
/// let (event, first) = server.process(&mut input)?;
/// assert_eq!(event, Some(Event::Message(MessageKind::Text, b"hi")));
/// let (event, second) = server.process(&mut input[first..])?;
/// assert_eq!(event, Some(Event::Ping(b"")));
/// assert_eq!(first + second, input.len());
///
/// let len = server.pong(b"", &mut out)?;
/// assert_eq!(&out[..len], b"\x8a\0");
/// let len = server.text("hello", &mut out)?;
/// assert_eq!(&out[..len], b"\x81\x05hello");
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct Codec {
    rules: Rules,
    state: State,
    /// True exactly when our close frame was encoded.
    close_sent: bool,
    /// What the peer broke, if it did: nothing it says counts any more.
    failed: Option<ProtocolError>,
    mask_keys: MaskKeys,
    /// The start of a header, or of a control frame, which is never taken apart.
    raw: [u8; MAX_HEADER_LEN + MAX_CONTROL_PAYLOAD],
    raw_len: usize,
    incoming: Option<Incoming>,
    /// The payload of `incoming` so far; afterwards the message that was delivered last.
    message: Vec<u8>,
    /// The message that was begun with [`fragment`](Self::fragment) and has no last one yet.
    open: Option<MessageKind>,
    deflate: Option<Box<Deflate>>,
}

/// What a codec accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest message in bytes, inclusive, also after inflating (RFC 6455 §10.4). Default 16 MiB.
    pub max_message_size: usize,
    /// True exactly when text has to be UTF-8 (RFC 6455 §8.1). Default true.
    pub check_utf8: bool,
}

/// One thing that a peer says. It borrows from the input, or from the codec when it did not come in one piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event<'a> {
    /// A whole message, unmasked, inflated and, if text, checked.
    Message(MessageKind, &'a [u8]),
    /// A ping, to be answered with a pong of the same payload (RFC 6455 §5.5.2).
    Ping(&'a [u8]),
    /// A pong.
    Pong(&'a [u8]),
    /// The peer closes (RFC 6455 §5.5.1). It is to be answered with a close frame, unless this end has sent one.
    Close(ClosePayload<'a>),
}

/// Both windows, and where messages are inflated and compressed to.
struct Deflate {
    compressor: Compressor,
    keeps_own: bool,
    decompressor: Decompressor,
    keeps_peers: bool,
    threshold: usize,
    inflated: Vec<u8>,
    packed: Vec<u8>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message_size: 16 << 20,
            check_utf8: true,
        }
    }
}

impl Codec {
    /// A server's end, behind the opening handshake.
    #[must_use]
    pub fn server(limits: Limits) -> Self {
        Self::new(Role::Server, limits)
    }

    /// A client's end, behind the opening handshake. Mask keys are drawn from a cryptographic generator (RFC 6455 §10.3).
    #[must_use]
    pub fn client(limits: Limits, rng: impl CryptoRng + Send + 'static) -> Self {
        let mut codec = Self::new(Role::Client, limits);
        codec.mask_keys.supply(Box::new(rng));
        codec
    }

    fn new(role: Role, limits: Limits) -> Self {
        Self {
            rules: Rules {
                role,
                max_message_size: limits.max_message_size,
                check_utf8: limits.check_utf8,
                compression: false,
            },
            state: State::default(),
            close_sent: false,
            failed: None,
            mask_keys: MaskKeys::new(true),
            raw: [0; MAX_HEADER_LEN + MAX_CONTROL_PAYLOAD],
            raw_len: 0,
            incoming: None,
            message: Vec::new(),
            open: None,
            deflate: None,
        }
    }

    /// Compresses as both ends have agreed on (RFC 7692): messages of `threshold` bytes and more, with `compressor`, whose
    /// window must be no larger than what was agreed on.
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn with_deflate(
        mut self,
        params: &super::DeflateParams,
        compressor: Compressor,
        threshold: usize,
    ) -> Self {
        let role = self.rules.role;
        let peer = match role {
            Role::Server => Role::Client,
            Role::Client => Role::Server,
        };
        self.rules.compression = true;
        self.deflate = Some(Box::new(Deflate {
            compressor,
            keeps_own: params.direction(role).context_takeover,
            decompressor: Decompressor::new(),
            keeps_peers: params.direction(peer).context_takeover,
            threshold,
            inflated: Vec::new(),
            packed: Vec::new(),
        }));
        self
    }

    /// Which end this is.
    #[must_use]
    pub fn role(&self) -> Role {
        self.rules.role
    }

    /// Where the connection stands.
    #[must_use]
    pub fn state(&self) -> ConnectionState {
        match self.state {
            State::Open => ConnectionState::Open,
            State::Closing | State::Answering => ConnectionState::Closing,
            State::Draining | State::Ended => ConnectionState::Closed,
        }
    }
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codec")
            .field("role", &self.rules.role)
            .field("state", &self.state)
            .finish_non_exhaustive()
    }
}
