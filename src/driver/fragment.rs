use std::fmt;

use super::{
    Sender,
    conn::Conn,
    core::{Shared, Wire},
};
use crate::{
    connection::{Piece, SendErrorKind},
    protocol::MessageKind,
};

/// A piece of a message that was received, valid during the call that delivers it.
pub struct Fragment<'a> {
    piece: Piece,
    bytes: &'a [u8],
}

impl<'a> Fragment<'a> {
    pub(super) fn new(piece: Piece, bytes: &'a [u8]) -> Self {
        Self { piece, bytes }
    }

    /// Text or binary: the message's.
    #[must_use]
    pub fn kind(&self) -> MessageKind {
        self.piece.kind
    }

    /// The bytes, unmasked; there may be none. Text is checked up to their end, where a character may be cut in two.
    #[must_use]
    pub fn as_bytes(&self) -> &'a [u8] {
        self.bytes
    }

    /// True exactly when the message begins here.
    #[must_use]
    pub fn is_first(&self) -> bool {
        self.piece.first
    }

    /// True exactly when the message is complete with this.
    #[must_use]
    pub fn is_last(&self) -> bool {
        self.piece.last
    }
}

/// Says kind and length: contents can be secret, and long.
impl fmt::Debug for Fragment<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fragment")
            .field("kind", &self.kind())
            .field("len", &self.bytes.len())
            .field("first", &self.is_first())
            .field("last", &self.is_last())
            .finish()
    }
}

impl<S> Conn<'_, S> {
    /// From the next message on: whether messages come to [`on_fragment`](super::Handler::on_fragment), piece by piece as
    /// they arrive and without a buffer of their own, instead of whole to `on_message`. `max_message_size` bounds the sum of
    /// the pieces all the same.
    pub fn stream_messages(&mut self, wanted: bool) {
        let Sender { wire, shared, .. } = self.sender();
        // Behind the end nobody would give the memory back.
        if wire.link.state().reads_frames() {
            wire.link.inbox.stream(wanted, &mut shared.pools);
        }
    }

    /// Sends a fragment of a message. See [`Sender::send_fragment`].
    ///
    /// # Errors
    /// The reason; nothing was sent.
    pub fn send_fragment(
        &mut self,
        kind: MessageKind,
        bytes: &[u8],
        last: bool,
    ) -> Result<(), SendErrorKind> {
        self.sender().send_fragment(kind, bytes, last)
    }

    /// Has `on_drain` called when no more than `low_water` waits. See [`Sender::request_drain`].
    pub fn request_drain(&mut self) {
        self.sender().request_drain();
    }
}

impl Sender<'_> {
    /// Sends a fragment of a message from a borrowed slice, as a frame of its own (RFC 6455 §5.4): the first one begins a
    /// message, `last` completes it. Until then nothing else is accepted but pings, pongs and `close`. That text is UTF-8 as a
    /// whole is the caller's matter.
    ///
    /// # Errors
    /// The reason; nothing was sent: `MessageOpen` when the message that is open is of another kind, otherwise as
    /// [`send_copy`](Self::send_copy).
    pub fn send_fragment(
        &mut self,
        kind: MessageKind,
        bytes: &[u8],
        last: bool,
    ) -> Result<(), SendErrorKind> {
        self.check_open()?;
        let id = self.id;
        let Shared {
            pools,
            settings,
            notices,
            ..
        } = &mut *self.shared;
        let Wire { link, stream, .. } = &mut *self.wire;
        let limits = &settings.send_limits();
        let flushed = |payload| notices.sent(id, payload);
        let out = &mut self.visit.output(id, stream);
        let result = link
            .outbox
            .send_fragment(kind, bytes, last, limits, pools, out, flushed);
        match result {
            Ok(()) => {
                let sent = &mut self.shared.counters.sent;
                sent.messages += u64::from(last);
                sent.bytes += bytes.len() as u64;
                self.staged();
            }
            Err(kind) => self.refused(kind, bytes.len()),
        }
        result
    }

    /// Has `on_drain` called once, when no more than `low_water` waits to be written: for a sender that stops before a send is
    /// refused. Called in any case, also when so little waits already; never from inside this call.
    pub fn request_drain(&mut self) {
        let flags = &mut self.wire.flags;
        flags.refused = flags.refused.max(1);
        self.mark_dirty();
    }
}
