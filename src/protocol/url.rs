//! URLs of WebSocket servers (RFC 6455 §3), also of those behind a Unix socket.

use super::host::Host;
use alloc::{borrow::ToOwned, format, string::String};
use core::error::Error;
use core::fmt;
use core::str::FromStr;

/// Where a client wants to go: `ws://host:port/path?query`, `wss://…`, or `ws+unix:/path/to.sock:/request/path`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Url {
    scheme: Scheme,
    host: Host,
    /// `None` exactly when the host is a Unix socket.
    port: Option<u16>,
    /// Passed `is_target`.
    target: String,
}

impl Url {
    /// Reads a URL. Percent-encoding is left as it is; scheme and host name are not case-sensitive.
    ///
    /// A Unix socket's path is absolute and ends at the first `:/`, with which the request target begins; without one the
    /// target is `/`. `ws+unix:///path`, with an empty authority, is the same as `ws+unix:/path`.
    ///
    /// # Errors
    ///
    /// The first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(UrlError::InvalidCharacter);
        }
        if text.contains('#') {
            return Err(UrlError::Fragment);
        }
        let (scheme, rest) = text.split_once(':').ok_or(UrlError::MissingScheme)?;
        let scheme = Scheme::parse(scheme)?;
        match scheme.default_port() {
            Some(default_port) => parse_network(scheme, default_port, rest),
            None => parse_unix(scheme, rest),
        }
    }

    /// The scheme.
    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port, the scheme's own if the URL has none; `None` for a Unix socket. Never 0.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// The path with its query, never empty: the resource name of RFC 6455 §3.
    pub fn target(&self) -> &str {
        &self.target
    }

    /// The value of `Host`: with the port unless it is the scheme's own; `localhost` for a Unix socket. RFC 6455 §4.1, item 4.
    pub fn host_header(&self) -> String {
        match self.host {
            Host::UnixPath(_) => "localhost".to_owned(),
            _ => format!("{}{}", self.host, self.port_suffix()),
        }
    }

    fn port_suffix(&self) -> String {
        self.port
            .filter(|_| self.port != self.scheme.default_port())
            .map(|port| format!(":{port}"))
            .unwrap_or_default()
    }
}

impl FromStr for Url {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        Self::parse(text)
    }
}

/// A text that [`Url::parse`] reads as the same URL.
impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, host, target) = (self.scheme.as_str(), &self.host, &self.target);
        match self.port {
            Some(_) => write!(f, "{scheme}://{host}{}{target}", self.port_suffix()),
            None => write!(f, "{scheme}:{host}:{target}"),
        }
    }
}

/// How the server is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `ws`: plain, port 80.
    Ws,
    /// `wss`: under TLS, port 443.
    Wss,
    /// `ws+unix`: plain, over a Unix socket.
    WsUnix,
}

impl Scheme {
    /// The port of a URL that names none; `None` where there are no ports.
    pub fn default_port(self) -> Option<u16> {
        match self {
            Self::Ws => Some(80),
            Self::Wss => Some(443),
            Self::WsUnix => None,
        }
    }

    /// As in a URL, in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ws => "ws",
            Self::Wss => "wss",
            Self::WsUnix => "ws+unix",
        }
    }

    fn parse(text: &str) -> Result<Self, UrlError> {
        [Self::Ws, Self::Wss, Self::WsUnix]
            .into_iter()
            .find(|scheme| scheme.as_str().eq_ignore_ascii_case(text))
            .ok_or(UrlError::UnsupportedScheme)
    }
}

/// What is wrong with a URL. The text of the URL is not repeated: it may hold a secret.
#[non_exhaustive]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UrlError {
    /// There is a control character or white space, which has to be percent-encoded.
    InvalidCharacter,
    /// There is a `#`: a WebSocket URL has no fragment. RFC 6455 §3.
    Fragment,
    /// There is no `:` that ends a scheme.
    MissingScheme,
    /// The scheme is none of `ws`, `wss` and `ws+unix`.
    UnsupportedScheme,
    /// There is a user in front of the host, which WebSocket URLs do not have: credentials belong in a header field.
    UserInfo,
    /// There is no host.
    EmptyHost,
    /// The host is neither a name nor an address, see [`Host::parse`].
    InvalidHost,
    /// The port is not a number within 1–65535.
    InvalidPort,
    /// Path or query have characters outside of ASCII, which have to be percent-encoded.
    InvalidTarget,
    /// The socket's path is not absolute, or has a query.
    InvalidSocketPath,
}

impl fmt::Display for UrlError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidCharacter => "the URL has white space or a control character",
            Self::Fragment => "a WebSocket URL has no fragment",
            Self::MissingScheme => "the URL has no scheme",
            Self::UnsupportedScheme => "the URL's scheme is none of ws, wss and ws+unix",
            Self::UserInfo => "a WebSocket URL has no user and password",
            Self::EmptyHost => "the URL has no host",
            Self::InvalidHost => "the host is neither a name nor an address",
            Self::InvalidPort => "the port is not a number within 1-65535",
            Self::InvalidTarget => "path or query have characters outside of ASCII",
            Self::InvalidSocketPath => "the path of the Unix socket is not an absolute path",
        })
    }
}

impl Error for UrlError {}

/// True exactly when the text is a path, with or without a query, that a request line can hold. RFC 9112 §3.2.1.
pub(super) fn is_target(text: &str) -> bool {
    text.starts_with('/')
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#')
}

fn parse_network(scheme: Scheme, default_port: u16, rest: &str) -> Result<Url, UrlError> {
    let rest = rest.strip_prefix("//").ok_or(UrlError::EmptyHost)?;
    let (authority, target) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    if authority.contains('@') {
        return Err(UrlError::UserInfo);
    }
    let (host, port) = split_port(authority);
    Ok(Url {
        scheme,
        host: Host::parse(host)?,
        port: Some(parse_port(port, default_port)?),
        target: checked_target(target)?,
    })
}

fn parse_unix(scheme: Scheme, rest: &str) -> Result<Url, UrlError> {
    let rest = rest
        .strip_prefix("//")
        .filter(|path| path.starts_with('/'))
        .unwrap_or(rest);
    let (path, target) = rest.split_at(rest.find(":/").unwrap_or(rest.len()));
    // What is left of `//` had no empty authority behind it: it would name another machine.
    if !path.starts_with('/') || path.starts_with("//") || path.contains('?') {
        return Err(UrlError::InvalidSocketPath);
    }
    Ok(Url {
        scheme,
        host: Host::UnixPath(path.to_owned()),
        port: None,
        target: checked_target(target.strip_prefix(':').unwrap_or_default())?,
    })
}

/// The colons of a bracketed address are not the one in front of a port.
fn split_port(authority: &str) -> (&str, &str) {
    if authority.ends_with(']') {
        return (authority, "");
    }
    authority.rsplit_once(':').unwrap_or((authority, ""))
}

/// An empty port is the default one (RFC 3986 §3.2.3). Digits only: the parser of the standard library would take a sign.
fn parse_port(text: &str, default: u16) -> Result<u16, UrlError> {
    if text.is_empty() {
        return Ok(default);
    }
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    let port = text.parse().ok().filter(|port| is_number && *port != 0);
    port.ok_or(UrlError::InvalidPort)
}

fn checked_target(text: &str) -> Result<String, UrlError> {
    let slash = if text.starts_with('/') { "" } else { "/" };
    let target = format!("{slash}{text}");
    if is_target(&target) {
        Ok(target)
    } else {
        Err(UrlError::InvalidTarget)
    }
}

#[cfg(test)]
mod tests {
    use super::super::fuzz;
    use super::UrlError::*;
    use super::*;

    /// Scheme, host, port and target of a good URL.
    fn parts(text: &str) -> (&'static str, String, Option<u16>, String) {
        let url = Url::parse(text).expect(text);
        let target = url.target().to_owned();
        (
            url.scheme().as_str(),
            url.host().to_string(),
            url.port(),
            target,
        )
    }

    #[test]
    fn good_urls() {
        let cases = [
            ("ws://a", ("ws", "a", 80, "/")),
            ("wss://a", ("wss", "a", 443, "/")),
            (
                "WSS://Example.COM:8443/A?b",
                ("wss", "example.com", 8443, "/A?b"),
            ),
            ("ws://a?b=/c", ("ws", "a", 80, "/?b=/c")),
            ("ws://a/?u=x@y:1//z", ("ws", "a", 80, "/?u=x@y:1//z")),
            ("ws://a/%20%zz/../b", ("ws", "a", 80, "/%20%zz/../b")),
            ("ws://a://b", ("ws", "a", 80, "//b")),
            ("ws://127.0.0.1:9001/", ("ws", "127.0.0.1", 9001, "/")),
            ("ws://[::1]", ("ws", "[::1]", 80, "/")),
            (
                "ws://[2001:DB8::1]:0065535/x",
                ("ws", "[2001:db8::1]", 65535, "/x"),
            ),
        ];
        for (text, (scheme, host, port, target)) in cases {
            let expected = (scheme, host.to_owned(), Some(port), target.to_owned());
            assert_eq!(parts(text), expected, "{text}");
        }
    }

    #[test]
    fn unix_sockets() {
        let cases = [
            ("ws+unix:/run/a.sock", "/run/a.sock", "/"),
            ("ws+unix:///run/a.sock", "/run/a.sock", "/"),
            ("WS+Unix:/a:/", "/a", "/"),
            ("ws+unix:/a.sock:/b?c=:/d", "/a.sock", "/b?c=:/d"),
            ("ws+unix:/a:b%20\u{e9}:/c", "/a:b%20\u{e9}", "/c"),
            ("ws+unix:/a:", "/a:", "/"),
        ];
        for (text, path, target) in cases {
            let url = Url::parse(text).expect(text);
            assert_eq!(url.host(), &Host::UnixPath(path.to_owned()), "{text}");
            assert_eq!((url.port(), url.target()), (None, target), "{text}");
            assert_eq!(url.host_header(), "localhost");
        }
    }

    #[test]
    fn bad_urls() {
        let cases = [
            ("", MissingScheme),
            ("example.com", MissingScheme),
            ("localhost:80/", UnsupportedScheme),
            ("http://a", UnsupportedScheme),
            ("wsx://a", UnsupportedScheme),
            ("://a", UnsupportedScheme),
            ("ws:a", EmptyHost),
            ("ws:/a", EmptyHost),
            ("ws://", EmptyHost),
            ("ws:///a", EmptyHost),
            ("ws://:80", EmptyHost),
            ("ws://?a", EmptyHost),
            ("ws://a#b", Fragment),
            ("ws://a/#", Fragment),
            ("ws+unix:/a#b", Fragment),
            ("ws://u:p@a", UserInfo),
            ("ws://@a", UserInfo),
            (" ws://a", InvalidCharacter),
            ("ws://a/b c", InvalidCharacter),
            ("ws://a\r\n/", InvalidCharacter),
            ("ws://a/\u{85}", InvalidCharacter),
            ("ws://a/\u{2003}", InvalidCharacter),
            ("ws://a\0", InvalidCharacter),
            ("ws://::1/", InvalidHost),
            ("ws://[::1/", InvalidHost),
            ("ws://[::1]x/", InvalidHost),
            ("ws://[::1]80", InvalidHost),
            ("ws://a:b:1/", InvalidHost),
            ("ws://a\\b/", InvalidHost),
            ("ws://b\u{fc}cher/", InvalidHost),
            ("ws://a:0", InvalidPort),
            ("ws://a:65536", InvalidPort),
            ("ws://a:+80", InvalidPort),
            ("ws://a:x", InvalidPort),
            ("ws://a/\u{e9}", InvalidTarget),
            ("ws+unix:/a:/\u{e9}", InvalidTarget),
            ("ws+unix:", InvalidSocketPath),
            ("ws+unix:a", InvalidSocketPath),
            ("ws+unix://host/a", InvalidSocketPath),
            ("ws+unix:////a", InvalidSocketPath),
            ("ws+unix:/a?b", InvalidSocketPath),
            ("ws+unix::/a", InvalidSocketPath),
        ];
        for (text, error) in cases {
            assert_eq!(Url::parse(text), Err(error), "{text:?}");
            assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn the_host_header_has_a_port_unless_it_is_the_default() {
        let cases = [
            ("ws://a:80/", "a"),
            ("ws://a:/", "a"),
            ("ws://a:443/", "a:443"),
            ("wss://a:443/", "a"),
            ("wss://[::1]:80/", "[::1]:80"),
            ("wss://[::1]/", "[::1]"),
        ];
        for (text, expected) in cases {
            assert_eq!(Url::parse(text).unwrap().host_header(), expected);
        }
    }

    #[test]
    fn mutated_urls_never_panic_and_good_ones_survive_being_written() {
        const SPICE: &[u8] = b":/?#@[]%. \t\r\n\0\xff019af\\";
        let seeds: [&[u8]; 4] = [
            b"ws://user.example.com:8080/a/b?c=d",
            b"wss://[2001:db8::7]:443/x",
            b"ws+unix:/run/a.sock:/p?q",
            b"wss://127.0.0.1",
        ];
        let mut rng = fuzz::rng(0x3986);
        let mut good = 0_u32;
        for round in 0..40_000 {
            let bytes = fuzz::mutated(&mut rng, seeds[round % seeds.len()], SPICE);
            good += u32::from(survives(&bytes));
            survives(&fuzz::random_bytes(&mut rng, 40));
        }
        assert!((1_000..39_000).contains(&good), "{good} good");
    }

    /// True exactly when the bytes are a URL. Then its written form is the same URL.
    fn survives(bytes: &[u8]) -> bool {
        let Ok(url) = Url::parse(&String::from_utf8_lossy(bytes)) else {
            return false;
        };
        assert_eq!(url.to_string().parse(), Ok(url.clone()));
        assert!(is_target(url.target()) && url.port() != Some(0));
        assert!(
            url.host_header()
                .bytes()
                .all(|byte| byte.is_ascii_graphic())
        );
        true
    }
}
