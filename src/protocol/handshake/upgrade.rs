//! Is this request a good WebSocket upgrade?

use super::accept_key::{accept_key, is_valid_key};
use super::error::HandshakeError;
use super::field::is_host;
use super::request::RequestHead;
use super::token::{elements, is_token};

/// The most subprotocols one request may offer: it bounds the search for one that is offered twice.
pub const MAX_SUBPROTOCOL_OFFERS: usize = 64;

/// Checks the requirements of RFC 6455 §4.2.1.
///
/// `Ok(None)` is a request that does not ask for a WebSocket: no `Upgrade` field lists `websocket`. It may be answered as
/// plain HTTP.
///
/// # Errors
///
/// The first rule that an upgrade request breaks. A version other than 13 is named before the key is looked at: an older
/// protocol had other keys, and its client is helped by the 426.
pub fn check_upgrade<'a>(head: &RequestHead<'a>) -> Result<Option<Upgrade<'a>>, HandshakeError> {
    if !head.is_upgrade() {
        return Ok(None);
    }
    check_request_line(head)?;
    check_host(head)?;
    if !head.lists("Connection", "upgrade") {
        return Err(HandshakeError::MissingConnectionUpgrade);
    }
    check_version(head)?;
    let key = checked_key(head)?;
    check_no_body(head)?;
    check_subprotocols(head)?;
    Ok(Some(Upgrade { key }))
}

/// A request that asks for a WebSocket and keeps every rule.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Upgrade<'a> {
    /// `Sec-WebSocket-Key`: 16 bytes of base64.
    pub key: &'a str,
}

impl Upgrade<'_> {
    /// The value of `Sec-WebSocket-Accept` that proves to the client that its key was read. RFC 6455 §4.2.2.
    pub fn accept(&self) -> [u8; 28] {
        accept_key(self.key.as_bytes())
    }
}

fn check_request_line(head: &RequestHead<'_>) -> Result<(), HandshakeError> {
    if head.method() != "GET" {
        return Err(HandshakeError::MethodNotAllowed);
    }
    if head.minor_version() != 1 {
        return Err(HandshakeError::UnsupportedHttpVersion);
    }
    if !is_valid_target(head.target()) {
        return Err(HandshakeError::InvalidTarget);
    }
    Ok(())
}

fn is_valid_target(target: &str) -> bool {
    let absolute = || {
        target
            .split_once("://")
            .is_some_and(|(scheme, _)| is_http(scheme))
    };
    !target.contains('#') && (target.starts_with('/') || absolute())
}

fn is_http(scheme: &str) -> bool {
    scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https")
}

fn check_host(head: &RequestHead<'_>) -> Result<(), HandshakeError> {
    match head.single("Host")? {
        None | Some([]) => Err(HandshakeError::MissingHost),
        Some(host) if is_host(host) => Ok(()),
        Some(_) => Err(HandshakeError::InvalidHost),
    }
}

fn check_version(head: &RequestHead<'_>) -> Result<(), HandshakeError> {
    match head.single("Sec-WebSocket-Version")? {
        None => Err(HandshakeError::MissingVersion),
        Some(b"13") => Ok(()),
        Some(_) => Err(HandshakeError::UnsupportedVersion),
    }
}

fn checked_key<'a>(head: &RequestHead<'a>) -> Result<&'a str, HandshakeError> {
    let value = head
        .single("Sec-WebSocket-Key")?
        .ok_or(HandshakeError::MissingKey)?;
    core::str::from_utf8(value)
        .ok()
        .filter(|key| is_valid_key(key))
        .ok_or(HandshakeError::InvalidKey)
}

fn check_no_body(head: &RequestHead<'_>) -> Result<(), HandshakeError> {
    let is_chunked = head.header_values("Transfer-Encoding").next().is_some();
    let has_length = head
        .header_values("Content-Length")
        .any(|length| length != b"0");
    if is_chunked || has_length {
        return Err(HandshakeError::UnexpectedBody);
    }
    Ok(())
}

/// Tokens, each offered once (RFC 6455 §4.1, item 10).
fn check_subprotocols(head: &RequestHead<'_>) -> Result<(), HandshakeError> {
    let mut lists = head.header_values("Sec-WebSocket-Protocol").peekable();
    if lists.peek().is_none() {
        return Ok(());
    }
    let mut seen: [&[u8]; MAX_SUBPROTOCOL_OFFERS] = [&[]; MAX_SUBPROTOCOL_OFFERS];
    let offers = lists.flat_map(elements);
    for (count, offer) in offers.enumerate() {
        let earlier = seen.get(..count).unwrap_or_default();
        if !is_token(offer) || earlier.contains(&offer) {
            return Err(HandshakeError::InvalidSubprotocol);
        }
        *seen
            .get_mut(count)
            .ok_or(HandshakeError::TooManySubprotocols)? = offer;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fields::HeaderSlots;
    use super::HandshakeError::*;
    use super::*;

    const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

    /// The fields of a good request: a test takes lines away by prefix and adds others.
    const GOOD: [&str; 5] = [
        "Host: example.com",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];

    fn check(request_line: &str, without: &str, with: &[&str]) -> Result<bool, HandshakeError> {
        let kept = GOOD
            .into_iter()
            .filter(|line| without.is_empty() || !line.starts_with(without));
        let lines: Vec<&str> = kept.chain(with.iter().copied()).collect();
        let text = format!("{request_line}\r\n{}\r\n\r\n", lines.join("\r\n"));
        let mut slots = HeaderSlots::new(128);
        let head = RequestHead::parse(text.as_bytes(), &mut slots)?;
        Ok(check_upgrade(&head)?.is_some())
    }

    fn check_fields(without: &str, with: &[&str]) -> Result<bool, HandshakeError> {
        check("GET / HTTP/1.1", without, with)
    }

    #[test]
    fn the_sample_of_the_rfc_is_accepted() {
        let text = format!("GET /chat HTTP/1.1\r\n{}\r\n\r\n", GOOD.join("\r\n"));
        let mut slots = HeaderSlots::new(16);
        let head = RequestHead::parse(text.as_bytes(), &mut slots).unwrap();
        let upgrade = check_upgrade(&head).unwrap().unwrap();
        assert_eq!(upgrade.key, KEY);
        assert_eq!(&upgrade.accept(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn request_lines() {
        let cases = [
            ("GET / HTTP/1.1", Ok(true)),
            ("GET /a?b HTTP/1.1", Ok(true)),
            ("GET http://example.com/a HTTP/1.1", Ok(true)),
            ("GET HTTPS://example.com HTTP/1.1", Ok(true)),
            ("POST / HTTP/1.1", Err(MethodNotAllowed)),
            ("get / HTTP/1.1", Err(MethodNotAllowed)),
            ("HEAD / HTTP/1.1", Err(MethodNotAllowed)),
            ("GET / HTTP/1.0", Err(UnsupportedHttpVersion)),
            ("GET / HTTP/2.0", Err(UnsupportedHttpVersion)),
            ("GET * HTTP/1.1", Err(InvalidTarget)),
            ("GET example.com:80 HTTP/1.1", Err(InvalidTarget)),
            ("GET ftp://example.com/ HTTP/1.1", Err(InvalidTarget)),
            ("GET /a#b HTTP/1.1", Err(InvalidTarget)),
        ];
        for (line, expected) in cases {
            assert_eq!(check(line, "", &[]), expected, "{line}");
        }
    }

    #[test]
    fn a_request_without_the_websocket_token_is_no_upgrade() {
        for other in ["X: y", "Upgrade: h2c", "Upgrade: websocket2", "Upgrade:"] {
            assert_eq!(check_fields("Upgrade", &[other]), Ok(false), "{other}");
            let post = check("POST / HTTP/1.0", "Upgrade", &[other]);
            assert_eq!(post, Ok(false), "{other}");
        }
    }

    #[test]
    fn fields() {
        let cases: &[(&str, &[&str], Result<bool, HandshakeError>)] = &[
            ("", &[], Ok(true)),
            ("Upgrade", &["UPGRADE: h2c , WebSocket"], Ok(true)),
            ("Upgrade", &["Upgrade: h2c", "Upgrade: websocket"], Ok(true)),
            ("Host", &[], Err(MissingHost)),
            ("Host", &["Host:"], Err(MissingHost)),
            ("Host", &["Host: [::1]:8080"], Ok(true)),
            ("Host", &["Host: a b"], Err(InvalidHost)),
            ("Host", &["Host: a,b"], Err(InvalidHost)),
            ("Host", &["Host: \u{e9}"], Err(InvalidHost)),
            ("", &["host: example.com"], Err(DuplicateHeader("Host"))),
            ("Connection", &[], Err(MissingConnectionUpgrade)),
            (
                "Connection",
                &["Connection: close"],
                Err(MissingConnectionUpgrade),
            ),
            ("Connection", &["Connection: keep-alive,UPGRADE"], Ok(true)),
            (
                "Connection",
                &["Connection: keep-alive", "connection: upgrade"],
                Ok(true),
            ),
            ("Sec-WebSocket-Key", &[], Err(MissingKey)),
            (
                "Sec-WebSocket-Key",
                &["Sec-WebSocket-Key: AAAA"],
                Err(InvalidKey),
            ),
            (
                "Sec-WebSocket-Key",
                &["Sec-WebSocket-Key:"],
                Err(InvalidKey),
            ),
            (
                "",
                &["sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="],
                Err(DuplicateHeader("Sec-WebSocket-Key")),
            ),
            ("Sec-WebSocket-Version", &[], Err(MissingVersion)),
            (
                "",
                &["sec-websocket-version: 13"],
                Err(DuplicateHeader("Sec-WebSocket-Version")),
            ),
            ("", &["Content-Length: 0"], Ok(true)),
            ("", &["Content-Length: 1"], Err(UnexpectedBody)),
            ("", &["Content-Length: 00"], Err(UnexpectedBody)),
            (
                "",
                &["Content-Length: 0", "Content-Length: 5"],
                Err(UnexpectedBody),
            ),
            ("", &["Transfer-Encoding: chunked"], Err(UnexpectedBody)),
        ];
        for (without, with, expected) in cases {
            assert_eq!(check_fields(without, with), *expected, "{with:?}");
        }
    }

    #[test]
    fn versions() {
        for version in ["", "0", "8", "12", "14", "013", "13, 8", "13;", "x"] {
            let line = format!("Sec-WebSocket-Version: {version}");
            let result = check_fields("Sec-WebSocket-Version", &[&line]);
            assert_eq!(result, Err(UnsupportedVersion), "{version}");
        }
    }

    #[test]
    fn subprotocols() {
        let cases = [
            ("chat", Ok(true)),
            ("chat, superchat,v2.x", Ok(true)),
            ("chat, Chat", Ok(true)),
            ("", Err(InvalidSubprotocol)),
            (",", Err(InvalidSubprotocol)),
            ("chat,", Err(InvalidSubprotocol)),
            ("chat,,x", Err(InvalidSubprotocol)),
            ("a b", Err(InvalidSubprotocol)),
            ("a/b", Err(InvalidSubprotocol)),
            ("\u{e9}", Err(InvalidSubprotocol)),
            ("chat, x, chat", Err(InvalidSubprotocol)),
        ];
        for (value, expected) in cases {
            let line = format!("Sec-WebSocket-Protocol: {value}");
            assert_eq!(check_fields("", &[&line]), expected, "{value}");
        }
        let twice = ["Sec-WebSocket-Protocol: a", "Sec-WebSocket-Protocol: a"];
        assert_eq!(check_fields("", &twice), Err(InvalidSubprotocol));
    }

    #[test]
    fn the_number_of_offers_is_limited() {
        let cases = [
            (MAX_SUBPROTOCOL_OFFERS, Ok(true)),
            (MAX_SUBPROTOCOL_OFFERS + 1, Err(TooManySubprotocols)),
            (50_000, Err(TooManySubprotocols)),
        ];
        for (count, expected) in cases {
            let offers: Vec<String> = (0..count).map(|n| format!("p{n}")).collect();
            let line = format!("Sec-WebSocket-Protocol: {}", offers.join(","));
            assert_eq!(check_fields("", &[&line]), expected, "{count}");
        }
    }

    /// CVE-2021-32640 and the like: lists made to be slow. A quadratic parser would sit here for minutes.
    #[test]
    fn pathological_lists() {
        let commas = ",".repeat(50_000);
        let quotes = "a=\"\\\"".repeat(50_000);
        let blanks = " ".repeat(500_000);
        let cases = [
            (format!("Connection: {commas}upgrade"), Ok(true)),
            (format!("Connection: x{blanks}x"), Ok(true)),
            (format!("Upgrade: {commas}"), Ok(true)),
            (
                format!("Sec-WebSocket-Protocol: {commas}"),
                Err(InvalidSubprotocol),
            ),
            (
                format!("Sec-WebSocket-Protocol: a{blanks}a"),
                Err(InvalidSubprotocol),
            ),
            (format!("Sec-WebSocket-Extensions: {commas}"), Ok(true)),
            (format!("Sec-WebSocket-Extensions: x; {quotes}"), Ok(true)),
            (format!("Content-Length: {commas}"), Err(UnexpectedBody)),
        ];
        for (line, expected) in cases {
            assert_eq!(check_fields("", &[&line]), expected);
        }
    }
}
