use std::io::{self, Write};

use super::{
    Frames, Payload, Pools, SendError, SendErrorKind, Sent,
    copies::DIRECT_WRITE_MIN,
    deflaters::{OwnCompressor, SendWindow},
    fan::Share,
    frames::Encoded,
    output::Output,
    queue::Queue,
    segment::{Message, Segment, Walk},
};
use crate::protocol::{
    ClosePayload, FrameHeader, MAX_CONTROL_PAYLOAD, MessageKind, Opcode, Outgoing, Role,
};

/// What waits to be written on a connection.
///
/// Sending stages here; [`Outbox::flush`] is the one place that writes. With nothing staged it is one null pointer.
pub(crate) struct Outbox {
    pub(super) role: Role,
    /// `None` while something is in the cork.
    pub(super) queue: Option<Box<Queue>>,
    /// Bytes that are staged in the cork, which is ours while this is not 0.
    pub(super) corked: u32,
    /// What is staged as others have it staged too; then nothing is in the cork, and there is no queue.
    pub(super) share: Share,
    /// True exactly when the kernel took less than it was offered and has not said since that it takes more.
    pub(super) blocked: bool,
    /// The message that was begun in fragments and has no last one yet.
    pub(super) open: Option<MessageKind>,
    /// What messages are compressed with.
    pub(super) window: SendWindow,
    /// `Some` from the first compressed message on if our window is kept, until there is nothing to compress for long.
    pub(super) compressor: Option<Box<OwnCompressor>>,
}

/// The bounds of a connection's backlog, as configured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SendLimits {
    /// Payloads in flight.
    pub(crate) queue: usize,
    /// Bytes that wait.
    pub(crate) backlog: usize,
}

/// How a flush ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flushed {
    /// Nothing waits.
    All,
    /// The kernel takes no more for now; it will say so when it does.
    Blocked,
}

impl Outbox {
    pub(crate) fn new(role: Role) -> Self {
        Self {
            role,
            queue: None,
            corked: 0,
            share: Share::default(),
            blocked: false,
            open: None,
            window: SendWindow::NONE,
            compressor: None,
        }
    }

    /// Data bytes that are staged and not written.
    #[inline]
    pub(crate) fn backlog(&self) -> usize {
        match &self.queue {
            None => (self.corked + self.share.len) as usize,
            Some(queue) => queue.backlog(),
        }
    }

    /// True exactly when nothing waits to be written.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_none() && self.corked == 0 && self.share.is_empty()
    }

    /// True when a payload that is handed over now would wait for the kernel to take bytes again, unless it is refused for
    /// something else than too many payloads.
    pub(crate) fn would_queue(&self, limits: &SendLimits) -> bool {
        let queue = self.queue.as_ref();
        self.blocked && queue.is_none_or(|queue| queue.payloads() < limits.queue)
    }

    /// The kernel takes bytes again.
    pub(crate) fn writable(&mut self) {
        self.blocked = false;
    }

    /// Stages a message whose payload is handed over.
    pub(crate) fn send(
        &mut self,
        outgoing: impl Into<Outgoing>,
        payload: Payload,
        limits: &SendLimits,
        pools: &mut Pools,
    ) -> Result<(), SendError> {
        let outgoing = outgoing.into();
        if self
            .queue
            .as_ref()
            .is_some_and(|queue| queue.payloads() >= limits.queue)
        {
            return Err(SendError {
                kind: SendErrorKind::WriteBusy,
                payload,
            });
        }
        if self.open.is_some() {
            return Err(SendError {
                kind: SendErrorKind::MessageOpen,
                payload,
            });
        }
        // Accepted before it is masked: a payload that is refused comes back as it was.
        let payload_len = payload.len();
        let kind = outgoing.kind;
        let header_len = FrameHeader::new(kind.opcode(), payload_len as u64).encoded_len();
        let header_len = header_len + self.key_len();
        if let Err(kind) = self.check_backlog(header_len + payload_len, limits) {
            return Err(SendError { kind, payload });
        }
        let packed = if self.wants_packing(outgoing, payload_len, pools) {
            self.pack_payload(&payload, pools)
        } else {
            None
        };
        let key = pools.mask_keys.for_frame(self.role);
        let message = match packed {
            Some(packed) => Ok(Message::compressed(kind, payload, packed, key)),
            None => Message::new(kind, payload, key, pools),
        };
        let message = match message {
            Ok(message) => message,
            Err(payload) => {
                let kind = if payload_len > pools.buffers.largest() {
                    SendErrorKind::TooBig
                } else {
                    SendErrorKind::OutOfBuffers
                };
                return Err(SendError { kind, payload });
            }
        };
        self.queue(pools).push(Segment::Message(message));
        Ok(())
    }

    /// Stages frames that others share: small ones are copied, large ones are referred to.
    pub(crate) fn send_frames(
        &mut self,
        frames: &Frames,
        limits: &SendLimits,
        pools: &mut Pools,
    ) -> Result<(), SendErrorKind> {
        if self.follow(frames, limits, pools) || self.join(frames, pools) {
            return Ok(());
        }
        let (frames, is_compressed) = frames.for_window(self.window.bits());
        if frames.as_bytes().is_empty() {
            return Ok(());
        }
        self.check_no_message_open()?;
        match self.role {
            Role::Client => self.copy_frames_masked(frames, limits, pools)?,
            Role::Server => self.share_frames(frames, limits, pools)?,
        }
        if is_compressed {
            // The peer's window has in it now what ours has not.
            self.forget_window();
        }
        Ok(())
    }

    fn share_frames(
        &mut self,
        frames: &Encoded,
        limits: &SendLimits,
        pools: &mut Pools,
    ) -> Result<(), SendErrorKind> {
        let bytes = frames.as_bytes();
        self.check_backlog(bytes.len(), limits)?;
        if bytes.len() < DIRECT_WRITE_MIN {
            if self.lead(frames.shared(), pools) {
                return Ok(());
            }
            return self.append(bytes.len(), pools, |space| space.copy_from_slice(bytes));
        }
        self.queue(pools)
            .push(Segment::Shared(Walk::default(), frames.shared().clone()));
        Ok(())
    }

    fn copy_frames_masked(
        &mut self,
        frames: &Encoded,
        limits: &SendLimits,
        pools: &mut Pools,
    ) -> Result<(), SendErrorKind> {
        let len = frames.masked_len();
        self.check_backlog(len, limits)?;
        if len > pools.buffers.largest() {
            return Err(SendErrorKind::TooBig);
        }
        let mut buffer = pools
            .buffers
            .lease(len)
            .ok_or(SendErrorKind::OutOfBuffers)?;
        frames.copy_masked(
            || pools.mask_keys.for_frame(Role::Client),
            &mut buffer[..len],
        );
        self.queue(pools).push(Segment::copied(buffer, len));
        Ok(())
    }

    /// Puts a ping or pong into the ring.
    pub(crate) fn control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        pools: &mut Pools,
    ) -> Result<(), SendErrorKind> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(SendErrorKind::ControlFrameTooBig);
        }
        self.queue(pools).push_control(opcode, payload)
    }

    /// Answers a ping. While the kernel takes nothing the newest one wins (RFC 6455 §5.5.3), so that pings without an end
    /// cannot pile up; otherwise each is answered. `payload` has at most 125 bytes.
    pub(crate) fn auto_pong(
        &mut self,
        payload: &[u8],
        pools: &mut Pools,
        out: &mut Output<'_, impl Write>,
        flushed: impl FnMut(Sent),
    ) {
        debug_assert!(!self.has_borrowed(pools));
        if self.queue(pools).has_pong() && !self.blocked {
            let role = self.role;
            self.queue(pools).weave_pong(role, &mut pools.mask_keys);
            if self.queue(pools).has_pong() {
                // An error is not lost: the flush that follows meets it again.
                let _ = self.flush(out, pools, flushed);
            }
        }
        self.queue(pools).set_pong(payload);
    }

    /// Stages the close frame behind everything else. Nothing may be staged after it; control frames that do not stand among the
    /// data yet are dropped.
    pub(crate) fn close(&mut self, payload: &ClosePayload<'_>, pools: &mut Pools) {
        let key = pools.mask_keys.for_frame(self.role);
        self.queue(pools).push_close(payload, key);
    }

    /// Drops what is staged and not in flight; a frame in flight is finished. Payloads that are dropped go to `discarded`.
    pub(crate) fn discard_waiting(&mut self, pools: &mut Pools, discarded: impl FnMut(Sent)) {
        self.discard_cork(pools);
        self.discard_share(pools);
        if let Some(queue) = &mut self.queue {
            queue.discard_waiting(pools, discarded);
            self.release_if_empty(pools);
        }
    }

    /// Drops everything: the connection is gone.
    pub(crate) fn discard_all(&mut self, pools: &mut Pools, discarded: impl FnMut(Sent)) {
        self.discard_cork(pools);
        self.discard_share(pools);
        if let Some(queue) = &mut self.queue {
            queue.discard_all(pools, discarded);
            self.release_if_empty(pools);
        }
    }

    /// Writes what is staged, in as few calls as the kernel allows: one, unless there are more than 64 pieces. Payloads
    /// that are written go to `flushed`.
    #[inline]
    pub(crate) fn flush(
        &mut self,
        out: &mut Output<'_, impl Write>,
        pools: &mut Pools,
        mut flushed: impl FnMut(Sent),
    ) -> io::Result<Flushed> {
        if self.corked > 0 {
            return self.flush_cork(out, pools);
        }
        if !self.share.is_empty() {
            return self.flush_share(out, pools);
        }
        loop {
            let Some(queue) = &mut self.queue else {
                return Ok(Flushed::All);
            };
            if self.blocked {
                return Ok(Flushed::Blocked);
            }
            let (offered, taken) = if queue.weave_control(self.role, pools) {
                queue.write_once(out, &[])?
            } else {
                queue.write_front(out)?
            };
            queue.advance(taken, pools, &mut flushed);
            self.blocked = taken < offered;
            self.release_if_empty(pools);
        }
    }

    #[inline]
    pub(super) fn check_no_message_open(&self) -> Result<(), SendErrorKind> {
        match self.open {
            None => Ok(()),
            Some(_) => Err(SendErrorKind::MessageOpen),
        }
    }

    pub(super) fn check_backlog(
        &self,
        len: usize,
        limits: &SendLimits,
    ) -> Result<(), SendErrorKind> {
        let backlog = self.backlog();
        if backlog > 0 && backlog.saturating_add(len) > limits.backlog {
            return Err(SendErrorKind::BacklogFull);
        }
        Ok(())
    }

    /// What a mask key adds to a frame.
    fn key_len(&self) -> usize {
        match self.role {
            Role::Server => 0,
            Role::Client => 4,
        }
    }

    #[inline]
    pub(super) fn queue(&mut self, pools: &mut Pools) -> &mut Queue {
        if self.corked > 0 {
            self.uncork(pools);
        }
        if !self.share.is_empty() {
            self.queue_share(0, pools);
        }
        self.queue.get_or_insert_with(|| pools.queues.take())
    }

    #[inline]
    pub(super) fn release_if_empty(&mut self, pools: &mut Pools) {
        if let Some(queue) = self.queue.take_if(|queue| queue.is_empty()) {
            pools.queues.give_back(queue);
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
