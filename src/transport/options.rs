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
        self.apply_buffer_sizes(&socket)?;
        self.apply_tcp(&socket)?;
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
        let socket = SockRef::from(stream);
        self.apply_buffer_sizes(&socket)?;
        self.apply_tcp(&socket)
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
