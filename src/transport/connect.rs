use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use socket2::{Domain, Protocol, Socket, Type};

use super::{SocketOptions, Stream};

/// Starts to connect to an address, without waiting: the socket becomes writable when it is connected, or has an error.
/// `local` is the address to connect from; its family must be the target's.
pub(crate) fn start_connect(
    target: SocketAddr,
    local: Option<IpAddr>,
    options: &SocketOptions,
) -> io::Result<Stream> {
    let domain = Domain::for_address(target);
    let socket = Socket::new(
        domain,
        Type::STREAM.nonblocking().cloexec(),
        Some(Protocol::TCP),
    )?;
    options.apply(&socket)?;
    if let Some(local) = local {
        socket.bind(&SocketAddr::new(local, 0).into())?;
    }
    match socket.connect(&target.into()) {
        Err(error) if !is_under_way(&error) => Err(error),
        _ => Ok(mio::net::TcpStream::from_std(socket.into()).into()),
    }
}

/// True exactly when a non-blocking connect goes on by itself: `EINPROGRESS`, whose number has no name in `std`.
fn is_under_way(error: &io::Error) -> bool {
    const EINPROGRESS: i32 = if cfg!(any(target_os = "linux", target_os = "android")) {
        115
    } else {
        36
    };
    error.raw_os_error() == Some(EINPROGRESS) || error.kind() == io::ErrorKind::WouldBlock
}
