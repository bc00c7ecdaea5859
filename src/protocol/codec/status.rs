/// Where a connection stands (RFC 6455 §4, §7), and who may say what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionState {
    /// The opening handshake is under way: there are no frames yet.
    Connecting,
    /// Messages go both ways.
    Open,
    /// One end has sent its close frame, or has to because the other one broke the protocol.
    Closing,
    /// Both have; the server closes the transport first (RFC 6455 §7.1.1).
    Closed,
}

impl ConnectionState {
    /// True exactly when messages, pings and pongs may be sent.
    #[must_use]
    pub const fn may_send(self) -> bool {
        matches!(self, Self::Open)
    }

    /// True exactly when a close frame may be sent, once (RFC 6455 §5.5.1).
    #[must_use]
    pub const fn may_close(self) -> bool {
        matches!(self, Self::Open | Self::Closing)
    }

    /// True exactly when the peer may still say something that counts.
    #[must_use]
    pub const fn may_receive(self) -> bool {
        matches!(self, Self::Open | Self::Closing)
    }
}

#[cfg(test)]
mod tests {
    use super::ConnectionState::{Closed, Closing, Connecting, Open};

    #[test]
    fn who_may_say_what() {
        for (state, send, close, receive) in [
            (Connecting, false, false, false),
            (Open, true, true, true),
            (Closing, false, true, true),
            (Closed, false, false, false),
        ] {
            assert_eq!(
                (state.may_send(), state.may_close(), state.may_receive()),
                (send, close, receive),
                "{state:?}"
            );
        }
    }
}
