//! The answer to a request that does not become a WebSocket: a refusal, a health check, a page.

use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};

use super::error::HandshakeError;
use super::field::{self, HeaderError};

/// A complete HTTP/1.1 answer, after which the connection ends.
///
/// `Content-Length` and `Connection: close` are written by the library, and on a 426 also what RFC 9110 §15.5.22 and
/// RFC 6455 §4.4 ask for. There is no `Date`: the protocol has no clock.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpResponse {
    /// Within 200–599.
    status: u16,
    /// Names and values passed `field::check`, or are the library's own.
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl HttpResponse {
    /// An answer without header fields and body.
    ///
    /// # Errors
    ///
    /// [`HeaderError::InvalidStatus`] outside of 200–599.
    pub fn new(status: u16) -> Result<Self, HeaderError> {
        if !(200..=599).contains(&status) {
            return Err(HeaderError::InvalidStatus(status));
        }
        Ok(Self::with_status(status))
    }

    /// 200 with a text.
    pub fn ok_text(text: impl Into<String>) -> Self {
        Self::with_status(200).text(text)
    }

    /// 400: the request is wrong.
    pub fn bad_request() -> Self {
        Self::plain(400)
    }

    /// 401 with the challenge that `WWW-Authenticate` has to carry, such as `Bearer`. RFC 9110 §15.5.2.
    ///
    /// # Errors
    ///
    /// [`HeaderError::InvalidValue`] when the challenge is no header value.
    pub fn unauthorized(challenge: &str) -> Result<Self, HeaderError> {
        Self::plain(401).header("WWW-Authenticate", challenge)
    }

    /// 403: this client, or this origin (RFC 6455 §4.2.2), may not.
    pub fn forbidden() -> Self {
        Self::plain(403)
    }

    /// 404: no such path.
    pub fn not_found() -> Self {
        Self::plain(404)
    }

    /// 408: the request did not arrive in time.
    pub fn request_timeout() -> Self {
        Self::plain(408)
    }

    /// 426: only a WebSocket of version 13 is served here. RFC 6455 §4.4.
    pub fn upgrade_required() -> Self {
        Self::plain(426)
    }

    /// 503 with `Retry-After` in seconds: no room at the moment. RFC 9110 §15.6.4.
    pub fn unavailable(retry_after_seconds: u32) -> Self {
        let mut response = Self::plain(503);
        response.set("Retry-After", &retry_after_seconds.to_string());
        response
    }

    /// Adds a header field. A name may occur several times, but for `Content-Type`, where the last one counts.
    ///
    /// # Errors
    ///
    /// [`HeaderError::InvalidName`], [`HeaderError::InvalidValue`], and [`HeaderError::Reserved`] for a field that the
    /// library sets.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, HeaderError> {
        field::check(name, value)?;
        if name.eq_ignore_ascii_case(CONTENT_TYPE) {
            self.set(CONTENT_TYPE, value);
        } else {
            self.headers.push((name.to_owned(), value.to_owned()));
        }
        Ok(self)
    }

    /// Sets the body. Statuses 204, 205 and 304 have none: it is not sent with them.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets the body to a text and `Content-Type` to `text/plain; charset=utf-8`.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.set(CONTENT_TYPE, "text/plain; charset=utf-8");
        self.body(text.into())
    }

    /// The status code, within 200–599.
    pub fn status(&self) -> u16 {
        self.status
    }

    /// Appends the answer to `out`. Without `include_body` (for `HEAD`) the length is announced and the body left out.
    pub fn encode(&self, out: &mut Vec<u8>, include_body: bool) {
        let status_line = format!("HTTP/1.1 {} {}\r\n", self.status, reason(self.status));
        out.extend_from_slice(status_line.as_bytes());
        self.encode_own_fields(out);
        for (name, value) in &self.headers {
            field::encode(name, value.as_bytes(), out);
        }
        out.extend_from_slice(b"\r\n");
        if include_body {
            out.extend_from_slice(self.content());
        }
    }

    fn encode_own_fields(&self, out: &mut Vec<u8>) {
        // RFC 9110 §8.6: a 204 must not have a length, and that of a 304 would be the length of another answer.
        if !matches!(self.status, 204 | 304) {
            let length = self.content().len().to_string();
            field::encode("Content-Length", length.as_bytes(), out);
        }
        if self.status == 426 {
            out.extend_from_slice(
                b"Upgrade: websocket\r\nConnection: Upgrade, close\r\nSec-WebSocket-Version: 13\r\n",
            );
        } else {
            out.extend_from_slice(b"Connection: close\r\n");
        }
    }

    /// The body, as far as the status permits one.
    fn content(&self) -> &[u8] {
        match self.status {
            204 | 205 | 304 => &[],
            _ => &self.body,
        }
    }

    /// Sets a field that occurs once. The caller vouches for name and value.
    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(other, _)| other != name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    /// The caller vouches for the status; its reason phrase is the body.
    fn plain(status: u16) -> Self {
        Self::with_status(status).text(reason(status))
    }

    fn with_status(status: u16) -> Self {
        Self {
            status,
            headers: Vec::new(),
            body: Vec::new(),
        }
    }
}

impl From<HandshakeError> for HttpResponse {
    /// The refusal that says why: one line of text, and what the status demands beside it.
    fn from(error: HandshakeError) -> Self {
        let mut response = Self::with_status(error.status()).text(error.to_string());
        if error == HandshakeError::MethodNotAllowed {
            response.set("Allow", "GET");
        }
        response
    }
}

const CONTENT_TYPE: &str = "Content-Type";

/// The reason phrase, empty where it is not a common one: nobody may rely on it (RFC 9112 §4).
fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        205 => "Reset Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        421 => "Misdirected Request",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(response: &HttpResponse, include_body: bool) -> String {
        let mut out = Vec::new();
        response.encode(&mut out, include_body);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_whole_answer() {
        let response = HttpResponse::ok_text("alive")
            .header("Set-Cookie", "a=1")
            .and_then(|response| response.header("Set-Cookie", "b=2"))
            .unwrap();
        let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\
            Content-Type: text/plain; charset=utf-8\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n";
        assert_eq!(encoded(&response, true), format!("{head}alive"));
        assert_eq!(encoded(&response, false), head);
    }

    #[test]
    fn encode_appends() {
        let mut out = b"before".to_vec();
        HttpResponse::new(299).unwrap().encode(&mut out, true);
        assert_eq!(
            out,
            b"beforeHTTP/1.1 299 \r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
    }

    #[test]
    fn statuses() {
        for status in [0, 100, 101, 199, 600, u16::MAX] {
            let error = HeaderError::InvalidStatus(status);
            assert_eq!(HttpResponse::new(status), Err(error));
        }
        for status in [200, 401, 599] {
            assert_eq!(HttpResponse::new(status).unwrap().status(), status);
        }
    }

    #[test]
    fn statuses_without_a_body() {
        for (status, has_length) in [(204, false), (205, true), (304, false)] {
            let text = encoded(&HttpResponse::new(status).unwrap().body("x"), true);
            assert!(text.ends_with("\r\n\r\n"), "{status}");
            assert_eq!(text.contains("Content-Length: 0\r\n"), has_length);
            assert_eq!(text.contains("Content-Length"), has_length);
        }
    }

    #[test]
    fn the_last_content_type_counts() {
        let response = HttpResponse::ok_text("{}").header("content-type", "application/json");
        let text = encoded(&response.unwrap(), true);
        assert!(text.contains("Content-Type: application/json\r\n"));
        assert_eq!(text.matches("Content-Type").count(), 1);
    }

    #[test]
    fn injection_is_refused() {
        let refused = HttpResponse::forbidden().header("X", "a\r\nSet-Cookie: b");
        assert_eq!(refused, Err(HeaderError::InvalidValue));
        let reserved = HttpResponse::forbidden().header("content-length", "0");
        assert_eq!(reserved, Err(HeaderError::Reserved("Content-Length")));
        let challenge = HttpResponse::unauthorized("Basic\r\n");
        assert_eq!(challenge, Err(HeaderError::InvalidValue));
    }

    #[test]
    fn shorthands() {
        let cases = [
            (HttpResponse::bad_request(), 400, "Content-Length: 11\r\n"),
            (
                HttpResponse::unauthorized("Bearer").unwrap(),
                401,
                "WWW-Authenticate: Bearer\r\n",
            ),
            (HttpResponse::forbidden(), 403, "\r\n\r\nForbidden"),
            (HttpResponse::not_found(), 404, "\r\n\r\nNot Found"),
            (
                HttpResponse::upgrade_required(),
                426,
                "Connection: Upgrade, close\r\n",
            ),
            (HttpResponse::unavailable(7), 503, "Retry-After: 7\r\n"),
        ];
        for (response, status, part) in cases {
            let text = encoded(&response, true);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn every_handshake_error_has_its_answer() {
        for (error, status) in super::super::error::tests::ALL {
            let text = encoded(&HttpResponse::from(error), true);
            assert!(text.starts_with(&format!("HTTP/1.1 {status} ")), "{text}");
            assert!(text.ends_with(&format!("\r\n\r\n{error}")), "{text}");
            assert_eq!(text.contains("Allow: GET\r\n"), status == 405);
            assert_eq!(text.contains("Upgrade: websocket\r\n"), status == 426);
            assert_eq!(
                text.contains("Sec-WebSocket-Version: 13\r\n"),
                status == 426
            );
            assert_eq!(text.matches("Connection: ").count(), 1);
        }
    }
}
