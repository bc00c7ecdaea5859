use std::{
    fmt, io,
    net::SocketAddr,
    os::unix::net::UnixListener as StdUnixListener,
    path::{Path, PathBuf},
};

use mio::{
    Interest, Registry, Token,
    event::Source,
    net::{TcpListener, UnixListener},
};
use socket2::SockRef;

use super::{PeerAddr, SocketOptions, Stream};

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ListenAddr {
    /// An IPv4 or IPv6 address and a port; port 0 lets the system choose.
    Tcp(SocketAddr),
    /// The path of a Unix domain socket. It must not exist; it is removed when the listener closes.
    Unix(PathBuf),
}

impl From<SocketAddr> for ListenAddr {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

impl From<([u8; 4], u16)> for ListenAddr {
    fn from(address: ([u8; 4], u16)) -> Self {
        Self::Tcp(address.into())
    }
}

impl From<&Path> for ListenAddr {
    fn from(path: &Path) -> Self {
        Self::Unix(path.to_owned())
    }
}

impl From<PathBuf> for ListenAddr {
    fn from(path: PathBuf) -> Self {
        Self::Unix(path)
    }
}

impl fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listening socket.
#[derive(Debug)]
pub(crate) enum Listener {
    Tcp(TcpListener),
    /// The path is ours to remove.
    Unix(UnixListener, PathBuf),
}

impl Listener {
    pub(crate) fn bind(address: &ListenAddr, options: &SocketOptions) -> io::Result<Self> {
        match address {
            ListenAddr::Tcp(address) => options
                .listen_tcp(*address)
                .map(TcpListener::from_std)
                .map(Self::Tcp),
            ListenAddr::Unix(path) => {
                let listener = StdUnixListener::bind(path)?;
                listener.set_nonblocking(true)?;
                options.apply_buffer_sizes(&SockRef::from(&listener))?;
                Ok(Self::Unix(UnixListener::from_std(listener), path.clone()))
            }
        }
    }

    /// The address that was bound, with the port that the system chose.
    pub(crate) fn local_addr(&self) -> io::Result<ListenAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(ListenAddr::Tcp),
            Self::Unix(_, path) => Ok(ListenAddr::Unix(path.clone())),
        }
    }

    /// The next connection that waits, non-blocking and with the options set.
    pub(crate) fn accept(&self, options: &SocketOptions) -> io::Result<(Stream, PeerAddr)> {
        match self {
            Self::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                options.apply_accepted(&stream)?;
                Ok((Stream::Tcp(stream), PeerAddr::Tcp(address)))
            }
            Self::Unix(listener, _) => {
                let (stream, address) = listener.accept()?;
                options.apply_buffer_sizes(&SockRef::from(&stream))?;
                Ok((
                    Stream::Unix(stream),
                    PeerAddr::Unix(address.as_pathname().map(Box::from)),
                ))
            }
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // Somebody may have removed it already; there is nobody to tell.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Source for Listener {
    fn register(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.register(registry, token, interests),
            Self::Unix(listener, _) => listener.register(registry, token, interests),
        }
    }

    fn reregister(
        &mut self,
        registry: &Registry,
        token: Token,
        interests: Interest,
    ) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.reregister(registry, token, interests),
            Self::Unix(listener, _) => listener.reregister(registry, token, interests),
        }
    }

    fn deregister(&mut self, registry: &Registry) -> io::Result<()> {
        match self {
            Self::Tcp(listener) => listener.deregister(registry),
            Self::Unix(listener, _) => listener.deregister(registry),
        }
    }
}

/// True exactly when accepting failed because of the one client, so that the next may be all right. Anything else (no more
/// descriptors or memory, a broken network) would most likely happen again at once.
pub(crate) fn is_clients_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::Interrupted
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn running_out_is_told_from_a_client_that_went_away() {
        const EMFILE: i32 = 24;
        const ENFILE: i32 = 23;
        const ENOMEM: i32 = 12;
        for code in [EMFILE, ENFILE, ENOMEM] {
            assert!(!is_clients_fault(&io::Error::from_raw_os_error(code)));
        }
        assert!(is_clients_fault(&io::ErrorKind::ConnectionAborted.into()));
    }
}
