use std::time::Instant;

use super::{
    Agreement, Close, CloseCause, Due, Initiator, InvalidCloseCode, Pools, Sent, Timeouts,
    deadlines::{Deadlines, earlier},
    inbox::Inbox,
    outbox::Outbox,
};
use crate::protocol::{CloseCode, ClosePayload, Decompressor, Role, State};

/// One connection of the protocol: its state, its input, its output, its deadlines.
///
/// Everything that changes the state goes through the methods here, so that a close frame is staged exactly once and the
/// `Close` that the application gets is written exactly once.
pub(crate) struct Link {
    role: Role,
    state: State,
    pub(crate) inbox: Inbox,
    pub(crate) outbox: Outbox,
    pub(crate) deadlines: Deadlines,
    /// How it ends; `Some` exactly from the first step of closing on.
    close: Option<Box<Close>>,
    /// True exactly when the peer's close frame was received and understood.
    heard_close: bool,
    /// True exactly when the peer's window is kept from message to message.
    pub(super) keeps_peers: bool,
    /// `Some` exactly from the peer's first compressed message on if its window is kept.
    pub(super) decompressor: Option<Box<Decompressor>>,
}

impl Link {
    pub(crate) fn new(role: Role, now: Instant) -> Self {
        Self {
            role,
            state: State::default(),
            inbox: Inbox::default(),
            outbox: Outbox::new(role),
            deadlines: Deadlines::new(now),
            close: None,
            heard_close: false,
            keeps_peers: false,
            decompressor: None,
        }
    }

    /// Both ends have agreed on compression, or that there is none.
    pub(crate) fn agree(&mut self, agreement: &Agreement) {
        self.outbox.window = agreement.window;
        self.keeps_peers = agreement.keeps_peers;
    }

    /// What is due at `now`. A due heartbeat counts as sent.
    pub(crate) fn due(&mut self, now: Instant, timeouts: &Timeouts) -> Due {
        let check_at = self.outbox.check_at();
        if check_at.is_some_and(|at| at <= now) {
            return Due::Compressor;
        }
        match self.deadlines.poll(now, timeouts) {
            Due::Later(at) => Due::Later(earlier(at, check_at)),
            due => due,
        }
    }

    /// True exactly when messages may be compressed.
    #[inline]
    pub(crate) fn compresses(&self) -> bool {
        self.outbox.compresses()
    }

    pub(crate) fn role(&self) -> Role {
        self.role
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// This end closes: what is staged is written first. `Ok(false)` when the connection was not open any more.
    pub(crate) fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        cause: CloseCause,
        pools: &mut Pools,
    ) -> Result<bool, InvalidCloseCode> {
        if !code.may_be_sent() {
            return Err(InvalidCloseCode(code));
        }
        Ok(self.start_closing(ClosePayload::new(code, reason), cause, pools))
    }

    /// As [`Link::close`] by the application, with a close frame that has no code.
    pub(crate) fn close_empty(&mut self, pools: &mut Pools) -> bool {
        let payload = ClosePayload {
            code: None,
            reason: "",
        };
        self.start_closing(payload, CloseCause::Application, pools)
    }

    fn start_closing(
        &mut self,
        payload: ClosePayload<'_>,
        cause: CloseCause,
        pools: &mut Pools,
    ) -> bool {
        let starts = self.state.close_local();
        if starts {
            self.note_close(Initiator::Local, payload, cause);
            self.outbox.close(&payload, pools);
        }
        starts
    }

    /// As [`Link::close`], but what waits behind a frame in flight is dropped.
    pub(crate) fn close_now(
        &mut self,
        code: CloseCode,
        reason: &str,
        pools: &mut Pools,
        discarded: impl FnMut(Sent),
    ) -> Result<bool, InvalidCloseCode> {
        if self.state.is_open() && code.may_be_sent() {
            self.outbox.discard_waiting(pools, discarded);
        }
        self.close(code, reason, CloseCause::Application, pools)
    }

    /// The peer's close frame came, with a valid payload. It is answered with the same payload (RFC 6455 §5.5.1), behind
    /// what is staged. False when it changed nothing.
    pub(crate) fn close_remote(&mut self, payload: ClosePayload<'_>, pools: &mut Pools) -> bool {
        let we_began = self.state == State::Closing;
        if !self.state.close_remote() {
            return false;
        }
        self.heard_close = true;
        if !we_began {
            self.note_close(Initiator::Remote, payload, CloseCause::Peer);
            self.outbox.close(&payload, pools);
        }
        true
    }

    /// Gives up on the peer (RFC 6455 §7.1.7): input means nothing any more, and a close frame goes out behind what is
    /// staged. False when it was given up before.
    pub(crate) fn fail(&mut self, code: CloseCode, cause: CloseCause, pools: &mut Pools) -> bool {
        let we_began = self.state == State::Closing;
        if !self.state.fail() {
            return false;
        }
        self.inbox.clear(pools);
        if !we_began {
            let payload = ClosePayload {
                code: Some(code),
                reason: "",
            };
            self.note_close(Initiator::Local, payload, cause);
            self.outbox.close(&payload, pools);
        }
        true
    }

    /// Everything that was staged is written. True exactly when nothing is left but the peer's end.
    pub(crate) fn flushed(&mut self) -> bool {
        self.state.flushed()
    }

    /// The transport is gone or the time is up. All memory goes back. False when it had ended before.
    pub(crate) fn end(
        &mut self,
        cause: CloseCause,
        pools: &mut Pools,
        discarded: impl FnMut(Sent),
    ) -> bool {
        let clean = self.heard_close && self.state == State::Draining;
        if !self.state.end() {
            return false;
        }
        self.note_close(
            if matches!(cause, CloseCause::EndOfStream | CloseCause::Io(_)) {
                Initiator::Remote
            } else {
                Initiator::Local
            },
            ClosePayload {
                code: None,
                reason: "",
            },
            cause,
        );
        if let Some(close) = &mut self.close {
            close.clean = clean;
        }
        self.inbox.clear(pools);
        self.outbox.discard_all(pools, discarded);
        let agreement = Agreement {
            window: std::mem::take(&mut self.outbox.window),
            keeps_peers: std::mem::take(&mut self.keeps_peers),
        };
        let compressor = self.outbox.compressor.take();
        pools.take_back(&agreement, compressor, self.decompressor.take());
        true
    }

    /// How it ended, for the application.
    pub(crate) fn take_close(&mut self) -> Option<Close> {
        self.close.take().map(|close| *close)
    }

    /// The beginning of an end is noted once: what follows from it is not its cause.
    fn note_close(&mut self, initiator: Initiator, payload: ClosePayload<'_>, cause: CloseCause) {
        if self.close.is_none() {
            self.close = Some(Box::new(Close {
                initiator,
                code: payload.code,
                reason: payload.reason.to_owned(),
                cause,
                clean: false,
            }));
        }
    }
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
