//! The life of an open connection (RFC 6455 §7).
//!
//! ```text
//!            close_local                    close_remote, all written
//!   Open ─────────────────▶ Closing ──────────────────────────────────▶ Draining
//!    │                         │  close_remote, not all written            ▲
//!    │  close_remote, fail     ▼                                           │
//!    └────────────────────▶ Answering ─────────────────────────────────────┘
//!                                            flushed
//!   any ── end ──▶ Ended
//! ```

/// Where a connection stands. Only the methods here change it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum State {
    /// Messages go both ways.
    #[default]
    Open,
    /// Our close frame is on its way or sent; the peer's is awaited. Messages that come are dropped.
    Closing,
    /// The peer has nothing more to say that matters; our close frame has to be written.
    Answering,
    /// Our close frame is written; a server has shut its write side down. Input is thrown away until the peer ends, so that
    /// a reset does not overtake our close frame.
    Draining,
    /// Over. The slot waits to be retired.
    Ended,
}

impl State {
    /// This end starts the close handshake. False unless open.
    #[must_use]
    pub(crate) fn close_local(&mut self) -> bool {
        self.change(matches!(self, Self::Open), Self::Closing)
    }

    /// The peer's close frame came. False when it was of no use any more.
    #[must_use]
    pub(crate) fn close_remote(&mut self) -> bool {
        self.change(matches!(self, Self::Open | Self::Closing), Self::Answering)
    }

    /// The peer broke the protocol, or we give up on it. False when we were done with it already.
    #[must_use]
    pub(crate) fn fail(&mut self) -> bool {
        self.change(matches!(self, Self::Open | Self::Closing), Self::Answering)
    }

    /// All that was to be written is. True exactly when nothing is left but the peer's end.
    #[must_use]
    pub(crate) fn flushed(&mut self) -> bool {
        self.change(matches!(self, Self::Answering), Self::Draining)
    }

    /// The transport is gone, or the time is up. False when it had ended before.
    #[must_use]
    pub(crate) fn end(&mut self) -> bool {
        self.change(!matches!(self, Self::Ended), Self::Ended)
    }

    /// True exactly when the application may send.
    pub(crate) fn is_open(self) -> bool {
        self == Self::Open
    }

    /// True exactly when frames of the peer's still mean something.
    pub(crate) fn reads_frames(self) -> bool {
        matches!(self, Self::Open | Self::Closing)
    }

    /// True exactly when input is thrown away.
    pub(crate) fn is_draining(self) -> bool {
        self == Self::Draining
    }

    /// True exactly when nothing is left to do but to retire the slot.
    pub(crate) fn has_ended(self) -> bool {
        self == Self::Ended
    }

    fn change(&mut self, allowed: bool, to: Self) -> bool {
        if allowed {
            *self = to;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [State; 5] = [
        State::Open,
        State::Closing,
        State::Answering,
        State::Draining,
        State::Ended,
    ];

    #[test]
    fn the_diagram_holds() {
        type Transition = fn(&mut State) -> bool;
        let table: [(Transition, [Option<State>; 5]); 5] = [
            (
                State::close_local,
                [Some(State::Closing), None, None, None, None],
            ),
            (
                State::close_remote,
                [
                    Some(State::Answering),
                    Some(State::Answering),
                    None,
                    None,
                    None,
                ],
            ),
            (
                State::fail,
                [
                    Some(State::Answering),
                    Some(State::Answering),
                    None,
                    None,
                    None,
                ],
            ),
            (
                State::flushed,
                [None, None, Some(State::Draining), None, None],
            ),
            (
                State::end,
                [
                    Some(State::Ended),
                    Some(State::Ended),
                    Some(State::Ended),
                    Some(State::Ended),
                    None,
                ],
            ),
        ];
        for (transition, expected) in table {
            for (from, expected) in ALL.into_iter().zip(expected) {
                let mut state = from;
                assert_eq!(transition(&mut state), expected.is_some(), "{from:?}");
                assert_eq!(state, expected.unwrap_or(from));
            }
        }
    }
}
