//! What a client can do wrong before the connection is a WebSocket.

use core::error::Error;
use core::fmt;

/// The client's fault in the opening handshake. Each has one HTTP status, see [`status`](Self::status).
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HandshakeError {
    /// The bytes are no complete HTTP/1.x request head, or hold a bare line feed. RFC 9112 §2.
    Malformed,
    /// The head is longer than the caller's limit. Found by the caller, who knows the limit.
    HeadTooLarge,
    /// There are more header fields than [`HeaderSlots`](super::HeaderSlots) admits.
    TooManyHeaders,
    /// The upgrade is asked for with another method than `GET`. RFC 6455 §4.2.1, item 1.
    MethodNotAllowed,
    /// The request's version is not HTTP/1.1. RFC 6455 §4.2.1, item 1.
    UnsupportedHttpVersion,
    /// The request target is neither a path nor an absolute `http` or `https` URI, or has a fragment. RFC 6455 §4.2.1, item 1.
    InvalidTarget,
    /// `Host` is absent or empty. RFC 6455 §4.2.1, item 2.
    MissingHost,
    /// `Host` has characters that are not visible ASCII, or names more than one host.
    InvalidHost,
    /// The named header field may occur once and occurs more often.
    DuplicateHeader(&'static str),
    /// `Connection` does not list `upgrade`. RFC 6455 §4.2.1, item 4.
    MissingConnectionUpgrade,
    /// There is no `Sec-WebSocket-Version`. RFC 6455 §4.2.1, item 6.
    MissingVersion,
    /// `Sec-WebSocket-Version` is not 13. RFC 6455 §4.4.
    UnsupportedVersion,
    /// There is no `Sec-WebSocket-Key`. RFC 6455 §4.2.1, item 5.
    MissingKey,
    /// `Sec-WebSocket-Key` is not 16 bytes of base64. RFC 6455 §4.2.1, item 5.
    InvalidKey,
    /// The request announces a body, whose bytes would be taken for frames.
    UnexpectedBody,
    /// An offered subprotocol is empty, not a token, or offered twice. RFC 6455 §4.1, item 10.
    InvalidSubprotocol,
    /// More subprotocols are offered than [`MAX_SUBPROTOCOL_OFFERS`](super::MAX_SUBPROTOCOL_OFFERS).
    TooManySubprotocols,
}

impl HandshakeError {
    /// The status code of the answer: 405, 426 or 431 where HTTP has a word for it, 400 otherwise. RFC 6455 §4.2.2.
    pub fn status(self) -> u16 {
        match self {
            Self::MethodNotAllowed => 405,
            Self::UnsupportedVersion => 426,
            Self::HeadTooLarge | Self::TooManyHeaders => 431,
            // 505 would fit an older HTTP, but says that its major version is refused, which 1.0 does not share.
            Self::UnsupportedHttpVersion
            | Self::Malformed
            | Self::InvalidTarget
            | Self::MissingHost
            | Self::InvalidHost
            | Self::DuplicateHeader(_)
            | Self::MissingConnectionUpgrade
            | Self::MissingVersion
            | Self::MissingKey
            | Self::InvalidKey
            | Self::UnexpectedBody
            | Self::InvalidSubprotocol
            | Self::TooManySubprotocols => 400,
        }
    }
}

impl fmt::Display for HandshakeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Malformed => "malformed request",
            Self::HeadTooLarge => "request head too large",
            Self::TooManyHeaders => "too many header fields",
            Self::MethodNotAllowed => "a WebSocket upgrade needs the method GET",
            Self::UnsupportedHttpVersion => "HTTP/1.1 required",
            Self::InvalidTarget => "invalid request target",
            Self::MissingHost => "missing Host",
            Self::InvalidHost => "invalid Host",
            Self::DuplicateHeader(name) => return write!(f, "{name} occurs more than once"),
            Self::MissingConnectionUpgrade => "Connection does not list upgrade",
            Self::MissingVersion => "missing Sec-WebSocket-Version",
            Self::UnsupportedVersion => "Sec-WebSocket-Version 13 required",
            Self::MissingKey => "missing Sec-WebSocket-Key",
            Self::InvalidKey => "Sec-WebSocket-Key is not 16 bytes of base64",
            Self::UnexpectedBody => "a WebSocket upgrade has no body",
            Self::InvalidSubprotocol => "invalid Sec-WebSocket-Protocol",
            Self::TooManySubprotocols => "too many subprotocols offered",
        })
    }
}

impl Error for HandshakeError {}

#[cfg(test)]
pub(super) mod tests {
    use super::HandshakeError::{self, *};

    pub(in super::super) const ALL: [(HandshakeError, u16); 17] = [
        (Malformed, 400),
        (HeadTooLarge, 431),
        (TooManyHeaders, 431),
        (MethodNotAllowed, 405),
        (UnsupportedHttpVersion, 400),
        (InvalidTarget, 400),
        (MissingHost, 400),
        (InvalidHost, 400),
        (DuplicateHeader("Host"), 400),
        (MissingConnectionUpgrade, 400),
        (MissingVersion, 400),
        (UnsupportedVersion, 426),
        (MissingKey, 400),
        (InvalidKey, 400),
        (UnexpectedBody, 400),
        (InvalidSubprotocol, 400),
        (TooManySubprotocols, 400),
    ];

    #[test]
    fn every_variant_has_a_status_and_one_line_of_text() {
        for (error, status) in ALL {
            assert_eq!(error.status(), status, "{error:?}");
            let text = error.to_string();
            assert!(!text.is_empty() && !text.contains('\n'), "{error:?}");
        }
    }
}
