//! Which pages may open a WebSocket (RFC 6455 §10.2).

use alloc::{string::String, vec::Vec};

/// Which values of `Origin` a server accepts (RFC 6455 §4.2.2, §10.2).
///
/// A browser lets any page open a WebSocket to any server, and sends the visitor's cookies along; only `Origin` tells the page. A
/// request without one does not come from a browser, and is always accepted.
///
/// ```
/// use wsloop::OriginPolicy;
///
/// let policy = OriginPolicy::List(vec!["https://example.com".to_owned()]);
/// assert!(policy.allows(["https://EXAMPLE.com:443".as_bytes()], None));
/// assert!(!policy.allows(["https://evil.example".as_bytes()], None));
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum OriginPolicy {
    /// Pages of the host, and port, that `Host` names. Behind a proxy that changes `Host` this refuses every browser: then the
    /// origins have to be listed.
    #[default]
    SameHost,
    /// These: scheme, host and, unless it is the scheme's own, port, as in `https://example.com`. `null`, the origin of a page
    /// that has none, may be one of them.
    List(Vec<String>),
    /// All: for servers to which cookies and the visitor's network mean nothing, or that look at `Origin` themselves.
    Any,
}

impl OriginPolicy {
    /// Whether a request is accepted: the values of all its `Origin` lines, and that of `Host`.
    pub fn allows<'a>(
        &self,
        origins: impl IntoIterator<Item = &'a [u8]>,
        host: Option<&str>,
    ) -> bool {
        let mut origins = origins.into_iter();
        let (origin, more) = (origins.next(), origins.next());
        let Some(origin) = origin else {
            return true;
        };
        match self {
            Self::Any => true,
            // Two of them are nobody's.
            _ if more.is_some() => false,
            Self::SameHost => Origin::parse(origin).is_some_and(|origin| origin.is_of(host)),
            Self::List(list) => {
                let mut allowed = list.iter().map(|allowed| allowed.as_bytes());
                allowed.any(|allowed| is_same(allowed, origin))
            }
        }
    }

    /// The first entry of a list that is neither `null` nor an origin, which no page has.
    pub(crate) fn invalid_entry(&self) -> Option<usize> {
        match self {
            Self::List(list) => list
                .iter()
                .position(|entry| *entry != "null" && Origin::parse(entry.as_bytes()).is_none()),
            _ => None,
        }
    }
}

/// RFC 6454 §5: scheme, host and port.
fn is_same(allowed: &[u8], origin: &[u8]) -> bool {
    if allowed == b"null" {
        return origin == b"null";
    }
    let (Some(allowed), Some(origin)) = (Origin::parse(allowed), Origin::parse(origin)) else {
        return false;
    };
    allowed.scheme.eq_ignore_ascii_case(origin.scheme)
        && allowed.host.eq_ignore_ascii_case(origin.host)
        && allowed.port() == origin.port()
}

/// An origin in its serialized form (RFC 6454 §6.1).
struct Origin<'a> {
    scheme: &'a str,
    host: &'a str,
    explicit_port: Option<u16>,
}

impl<'a> Origin<'a> {
    fn parse(text: &'a [u8]) -> Option<Self> {
        let text = core::str::from_utf8(text).ok()?;
        let (scheme, authority) = text.split_once("://")?;
        let is_scheme = scheme.starts_with(|first: char| first.is_ascii_alphabetic())
            && scheme
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte));
        let (host, explicit_port) = split_port(authority)?;
        is_scheme.then_some(Self {
            scheme,
            host,
            explicit_port,
        })
    }

    /// The port, also when it is the scheme's own.
    fn port(&self) -> Option<u16> {
        self.explicit_port.or_else(|| {
            let is = |scheme: &str| self.scheme.eq_ignore_ascii_case(scheme);
            if is("https") || is("wss") {
                Some(443)
            } else if is("http") || is("ws") {
                Some(80)
            } else {
                None
            }
        })
    }

    /// Whether the page comes from this host. A `Host` without a port means the scheme's own, of which only the page's is known:
    /// TLS may end in front of us.
    fn is_of(&self, host: Option<&str>) -> bool {
        let Some((host, port)) = host.and_then(split_port) else {
            return false;
        };
        let own = Self {
            explicit_port: None,
            ..*self
        };
        self.host.eq_ignore_ascii_case(host) && self.port() == port.or_else(|| own.port())
    }
}

/// Host and port of an authority; an IPv6 address keeps its brackets.
fn split_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let host_end = authority.rfind(']').map_or(0, |at| at + 1);
    let (host, port) = match authority[host_end..].rfind(':') {
        Some(at) => {
            let (host, port) = authority.split_at(host_end + at);
            (host, Some(port[1..].parse().ok()?))
        }
        None => (authority, None),
    };
    let is_host = !host.is_empty()
        && host
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"/?#@,".contains(&byte));
    is_host.then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn same_host(origin: &str, host: &str) -> bool {
        OriginPolicy::SameHost.allows([origin.as_bytes()], Some(host))
    }

    #[test]
    fn pages_of_the_same_host_are_let_in() {
        for (origin, host) in [
            ("http://example.com", "example.com"),
            ("https://example.com", "example.com"),
            ("https://EXAMPLE.com", "example.COM"),
            ("http://example.com", "example.com:80"),
            ("https://example.com:443", "example.com"),
            ("https://example.com", "example.com:443"),
            ("http://127.0.0.1:9001", "127.0.0.1:9001"),
            ("http://[::1]:9001", "[::1]:9001"),
            ("http://[::1]", "[::1]"),
        ] {
            assert!(same_host(origin, host), "{origin} {host}");
        }
    }

    #[test]
    fn all_others_are_not() {
        for (origin, host) in [
            ("http://evil.example", "example.com"),
            ("http://example.com.evil.example", "example.com"),
            ("http://sub.example.com", "example.com"),
            ("http://example.com:8080", "example.com"),
            ("http://example.com", "example.com:8080"),
            ("https://example.com", "example.com:80"),
            ("null", "example.com"),
            ("", "example.com"),
            ("example.com", "example.com"),
            ("http://example.com/", "example.com"),
            ("http://user@example.com", "example.com"),
            ("http://example.com:x", "example.com"),
            ("http://", ""),
            ("file://", "example.com"),
        ] {
            assert!(!same_host(origin, host), "{origin} {host}");
        }
        let origins = ["http://a".as_bytes(), b"http://a"];
        assert!(!OriginPolicy::SameHost.allows(origins, Some("a")));
        assert!(!OriginPolicy::SameHost.allows([&b"http://\xff"[..]], Some("a")));
        assert!(!OriginPolicy::SameHost.allows([&b"http://a"[..]], None));
    }

    #[test]
    fn without_an_origin_it_is_no_browser() {
        for policy in [
            OriginPolicy::SameHost,
            OriginPolicy::List(vec![]),
            OriginPolicy::Any,
        ] {
            assert!(policy.allows([], Some("a")));
        }
        assert!(OriginPolicy::Any.allows([&b"anything"[..]], None));
    }

    #[test]
    fn a_list_lets_in_what_it_names() {
        let list = ["https://a.example", "http://b.example:8080", "null"];
        let list = OriginPolicy::List(list.map(str::to_owned).to_vec());
        for (origin, expected) in [
            ("https://a.example", true),
            ("https://A.EXAMPLE:443", true),
            ("http://a.example", false),
            ("https://a.example:8443", false),
            ("http://b.example:8080", true),
            ("http://b.example", false),
            ("null", true),
            ("https://c.example", false),
        ] {
            let allowed = list.allows([origin.as_bytes()], Some("c.example"));
            assert_eq!(allowed, expected, "{origin}");
        }
    }

    #[test]
    fn entries_that_no_page_has_are_named() {
        let entry = |entry: &str| {
            let policy = OriginPolicy::List(vec!["https://a".to_owned(), entry.to_owned()]);
            policy.invalid_entry()
        };
        assert_eq!(entry("null"), None);
        assert_eq!(entry("http://b:1"), None);
        for bad in ["", "*", "example.com", "https://a/path", "https://"] {
            assert_eq!(entry(bad), Some(1), "{bad}");
        }
    }
}
