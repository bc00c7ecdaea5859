/// Which end of the connection this is. The two differ in who masks (RFC 6455 §5.1) and who closes the TCP side first
/// (RFC 6455 §7.1.1), and in nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Accepted the connection: receives masked frames and sends unmasked ones.
    Server,
    /// Opened the connection: receives unmasked frames and sends masked ones.
    Client,
}

impl Role {
    /// True exactly when this end closes the TCP connection first once the close handshake is over; the other one waits for
    /// it, so that it is the server that keeps the address for a while (RFC 6455 §7.1.1).
    #[must_use]
    pub fn closes_first(self) -> bool {
        self == Self::Server
    }
}
