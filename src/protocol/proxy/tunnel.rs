//! One face for all ways to a server.

use super::Progress;
use super::connect::HttpConnect;
use super::error::ProxyError;
use super::socks5::Socks5;

/// The way to the server: through a proxy, or none. See the [module](super) for the order of calls.
///
/// ```
/// use wsloop::protocol::proxy::{Destination, Socks5, Tunnel};
///
/// let destination = Destination::new("example.com", 443)?;
/// let mut tunnel = Tunnel::from(Socks5::new(&destination, None)?);
/// assert_eq!(tunnel.poll_output(), Some(&b"\x05\x01\x00"[..]));
/// tunnel.advance(3);
/// assert_eq!(tunnel.handle_input(b"\x05\x00")?.consumed, 2);
/// while let Some(output) = tunnel.poll_output() {
///     let written = output.len();
///     tunnel.advance(written);
/// }
/// let progress = tunnel.handle_input(b"\x05\x00\x00\x01\x7f\x00\x00\x01\x04\x38first bytes of the server")?;
/// assert!(tunnel.is_done());
/// assert_eq!(progress.consumed, 10);
/// # Ok::<(), Box<dyn core::error::Error>>(())
/// ```
#[derive(Debug, Default)]
pub enum Tunnel {
    /// The stream leads to the server itself: done from the start.
    #[default]
    Direct,
    /// Through an HTTP proxy.
    HttpConnect(HttpConnect),
    /// Through a SOCKS5 proxy.
    Socks5(Socks5),
}

impl Tunnel {
    /// What is to be written next; `None` when there is nothing.
    pub fn poll_output(&mut self) -> Option<&[u8]> {
        match self {
            Self::Direct => None,
            Self::HttpConnect(connect) => connect.poll_output(),
            Self::Socks5(socks) => socks.poll_output(),
        }
    }

    /// So many bytes of the output were written.
    pub fn advance(&mut self, count: usize) {
        match self {
            Self::Direct => {}
            Self::HttpConnect(connect) => connect.advance(count),
            Self::Socks5(socks) => socks.advance(count),
        }
    }

    /// Takes bytes that the proxy sent. All are consumed, unless the tunnel is done: the rest came through it.
    ///
    /// # Errors
    ///
    /// What the proxy did wrong, or did not do. An error is final: every later call returns it again.
    pub fn handle_input(&mut self, bytes: &[u8]) -> Result<Progress, ProxyError> {
        match self {
            Self::Direct => Ok(Progress { consumed: 0 }),
            Self::HttpConnect(connect) => connect.handle_input(bytes),
            Self::Socks5(socks) => socks.handle_input(bytes),
        }
    }

    /// True exactly when the stream leads to the server.
    pub fn is_done(&self) -> bool {
        match self {
            Self::Direct => true,
            Self::HttpConnect(connect) => connect.is_done(),
            Self::Socks5(socks) => socks.is_done(),
        }
    }
}

impl From<HttpConnect> for Tunnel {
    fn from(connect: HttpConnect) -> Self {
        Self::HttpConnect(connect)
    }
}

impl From<Socks5> for Tunnel {
    fn from(socks: Socks5) -> Self {
        Self::Socks5(socks)
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Credentials, Destination};
    use super::*;

    const BEHIND: &[u8] = b"behind";

    /// Dials as the loop does: writes `step` bytes at a time, reads as many, in turns. The answers are those to each message
    /// in turn. Returns what is left over of the read bytes.
    fn dial(mut tunnel: Tunnel, answers: &[&[u8]], step: usize) -> Vec<u8> {
        let mut answers = answers.iter();
        while !tunnel.is_done() {
            while let Some(output) = tunnel.poll_output() {
                let written = output.len().min(step);
                tunnel.advance(written);
            }
            let answer = *answers.next().unwrap();
            let mut read = 0;
            while read < answer.len() {
                let part = &answer[read..answer.len().min(read + step)];
                let consumed = tunnel.handle_input(part).unwrap().consumed;
                assert!(consumed == part.len() || tunnel.is_done());
                read += consumed;
                if tunnel.is_done() {
                    return answer[read..].to_vec();
                }
            }
        }
        Vec::new()
    }

    #[test]
    fn every_kind_is_dialled_in_the_same_way() {
        let destination = Destination::new("example.com", 443).unwrap();
        let credentials = Credentials::new("user", "password");
        let reply = [b"\x05\x00\x00\x03\x01a\x00\x50", BEHIND].concat();
        let head = [b"HTTP/1.1 200 OK\r\n\r\n", BEHIND].concat();
        for step in 1..40 {
            let connect = HttpConnect::new(&destination, Some(&credentials)).unwrap();
            assert_eq!(dial(connect.into(), &[&head], step), BEHIND);
            let socks = Socks5::new(&destination, Some(&credentials)).unwrap();
            let answers: [&[u8]; 3] = [b"\x05\x02", b"\x01\x00", &reply];
            assert_eq!(dial(socks.into(), &answers, step), BEHIND);
            assert_eq!(dial(Tunnel::default(), &[], step), b"");
        }
    }

    #[test]
    fn a_direct_way_leaves_everything_over() {
        let mut tunnel = Tunnel::Direct;
        assert!(tunnel.is_done() && tunnel.poll_output().is_none());
        tunnel.advance(9);
        let progress = tunnel.handle_input(BEHIND).unwrap();
        assert_eq!(progress.consumed, 0);
    }
}
