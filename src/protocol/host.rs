//! Whom a URL names.

use super::url::UrlError;
use alloc::string::String;
use core::fmt;
use core::net::{Ipv4Addr, Ipv6Addr};

/// A server's host. In a [`Url`](super::Url) it keeps the rules of [`parse`](Self::parse).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Host {
    /// A name to be resolved, in lower case. It may end in a dot, which is part of the name for the resolver and not for TLS.
    Name(String),
    /// An address literal.
    Ipv4(Ipv4Addr),
    /// An address literal, in brackets in a URL.
    Ipv6(Ipv6Addr),
    /// The absolute path of a Unix socket, not decoded. It has no length limit here; the system has one.
    UnixPath(String),
}

impl Host {
    /// Reads a name or an address, an IPv6 address in brackets. RFC 3986 §3.2.2.
    ///
    /// Names have letters, digits, hyphens and underscores in labels of 63, 253 in all; an international name has to come
    /// in its ASCII form (`xn--…`). What ends in a number is an IPv4 address in four decimal parts, or nothing: a resolver
    /// would read `127.1` and `0x7f.1` as addresses too, behind the back of whoever has checked the name.
    ///
    /// # Errors
    ///
    /// [`UrlError::EmptyHost`] and [`UrlError::InvalidHost`].
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        if text.is_empty() {
            return Err(UrlError::EmptyHost);
        }
        parse_literal(text)
            .or_else(|| is_name(text).then(|| Self::Name(text.to_ascii_lowercase())))
            .ok_or(UrlError::InvalidHost)
    }
}

/// As in a URL: an IPv6 address in brackets.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::UnixPath(text) => f.write_str(text),
            Self::Ipv4(address) => address.fmt(f),
            Self::Ipv6(address) => write!(f, "[{address}]"),
        }
    }
}

fn parse_literal(text: &str) -> Option<Host> {
    let bracketed = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(address) => address.parse().ok().map(Host::Ipv6),
        None => text.parse().ok().map(Host::Ipv4),
    }
}

fn is_name(text: &str) -> bool {
    const LONGEST: usize = 253;
    let name = text.strip_suffix('.').unwrap_or(text);
    name.len() <= LONGEST && name.split('.').all(is_label) && !ends_in_number(name)
}

fn is_label(label: &str) -> bool {
    const LONGEST: usize = 63;
    let is_label_byte = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    (1..=LONGEST).contains(&label.len()) && label.bytes().all(is_label_byte)
}

/// True exactly when the last label is a decimal or hexadecimal number.
fn ends_in_number(name: &str) -> bool {
    let label = name.rsplit('.').next().unwrap_or(name);
    let hex = label
        .strip_prefix("0x")
        .or_else(|| label.strip_prefix("0X"));
    match hex {
        Some(digits) => digits.bytes().all(|byte| byte.is_ascii_hexdigit()),
        None => label.bytes().all(|byte| byte.is_ascii_digit()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let label = "a".repeat(63);
        let long = [&label[..], &label, &label, &label[..61]].join(".");
        assert_eq!(long.len(), 253);
        let good = [
            "localhost",
            "a",
            "a.b-c.d_e",
            "example.com.",
            "1.2.3.4.example",
            "4chan",
            "0xg",
            "xn--bcher-kva.example",
            &long,
        ];
        for name in good {
            assert_eq!(Host::parse(name), Ok(Host::Name(name.to_owned())));
        }
        assert_eq!(Host::parse("ExAmPle.COM"), Host::parse("example.com"));
        let full_stop = format!("{long}.");
        assert!(Host::parse(&full_stop).is_ok());
    }

    #[test]
    fn no_names() {
        let too_long = format!("{}a", "a.".repeat(127));
        let label = "a".repeat(64);
        let bad = [
            ".",
            "..",
            ".a",
            "a..b",
            "a..",
            "a b",
            "a/b",
            "a:b",
            "a%20b",
            "a@b",
            "b\u{fc}cher",
            "a\0",
            "*",
            "[a]",
            "[",
            "]",
            "[]",
            &too_long,
            &label,
        ];
        for name in bad {
            assert_eq!(Host::parse(name), Err(UrlError::InvalidHost), "{name}");
        }
        assert_eq!(Host::parse(""), Err(UrlError::EmptyHost));
    }

    #[test]
    fn addresses() {
        let v4 = Host::Ipv4(Ipv4Addr::LOCALHOST);
        assert_eq!(Host::parse("127.0.0.1"), Ok(v4));
        let v6 = Host::Ipv6(Ipv6Addr::LOCALHOST);
        assert_eq!(Host::parse("[::1]"), Ok(v6.clone()));
        assert_eq!(Host::parse("[0:0:0:0:0:0:0:1]"), Ok(v6.clone()));
        assert_eq!(v6.to_string(), "[::1]");
        let bad = [
            "::1",
            "[::1",
            "::1]",
            "[fe80::1%eth0]",
            "[127.0.0.1]",
            "[[::1]]",
            "[:::1]",
        ];
        for text in bad {
            assert_eq!(Host::parse(text), Err(UrlError::InvalidHost), "{text}");
        }
    }

    #[test]
    fn numbers_that_a_resolver_would_take_for_an_address_are_refused() {
        let bad = [
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0x",
            "256.1.1.1",
            "1.2.3",
            "1.2.3.4.5",
            "127.0.0.1.",
            "127.0.0.01",
            "a.0x1",
            "a.1",
        ];
        for text in bad {
            assert_eq!(Host::parse(text), Err(UrlError::InvalidHost), "{text}");
        }
    }
}
