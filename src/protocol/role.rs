/// Which end of the connection this is. The two differ in who masks (RFC 6455 §5.1) and who closes the TCP side first
/// (RFC 6455 §7.1.1), and in nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// Accepted the connection: receives masked frames and sends unmasked ones.
    Server,
    /// Opened the connection: receives unmasked frames and sends masked ones.
    Client,
}
