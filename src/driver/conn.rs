use std::{fmt, io::IoSlice};

use super::{
    ConnId, Connections, Message, Sender, Visit,
    core::{Core, Slot},
};
use crate::{
    connection::{Frames, InvalidCloseCode, Payload, SendError, SendErrorKind},
    protocol::{CloseCode, Opcode, Outgoing},
    transport::PeerAddr,
};

/// An open connection in the application's hands, for the length of a call.
///
/// Everything that sends or closes only stages: it checks, queues and returns. The bytes are written when the event at hand
/// has been handled, so that many small messages become one write, and nothing is called back from inside a send.
pub struct Conn<'a, S> {
    /// There is a slot for `id` as long as this value lives: slots are only removed between callbacks.
    core: &'a mut Core<S>,
    id: ConnId,
    visit: &'a Visit<'a>,
}

impl<'a, S> Conn<'a, S> {
    #[inline]
    pub(crate) fn new(core: &'a mut Core<S>, id: ConnId, visit: &'a Visit<'a>) -> Option<Self> {
        core.slots.get(id.0)?;
        Some(Self { core, id, visit })
    }

    /// As `new`, for a caller that has just looked the connection up.
    #[inline]
    pub(crate) fn at_hand(core: &'a mut Core<S>, id: ConnId, visit: &'a Visit<'a>) -> Self {
        debug_assert!(core.slots.get(id.0).is_some());
        Self { core, id, visit }
    }

    /// As `new`; `None` also when the application's sends are not accepted any more.
    #[inline]
    pub(crate) fn open(core: &'a mut Core<S>, id: ConnId, visit: &'a Visit<'a>) -> Option<Self> {
        let slot = core.slots.get(id.0)?;
        let is_open = slot.wire.link.state().is_open();
        is_open.then_some(Self { core, id, visit })
    }

    /// The name of this connection.
    #[must_use]
    pub fn id(&self) -> ConnId {
        self.id
    }

    /// What the application keeps for this connection.
    #[must_use]
    pub fn session(&self) -> &S {
        &self.slot().session
    }

    /// What the application keeps for this connection, to change it.
    #[must_use]
    pub fn session_mut(&mut self) -> &mut S {
        &mut self.slot_mut().session
    }

    /// Session and sending at the same time.
    #[must_use]
    pub fn split(&mut self) -> (&mut S, Sender<'_>) {
        let id = self.id;
        let Core { slots, shared, .. } = &mut *self.core;
        #[expect(clippy::expect_used, reason = "see the field `core`")]
        let slot = slots.get_mut(id.0).expect("a handle has a slot");
        (
            &mut slot.session,
            Sender {
                wire: &mut slot.wire,
                shared,
                id,
                visit: self.visit,
            },
        )
    }

    /// The sending half alone.
    #[must_use]
    pub fn sender(&mut self) -> Sender<'_> {
        self.split().1
    }

    /// Another connection of the same loop; `None` for one that is gone.
    #[must_use]
    pub fn peer(&mut self, id: ConnId) -> Option<Conn<'_, S>> {
        Conn::new(self.core, id, self.visit)
    }

    /// All connections of the loop.
    #[must_use]
    pub fn connections(&mut self) -> Connections<'_, S> {
        Connections::within(self.core, self.visit)
    }

    /// Sends a message without copying it. See [`Sender::send`].
    ///
    /// # Errors
    /// The reason, and the payload as it was.
    pub fn send(
        &mut self,
        kind: impl Into<Outgoing>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        self.sender().send(kind, payload)
    }

    /// Sends a received message on. See [`Sender::forward`].
    ///
    /// # Errors
    /// The reason; the message is as it was.
    #[inline]
    pub fn forward(&mut self, message: &mut Message<'_>) -> Result<(), SendErrorKind> {
        self.sender().forward(message)
    }

    /// Sends a message from a borrowed slice. See [`Sender::send_copy`].
    ///
    /// # Errors
    /// The reason; nothing was sent.
    #[inline]
    pub fn send_copy(
        &mut self,
        kind: impl Into<Outgoing>,
        payload: &[u8],
    ) -> Result<(), SendErrorKind> {
        self.sender().send_copy(kind, payload)
    }

    /// Sends several borrowed slices as one message. See [`Sender::send_copy_vectored`].
    ///
    /// # Errors
    /// The reason; nothing was sent.
    pub fn send_copy_vectored(
        &mut self,
        kind: impl Into<Outgoing>,
        parts: &[IoSlice<'_>],
    ) -> Result<(), SendErrorKind> {
        self.sender().send_copy_vectored(kind, parts)
    }

    /// Sends frames that were encoded before. See [`Sender::send_frames`].
    ///
    /// # Errors
    /// The reason; nothing was sent.
    #[inline]
    pub fn send_frames(&mut self, frames: &Frames) -> Result<(), SendErrorKind> {
        let followed = self
            .core
            .wire_mut(self.id)
            .is_some_and(|(wire, shared)| wire.follow(frames, shared));
        match followed {
            true => Ok(()),
            false => self.sender().send_first_frames(frames),
        }
    }

    /// Sends a ping. See [`Sender::send_ping`].
    ///
    /// # Errors
    /// The reason; nothing was sent.
    pub fn send_ping(&mut self, payload: &[u8]) -> Result<(), SendErrorKind> {
        self.sender().send_ping(payload)
    }

    /// Sends a pong. See [`Sender::send_pong`].
    ///
    /// # Errors
    /// The reason; nothing was sent.
    pub fn send_pong(&mut self, payload: &[u8]) -> Result<(), SendErrorKind> {
        self.sender().send_pong(payload)
    }

    /// Answers a ping as the default [`on_ping`](super::Handler::on_ping) does: in a place of its own, where a newer answer
    /// replaces an older one while the peer does not read (RFC 6455 §5.5.3). More than 125 bytes are cut off.
    pub fn auto_pong(&mut self, payload: &[u8]) {
        self.sender().auto_pong(payload);
    }

    /// Closes the connection behind everything that is staged. See [`Sender::close`].
    ///
    /// # Errors
    /// A code that must not be on the wire.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), InvalidCloseCode> {
        self.sender().close(code, reason)
    }

    /// Closes the connection with a close frame that has no code. See [`Sender::close_empty`].
    pub fn close_empty(&mut self) {
        self.sender().close_empty();
    }

    /// Closes the connection and drops what is staged. See [`Sender::close_now`].
    ///
    /// # Errors
    /// A code that must not be on the wire.
    pub fn close_now(&mut self, code: CloseCode, reason: &str) -> Result<(), InvalidCloseCode> {
        self.sender().close_now(code, reason)
    }

    /// Stops dispatching, behind the event at hand. Reading goes on until the connection's fixed buffer is full; the rest
    /// stays in the kernel, whose flow control stops the peer.
    pub fn pause_reads(&mut self) {
        let slot = self.slot_mut();
        slot.wire.flags.paused = slot.wire.link.state().is_open();
    }

    /// Goes on dispatching, first of all what was read during the pause; in this turn or the next, not from inside this call.
    pub fn resume_reads(&mut self) {
        let Sender {
            wire, shared, id, ..
        } = self.sender();
        if std::mem::replace(&mut wire.flags.paused, false) {
            shared.schedule(id, &mut wire.flags);
        }
    }

    /// Whether reading pauses by itself while [`high_water`](crate::Config::high_water) bytes or more wait to be written, as it does
    /// until something else is said. For those who pause where the bytes come from, as a proxy does: two ends that both pause
    /// while the other does not read would wait for each other.
    pub fn set_backlog_pause(&mut self, pauses: bool) {
        let Sender {
            wire, shared, id, ..
        } = self.sender();
        wire.flags.ignores_backlog = !pauses;
        if wire.flags.backlogged {
            shared.schedule(id, &mut wire.flags);
        }
    }

    /// True exactly between [`pause_reads`](Self::pause_reads) and [`resume_reads`](Self::resume_reads).
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.slot().wire.flags.paused
    }

    /// Bytes that were read and not looked at, as they came: masked, headers included.
    #[must_use]
    pub fn unread(&self) -> &[u8] {
        match self.visit.unread() {
            unread if !unread.is_empty() && self.visit.is_to(self.id) => unread,
            _ => self.slot().wire.link.inbox.kept(),
        }
    }

    /// Bytes of messages that wait to be written.
    #[must_use]
    pub fn backlog(&self) -> usize {
        self.slot().wire.link.outbox.backlog()
    }

    /// True exactly until either side starts to close: while sends are accepted.
    #[must_use]
    #[inline]
    pub fn is_open(&self) -> bool {
        self.slot().wire.link.state().is_open()
    }

    /// Who is at the other end. Asks the kernel.
    #[must_use]
    pub fn peer_addr(&self) -> PeerAddr {
        self.slot().wire.stream.peer_addr()
    }

    /// True exactly when messages of the peer's may come compressed, and ours go out so (RFC 7692).
    #[must_use]
    pub fn compresses(&self) -> bool {
        self.slot().wire.link.compresses()
    }

    pub(super) fn streams_messages(&self) -> bool {
        self.slot().wire.link.inbox.streams()
    }

    #[inline]
    pub(crate) fn count_received_message(&mut self) {
        self.core.shared.counters.received.messages += 1;
    }

    pub(crate) fn count_received_control(&mut self, opcode: Opcode) {
        let received = &mut self.core.shared.counters.received;
        let counter = if opcode == Opcode::Ping {
            &mut received.pings
        } else {
            &mut received.pongs
        };
        *counter += 1;
    }

    #[inline]
    fn slot(&self) -> &Slot<S> {
        #[expect(clippy::expect_used, reason = "see the field `core`")]
        self.core.slots.get(self.id.0).expect("a handle has a slot")
    }

    #[inline]
    fn slot_mut(&mut self) -> &mut Slot<S> {
        #[expect(clippy::expect_used, reason = "see the field `core`")]
        self.core
            .slots
            .get_mut(self.id.0)
            .expect("a handle has a slot")
    }
}

impl<S> fmt::Debug for Conn<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Conn({:?})", self.id)
    }
}
