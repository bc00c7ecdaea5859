use std::{io, net::SocketAddr, time::Duration};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

use crate::config::Config;

/// The socket options of a loop.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SocketOptions {
    backlog: i32,
    reuse_port: bool,
    ipv6_only: bool,
    nodelay: bool,
    keepalive: Option<Duration>,
    recv_buffer_size: Option<usize>,
    send_buffer_size: Option<usize>,
}

impl SocketOptions {
    pub(crate) fn new(config: &Config) -> Self {
        Self {
            backlog: i32::try_from(config.backlog).unwrap_or(i32::MAX),
            reuse_port: config.reuse_port,
            ipv6_only: config.ipv6_only,
            nodelay: config.tcp_nodelay,
            keepalive: config.tcp_keepalive,
            recv_buffer_size: config.recv_buffer_size,
            send_buffer_size: config.send_buffer_size,
        }
    }

    /// A non-blocking socket that listens on `address`.
    pub(crate) fn listen_tcp(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        let domain = Domain::for_address(address);
        let socket = Socket::new(
            domain,
            Type::STREAM.nonblocking().cloexec(),
            Some(Protocol::TCP),
        )?;
        // A restarted server takes its port back although old connections linger in TIME_WAIT.
        socket.set_reuse_address(true)?;
        if self.reuse_port {
            socket.set_reuse_port(true)?;
        }
        if domain == Domain::IPV6 {
            socket.set_only_v6(self.ipv6_only)?;
        }
        // Buffer sizes have to be set before listening: they decide the window that is offered in the handshake.
        self.apply(&socket)?;
        socket.bind(&address.into())?;
        socket.listen(self.backlog)?;
        Ok(socket.into())
    }

    /// Sets the options of an accepted TCP connection. On Linux it has them from the listener already.
    pub(crate) fn apply_accepted(&self, stream: &mio::net::TcpStream) -> io::Result<()> {
        if cfg!(target_os = "linux") {
            Ok(())
        } else {
            self.apply_connected(stream)
        }
    }

    /// Sets the options of a TCP connection that somebody else accepted.
    pub(crate) fn apply_connected(&self, stream: &mio::net::TcpStream) -> io::Result<()> {
        self.apply(&SockRef::from(stream))
    }

    /// Sets everything that applies to a TCP socket.
    pub(crate) fn apply(&self, socket: &Socket) -> io::Result<()> {
        self.apply_buffer_sizes(socket)?;
        self.apply_tcp(socket)
    }

    /// Sets what applies to sockets of every family.
    pub(crate) fn apply_buffer_sizes(&self, socket: &Socket) -> io::Result<()> {
        if let Some(size) = self.recv_buffer_size {
            socket.set_recv_buffer_size(size)?;
        }
        if let Some(size) = self.send_buffer_size {
            socket.set_send_buffer_size(size)?;
        }
        Ok(())
    }

    fn apply_tcp(&self, socket: &Socket) -> io::Result<()> {
        socket.set_tcp_nodelay(self.nodelay)?;
        if let Some(silence) = self.keepalive {
            socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(silence))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpStream;

    use super::*;
    use crate::transport::{ListenAddr, Listener, Stream};

    fn loopback(config: &Config) -> (Stream, TcpStream) {
        let options = SocketOptions::new(config);
        let address: SocketAddr = ([127, 0, 0, 1], 0).into();
        let listener = Listener::bind(&address.into(), &options).unwrap();
        let ListenAddr::Tcp(address) = listener.local_addr().unwrap() else {
            panic!()
        };
        let client = TcpStream::connect(address).unwrap();
        // The connection is there: `connect` returns when the kernel has put it into the backlog.
        let (accepted, _) = listener.accept(&options).unwrap();
        (accepted, client)
    }

    #[test]
    fn an_accepted_socket_has_the_options() {
        let config = Config::default()
            .tcp_keepalive(Some(Duration::from_secs(77)))
            .recv_buffer_size(Some(30_000))
            .send_buffer_size(Some(40_000));
        let (accepted, _client) = loopback(&config);
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(socket.keepalive().unwrap());
        assert_eq!(
            socket.tcp_keepalive_time().unwrap(),
            Duration::from_secs(77)
        );
        // Linux doubles what it is told, for its own bookkeeping.
        assert!((30_000..=60_000).contains(&socket.recv_buffer_size().unwrap()));
        assert!((40_000..=80_000).contains(&socket.send_buffer_size().unwrap()));
    }

    #[test]
    fn by_default_only_nodelay_is_set() {
        let (accepted, _client) = loopback(&Config::default());
        let socket = SockRef::from(&accepted);
        assert!(socket.tcp_nodelay().unwrap());
        assert!(!socket.keepalive().unwrap());
        let (accepted, _client) = loopback(&Config::default().tcp_nodelay(false));
        assert!(!SockRef::from(&accepted).tcp_nodelay().unwrap());
    }

    #[test]
    fn two_listeners_share_a_port_only_when_told_to() {
        for reuse_port in [true, false] {
            let options = SocketOptions::new(&Config::default().reuse_port(reuse_port));
            let first = options.listen_tcp(([127, 0, 0, 1], 0).into()).unwrap();
            let second = options.listen_tcp(first.local_addr().unwrap());
            assert_eq!(second.is_ok(), reuse_port);
        }
    }

    #[test]
    fn an_ipv6_listener_takes_ipv4_unless_told_not_to() {
        for ipv6_only in [true, false] {
            let options = SocketOptions::new(&Config::default().ipv6_only(ipv6_only));
            // A machine without IPv6 has nothing to show here.
            let Ok(listener) = options.listen_tcp(SocketAddr::from(([0u16; 8], 0))) else {
                return;
            };
            let port = listener.local_addr().unwrap().port();
            assert_eq!(TcpStream::connect(("127.0.0.1", port)).is_err(), ipv6_only);
        }
    }

    #[test]
    fn the_backlog_is_the_configured_one() {
        let options = SocketOptions::new(&Config::default().backlog(7));
        let listener = options.listen_tcp(([127, 0, 0, 1], 0).into()).unwrap();
        let address = listener.local_addr().unwrap();
        // Linux keeps one more than it is told.
        let waiting: Vec<_> = (0..8)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        let one_more = TcpStream::connect_timeout(&address, Duration::from_millis(100));
        assert!(one_more.is_err(), "{} are waiting", waiting.len());
    }
}
