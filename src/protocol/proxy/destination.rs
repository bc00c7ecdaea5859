//! Where the tunnel shall lead.

use super::super::host::Host;
use super::super::url::{Url, UrlError};
use super::socks5::{IPV4, IPV6, NAME};
use alloc::vec::Vec;
use core::fmt;

/// A host and a port behind the proxy. A name is resolved by the proxy.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Destination {
    /// Never a Unix socket.
    host: Host,
    port: u16,
}

impl Destination {
    /// A host as [`Host::parse`] reads it, and a port.
    ///
    /// # Errors
    ///
    /// [`UrlError::EmptyHost`], [`UrlError::InvalidHost`], and [`UrlError::InvalidPort`] for port 0.
    pub fn new(host: &str, port: u16) -> Result<Self, UrlError> {
        let host = Host::parse(host)?;
        if port == 0 {
            return Err(UrlError::InvalidPort);
        }
        Ok(Self { host, port })
    }

    /// The server that a URL names; `None` for a Unix socket, which no proxy reaches.
    pub fn of_url(url: &Url) -> Option<Self> {
        let port = url.port()?;
        let host = url.host().clone();
        Some(Self { host, port })
    }

    /// The host.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Appends address type, address and port. RFC 1928 §4.
    pub(super) fn encode_socks5(&self, out: &mut Vec<u8>) {
        match &self.host {
            Host::Ipv4(address) => {
                out.push(IPV4);
                out.extend_from_slice(&address.octets());
            }
            Host::Ipv6(address) => {
                out.push(IPV6);
                out.extend_from_slice(&address.octets());
            }
            // A name has at most 254 bytes; a longer one is cut to no name at all rather than to another name.
            Host::Name(text) | Host::UnixPath(text) => {
                let length = u8::try_from(text.len()).unwrap_or(0);
                out.extend_from_slice(&[NAME, length]);
                out.extend(text.bytes().take(usize::from(length)));
            }
        }
        out.extend_from_slice(&self.port.to_be_bytes());
    }
}

/// As in a `CONNECT`: always with the port.
impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn destinations_are_written_with_their_port() {
        let cases = [
            ("ws://Example.com/a", Some("example.com:80")),
            ("wss://[::1]/", Some("[::1]:443")),
            ("ws://127.0.0.1:9/", Some("127.0.0.1:9")),
            ("ws+unix:/a", None),
        ];
        for (url, expected) in cases {
            let destination = Destination::of_url(&Url::parse(url).unwrap());
            let text = destination.map(|destination| destination.to_string());
            assert_eq!(text.as_deref(), expected, "{url}");
        }
    }

    #[test]
    fn bad_destinations() {
        let cases = [
            ("", 80, UrlError::EmptyHost),
            ("a\r\nX: y", 80, UrlError::InvalidHost),
            ("/run/a.sock", 80, UrlError::InvalidHost),
            ("a", 0, UrlError::InvalidPort),
        ];
        for (host, port, error) in cases {
            assert_eq!(Destination::new(host, port), Err(error), "{host:?}");
        }
    }

    #[test]
    fn socks5_addresses() {
        let longest = format!(
            "{}.",
            ["a".repeat(63).as_str(); 4].join(".").get(..253).unwrap()
        );
        let name = [&b"\x03\xfe"[..], longest.as_bytes(), b"\x00\x50"].concat();
        let cases: [(&str, &[u8]); 4] = [
            ("1.2.3.4", b"\x01\x01\x02\x03\x04\x00\x50"),
            ("[::1]", b"\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x01\x00\x50"),
            ("ab", b"\x03\x02ab\x00\x50"),
            (&longest, &name),
        ];
        for (host, expected) in cases {
            let mut out = Vec::new();
            Destination::new(host, 80).unwrap().encode_socks5(&mut out);
            assert_eq!(out, expected, "{host}");
        }
    }
}
