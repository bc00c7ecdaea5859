//! What a server can do wrong before the connection is a WebSocket.

use super::fields::Repeated;
use crate::protocol::ExtensionError;
use core::error::Error;
use core::fmt;

/// Why the answer to an opening handshake does not open the WebSocket. RFC 6455 §4.1.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ResponseError {
    /// The bytes are no complete HTTP/1.x response head, or hold a bare line feed. RFC 9112 §2.
    Malformed,
    /// The head is longer than the caller's limit. Found by the caller, who knows the limit.
    HeadTooLarge,
    /// There are more header fields than [`HeaderSlots`](super::HeaderSlots) admits.
    TooManyHeaders,
    /// The response is neither HTTP/1.0 nor 1.1, or a 101 is not HTTP/1.1.
    UnsupportedHttpVersion,
    /// The server refuses, or sends elsewhere: any status but 101. The head says more, and often a body.
    NotSwitching {
        /// The status code.
        status: u16,
    },
    /// `Upgrade` is absent or names something else than `websocket`. RFC 6455 §4.1, item 2.
    MissingUpgrade,
    /// `Connection` does not list `upgrade`. RFC 6455 §4.1, item 3.
    MissingConnection,
    /// There is no `Sec-WebSocket-Accept`. RFC 6455 §4.1, item 4.
    MissingAccept,
    /// `Sec-WebSocket-Accept` does not answer the key: this server has not read the request. RFC 6455 §4.1, item 4.
    WrongAccept,
    /// An extension is in use that was not asked for, or not as it was asked for. RFC 6455 §4.1, item 5.
    Extension(ExtensionError),
    /// A subprotocol is in use that was not offered. RFC 6455 §4.1, item 6.
    UnrequestedSubprotocol,
    /// The named header field may occur once and occurs more often.
    DuplicateHeader(&'static str),
}

impl fmt::Display for ResponseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed response",
            Self::HeadTooLarge => "response head too large",
            Self::TooManyHeaders => "too many header fields",
            Self::UnsupportedHttpVersion => "HTTP/1.1 required",
            Self::NotSwitching { status } => {
                return write!(f, "the server answered with status {status}");
            }
            Self::MissingUpgrade => "Upgrade does not name websocket",
            Self::MissingConnection => "Connection does not list upgrade",
            Self::MissingAccept => "missing Sec-WebSocket-Accept",
            Self::WrongAccept => "Sec-WebSocket-Accept does not answer the key",
            Self::Extension(error) => return error.fmt(f),
            Self::UnrequestedSubprotocol => "the server chose a subprotocol that was not offered",
            Self::DuplicateHeader(name) => return write!(f, "{name} occurs more than once"),
        })
    }
}

impl Error for ResponseError {}

impl From<ExtensionError> for ResponseError {
    fn from(error: ExtensionError) -> Self {
        Self::Extension(error)
    }
}

impl From<Repeated> for ResponseError {
    fn from(Repeated(name): Repeated) -> Self {
        Self::DuplicateHeader(name)
    }
}

#[cfg(test)]
mod tests {
    use super::{ExtensionError, ResponseError::*};

    #[test]
    fn every_variant_has_one_line_of_text() {
        let all = [
            Malformed,
            HeadTooLarge,
            TooManyHeaders,
            UnsupportedHttpVersion,
            NotSwitching { status: 503 },
            MissingUpgrade,
            MissingConnection,
            MissingAccept,
            WrongAccept,
            Extension(ExtensionError::NotOffered),
            UnrequestedSubprotocol,
            DuplicateHeader("Sec-WebSocket-Accept"),
        ];
        for error in all {
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{error:?}");
        }
        let text = NotSwitching { status: 503 }.to_string();
        assert!(text.contains("503"), "{text}");
    }
}
