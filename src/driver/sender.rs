use std::{fmt, io::IoSlice};

use super::{
    ConnId, Message, Visit,
    core::{Shared, Wire},
};
use crate::{
    connection::{CloseCause, Frames, InvalidCloseCode, Payload, SendError, SendErrorKind},
    memory::PoolBuf,
    protocol::{CloseCode, MAX_CONTROL_PAYLOAD, MAX_HEADER_LEN, Opcode, Outgoing},
};

/// The sending half of a connection.
pub struct Sender<'a> {
    pub(super) wire: &'a mut Wire,
    pub(super) shared: &'a mut Shared,
    pub(super) id: ConnId,
    pub(super) visit: &'a Visit<'a>,
}

impl Sender<'_> {
    /// Sends a received message on, back or to another connection, without copying it where that can be avoided: one in a buffer
    /// of its own is moved as by [`send`](Self::send), and comes back in `on_write_complete`, unless as many payloads as
    /// `send_queue` allows are in flight; any other goes as by [`send_copy`](Self::send_copy). A message that was moved is empty
    /// from then on.
    ///
    /// # Errors
    /// As of `send_copy`; the message is as it was.
    #[inline]
    pub fn forward(&mut self, message: &mut Message<'_>) -> Result<(), SendErrorKind> {
        match message.borrowed_bytes() {
            Some(bytes) => self.send_copy(message.kind(), bytes),
            None => self.forward_buffer(message),
        }
    }

    /// `forward` of a message in a buffer of its own.
    #[inline(never)]
    fn forward_buffer(&mut self, message: &mut Message<'_>) -> Result<(), SendErrorKind> {
        let kind = message.kind();
        if let Some(buffer) = message.buffer() {
            match buffer.take().map(|payload| self.send(kind, payload)) {
                None | Some(Ok(())) => return Ok(()),
                Some(Err(SendError {
                    kind: why, payload, ..
                })) => {
                    if let Payload::Pooled(payload) = payload {
                        *buffer = Some(payload);
                    }
                    if why != SendErrorKind::WriteBusy {
                        return Err(why);
                    }
                }
            }
        }
        self.send_copy(kind, message.as_bytes())
    }

    /// Sends a message without copying it. The payload is moved into the loop and comes back in `on_write_complete`.
    /// That text is UTF-8 is the caller's matter.
    ///
    /// # Errors
    /// The reason, and the payload as it was: `NotOpen`, `WriteBusy`, `BacklogFull`; and of a client, which has to copy what is
    /// shared to mask it, `OutOfBuffers` and `TooBig`.
    pub fn send(
        &mut self,
        kind: impl Into<Outgoing>,
        payload: impl Into<Payload>,
    ) -> Result<(), SendError> {
        let payload = payload.into();
        if let Err(kind) = self.begin() {
            return Err(SendError { kind, payload });
        }
        let len = payload.len();
        let Shared {
            pools, settings, ..
        } = &mut *self.shared;
        let result = self
            .wire
            .link
            .outbox
            .send(kind, payload, &settings.send_limits(), pools);
        self.wire.watch_compressor(self.id, self.shared);
        match result {
            Ok(()) => {
                self.staged_message(len);
                Ok(())
            }
            Err(error) => {
                self.refused(error.kind, len);
                Err(error)
            }
        }
    }

    /// Sends a message from a borrowed slice. A small one is copied, to be written together with others. One of 2 KiB or more
    /// that lies in the message at hand is written from there, together with others, when what was read has been handled; one
    /// of 16 KiB or more from anywhere else is offered to the kernel at once. Of either only what the kernel does not take is
    /// copied. That text is UTF-8 is the caller's matter.
    ///
    /// # Errors
    /// The reason; nothing was sent: `NotOpen`, `BacklogFull`, `OutOfBuffers`, `TooBig`.
    #[inline]
    pub fn send_copy(
        &mut self,
        kind: impl Into<Outgoing>,
        payload: &[u8],
    ) -> Result<(), SendErrorKind> {
        self.check_open()?;
        let outgoing = kind.into();
        let Shared {
            pools, settings, ..
        } = &mut *self.shared;
        let outbox = &mut self.wire.link.outbox;
        // Most messages are short: for them the rest need not even be prepared.
        if outbox.cork_short(outgoing.kind, payload, &settings.send_limits(), pools) {
            self.staged_message(payload.len());
            return Ok(());
        }
        self.send_longer_copy(outgoing, payload)
    }

    /// `send_copy` of what is not short. Apart, so that what is need not pass through its preparations.
    #[inline(never)]
    fn send_longer_copy(
        &mut self,
        outgoing: Outgoing,
        payload: &[u8],
    ) -> Result<(), SendErrorKind> {
        let Shared {
            pools, settings, ..
        } = &mut *self.shared;
        let Wire { link, stream, .. } = &mut *self.wire;
        let out = &mut self.visit.output(self.id, stream);
        let limits = &settings.send_limits();
        if link
            .outbox
            .borrow_plain(outgoing.kind, payload, limits, pools, out)
        {
            self.staged_message(payload.len());
            return Ok(());
        }
        self.send_copy_vectored(outgoing, &[IoSlice::new(payload)])
    }

    /// Sends several borrowed slices as one message, otherwise as [`send_copy`](Self::send_copy).
    ///
    /// # Errors
    /// As `send_copy`.
    #[inline]
    pub fn send_copy_vectored(
        &mut self,
        kind: impl Into<Outgoing>,
        parts: &[IoSlice<'_>],
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
        let out = &mut self.visit.output(id, stream);
        let result = link
            .outbox
            .send_copy(kind, parts, limits, pools, out, |payload| {
                notices.sent(id, payload)
            });
        self.wire.watch_compressor(id, self.shared);
        let len = parts.iter().map(|part| part.len()).sum();
        match result {
            Ok(()) => self.staged_message(len),
            Err(kind) => self.refused(kind, len),
        }
        result
    }

    /// Sends frames that were encoded before; small ones are copied, large ones shared. Any number of connections can be
    /// sent the same frames.
    ///
    /// # Errors
    /// The reason; nothing was sent: `NotOpen`, `BacklogFull`, `OutOfBuffers`, `TooBig`.
    #[inline]
    pub fn send_frames(&mut self, frames: &Frames) -> Result<(), SendErrorKind> {
        match self.wire.follow(frames, self.shared) {
            true => Ok(()),
            false => self.send_first_frames(frames),
        }
    }

    /// As `send_frames`, of frames that do not follow others that many are sent.
    pub(super) fn send_first_frames(&mut self, frames: &Frames) -> Result<(), SendErrorKind> {
        self.check_open()?;
        if self.wire.link.outbox.join(frames, &mut self.shared.pools) {
            self.staged_message(frames.as_bytes().len());
            return Ok(());
        }
        self.send_new_frames(frames)
    }

    fn send_new_frames(&mut self, frames: &Frames) -> Result<(), SendErrorKind> {
        self.begin()?;
        let Shared {
            pools, settings, ..
        } = &mut *self.shared;
        let result = self
            .wire
            .link
            .outbox
            .send_frames(frames, &settings.send_limits(), pools);
        match result {
            Ok(()) => self.staged_message(frames.as_bytes().len()),
            Err(kind) => self.refused(kind, frames.as_bytes().len()),
        }
        result
    }

    /// Puts a ping into the connection's ring of control frames (RFC 6455 §5.5.2): 256 bytes, of which each frame takes two
    /// and its payload. It goes out before messages that wait.
    ///
    /// # Errors
    /// The reason; nothing was sent: `NotOpen`, `ControlFrameTooBig` above 125 bytes, `QueueFull`.
    pub fn send_ping(&mut self, payload: &[u8]) -> Result<(), SendErrorKind> {
        self.control(Opcode::Ping, payload)?;
        self.shared.counters.sent.pings += 1;
        Ok(())
    }

    /// Puts a pong into the ring (RFC 6455 §5.5.3), otherwise as [`send_ping`](Self::send_ping).
    ///
    /// # Errors
    /// As `send_ping`.
    pub fn send_pong(&mut self, payload: &[u8]) -> Result<(), SendErrorKind> {
        self.control(Opcode::Pong, payload)?;
        self.shared.counters.sent.pongs += 1;
        Ok(())
    }

    /// See [`Conn::auto_pong`](super::Conn::auto_pong).
    pub fn auto_pong(&mut self, payload: &[u8]) {
        if self.begin().is_err() {
            return;
        }
        let payload = &payload[..payload.len().min(MAX_CONTROL_PAYLOAD)];
        let id = self.id;
        let Shared { pools, notices, .. } = &mut *self.shared;
        let Wire { link, stream, .. } = &mut *self.wire;
        let out = &mut self.visit.output(id, stream);
        link.outbox
            .auto_pong(payload, pools, out, |payload| notices.sent(id, payload));
        self.shared.counters.sent.pongs += 1;
        self.staged();
    }

    /// Starts the close handshake (RFC 6455 §7.1.2) behind everything that is staged; pings and pongs that wait are dropped.
    /// A reason above 123 bytes is cut at a character boundary. Does nothing when the connection is not open any more.
    ///
    /// # Errors
    /// A code that must not be on the wire; the connection stays as it is.
    pub fn close(&mut self, code: CloseCode, reason: &str) -> Result<(), InvalidCloseCode> {
        self.write_borrowed();
        let pools = &mut self.shared.pools;
        if self
            .wire
            .link
            .close(code, reason, CloseCause::Application, pools)?
        {
            self.wire.closing(self.id, self.shared);
        }
        Ok(())
    }

    /// Starts the close handshake with a close frame that has no code (RFC 6455 §7.1.5), which the peer takes for 1005.
    /// Otherwise as [`close`](Self::close).
    pub fn close_empty(&mut self) {
        self.write_borrowed();
        if self.wire.link.close_empty(&mut self.shared.pools) {
            self.wire.closing(self.id, self.shared);
        }
    }

    /// Starts the close handshake at once: a frame in flight is finished, everything else that is staged is dropped, and its
    /// payloads come back as discarded. Otherwise as [`close`](Self::close).
    ///
    /// # Errors
    /// As `close`.
    pub fn close_now(&mut self, code: CloseCode, reason: &str) -> Result<(), InvalidCloseCode> {
        let id = self.id;
        let Shared { pools, notices, .. } = &mut *self.shared;
        let discarded = |payload| notices.sent(id, payload);
        if self.wire.link.close_now(code, reason, pools, discarded)? {
            self.wire.closing(self.id, self.shared);
        }
        Ok(())
    }

    /// A zeroed or used buffer of the loop's pool, of just `len` bytes, to write a message into and send it without a copy.
    /// `None` when a bound of the pool is reached, or above `max_message_size`.
    #[must_use]
    pub fn lease(&mut self, len: usize) -> Option<PoolBuf> {
        let buffer = self.shared.pools.buffers.lease(len)?;
        Some(self.shared.pools.buffers.entrust(buffer, 0..len))
    }

    fn control(&mut self, opcode: Opcode, payload: &[u8]) -> Result<(), SendErrorKind> {
        self.begin()?;
        self.wire
            .link
            .outbox
            .control(opcode, payload, &mut self.shared.pools)?;
        self.staged();
        Ok(())
    }

    /// Before something that needs a queue.
    fn begin(&mut self) -> Result<(), SendErrorKind> {
        self.write_borrowed();
        self.check_open()
    }

    /// Writes what was staged without being copied: only more of the like may stand behind it.
    #[inline]
    fn write_borrowed(&mut self) {
        if self.wire.link.outbox.has_borrowed(&self.shared.pools) {
            self.write_borrowed_now();
        }
    }

    #[cold]
    fn write_borrowed_now(&mut self) {
        let Wire { link, stream, .. } = &mut *self.wire;
        let out = &mut self.visit.output(self.id, stream);
        let written = link.outbox.write_borrowed(&mut self.shared.pools, out);
        if let Err(error) = written {
            self.wire.end_with_error(self.id, &error, self.shared);
        }
    }

    #[inline]
    pub(super) fn check_open(&self) -> Result<(), SendErrorKind> {
        if self.wire.link.state().is_open() {
            Ok(())
        } else {
            Err(SendErrorKind::NotOpen)
        }
    }

    #[inline]
    fn staged_message(&mut self, bytes: usize) {
        self.shared.counters.sent.messages += 1;
        self.shared.counters.sent.bytes += bytes as u64;
        self.staged();
    }

    pub(super) fn refused(&mut self, kind: SendErrorKind, len: usize) {
        if kind == SendErrorKind::BacklogFull {
            let flags = &mut self.wire.flags;
            flags.refused = flags.refused.max(len.saturating_add(MAX_HEADER_LEN));
            self.mark_dirty();
        }
    }

    #[inline]
    pub(super) fn mark_dirty(&mut self) {
        let Wire { flags, .. } = &mut *self.wire;
        self.shared.mark_dirty(self.id, flags);
    }

    /// Something was staged, so that it has to be flushed.
    #[inline]
    pub(super) fn staged(&mut self) {
        if !self.visit.is_to(self.id) {
            self.mark_dirty();
        }
    }
}

impl Wire {
    /// Sends frames that others have been sent too behind what this one was sent last. False for any others, of which nothing
    /// is sent.
    #[inline]
    pub(super) fn follow(&mut self, frames: &Frames, shared: &mut Shared) -> bool {
        let Self { link, .. } = self;
        let limits = &shared.settings.send_limits();
        if !link.state().is_open() || !link.outbox.follow(frames, limits, &mut shared.pools) {
            return false;
        }
        // Nothing has to be marked: it is flushed with what it stands behind.
        shared.counters.sent.messages += 1;
        shared.counters.sent.bytes += frames.as_bytes().len() as u64;
        true
    }
}

impl fmt::Debug for Sender<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({:?})", self.id)
    }
}
