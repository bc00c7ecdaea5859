//! Header fields of a request or an answer, as the application may set them.

use super::token::is_token;
use alloc::vec::Vec;
use core::error::Error;
use core::fmt;

/// The caller's fault in building a request or an answer.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeaderError {
    /// The status is not within 200–599: an answer is final, and a 101 is not the application's to write.
    InvalidStatus(u16),
    /// The name is not a token. RFC 9110 §5.1.
    InvalidName,
    /// The value has a control character: with a line end in it, it would be two header fields. RFC 9110 §5.5.
    InvalidValue,
    /// The library sets this field itself.
    Reserved(&'static str),
    /// The client did not offer this subprotocol. RFC 6455 §4.2.2, step 5.5.
    NotOffered,
    /// A subprotocol was chosen before.
    AlreadyChosen,
}

impl fmt::Display for HeaderError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InvalidStatus(status) => write!(f, "status {status} is not within 200-599"),
            Self::InvalidName => f.write_str("header name is not a token"),
            Self::InvalidValue => f.write_str("header value has a control character"),
            Self::Reserved(name) => write!(f, "header {name} is set by the library"),
            Self::NotOffered => f.write_str("subprotocol was not offered"),
            Self::AlreadyChosen => f.write_str("subprotocol was chosen before"),
        }
    }
}

impl Error for HeaderError {}

/// The rules for a header field that the application sets, on a refusal as on a 101.
pub(super) fn check(name: &str, value: &str) -> Result<(), HeaderError> {
    check_except(&[], name, value)
}

/// The same for the client's request, of which the library also sets the host and the origin.
pub(super) fn check_of_request(name: &str, value: &str) -> Result<(), HeaderError> {
    check_except(&["Host", "Origin"], name, value)
}

/// True exactly when the bytes may stand in `Host`: not the grammar of an authority, only without what no authority has.
/// That is enough that a host cannot be taken for two, or for a path.
pub(super) fn is_host(bytes: &[u8]) -> bool {
    let is_host_byte = |byte: &u8| byte.is_ascii_graphic() && !b",/?#@\\\"<>".contains(byte);
    !bytes.is_empty() && bytes.iter().all(is_host_byte)
}

fn check_except(others: &[&'static str], name: &str, value: &str) -> Result<(), HeaderError> {
    if !is_token(name.as_bytes()) {
        return Err(HeaderError::InvalidName);
    }
    if let Some(reserved) = reserved(others, name) {
        return Err(HeaderError::Reserved(reserved));
    }
    if !is_value(value) {
        return Err(HeaderError::InvalidValue);
    }
    Ok(())
}

const LINE_END: &[u8] = b"\r\n";

/// Appends one header line.
pub(super) fn encode(name: &str, value: &[u8], out: &mut Vec<u8>) {
    for part in [name.as_bytes(), b": ", value, LINE_END] {
        out.extend_from_slice(part);
    }
}

/// Appends one header line whose value is what `value` shows.
pub(super) fn encode_display(name: &str, value: &impl fmt::Display, out: &mut Vec<u8>) {
    struct Appending<'a>(&'a mut Vec<u8>);

    impl fmt::Write for Appending<'_> {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.extend_from_slice(text.as_bytes());
            Ok(())
        }
    }

    encode(name, b"", out);
    out.truncate(out.len() - LINE_END.len());
    // Appending does not fail.
    let _ = fmt::Write::write_fmt(&mut Appending(out), format_args!("{value}"));
    out.extend_from_slice(LINE_END);
}

fn reserved(others: &[&'static str], name: &str) -> Option<&'static str> {
    const NAMES: [&str; 4] = [
        "Content-Length",
        "Connection",
        "Transfer-Encoding",
        "Upgrade",
    ];
    const PREFIX: &str = "Sec-WebSocket-";
    let is_websocket = name
        .get(..PREFIX.len())
        .is_some_and(|start| start.eq_ignore_ascii_case(PREFIX));
    if is_websocket {
        return Some("Sec-WebSocket-*");
    }
    let mut names = NAMES.iter().chain(others).copied();
    names.find(|reserved| reserved.eq_ignore_ascii_case(name))
}

pub(super) fn is_value(value: &str) -> bool {
    value
        .bytes()
        .all(|byte| byte == b'\t' || !byte.is_ascii_control())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_rules() {
        use HeaderError::{InvalidName, InvalidValue, Reserved};
        let cases = [
            ("X-Request-Id", "a b\tc, \"d\"; \u{e9}", Ok(())),
            ("Set-Cookie", "", Ok(())),
            ("Sec-WebSocketX", "a", Ok(())),
            ("", "a", Err(InvalidName)),
            ("X Y", "a", Err(InvalidName)),
            ("X:", "a", Err(InvalidName)),
            ("X\r\nY", "a", Err(InvalidName)),
            ("\u{e9}", "a", Err(InvalidName)),
            ("X", "a\r\nSet-Cookie: b", Err(InvalidValue)),
            ("X", "a\n", Err(InvalidValue)),
            ("X", "\r", Err(InvalidValue)),
            ("X", "a\0", Err(InvalidValue)),
            ("X", "\x7f", Err(InvalidValue)),
            ("content-length", "1", Err(Reserved("Content-Length"))),
            ("CONNECTION", "close", Err(Reserved("Connection"))),
            ("Transfer-encoding", "x", Err(Reserved("Transfer-Encoding"))),
            ("Upgrade", "h2c", Err(Reserved("Upgrade"))),
            (
                "sec-websocket-accept",
                "x",
                Err(Reserved("Sec-WebSocket-*")),
            ),
            ("Sec-WebSocket-", "x", Err(Reserved("Sec-WebSocket-*"))),
        ];
        for (name, value, expected) in cases {
            assert_eq!(check(name, value), expected, "{name:?}: {value:?}");
        }
    }

    #[test]
    fn a_request_reserves_host_and_origin_too() {
        for name in ["Host", "ORIGIN"] {
            assert_eq!(check(name, "a"), Ok(()), "{name}");
            let refused = check_of_request(name, "a");
            assert!(matches!(refused, Err(HeaderError::Reserved(_))), "{name}");
        }
        let refused = check_of_request("upgrade", "a");
        assert_eq!(refused, Err(HeaderError::Reserved("Upgrade")));
        assert_eq!(check_of_request("Hosts", "a"), Ok(()));
    }

    #[test]
    fn hosts() {
        for good in ["a", "example.com:80", "[::1]:8080", "a_b"] {
            assert!(is_host(good.as_bytes()), "{good}");
        }
        for bad in ["", "a b", "a,b", "a/b", "u@a", "a?", "a#", "a\r", "\u{e9}"] {
            assert!(!is_host(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn every_error_has_a_text() {
        let errors = [
            HeaderError::InvalidStatus(101),
            HeaderError::InvalidName,
            HeaderError::InvalidValue,
            HeaderError::Reserved("Upgrade"),
            HeaderError::NotOffered,
            HeaderError::AlreadyChosen,
        ];
        for error in errors {
            assert!(!error.to_string().is_empty(), "{error:?}");
        }
    }
}
