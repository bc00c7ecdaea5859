//! The request that asks for a WebSocket.

use super::super::{
    DeflatePolicy,
    url::{Url, is_target},
};
use super::accept_key::ClientKey;
use super::field::{self, HeaderError};
use super::token::is_token;
use super::upgrade::MAX_SUBPROTOCOL_OFFERS;
use alloc::{borrow::ToOwned, string::String, vec::Vec};
use core::error::Error;
use core::fmt;

/// A client's opening request (RFC 6455 §4.1). It can be sent more than once, each time with a fresh [`ClientKey`].
#[derive(Clone, PartialEq, Eq)]
pub struct ClientRequest {
    /// Passed `field::is_host`.
    host: String,
    /// Passed `is_target`.
    target: String,
    /// Passed `field::is_value`.
    origin: Option<String>,
    /// Different tokens, the preferred one first.
    subprotocols: Vec<String>,
    deflate: Option<DeflatePolicy>,
    /// Whole header lines, ready to be sent.
    extra: Vec<u8>,
}

impl ClientRequest {
    /// A request for `target`, a path with or without a query, from `host`: the value of the field, with the port unless it
    /// is the scheme's own, and an IPv6 address in brackets.
    ///
    /// # Errors
    ///
    /// [`ClientRequestError::InvalidHost`] and [`ClientRequestError::InvalidTarget`].
    pub fn new(host: &str, target: &str) -> Result<Self, ClientRequestError> {
        if !is_target(target) {
            return Err(ClientRequestError::InvalidTarget);
        }
        Self::with(String::new(), target.to_owned()).host(host)
    }

    /// A request for what the URL names.
    pub fn for_url(url: &Url) -> Self {
        Self::with(url.host_header(), url.target().to_owned())
    }

    /// Sets another `Host` than the URL's, for a server that is reached by an address or by a Unix socket.
    ///
    /// # Errors
    ///
    /// [`ClientRequestError::InvalidHost`].
    pub fn host(mut self, host: &str) -> Result<Self, ClientRequestError> {
        if !field::is_host(host.as_bytes()) {
            return Err(ClientRequestError::InvalidHost);
        }
        host.clone_into(&mut self.host);
        Ok(self)
    }

    /// Sets `Origin`, which browsers send and others may. RFC 6455 §4.1, item 8.
    ///
    /// # Errors
    ///
    /// [`ClientRequestError::InvalidOrigin`] when it is empty or no header value.
    pub fn origin(mut self, origin: &str) -> Result<Self, ClientRequestError> {
        if origin.is_empty() || !field::is_value(origin) {
            return Err(ClientRequestError::InvalidOrigin);
        }
        self.origin = Some(origin.to_owned());
        Ok(self)
    }

    /// Offers a subprotocol, after those offered before, which are preferred. RFC 6455 §4.1, item 10.
    ///
    /// # Errors
    ///
    /// [`ClientRequestError::InvalidSubprotocol`], [`ClientRequestError::RepeatedSubprotocol`], and
    /// [`ClientRequestError::TooManySubprotocols`] beyond [`MAX_SUBPROTOCOL_OFFERS`].
    pub fn subprotocol(mut self, name: &str) -> Result<Self, ClientRequestError> {
        if !is_token(name.as_bytes()) {
            return Err(ClientRequestError::InvalidSubprotocol);
        }
        if self.subprotocols.iter().any(|earlier| earlier == name) {
            return Err(ClientRequestError::RepeatedSubprotocol);
        }
        if self.subprotocols.len() >= MAX_SUBPROTOCOL_OFFERS {
            return Err(ClientRequestError::TooManySubprotocols);
        }
        self.subprotocols.push(name.to_owned());
        Ok(self)
    }

    /// Offers permessage-deflate (RFC 7692 §5), or with `None` does not.
    pub fn set_deflate(&mut self, policy: Option<DeflatePolicy>) {
        self.deflate = policy;
    }

    /// What is offered of permessage-deflate, for [`check_response`](super::check_response).
    pub fn deflate(&self) -> Option<&DeflatePolicy> {
        self.deflate.as_ref()
    }

    /// Adds a header field. A name may occur several times.
    ///
    /// # Errors
    ///
    /// [`ClientRequestError::Header`] for an invalid name or value, and for a field that the library sets: `Host` and
    /// `Origin` have methods of their own.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, ClientRequestError> {
        field::check_of_request(name, value)?;
        field::encode(name, value.as_bytes(), &mut self.extra);
        Ok(self)
    }

    /// The subprotocols offered so far, for [`check_response`](super::check_response).
    pub fn subprotocols(&self) -> &[String] {
        &self.subprotocols
    }

    /// Appends the whole request to `out`.
    pub fn encode(&self, key: &ClientKey, out: &mut Vec<u8>) {
        for part in ["GET ", &self.target, " HTTP/1.1\r\n"] {
            out.extend_from_slice(part.as_bytes());
        }
        field::encode("Host", self.host.as_bytes(), out);
        out.extend_from_slice(b"Upgrade: websocket\r\nConnection: Upgrade\r\n");
        field::encode("Sec-WebSocket-Key", key.as_str().as_bytes(), out);
        out.extend_from_slice(b"Sec-WebSocket-Version: 13\r\n");
        if let Some(origin) = &self.origin {
            field::encode("Origin", origin.as_bytes(), out);
        }
        if !self.subprotocols.is_empty() {
            let offers = self.subprotocols.join(", ");
            field::encode("Sec-WebSocket-Protocol", offers.as_bytes(), out);
        }
        if let Some(policy) = &self.deflate {
            field::encode_display("Sec-WebSocket-Extensions", policy, out);
        }
        out.extend_from_slice(&self.extra);
        out.extend_from_slice(b"\r\n");
    }

    /// The caller vouches for both.
    fn with(host: String, target: String) -> Self {
        Self {
            host,
            target,
            origin: None,
            subprotocols: Vec::new(),
            deflate: None,
            extra: Vec::new(),
        }
    }
}

/// Without the added header fields: `Authorization` and `Cookie` are not for logs.
impl fmt::Debug for ClientRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientRequest")
            .field("host", &self.host)
            .field("target", &self.target)
            .field("origin", &self.origin)
            .field("subprotocols", &self.subprotocols)
            .finish_non_exhaustive()
    }
}

/// The caller's fault in building a [`ClientRequest`].
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientRequestError {
    /// The target does not begin with `/`, has a fragment, or characters that are not visible ASCII. RFC 6455 §3.
    InvalidTarget,
    /// The host is empty, has characters that are not visible ASCII, or names more than one host.
    InvalidHost,
    /// The origin is empty or has a control character.
    InvalidOrigin,
    /// The subprotocol is not a token. RFC 6455 §4.1, item 10.
    InvalidSubprotocol,
    /// The subprotocol was offered before.
    RepeatedSubprotocol,
    /// More subprotocols are offered than [`MAX_SUBPROTOCOL_OFFERS`].
    TooManySubprotocols,
    /// The header field cannot be added.
    Header(HeaderError),
}

impl fmt::Display for ClientRequestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidTarget => "invalid request target",
            Self::InvalidHost => "invalid Host",
            Self::InvalidOrigin => "invalid Origin",
            Self::InvalidSubprotocol => "subprotocol is not a token",
            Self::RepeatedSubprotocol => "subprotocol was offered before",
            Self::TooManySubprotocols => "too many subprotocols offered",
            Self::Header(error) => return error.fmt(f),
        })
    }
}

impl Error for ClientRequestError {}

impl From<HeaderError> for ClientRequestError {
    fn from(error: HeaderError) -> Self {
        Self::Header(error)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fields::HeaderSlots;
    use super::super::{RequestHead, check_upgrade};
    use super::ClientRequestError::*;
    use super::*;

    fn encoded(request: &ClientRequest) -> String {
        let mut out = Vec::new();
        request.encode(&ClientKey::new(*b"the sample nonce"), &mut out);
        String::from_utf8(out).unwrap()
    }

    fn request() -> ClientRequest {
        ClientRequest::new("example.com", "/chat?room=1").unwrap()
    }

    fn full() -> Result<ClientRequest, ClientRequestError> {
        request()
            .origin("http://example.com")?
            .subprotocol("v2.chat")?
            .subprotocol("chat")?
            .header("Authorization", "Bearer sesame")?
            .header("X-Trace", "a")?
            .header("X-Trace", "b")
    }

    #[test]
    fn the_bare_request() {
        assert_eq!(
            encoded(&request()),
            "GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
        );
    }

    #[test]
    fn what_is_added_keeps_its_order() {
        let text = encoded(&full().unwrap());
        let end = "Sec-WebSocket-Version: 13\r\nOrigin: http://example.com\r\n\
            Sec-WebSocket-Protocol: v2.chat, chat\r\nAuthorization: Bearer sesame\r\n\
            X-Trace: a\r\nX-Trace: b\r\n\r\n";
        assert!(text.ends_with(end), "{text}");
    }

    #[test]
    fn the_server_side_accepts_it() {
        for request in [request(), full().unwrap()] {
            let text = encoded(&request);
            let mut slots = HeaderSlots::new(16);
            let head = RequestHead::parse(text.as_bytes(), &mut slots).unwrap();
            let upgrade = check_upgrade(&head).unwrap().unwrap();
            let accept = ClientKey::new(*b"the sample nonce").accept();
            assert_eq!(upgrade.accept(), accept);
            assert!(head.subprotocols().eq(request.subprotocols()));
        }
    }

    #[test]
    fn a_url_says_host_and_target() {
        let cases = [
            (
                "ws://Example.com",
                "GET / HTTP/1.1\r\nHost: example.com\r\n",
            ),
            ("wss://a:443/b?c", "GET /b?c HTTP/1.1\r\nHost: a\r\n"),
            ("wss://a:80/", "GET / HTTP/1.1\r\nHost: a:80\r\n"),
            ("ws://[::1]:9/", "GET / HTTP/1.1\r\nHost: [::1]:9\r\n"),
            ("ws+unix:/s:/p", "GET /p HTTP/1.1\r\nHost: localhost\r\n"),
        ];
        for (url, start) in cases {
            let text = encoded(&ClientRequest::for_url(&Url::parse(url).unwrap()));
            assert!(text.starts_with(start), "{url}: {text}");
        }
    }

    #[test]
    fn hosts_and_targets_that_would_be_something_else_are_refused() {
        for host in ["", "a b", "a/b", "u@a", "a\r\nX: y"] {
            let refused = ClientRequest::new(host, "/").map(drop);
            assert_eq!(refused, Err(InvalidHost), "{host:?}");
        }
        for target in [
            "",
            "a",
            "*",
            "/a b",
            "/a#b",
            "/\u{e9}",
            "/ HTTP/1.1\r\nX: y",
        ] {
            let refused = ClientRequest::new("a", target).map(drop);
            assert_eq!(refused, Err(InvalidTarget), "{target:?}");
        }
        let text = encoded(&request().host("other:1").unwrap());
        assert!(text.contains("\r\nHost: other:1\r\n"), "{text}");
    }

    #[test]
    fn origins() {
        for origin in ["", "a\r\nX: y", "\0"] {
            let refused = request().origin(origin).map(drop);
            assert_eq!(refused, Err(InvalidOrigin), "{origin:?}");
        }
        let text = encoded(&request().origin("null").unwrap());
        assert!(text.contains("\r\nOrigin: null\r\n"), "{text}");
    }

    #[test]
    fn subprotocols_are_different_tokens_and_not_too_many() {
        for name in ["", "a b", "a,b", "a\r\nX: y", "\u{e9}"] {
            let refused = request().subprotocol(name).map(drop);
            assert_eq!(refused, Err(InvalidSubprotocol), "{name:?}");
        }
        let mut request = request();
        for n in 0..MAX_SUBPROTOCOL_OFFERS {
            request = request.subprotocol(&format!("p{n}")).unwrap();
        }
        let repeated = request.clone().subprotocol("p3").map(drop);
        assert_eq!(repeated, Err(RepeatedSubprotocol));
        assert_eq!(request.subprotocol("q").map(drop), Err(TooManySubprotocols));
    }

    #[test]
    fn added_fields_keep_the_rules() {
        let cases = [
            ("X", "a\r\nY: b", HeaderError::InvalidValue),
            ("X Y", "a", HeaderError::InvalidName),
            ("host", "a", HeaderError::Reserved("Host")),
            ("origin", "a", HeaderError::Reserved("Origin")),
            ("upgrade", "a", HeaderError::Reserved("Upgrade")),
            (
                "Sec-WebSocket-Key",
                "a",
                HeaderError::Reserved("Sec-WebSocket-*"),
            ),
        ];
        for (name, value, error) in cases {
            let refused = request().header(name, value).map(drop);
            assert_eq!(refused, Err(Header(error)), "{name}");
        }
    }

    #[test]
    fn debug_keeps_the_added_fields_to_itself() {
        let text = format!("{:?}", full().unwrap());
        assert!(
            text.contains("v2.chat") && !text.contains("sesame"),
            "{text}"
        );
    }
}
