use std::{fmt, io, net::IpAddr, time::Duration};

use crate::protocol::{
    Host, Url, UrlError,
    handshake::{ClientRequest, ClientRequestError, ResponseError},
    proxy::{Credentials, CredentialsError, Destination, HttpConnect, ProxyError, Socks5, Tunnel},
};

/// Where to connect, and how: the argument of [`Connections::connect`](super::Connections::connect).
///
/// ```
/// use wsloop::Connect;
///
/// let connect = Connect::to("ws://localhost:9001/chat")?
///     .subprotocol("chat.v2")?
///     .header("Authorization", "Bearer secret")?;
/// # Ok::<(), wsloop::ConnectConfigError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Connect {
    pub(crate) url: Url,
    pub(crate) request: ClientRequest,
    pub(crate) proxy: Option<Proxy>,
    pub(crate) local: Option<IpAddr>,
    pub(crate) timeout: Option<Duration>,
}

impl Connect {
    /// A connection to `ws://host[:port][/path][?query]` or `ws+unix:/path/to.sock[:/path]`.
    ///
    /// # Errors
    /// What is wrong with the URL; `TlsUnavailable` for `wss://`.
    pub fn to(url: &str) -> Result<Self, ConnectConfigError> {
        let url = Url::parse(url)?;
        if url.scheme() == crate::protocol::Scheme::Wss {
            return Err(ConnectConfigError::TlsUnavailable);
        }
        let request = ClientRequest::for_url(&url);
        Ok(Self {
            url,
            request,
            proxy: None,
            local: None,
            timeout: None,
        })
    }

    /// Offers a subprotocol; the order of the calls is the order of preference (RFC 6455 §4.1).
    ///
    /// # Errors
    /// A name that is no token, or was offered before.
    pub fn subprotocol(mut self, name: &str) -> Result<Self, ConnectConfigError> {
        self.request = self.request.subprotocol(name)?;
        Ok(self)
    }

    /// Says where the request comes from, as browsers do (RFC 6454).
    ///
    /// # Errors
    /// A value that is no origin.
    pub fn origin(mut self, origin: &str) -> Result<Self, ConnectConfigError> {
        self.request = self.request.origin(origin)?;
        Ok(self)
    }

    /// Adds a field to the request.
    ///
    /// # Errors
    /// A name or value that HTTP does not allow, or a field that is the library's to set.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, ConnectConfigError> {
        self.request = self.request.header(name, value)?;
        Ok(self)
    }

    /// Replaces the value of `Host`, which is the URL's otherwise.
    ///
    /// # Errors
    /// A value that is no host.
    pub fn host(mut self, host: &str) -> Result<Self, ConnectConfigError> {
        self.request = self.request.host(host)?;
        Ok(self)
    }

    /// Goes through a proxy. A Unix socket is reached directly all the same.
    #[must_use]
    pub fn proxy(mut self, proxy: Proxy) -> Self {
        self.proxy = Some(proxy);
        self
    }

    /// The local address to connect from. Only targets of its family are tried.
    #[must_use]
    pub fn local_address(mut self, address: IpAddr) -> Self {
        self.local = Some(address);
        self
    }

    /// Time for everything until the connection is open: resolving, connecting, the handshake. Without it `connect_timeout`
    /// of the configuration.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }
}

/// A proxy that connections go through. The target's name is resolved by the proxy.
#[derive(Debug, Clone)]
pub struct Proxy {
    pub(crate) host: Host,
    pub(crate) port: u16,
    kind: ProxyKind,
    credentials: Option<Credentials>,
}

#[derive(Debug, Clone, Copy)]
enum ProxyKind {
    Http,
    Socks5,
}

impl Proxy {
    /// An HTTP proxy that takes `CONNECT` (RFC 9110 §9.3.6).
    ///
    /// # Errors
    /// A host that is none.
    pub fn http(host: &str, port: u16) -> Result<Self, ConnectConfigError> {
        Self::new(host, port, ProxyKind::Http)
    }

    /// A SOCKS5 proxy (RFC 1928).
    ///
    /// # Errors
    /// A host that is none.
    pub fn socks5(host: &str, port: u16) -> Result<Self, ConnectConfigError> {
        Self::new(host, port, ProxyKind::Socks5)
    }

    fn new(host: &str, port: u16, kind: ProxyKind) -> Result<Self, ConnectConfigError> {
        let host = Host::parse(host)?;
        Ok(Self {
            host,
            port,
            kind,
            credentials: None,
        })
    }

    /// User and password: the Basic scheme for HTTP (RFC 7617), RFC 1929 for SOCKS5.
    #[must_use]
    pub fn credentials(mut self, user: &str, password: &str) -> Self {
        self.credentials = Some(Credentials::new(user, password));
        self
    }

    /// The conversation with the proxy.
    fn tunnel(&self, url: &Url) -> Result<Tunnel, CredentialsError> {
        // A Unix socket has no address that a proxy could go to.
        let Some(target) = Destination::of_url(url) else {
            return Ok(Tunnel::Direct);
        };
        let credentials = self.credentials.as_ref();
        match self.kind {
            ProxyKind::Http => HttpConnect::new(&target, credentials).map(Tunnel::from),
            ProxyKind::Socks5 => Socks5::new(&target, credentials).map(Tunnel::from),
        }
    }
}

impl Connect {
    /// The conversation that comes before the request.
    pub(crate) fn tunnel(&self) -> Result<Tunnel, ConnectError> {
        match &self.proxy {
            None => Ok(Tunnel::Direct),
            Some(proxy) => proxy.tunnel(&self.url).map_err(ConnectError::Credentials),
        }
    }

    /// What the socket is connected to: the proxy, or the target itself.
    pub(crate) fn first_hop(&self) -> (Host, u16) {
        match &self.proxy {
            Some(proxy) if !matches!(self.url.host(), Host::UnixPath(_)) => {
                (proxy.host.clone(), proxy.port)
            }
            _ => (self.url.host().clone(), self.url.port().unwrap_or_default()),
        }
    }
}

/// Something in a [`Connect`] that cannot work.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectConfigError {
    /// The URL.
    Url(UrlError),
    /// A part of the request.
    Request(ClientRequestError),
    /// `wss://` needs TLS, which this version does not have.
    TlsUnavailable,
}

impl fmt::Display for ConnectConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(error) => error.fmt(f),
            Self::Request(error) => error.fmt(f),
            Self::TlsUnavailable => {
                f.write_str("wss:// needs the feature `tls`, which is not there yet")
            }
        }
    }
}

impl std::error::Error for ConnectConfigError {}

impl From<UrlError> for ConnectConfigError {
    fn from(error: UrlError) -> Self {
        Self::Url(error)
    }
}

impl From<ClientRequestError> for ConnectConfigError {
    fn from(error: ClientRequestError) -> Self {
        Self::Request(error)
    }
}

/// Names an attempt to connect, until it has become a connection or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct DialId(pub(crate) u64);

/// An attempt to connect that was not begun; the session comes back.
#[derive(Debug)]
#[non_exhaustive]
pub struct DialError<S> {
    /// Why.
    pub kind: DialErrorKind,
    /// The session.
    pub session: S,
}

/// Why an attempt to connect was not begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum DialErrorKind {
    /// Nobody has supplied a generator for mask keys ([`EventLoop::set_rng`](crate::EventLoop::set_rng)).
    NoRng,
    /// As many attempts as `max_dials` allows are under way.
    TooManyDials,
    /// As many outbound connections as `max_outbound` allows are open or under way.
    TooManyConnections,
    /// The loop shuts down.
    ShuttingDown,
}

impl<S> fmt::Display for DialError<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            DialErrorKind::NoRng => "no generator for mask keys was supplied",
            DialErrorKind::TooManyDials => "max_dials is reached",
            DialErrorKind::TooManyConnections => "max_outbound is reached",
            DialErrorKind::ShuttingDown => "the loop shuts down",
        })
    }
}

impl<S: fmt::Debug> std::error::Error for DialError<S> {}

/// Why a connection that was dialled did not open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConnectError {
    /// The host's name could not be resolved.
    Resolve(io::ErrorKind),
    /// No address could be connected to; the reason of the last one.
    Io(io::ErrorKind),
    /// The time was up.
    Timeout,
    /// [`Connections::cancel_connect`](super::Connections::cancel_connect) was called.
    Cancelled,
    /// The loop shuts down.
    Shutdown,
    /// User or password cannot be told to this kind of proxy.
    Credentials(CredentialsError),
    /// The proxy has refused, or does not speak its protocol.
    Proxy(ProxyError),
    /// The server's answer opens no WebSocket.
    Response(ResponseError),
    /// The server has refused: another status than 101, with its head and what came of its body.
    Refused(Box<RefusedAnswer>),
}

/// A server's refusal.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RefusedAnswer {
    /// The status: a redirect, 401, 403, 503, whatever it was.
    pub status: u16,
    /// The header fields in their order.
    pub headers: Vec<(String, Vec<u8>)>,
    /// The body, as far as it fits [`RefusedAnswer::MAX_BODY`]. As it came: a chunked one is not taken apart.
    pub body: Vec<u8>,
}

impl RefusedAnswer {
    /// The most that is kept of a body, in bytes.
    pub const MAX_BODY: usize = 16 * 1024;

    /// The first value of a header field, by its name in any case; `None` when it is not UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let (_, value) = self
            .headers
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        std::str::from_utf8(value).ok()
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Resolve(kind) => write!(f, "the host's name could not be resolved: {kind}"),
            Self::Io(kind) => write!(f, "{kind}"),
            Self::Timeout => f.write_str("connecting took too long"),
            Self::Cancelled => f.write_str("connecting was cancelled"),
            Self::Shutdown => f.write_str("the loop shuts down"),
            Self::Credentials(error) => error.fmt(f),
            Self::Proxy(error) => write!(f, "the proxy: {error}"),
            Self::Response(error) => write!(f, "the server's answer opens no WebSocket: {error}"),
            Self::Refused(answer) => {
                write!(f, "the server has refused with status {}", answer.status)
            }
        }
    }
}

impl std::error::Error for ConnectError {}
