//! The head of an HTTP/1.x request, borrowed from the bytes it was read into.

use super::error::HandshakeError;
use super::fields::{Fields, HeaderSlots, has_bare_line_feed};
use super::token::elements;

/// A parsed request head (RFC 9112 §2.1). Any method and any header: whether it asks for a WebSocket, and well, says
/// [`check_upgrade`](super::check_upgrade).
#[derive(Debug, Clone, Copy)]
pub struct RequestHead<'a> {
    method: &'a str,
    target: &'a str,
    minor_version: u8,
    fields: Fields<'a>,
}

impl<'a> RequestHead<'a> {
    /// Parses one whole head: `bytes` ends where [`find_head_end`](super::find_head_end) says, not later.
    ///
    /// # Errors
    ///
    /// [`TooManyHeaders`](HandshakeError::TooManyHeaders) beyond the limit of `slots`,
    /// [`UnsupportedHttpVersion`](HandshakeError::UnsupportedHttpVersion) for anything but HTTP/1.0 and 1.1, and
    /// [`Malformed`](HandshakeError::Malformed) for every other violation of the grammar, bare line feeds and bytes behind
    /// the head included.
    pub fn parse<'b: 'a>(
        bytes: &'b [u8],
        slots: &'a mut HeaderSlots<'b>,
    ) -> Result<Self, HandshakeError> {
        if has_bare_line_feed(bytes) {
            return Err(HandshakeError::Malformed);
        }
        let mut request = httparse::Request::new(&mut []);
        let parsed = request
            .parse_with_uninit_headers(bytes, slots.as_mut_slice())
            .map_err(refusal)?;
        match (parsed, request.method, request.path, request.version) {
            (
                httparse::Status::Complete(length),
                Some(method),
                Some(target),
                Some(minor_version),
            ) if length == bytes.len() => Ok(Self {
                method,
                target,
                minor_version,
                fields: Fields::new(request.headers),
            }),
            _ => Err(HandshakeError::Malformed),
        }
    }

    /// The method as sent: methods are case-sensitive.
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The request target as sent: a path with its query, or an absolute URI. RFC 9112 §3.2.
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The target's path, not decoded; `/` when an absolute URI has none. RFC 6455 §3.
    pub fn path(&self) -> &'a str {
        let (path, _) = split_query(self.resource());
        if path.is_empty() { "/" } else { path }
    }

    /// What follows the first `?` of the target, not decoded; `None` without a `?`. RFC 6455 §3.
    pub fn query(&self) -> Option<&'a str> {
        split_query(self.resource()).1
    }

    /// The minor version of HTTP/1.x: 0 or 1.
    pub fn minor_version(&self) -> u8 {
        self.minor_version
    }

    /// All header fields in the order sent, names as written, values without the white space around them.
    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> + use<'a> {
        self.fields.iter()
    }

    /// The value of the first field of that name, whatever its case; `None` also when the value is not UTF-8.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.fields.first(name)
    }

    /// The values of all fields of that name, whatever its case, in the order sent.
    pub fn header_values<'n>(
        &self,
        name: &'n str,
    ) -> impl Iterator<Item = &'a [u8]> + Clone + use<'a, 'n> {
        self.fields.values(name)
    }

    /// `Host`: the authority that the client means to reach.
    pub fn host(&self) -> Option<&'a str> {
        self.header("Host")
    }

    /// `Origin`: the page whose script asks, when a browser asks. RFC 6455 §10.2.
    pub fn origin(&self) -> Option<&'a str> {
        self.header("Origin")
    }

    /// The value of a cookie, from all `Cookie` lines. See [`cookie`](super::cookie).
    pub fn cookie(&self, name: &str) -> Option<&'a str> {
        super::cookie(self.header_values("Cookie"), name)
    }

    /// `Sec-WebSocket-Key`, unchecked.
    pub fn key(&self) -> Option<&'a str> {
        self.header("Sec-WebSocket-Key")
    }

    /// The subprotocols the client offers, the preferred one first, over all header lines. RFC 6455 §4.1, item 10.
    ///
    /// Empty elements and such that are not UTF-8 are skipped; in a request that passed
    /// [`check_upgrade`](super::check_upgrade) there are none, and each is a token.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> + Clone + use<'a> {
        self.header_values("Sec-WebSocket-Protocol")
            .flat_map(elements)
            .filter(|offer| !offer.is_empty())
            .filter_map(|offer| core::str::from_utf8(offer).ok())
    }

    /// The raw values of `Sec-WebSocket-Extensions`, one for each header line. RFC 6455 §9.1.
    pub fn extensions(&self) -> impl Iterator<Item = &'a [u8]> + use<'a> {
        self.header_values("Sec-WebSocket-Extensions")
    }

    /// True exactly when `Upgrade` lists `websocket`. The rest of the request may still be wrong.
    pub fn is_upgrade(&self) -> bool {
        self.lists("Upgrade", "websocket")
    }

    /// True exactly when one line of the field `name` lists `token`.
    pub(super) fn lists(&self, name: &str, token: &str) -> bool {
        self.fields.lists(name, token)
    }

    /// The value of a field that may occur once.
    pub(super) fn single(&self, name: &'static str) -> Result<Option<&'a [u8]>, HandshakeError> {
        Ok(self.fields.single(name)?)
    }

    /// The target without the scheme and authority of an absolute URI.
    fn resource(&self) -> &'a str {
        let target = self.target;
        if target.starts_with('/') {
            return target;
        }
        let Some((_, rest)) = target.split_once("://") else {
            return target;
        };
        let authority_end = rest.find(['/', '?']).unwrap_or(rest.len());
        rest.get(authority_end..).unwrap_or_default()
    }
}

fn refusal(error: httparse::Error) -> HandshakeError {
    match error {
        httparse::Error::TooManyHeaders => HandshakeError::TooManyHeaders,
        httparse::Error::Version => HandshakeError::UnsupportedHttpVersion,
        _ => HandshakeError::Malformed,
    }
}

fn split_query(resource: &str) -> (&str, Option<&str>) {
    match resource.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (resource, None),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::MAX_HEADER_FIELDS;
    use super::*;

    fn with_head<T>(text: &str, check: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let mut slots = HeaderSlots::new(MAX_HEADER_FIELDS);
        check(&RequestHead::parse(text.as_bytes(), &mut slots).unwrap())
    }

    fn parse_error(bytes: &[u8], limit: usize) -> Option<HandshakeError> {
        RequestHead::parse(bytes, &mut HeaderSlots::new(limit)).err()
    }

    #[test]
    fn accessors() {
        let text = "GET /chat?a=1?b HTTP/1.1\r\nhost: example.com \r\nORIGIN:http://o\r\nX-Raw: \u{e9}\r\n\
            Sec-WebSocket-Key: k\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Protocol:,c\t\r\n\
            Sec-WebSocket-Extensions: x; y=\"unclosed\r\nSec-WebSocket-Extensions: z\r\nUpgrade: h2c, WebSocket\r\n\r\n";
        with_head(text, |head| {
            assert_eq!(head.method(), "GET");
            assert_eq!(head.target(), "/chat?a=1?b");
            assert_eq!(head.path(), "/chat");
            assert_eq!(head.query(), Some("a=1?b"));
            assert_eq!(head.minor_version(), 1);
            assert_eq!(head.host(), Some("example.com"));
            assert_eq!(head.origin(), Some("http://o"));
            assert_eq!(head.key(), Some("k"));
            assert_eq!(head.header("x-raw"), Some("\u{e9}"));
            assert_eq!(head.header("absent"), None);
            assert_eq!(head.headers().count(), 9);
            assert_eq!(head.headers().next(), Some(("host", &b"example.com"[..])));
            assert!(head.subprotocols().eq(["a", "b", "c"]));
            assert!(head.extensions().eq([&b"x; y=\"unclosed"[..], b"z"]));
            assert!(head.is_upgrade());
        });
    }

    #[test]
    fn a_value_that_is_not_utf8_is_only_there_as_bytes() {
        let bytes = b"GET / HTTP/1.0\r\nX: \xff\r\nX: b\r\n\r\n";
        let mut slots = HeaderSlots::new(2);
        let head = RequestHead::parse(bytes, &mut slots).unwrap();
        assert_eq!(head.header("x"), None);
        assert!(head.header_values("x").eq([&b"\xff"[..], b"b"]));
        assert_eq!(head.minor_version(), 0);
        assert!(!head.is_upgrade());
    }

    #[test]
    fn targets() {
        let cases = [
            ("/", "/", None),
            ("/?", "/", Some("")),
            ("/a?u=http://x/y", "/a", Some("u=http://x/y")),
            ("http://h/p?q", "/p", Some("q")),
            ("https://h", "/", None),
            ("http://h?q", "/", Some("q")),
            ("*", "*", None),
        ];
        for (target, path, query) in cases {
            with_head(&format!("GET {target} HTTP/1.1\r\n\r\n"), |head| {
                assert_eq!((head.path(), head.query()), (path, query), "{target}");
            });
        }
    }

    #[test]
    fn refused_heads() {
        use HandshakeError::{Malformed, UnsupportedHttpVersion};
        let cases: [(&[u8], HandshakeError); 16] = [
            (b"", Malformed),
            (b"\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1\r\n", Malformed),
            (b"GET / HTTP/1.1\r\n\r\nrest", Malformed),
            (b"GET / HTTP/1.1\nHost: a\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1\r\nHost: a\n\nX: b\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1\r\nX: a\rb\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1\r\nX: a\0b\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1\r\nX : a\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1\r\n: a\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1\r\nX: a\r\n folded\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", Malformed),
            (b"GET  / HTTP/1.1\r\n\r\n", Malformed),
            (b"G@T / HTTP/1.1\r\n\r\n", Malformed),
            (b"GET / HTTP/2.0\r\n\r\n", UnsupportedHttpVersion),
            (b"\x16\x03\x01\x02\x00\x01\r\n\r\n", Malformed),
        ];
        for (bytes, error) in cases {
            assert_eq!(parse_error(bytes, 8), Some(error), "{bytes:?}");
        }
    }

    #[test]
    fn the_number_of_fields_is_limited() {
        let head = |fields: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(fields));
        let too_many = Some(HandshakeError::TooManyHeaders);
        for limit in [0, 1, 100, MAX_HEADER_FIELDS] {
            assert_eq!(parse_error(head(limit).as_bytes(), limit), None, "{limit}");
            assert_eq!(parse_error(head(limit + 1).as_bytes(), limit), too_many);
        }
        let beyond = head(MAX_HEADER_FIELDS + 1);
        assert_eq!(parse_error(beyond.as_bytes(), usize::MAX), too_many);
    }
}
