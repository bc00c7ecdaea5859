use core::fmt;

use crate::protocol::Role;

/// The extension's name (RFC 7692 §7).
pub(super) const NAME: &str = "permessage-deflate";

/// The binary logarithm of the largest window in bytes, which is meant where none is named (RFC 7692 §7.1.2).
pub(super) const MAX_WINDOW_BITS: u8 = 15;

/// What both ends have agreed on (RFC 7692 §7.1). Shown as the server's answer has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateParams {
    /// The server compresses each message by itself.
    pub server_no_context_takeover: bool,
    /// The client compresses each message by itself.
    pub client_no_context_takeover: bool,
    /// Binary logarithm of the largest window in bytes that the server compresses with, 8 to 15; `None` is 15, and not
    /// mentioned.
    pub server_max_window_bits: Option<u8>,
    /// The same of the client.
    pub client_max_window_bits: Option<u8>,
}

/// What one end sends, as far as the other has to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflateDirection {
    /// Binary logarithm of the largest window in bytes, 8 to 15.
    pub window_bits: u8,
    /// True exactly when a message may refer to those before it.
    pub context_takeover: bool,
}

/// What one end is willing to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeflatePolicy {
    /// The server is to compress each message by itself: a server says so, a client insists on it.
    pub server_no_context_takeover: bool,
    /// The client is to compress each message by itself: a server insists on it, a client says so.
    pub client_no_context_takeover: bool,
    /// Binary logarithm of the largest window in bytes for the server, 8 to 15. A client insists on it below 15.
    pub server_max_window_bits: u8,
    /// The same for the client. A server asks for it where the client knows how to oblige.
    pub client_max_window_bits: u8,
}

impl DeflateParams {
    /// What this agreement says of the messages of one end.
    #[must_use]
    pub fn direction(&self, sender: Role) -> DeflateDirection {
        let (bits, alone) = match sender {
            Role::Server => (self.server_max_window_bits, self.server_no_context_takeover),
            Role::Client => (self.client_max_window_bits, self.client_no_context_takeover),
        };
        DeflateDirection {
            window_bits: bits.unwrap_or(MAX_WINDOW_BITS),
            context_takeover: !alone,
        }
    }
}

impl fmt::Display for DeflateParams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(NAME)?;
        if self.server_no_context_takeover {
            f.write_str("; server_no_context_takeover")?;
        }
        if self.client_no_context_takeover {
            f.write_str("; client_no_context_takeover")?;
        }
        if let Some(bits) = self.server_max_window_bits {
            write!(f, "; server_max_window_bits={bits}")?;
        }
        if let Some(bits) = self.client_max_window_bits {
            write!(f, "; client_max_window_bits={bits}")?;
        }
        Ok(())
    }
}

/// As the offer of a client with this policy has it (RFC 7692 §5).
impl fmt::Display for DeflatePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let below_max = |bits: u8| (bits < MAX_WINDOW_BITS).then_some(bits);
        let demanded = DeflateParams {
            server_no_context_takeover: self.server_no_context_takeover,
            client_no_context_takeover: self.client_no_context_takeover,
            server_max_window_bits: below_max(self.server_max_window_bits),
            client_max_window_bits: below_max(self.client_max_window_bits),
        };
        demanded.fmt(f)?;
        match demanded.client_max_window_bits {
            Some(_) => Ok(()),
            // Says that this client can do with less, if the server asks for it (RFC 7692 §7.1.2.2).
            None => f.write_str("; client_max_window_bits"),
        }
    }
}
