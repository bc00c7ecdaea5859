use std::io::{self, IoSlice, Write};

use super::{
    Frames, Payload, Pools, SendError, SendErrorKind, Sent,
    queue::Queue,
    segment::{Frame, Message, Segment, Walk},
};
use crate::protocol::{
    ClosePayload, FrameHeader, MAX_CONTROL_PAYLOAD, MAX_HEADER_LEN, MessageKind, Opcode, Role,
};

/// Parts of a message that are offered to the kernel without copying them first.
const MAX_DIRECT_PARTS: usize = 15;
/// A copied payload of this many bytes or more is offered to the kernel at once, so that only what it does not take is
/// copied. Below it, gathering many into one write is cheaper.
const DIRECT_WRITE_MIN: usize = 16 * 1024;

/// What waits to be written on a connection.
///
/// Sending stages here; [`Outbox::flush`] is the one place that writes. With nothing staged it is one null pointer.
pub(crate) struct Outbox {
    role: Role,
    queue: Option<Box<Queue>>,
    /// True exactly when the kernel took less than it was offered and has not said since that it takes more.
    blocked: bool,
    /// The message that was begun in fragments and has no last one yet.
    open: Option<MessageKind>,
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
            blocked: false,
            open: None,
        }
    }

    /// Data bytes that are staged and not written.
    #[inline]
    pub(crate) fn backlog(&self) -> usize {
        self.queue.as_ref().map_or(0, |queue| queue.backlog())
    }

    /// True exactly when nothing waits to be written.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_none()
    }

    /// The kernel takes bytes again.
    pub(crate) fn writable(&mut self) {
        self.blocked = false;
    }

    /// Stages a message whose payload is handed over.
    pub(crate) fn send(
        &mut self,
        kind: MessageKind,
        payload: Payload,
        limits: &SendLimits,
        pools: &mut Pools,
    ) -> Result<(), SendError> {
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
        let header_len = FrameHeader::new(kind.opcode(), payload_len as u64).encoded_len();
        let header_len = header_len + self.key_len();
        if let Err(kind) = self.check_backlog(header_len + payload_len, limits) {
            return Err(SendError { kind, payload });
        }
        let key = pools.mask_keys.for_frame(self.role);
        let message = match Message::new(kind, payload, key, pools) {
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

    /// Stages a copy of a message, given in parts. A large one is offered to `out` first, and only the rest is copied.
    #[inline]
    pub(crate) fn send_copy(
        &mut self,
        kind: MessageKind,
        parts: &[IoSlice<'_>],
        limits: &SendLimits,
        pools: &mut Pools,
        out: &mut impl Write,
        flushed: impl FnMut(Sent),
    ) -> Result<(), SendErrorKind> {
        self.check_no_message_open()?;
        let header = FrameHeader::new(kind.opcode(), 0);
        self.copy_frame(header, parts, limits, pools, out, flushed)
    }

    /// Stages a copy of a fragment (RFC 6455 §5.4): the first one begins a message, the `last` one completes it.
    #[expect(clippy::too_many_arguments, reason = "as `send_copy`, and `last`")]
    pub(crate) fn send_fragment(
        &mut self,
        kind: MessageKind,
        part: &[u8],
        last: bool,
        limits: &SendLimits,
        pools: &mut Pools,
        out: &mut impl Write,
        flushed: impl FnMut(Sent),
    ) -> Result<(), SendErrorKind> {
        let opcode = match self.open {
            None => kind.opcode(),
            Some(open) if open == kind => Opcode::Continuation,
            Some(_) => return Err(SendErrorKind::MessageOpen),
        };
        let header = FrameHeader {
            fin: last,
            ..FrameHeader::new(opcode, 0)
        };
        self.copy_frame(header, &[IoSlice::new(part)], limits, pools, out, flushed)?;
        self.open = (!last).then_some(kind);
        Ok(())
    }

    /// `header` lacks key and length.
    #[inline]
    fn copy_frame(
        &mut self,
        header: FrameHeader,
        parts: &[IoSlice<'_>],
        limits: &SendLimits,
        pools: &mut Pools,
        out: &mut impl Write,
        flushed: impl FnMut(Sent),
    ) -> Result<(), SendErrorKind> {
        let payload_len = parts.iter().map(|part| part.len()).sum::<usize>();
        let key = pools.mask_keys.for_frame(self.role);
        let header = FrameHeader {
            mask: key,
            payload_len: payload_len as u64,
            ..header
        };
        let mut encoded = [0; MAX_HEADER_LEN];
        let header_len = header.encode(&mut encoded);
        let frame = Frame {
            header: &encoded[..header_len],
            key,
            parts,
            total: header_len + payload_len,
        };
        self.check_backlog(frame.total, limits)?;
        if frame.total > pools.buffers.largest() {
            return Err(SendErrorKind::TooBig);
        }
        // What has to be masked has to be copied.
        let direct =
            payload_len >= DIRECT_WRITE_MIN && key.is_none() && parts.len() <= MAX_DIRECT_PARTS;
        if direct && !self.blocked {
            return self.write_through(&frame, pools, out, flushed);
        }
        self.append(frame.total, pools, |space| frame.copy_masked(space))
    }

    /// Stages frames that others share: small ones are copied, large ones are referred to.
    pub(crate) fn send_frames(
        &mut self,
        frames: &Frames,
        limits: &SendLimits,
        pools: &mut Pools,
    ) -> Result<(), SendErrorKind> {
        let bytes = frames.as_bytes();
        if bytes.is_empty() {
            return Ok(());
        }
        self.check_no_message_open()?;
        if self.role == Role::Client {
            return self.copy_frames_masked(frames, limits, pools);
        }
        self.check_backlog(bytes.len(), limits)?;
        if bytes.len() < DIRECT_WRITE_MIN {
            return self.append(bytes.len(), pools, |space| space.copy_from_slice(bytes));
        }
        self.queue(pools)
            .push(Segment::Shared(Walk::default(), frames.shared()));
        Ok(())
    }

    fn copy_frames_masked(
        &mut self,
        frames: &Frames,
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
        out: &mut impl Write,
        flushed: impl FnMut(Sent),
    ) {
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
        if let Some(queue) = &mut self.queue {
            queue.discard_waiting(pools, discarded);
            self.release_if_empty(pools);
        }
    }

    /// Drops everything: the connection is gone.
    pub(crate) fn discard_all(&mut self, pools: &mut Pools, discarded: impl FnMut(Sent)) {
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
        out: &mut impl Write,
        pools: &mut Pools,
        mut flushed: impl FnMut(Sent),
    ) -> io::Result<Flushed> {
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

    /// Offers what is staged and `frame` behind it to the kernel, and copies what is left of the frame.
    fn write_through(
        &mut self,
        frame: &Frame<'_>,
        pools: &mut Pools,
        out: &mut impl Write,
        flushed: impl FnMut(Sent),
    ) -> Result<(), SendErrorKind> {
        let role = self.role;
        if !self.queue(pools).weave_control(role, pools) {
            return self.append(frame.total, pools, |space| frame.copy_masked(space));
        }
        // Asked before the first byte is written: afterwards there is no way back.
        if !pools.buffers.can_lease(frame.total) {
            self.release_if_empty(pools);
            return Err(SendErrorKind::OutOfBuffers);
        }
        let mut slices = [IoSlice::new(&[]); 1 + MAX_DIRECT_PARTS];
        slices[0] = IoSlice::new(frame.header);
        slices[1..=frame.parts.len()].copy_from_slice(frame.parts);
        let queue = self.queue(pools);
        let waiting = queue.unwritten();
        // An error is not lost: the flush that follows meets it again, and ends the connection.
        let (offered, taken) = queue
            .write_once(out, &slices[..=frame.parts.len()])
            .unwrap_or((usize::MAX, 0));
        let of_frame = taken.saturating_sub(waiting);
        queue.advance(taken - of_frame, pools, flushed);
        let rest = if of_frame < frame.total {
            queue.append_rest(frame, of_frame, pools)
        } else {
            Ok(())
        };
        self.blocked = taken < offered && offered != usize::MAX;
        self.release_if_empty(pools);
        rest
    }

    fn append(
        &mut self,
        len: usize,
        pools: &mut Pools,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendErrorKind> {
        let staged = self.queue(pools).append(len, pools, fill);
        if staged.is_err() {
            self.release_if_empty(pools);
        }
        staged
    }

    #[inline]
    fn check_no_message_open(&self) -> Result<(), SendErrorKind> {
        match self.open {
            None => Ok(()),
            Some(_) => Err(SendErrorKind::MessageOpen),
        }
    }

    fn check_backlog(&self, len: usize, limits: &SendLimits) -> Result<(), SendErrorKind> {
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
    fn queue(&mut self, pools: &mut Pools) -> &mut Queue {
        self.queue.get_or_insert_with(|| pools.queues.take())
    }

    #[inline]
    fn release_if_empty(&mut self, pools: &mut Pools) {
        if let Some(queue) = self.queue.take_if(|queue| queue.is_empty()) {
            pools.queues.give_back(queue);
        }
    }
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
