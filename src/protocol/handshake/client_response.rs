//! The head of an HTTP/1.x response, borrowed from the bytes it was read into, and how its body ends.

use super::client_error::ResponseError;
use super::fields::{Fields, HeaderSlots, Repeated, has_bare_line_feed};
use super::token::elements;

/// A parsed response head (RFC 9112 §2.1). Any status and any header: whether it opens the WebSocket says
/// [`check_response`](super::check_response).
#[derive(Debug, Clone, Copy)]
pub struct ResponseHead<'a> {
    /// At least 100.
    status: u16,
    reason: &'a str,
    minor_version: u8,
    fields: Fields<'a>,
}

impl<'a> ResponseHead<'a> {
    /// Parses one whole head: `bytes` ends where [`find_head_end`](super::find_head_end) says, not later.
    ///
    /// # Errors
    ///
    /// [`TooManyHeaders`](ResponseError::TooManyHeaders) beyond the limit of `slots`,
    /// [`UnsupportedHttpVersion`](ResponseError::UnsupportedHttpVersion) for anything but HTTP/1.0 and 1.1, and
    /// [`Malformed`](ResponseError::Malformed) for every other violation of the grammar, bare line feeds and bytes behind
    /// the head included.
    pub fn parse<'b: 'a>(
        bytes: &'b [u8],
        slots: &'a mut HeaderSlots<'b>,
    ) -> Result<Self, ResponseError> {
        if has_bare_line_feed(bytes) {
            return Err(ResponseError::Malformed);
        }
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default()
            .parse_response_with_uninit_headers(&mut response, bytes, slots.as_mut_slice())
            .map_err(|error| fault(error, bytes))?;
        match (parsed, response.code, response.version) {
            (httparse::Status::Complete(length), Some(status @ 100..), Some(minor_version))
                if length == bytes.len() =>
            {
                Ok(Self {
                    status,
                    reason: response.reason.unwrap_or_default(),
                    minor_version,
                    fields: Fields::new(response.headers),
                })
            }
            _ => Err(ResponseError::Malformed),
        }
    }

    /// The status code, within 100–999.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The reason phrase; empty when there is none, or none in ASCII. Nobody may rely on it (RFC 9112 §4).
    pub fn reason(&self) -> &'a str {
        self.reason
    }

    /// The minor version of HTTP/1.x: 0 or 1.
    pub fn minor_version(&self) -> u8 {
        self.minor_version
    }

    /// True exactly when another response follows to the same request: every 1xx but 101. The caller drops such a head,
    /// unasked for as it may be, and reads on. RFC 9110 §15.2.
    pub fn is_interim(&self) -> bool {
        matches!(self.status, 100 | 102..=199)
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
    pub fn header_values<'n>(&self, name: &'n str) -> impl Iterator<Item = &'a [u8]> + use<'a, 'n> {
        self.fields.values(name)
    }

    /// True exactly when one line of the field `name` lists `token`.
    pub(super) fn lists(&self, name: &str, token: &str) -> bool {
        self.fields.lists(name, token)
    }

    /// The value of a field that may occur once.
    pub(super) fn single(&self, name: &'static str) -> Result<Option<&'a [u8]>, Repeated> {
        self.fields.single(name)
    }
}

/// Where the body of a response ends. RFC 9112 §6.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyLength {
    /// There is no body.
    None,
    /// After this many bytes.
    Exact(u64),
    /// With the stream.
    UntilClose,
    /// With the last chunk. RFC 9112 §7.1.
    Chunked,
}

/// Says how the body of a response to a `GET` is delimited. RFC 9112 §6.3.
///
/// The length is what the server announces: the caller sets a limit of its own. A `Content-Length` that is no number, or
/// that contradicts itself, makes it [`BodyLength::None`]: such a body is to be discarded, and the connection with it.
pub fn body_length(head: &ResponseHead<'_>) -> BodyLength {
    if matches!(head.status(), 100..=199 | 204 | 304) {
        return BodyLength::None;
    }
    transfer_coding(head)
        .or_else(|| announced_length(head))
        .unwrap_or(BodyLength::UntilClose)
}

/// `None` without `Transfer-Encoding`, which otherwise counts more than any `Content-Length`.
fn transfer_coding(head: &ResponseHead<'_>) -> Option<BodyLength> {
    let last = head
        .header_values("Transfer-Encoding")
        .flat_map(elements)
        .last()?;
    // HTTP/1.0 has no transfer codings: whoever claims one there has perhaps only passed it on. RFC 9112 §6.1.
    let is_chunked = last.eq_ignore_ascii_case(b"chunked") && head.minor_version() == 1;
    Some(if is_chunked {
        BodyLength::Chunked
    } else {
        BodyLength::UntilClose
    })
}

/// `None` without `Content-Length`. A length that is said again and again is one length.
fn announced_length(head: &ResponseHead<'_>) -> Option<BodyLength> {
    let mut lengths = head
        .header_values("Content-Length")
        .flat_map(elements)
        .map(parse_length);
    let first = lengths.next()?;
    let agreed = first.filter(|_| lengths.all(|other| other == first));
    Some(agreed.map_or(BodyLength::None, BodyLength::Exact))
}

/// Digits only: the parser of the standard library would take a sign.
fn parse_length(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    core::str::from_utf8(text).ok()?.parse().ok()
}

/// Looks for the end of a chunked body as it comes in (RFC 9112 §7.1). No byte is looked at twice.
#[derive(Debug, Default)]
pub(crate) struct ChunkedEnd {
    part: Part,
    /// Where the part begins that is looked for.
    at: usize,
    /// No line ends before.
    scanned: usize,
}

/// A part of a chunked body.
#[derive(Debug, Clone, Copy, Default)]
enum Part {
    /// The line with the size of a chunk.
    #[default]
    Size,
    /// What ends the bytes of a chunk.
    ChunkEnd,
    /// A line of the trailer: a field, or the empty line at the end.
    Trailer,
    /// It is not chunked after all.
    Broken,
}

impl ChunkedEnd {
    /// Length in bytes of the body with everything that frames it; `None` while its end is not there, and when it is not
    /// chunked after all. `body` is what there was before, and more.
    pub(crate) fn find(&mut self, body: &[u8]) -> Option<usize> {
        loop {
            self.part = match self.part {
                Part::Size => match parse_chunk_size(self.line(body)?) {
                    Some(0) => Part::Trailer,
                    Some(size) => self.skip(size),
                    None => Part::Broken,
                },
                Part::ChunkEnd => match body.get(self.at..)? {
                    [b'\r', b'\n', ..] => {
                        self.skip(2);
                        Part::Size
                    }
                    [] | [b'\r'] => return None,
                    _ => Part::Broken,
                },
                Part::Trailer => match self.line(body)? {
                    [] => return Some(self.at),
                    _ => Part::Trailer,
                },
                Part::Broken => return None,
            }
        }
    }

    /// The next line without its end, once that is there.
    fn line<'a>(&mut self, body: &'a [u8]) -> Option<&'a [u8]> {
        let from = self.scanned.max(self.at);
        let found = body
            .get(from..)?
            .windows(2)
            .position(|pair| pair == b"\r\n");
        let Some(end) = found.map(|end| from + end) else {
            // The last byte may be the first of a line's end.
            self.scanned = body.len().saturating_sub(1);
            return None;
        };
        let line = &body[self.at..end];
        self.at = end + 2;
        Some(line)
    }

    /// Passes over so many bytes, behind which a chunk ends.
    fn skip(&mut self, size: usize) -> Part {
        match self.at.checked_add(size) {
            Some(at) => {
                self.at = at;
                Part::ChunkEnd
            }
            None => Part::Broken,
        }
    }
}

/// The size of a chunk, from its line, without extensions.
fn parse_chunk_size(line: &[u8]) -> Option<usize> {
    let digits = line.split(|byte| *byte == b';').next()?.trim_ascii();
    // The parser of the standard library would take a sign.
    if !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    usize::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()
}

/// What does not begin like a response at all is of no version of HTTP.
fn fault(error: httparse::Error, bytes: &[u8]) -> ResponseError {
    match error {
        httparse::Error::TooManyHeaders => ResponseError::TooManyHeaders,
        httparse::Error::Version if bytes.starts_with(b"HTTP/") => {
            ResponseError::UnsupportedHttpVersion
        }
        _ => ResponseError::Malformed,
    }
}

#[cfg(test)]
mod tests {
    use super::super::find_head_end;
    use super::*;

    fn with_head<T>(text: &str, check: impl FnOnce(&ResponseHead<'_>) -> T) -> T {
        let mut slots = HeaderSlots::new(16);
        check(&ResponseHead::parse(text.as_bytes(), &mut slots).unwrap())
    }

    fn chunked_len(body: &[u8]) -> Option<usize> {
        ChunkedEnd::default().find(body)
    }

    #[test]
    fn the_end_of_a_chunked_body_is_the_same_however_it_comes() {
        let body = b"5;a=b\r\n0\r\n\r\n\r\n00A\r\n0123456789\r\n0\r\nX: \r\r\n\r\n";
        for step in 1..body.len() {
            let mut end = ChunkedEnd::default();
            let mut len = 0;
            while len < body.len() {
                assert_eq!(end.find(&body[..len]), None, "{step} {len}");
                len += step;
            }
            let more = [&body[..], &[b'x'; 100]].concat();
            assert_eq!(end.find(&more[..len]), Some(body.len()), "{step}");
        }
    }

    /// What was looked at is not looked at again: it may be anything by then.
    #[test]
    fn no_byte_of_a_chunked_body_is_looked_at_twice() {
        let mut body = b"5\r\nhello\r\n".repeat(100);
        let mut end = ChunkedEnd::default();
        assert_eq!(end.find(&body), None);
        body.fill(b'x');
        body.extend(b"1\r\n");
        assert_eq!(end.find(&body), None);
        body.fill(b'x');
        body.extend(b"y\r\n0\r\n\r\n");
        assert_eq!(end.find(&body), Some(body.len()));
    }

    #[test]
    fn the_end_of_a_chunked_body_is_found_when_all_of_it_is_there() {
        for body in [
            "0\r\n\r\n",
            "5\r\nhello\r\n0\r\n\r\n",
            "5;a=b\r\n0\r\n\r\n\r\n00A\r\n0123456789\r\n0\r\nX: y\r\n\r\n",
        ] {
            for len in 0..body.len() {
                assert_eq!(chunked_len(&body.as_bytes()[..len]), None, "{body:?} {len}");
            }
            let more = format!("{body}more");
            assert_eq!(chunked_len(more.as_bytes()), Some(body.len()));
        }
        for odd in [
            "\r\n\r\n",
            "x\r\n\r\n",
            "+1\r\na\r\n0\r\n\r\n",
            "1\r\nab0\r\n\r\n",
        ] {
            assert_eq!(chunked_len(odd.as_bytes()), None, "{odd:?}");
        }
        let huge = format!("{}\r\n", "F".repeat(16));
        assert_eq!(chunked_len(huge.as_bytes()), None);
    }

    fn parse_error(bytes: &[u8]) -> Option<ResponseError> {
        ResponseHead::parse(bytes, &mut HeaderSlots::new(2)).err()
    }

    #[test]
    fn accessors() {
        let text = "HTTP/1.0 503 Try Again\r\nretry-after:  7 \r\nX: a\r\nx: b\r\n\r\n";
        with_head(text, |head| {
            assert_eq!((head.status(), head.reason()), (503, "Try Again"));
            assert_eq!(head.minor_version(), 0);
            assert_eq!(head.header("Retry-After"), Some("7"));
            assert_eq!(head.header("absent"), None);
            assert!(head.header_values("X").eq([&b"a"[..], b"b"]));
            assert_eq!(head.headers().count(), 3);
        });
    }

    #[test]
    fn a_reason_is_optional() {
        for line in ["HTTP/1.1 200", "HTTP/1.1 200 ", "HTTP/1.1 200 \u{e9}"] {
            let text = format!("{line}\r\n\r\n");
            with_head(&text, |head| assert_eq!(head.reason(), "", "{line}"));
        }
    }

    #[test]
    fn interim_responses_are_all_1xx_but_101() {
        let cases = [
            (100, true),
            (101, false),
            (102, true),
            (103, true),
            (199, true),
        ];
        for (status, expected) in cases.into_iter().chain([(200, false), (999, false)]) {
            with_head(&format!("HTTP/1.1 {status} X\r\n\r\n"), |head| {
                assert_eq!(head.is_interim(), expected, "{status}");
            });
        }
    }

    #[test]
    fn refused_heads() {
        use ResponseError::{Malformed, TooManyHeaders, UnsupportedHttpVersion};
        let cases: [(&[u8], ResponseError); 17] = [
            (b"", Malformed),
            (b"\r\n\r\n", Malformed),
            (b"HTTP/1.1 200 OK\r\n", Malformed),
            (b"HTTP/1.1 200 OK\r\n\r\nrest", Malformed),
            (b"HTTP/1.1 200 OK\nX: a\r\n\r\n", Malformed),
            (b"HTTP/1.1 200 OK\r\nX: a\n\nY: b\r\n\r\n", Malformed),
            (b"HTTP/1.1 200 OK\r\nX : a\r\n\r\n", Malformed),
            (b"HTTP/1.1 200 OK\r\nX: a\r\n folded\r\n\r\n", Malformed),
            (b"HTTP/1.1 200 OK\r\nX: a\0\r\n\r\n", Malformed),
            (b"HTTP/1.1 099 OK\r\n\r\n", Malformed),
            (b"HTTP/1.1 20 OK\r\n\r\n", Malformed),
            (b"HTTP/1.1 2000 OK\r\n\r\n", Malformed),
            (b"HTTP/1.1  200 OK\r\n\r\n", Malformed),
            (b"GET / HTTP/1.1\r\n\r\n", Malformed),
            (b"HTTP/2.0 200 OK\r\n\r\n", UnsupportedHttpVersion),
            (
                b"HTTP/1.1 200 OK\r\na: b\r\na: b\r\na: b\r\n\r\n",
                TooManyHeaders,
            ),
            (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", Malformed),
        ];
        for (bytes, error) in cases {
            assert_eq!(parse_error(bytes), Some(error), "{bytes:?}");
        }
    }

    #[test]
    fn a_head_split_at_every_byte_is_found_and_parsed_only_whole() {
        let head = b"HTTP/1.1 403 Forbidden\r\nA: b\r\n\r\n";
        let stream = [&head[..], b"body\r\n\r\n"].concat();
        for split in 0..=stream.len() {
            let early = find_head_end(&stream[..split], 0);
            assert_eq!(early.is_some(), split >= head.len(), "{split}");
            let end = early.or_else(|| find_head_end(&stream, split));
            assert_eq!(end, Some(head.len()), "{split}");
            let parsed = parse_error(&stream[..split]);
            assert_eq!(parsed.is_none(), split == head.len(), "{split}");
        }
    }

    #[test]
    fn bodies() {
        use BodyLength::{Chunked, Exact, None, UntilClose};
        let cases = [
            ("HTTP/1.1 200 OK", "", UntilClose),
            ("HTTP/1.1 403 X", "Content-Length: 12", Exact(12)),
            ("HTTP/1.1 403 X", "Content-Length: 0", Exact(0)),
            ("HTTP/1.0 403 X", "content-length: 007", Exact(7)),
            ("HTTP/1.1 403 X", "Content-Length: 5, 5", Exact(5)),
            (
                "HTTP/1.1 403 X",
                "Content-Length: 5\r\nContent-Length: 5",
                Exact(5),
            ),
            (
                "HTTP/1.1 403 X",
                "Content-Length: 18446744073709551615",
                Exact(u64::MAX),
            ),
            (
                "HTTP/1.1 403 X",
                "Content-Length: 18446744073709551616",
                None,
            ),
            (
                "HTTP/1.1 403 X",
                "Content-Length: 5\r\nContent-Length: 6",
                None,
            ),
            ("HTTP/1.1 403 X", "Content-Length: 5, x", None),
            ("HTTP/1.1 403 X", "Content-Length: +5", None),
            ("HTTP/1.1 403 X", "Content-Length: -5", None),
            (
                "HTTP/1.1 403 X",
                "Content-Length: x\r\nContent-Length: x",
                None,
            ),
            ("HTTP/1.1 403 X", "Content-Length:", None),
            ("HTTP/1.1 403 X", "Transfer-Encoding: Chunked", Chunked),
            (
                "HTTP/1.1 403 X",
                "Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked",
                Chunked,
            ),
            (
                "HTTP/1.1 403 X",
                "Content-Length: 5\r\nTransfer-Encoding: chunked",
                Chunked,
            ),
            (
                "HTTP/1.1 403 X",
                "Transfer-Encoding: chunked, gzip",
                UntilClose,
            ),
            ("HTTP/1.0 403 X", "Transfer-Encoding: chunked", UntilClose),
            ("HTTP/1.1 204 X", "Content-Length: 5", None),
            ("HTTP/1.1 304 X", "Transfer-Encoding: chunked", None),
            ("HTTP/1.1 101 X", "Content-Length: 5", None),
            ("HTTP/1.1 103 X", "", None),
        ];
        for (line, fields, expected) in cases {
            let end = if fields.is_empty() { "" } else { "\r\n" };
            let text = format!("{line}\r\n{fields}{end}\r\n");
            with_head(&text, |head| {
                assert_eq!(body_length(head), expected, "{line}: {fields}");
            });
        }
    }
}
