use std::io::{IoSlice, Write};

use super::{
    Pools, SendErrorKind, Sent,
    outbox::{Outbox, SendLimits},
    output::Output,
    packer::Packed,
    segment::Frame,
};
use crate::protocol::{FrameHeader, MAX_HEADER_LEN, MessageKind, Opcode, Outgoing, RSV1};

/// Parts of a message that are offered to the kernel without copying them first.
const MAX_DIRECT_PARTS: usize = 15;
/// A copied payload of this many bytes or more is offered to the kernel at once, so that only what it does not take is
/// copied. Below it, gathering many into one write is cheaper.
pub(super) const DIRECT_WRITE_MIN: usize = 16 * 1024;
/// A payload of this many bytes or more that lies in the settled input is written from there.
pub(super) const BORROW_MIN: usize = 2 * 1024;

/// Messages and fragments from borrowed slices.
impl Outbox {
    /// Stages a copy of a message, given in parts. A large one is offered to `out` first, and only the rest is copied.
    #[inline]
    pub(crate) fn send_copy(
        &mut self,
        outgoing: impl Into<Outgoing>,
        parts: &[IoSlice<'_>],
        limits: &SendLimits,
        pools: &mut Pools,
        out: &mut Output<'_, impl Write>,
        flushed: impl FnMut(Sent),
    ) -> Result<(), SendErrorKind> {
        self.check_no_message_open()?;
        let outgoing = outgoing.into();
        let header = FrameHeader::new(outgoing.kind.opcode(), 0);
        let packed = if self.compresses() {
            self.pack_copy(outgoing, parts, limits, pools)?
        } else {
            None
        };
        let Some(packed) = packed else {
            return self.copy_frame(header, parts, limits, pools, out, flushed);
        };
        let header = FrameHeader {
            rsv: RSV1,
            ..header
        };
        let parts = [IoSlice::new(packed.as_bytes())];
        let staged = self.copy_frame(header, &parts, limits, pools, out, flushed);
        if staged.is_err() {
            self.forget_window();
        }
        packed.give_back(pools);
        staged
    }

    /// The message compressed; `None` when it goes out as it is. Whether there is room in the backlog is asked first: what was
    /// compressed has to be sent, for the next message refers to it.
    fn pack_copy(
        &mut self,
        outgoing: Outgoing,
        parts: &[IoSlice<'_>],
        limits: &SendLimits,
        pools: &mut Pools,
    ) -> Result<Option<Packed>, SendErrorKind> {
        let len = parts.iter().map(|part| part.len()).sum::<usize>();
        if !self.wants_packing(outgoing, len, pools) {
            return Ok(None);
        }
        self.check_backlog(MAX_HEADER_LEN + len, limits)?;
        let parts = parts.iter().map(|part| &**part);
        Ok(self.pack(parts, len, pools))
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
        out: &mut Output<'_, impl Write>,
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
        out: &mut Output<'_, impl Write>,
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
        if self.has_borrowed(pools) && self.check_backlog(frame.total, limits).is_err() {
            // It only waits for the rest of the input. As for errors, see below.
            let _ = self.write_borrowed(pools, out);
        }
        self.check_backlog(frame.total, limits)?;
        if frame.total > pools.buffers.largest() {
            return Err(SendErrorKind::TooBig);
        }
        // What has to be masked has to be copied.
        let direct = key.is_none() && parts.len() <= MAX_DIRECT_PARTS && !self.blocked;
        if direct && payload_len >= BORROW_MIN {
            match parts {
                [payload] if self.borrow(frame.header, payload, pools, out) => return Ok(()),
                _ if payload_len < DIRECT_WRITE_MIN => {}
                _ => return self.write_through(&frame, pools, out, flushed),
            }
        }
        // An error is not lost: the flush that follows meets it again, and ends the connection.
        self.make_room_in_cork(frame.total, pools, out)
            .map_err(|_| SendErrorKind::NotOpen)?;
        self.append(frame.total, pools, |space| frame.copy_masked(space))
    }

    /// Offers what is staged and `frame` behind it to the kernel, and copies what is left of the frame.
    fn write_through(
        &mut self,
        frame: &Frame<'_>,
        pools: &mut Pools,
        out: &mut Output<'_, impl Write>,
        flushed: impl FnMut(Sent),
    ) -> Result<(), SendErrorKind> {
        let role = self.role;
        // As above.
        self.write_borrowed(pools, out)
            .map_err(|_| SendErrorKind::NotOpen)?;
        if self.blocked || !self.queue(pools).weave_control(role, pools) {
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
}
