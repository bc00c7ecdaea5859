use std::{
    collections::VecDeque,
    io::{self, IoSlice, Write},
};

use super::{
    Outcome, Pools, SendErrorKind, Sent,
    control::Control,
    segment::{Copied, Frame, Segment, Walk},
};
use crate::protocol::{ClosePayload, MaskKeys, Opcode, Role};

/// Slices handed to the kernel in one `writev`. Linux takes 1,024; beyond a few dozen there is nothing to gain.
const MAX_SLICES: usize = 64;

/// What waits to be written, in order. Boxed and used again, so that only a connection with something to write has one.
#[derive(Default)]
pub(crate) struct Queue {
    /// None of them is wholly written.
    segments: VecDeque<Segment>,
    /// Bytes of data that are staged and not written: the sum of the segments' backlogs.
    backlog: usize,
    /// Messages among the segments.
    payloads: usize,
    /// Payloads that were dropped while an older one is in flight: they come back behind it, in the order of sending.
    held_back: Vec<Sent>,
    control: Control,
}

impl Queue {
    pub(super) fn is_empty(&self) -> bool {
        self.segments.is_empty() && !self.control.is_waiting()
    }

    /// Data bytes that wait.
    pub(super) fn backlog(&self) -> usize {
        self.backlog
    }

    /// Payloads that were handed over and are not back.
    pub(super) fn payloads(&self) -> usize {
        self.payloads
    }

    /// All bytes that wait, control frames among the segments included.
    pub(super) fn unwritten(&self) -> usize {
        self.segments
            .iter()
            .map(|segment| self.remaining(segment))
            .sum()
    }

    pub(super) fn push(&mut self, segment: Segment) {
        self.backlog += segment.backlog();
        self.payloads += usize::from(matches!(segment, Segment::Message(_)));
        self.segments.push_back(segment);
    }

    pub(super) fn push_control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
    ) -> Result<(), SendErrorKind> {
        self.control.push(opcode, payload)
    }

    /// Replaces the pong that waits. `payload` has at most 125 bytes.
    pub(super) fn set_pong(&mut self, payload: &[u8]) {
        self.control.set_pong(payload);
    }

    pub(super) fn has_pong(&self) -> bool {
        self.control.has_pong()
    }

    pub(super) fn push_close(&mut self, payload: &ClosePayload<'_>, key: Option<[u8; 4]>) {
        self.control.set_close(payload, key);
        self.push(Segment::Close { written: 0 });
    }

    /// Stages `len` bytes of whole frames in a leased buffer, behind those that are there if they fit.
    #[inline]
    pub(super) fn append(
        &mut self,
        len: usize,
        pools: &mut Pools,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendErrorKind> {
        if let Some(Segment::Copied(last)) = self.segments.back_mut() {
            if let Some(space) = last.buffer.get_mut(last.end..last.end + len) {
                fill(space);
                last.end += len;
                self.backlog += len;
                return Ok(());
            }
        }
        // The second buffer in a row is a large one, if there is one: more is likely to come.
        let follows = matches!(self.segments.back(), Some(Segment::Copied(_)));
        let size = if follows {
            len.max(pools.buffers.large_buffer_size())
        } else {
            len
        };
        let buffer = pools
            .buffers
            .lease(size)
            .or_else(|| pools.buffers.lease(len));
        let mut buffer = buffer.ok_or(SendErrorKind::OutOfBuffers)?;
        fill(&mut buffer[..len]);
        self.push(Segment::copied(buffer, len));
        Ok(())
    }

    /// Stages what the kernel did not take of `frame`, of which it has `written` bytes.
    pub(super) fn append_rest(
        &mut self,
        frame: &Frame<'_>,
        written: usize,
        pools: &mut Pools,
    ) -> Result<(), SendErrorKind> {
        if written == 0 {
            return self.append(frame.total, pools, |space| frame.copy_masked(space));
        }
        let end = frame.total - written;
        // A class above the fitting one may have a buffer where that one has none.
        let buffer = pools
            .buffers
            .lease(end)
            .or_else(|| pools.buffers.lease(frame.total));
        let mut buffer = buffer.ok_or(SendErrorKind::OutOfBuffers)?;
        frame.copy_rest(written, &mut buffer[..end]);
        self.push(Segment::Copied(Copied {
            buffer,
            end,
            walk: Walk {
                written: 0,
                boundary: end,
            },
        }));
        Ok(())
    }

    /// Puts the control frames that wait in front of everything. False when a frame is in flight that has to be finished
    /// first: then the front segment ends with that frame, and nothing else may be written.
    #[inline]
    pub(super) fn weave_control(&mut self, role: Role, pools: &mut Pools) -> bool {
        if !self.control.is_waiting() {
            return true;
        }
        if let Some(front) = self.in_flight() {
            if let Some(tail) = front.split_behind_frame(pools) {
                self.segments.insert(1, tail);
            }
            return false;
        }
        self.start_control();
        self.control.collect(role, &mut pools.mask_keys);
        true
    }

    /// Makes room for another pong by moving the one that waits to the front of everything, if nothing is in flight.
    pub(super) fn weave_pong(&mut self, role: Role, keys: &mut MaskKeys) {
        if self.in_flight().is_none() {
            self.start_control();
            self.control.collect_pong(role, keys);
        }
    }

    /// Makes the first segment one of control frames. Nothing is in flight.
    fn start_control(&mut self) {
        if !matches!(self.segments.front(), Some(Segment::Control { .. })) {
            self.segments.push_front(Segment::Control { written: 0 });
            self.control.start_outgoing();
        }
    }

    /// The first segment, if the kernel has a part of a frame of it.
    fn in_flight(&mut self) -> Option<&mut Segment> {
        let front = self.segments.front_mut()?;
        if front.is_between_frames() {
            None
        } else {
            Some(front)
        }
    }

    /// One write of the first segment alone. How many bytes were offered and how many taken.
    pub(super) fn write_front(&self, out: &mut impl Write) -> io::Result<(usize, usize)> {
        if let Some(front) = self.contiguous() {
            return offer(front.len(), || out.write(front));
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let Some(Segment::Message(message)) = self.segments.front() else {
            return Ok((0, 0));
        };
        let (used, offered) = message.fill(&mut slices);
        offer(offered, || out.write_vectored(&slices[..used]))
    }

    /// One write of the segments, and of `behind` if all of them fit. How many bytes were offered and how many taken.
    #[inline]
    pub(super) fn write_once(
        &self,
        out: &mut impl Write,
        behind: &[IoSlice<'_>],
    ) -> io::Result<(usize, usize)> {
        if let (1, Some(only), true) = (self.segments.len(), self.contiguous(), behind.is_empty()) {
            return offer(only.len(), || out.write(only));
        }
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let (mut used, mut offered, complete) = self.fill(&mut slices);
        if complete && behind.len() <= MAX_SLICES - used {
            slices[used..used + behind.len()].copy_from_slice(behind);
            used += behind.len();
            offered += behind.iter().map(|slice| slice.len()).sum::<usize>();
        }
        offer(offered, || out.write_vectored(&slices[..used]))
    }

    /// The unwritten bytes of the first segment, if they lie in one place.
    #[inline]
    fn contiguous(&self) -> Option<&[u8]> {
        match self.segments.front()? {
            Segment::Copied(copied) => Some(&copied.buffer[copied.walk.written..copied.end]),
            Segment::Shared(walk, bytes) => Some(&bytes[walk.written..]),
            Segment::Control { written } => Some(&self.control.outgoing()[*written..]),
            Segment::Close { written } => Some(&self.control.close()[*written..]),
            Segment::Message(_) => None,
        }
    }

    /// Fills `slices` from the front; returns how many are used, their bytes, and whether that is everything.
    fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> (usize, usize, bool) {
        let (mut used, mut bytes) = (0, 0);
        for segment in &self.segments {
            let Some(slot) = slices.get_mut(used) else {
                return (used, bytes, false);
            };
            let slice = match segment {
                Segment::Copied(copied) => &copied.buffer[copied.walk.written..copied.end],
                Segment::Shared(walk, shared) => &shared[walk.written..],
                Segment::Control { written } => &self.control.outgoing()[*written..],
                Segment::Close { written } => &self.control.close()[*written..],
                Segment::Message(message) => {
                    let (count, len) = message.fill(&mut slices[used..]);
                    used += count;
                    bytes += len;
                    if len < message.total - message.written {
                        return (used, bytes, false);
                    }
                    continue;
                }
            };
            *slot = IoSlice::new(slice);
            used += 1;
            bytes += slice.len();
        }
        (used, bytes, true)
    }

    /// The kernel took `count` bytes from the front.
    #[inline]
    pub(super) fn advance(
        &mut self,
        mut count: usize,
        pools: &mut Pools,
        mut flushed: impl FnMut(Sent),
    ) {
        while count > 0 {
            let Some(front) = self.segments.front() else {
                break;
            };
            let remaining = self.remaining(front);
            let step = remaining.min(count);
            count -= step;
            let Some(front) = self.segments.front_mut() else {
                break;
            };
            self.backlog -= front.advance(step);
            if step == remaining {
                let Some(done) = self.segments.pop_front() else {
                    break;
                };
                self.retire(done, pools, Outcome::Flushed, &mut flushed);
            }
        }
    }

    fn remaining(&self, segment: &Segment) -> usize {
        match segment {
            Segment::Control { written } => self.control.outgoing().len() - written,
            Segment::Close { written } => self.control.close().len() - written,
            data => data.backlog(),
        }
    }

    /// Drops what is not in flight; the frame in flight stays.
    pub(super) fn discard_waiting(&mut self, pools: &mut Pools, mut discarded: impl FnMut(Sent)) {
        self.control.clear();
        let keep = match self.in_flight() {
            Some(front) => {
                let before = front.backlog();
                front.truncate_behind_frame();
                let dropped = before - front.backlog();
                self.backlog -= dropped;
                1
            }
            None => 0,
        };
        let behind_payload = matches!(self.segments.front(), Some(Segment::Message(_))) && keep > 0;
        let mut held_back = std::mem::take(&mut self.held_back);
        while self.segments.len() > keep {
            let Some(segment) = self.segments.remove(keep) else {
                break;
            };
            self.drop_segment(segment, pools, &mut |sent| match behind_payload {
                true => held_back.push(sent),
                false => discarded(sent),
            });
        }
        self.held_back = held_back;
    }

    /// Drops everything, also what is in flight.
    pub(super) fn discard_all(&mut self, pools: &mut Pools, mut discarded: impl FnMut(Sent)) {
        self.control.clear();
        while let Some(segment) = self.segments.pop_front() {
            self.drop_segment(segment, pools, &mut discarded);
        }
    }

    fn drop_segment(
        &mut self,
        segment: Segment,
        pools: &mut Pools,
        discarded: &mut impl FnMut(Sent),
    ) {
        self.backlog -= segment.backlog();
        let written = match &segment {
            Segment::Message(message) => message.payload_written(),
            _ => 0,
        };
        self.retire(segment, pools, Outcome::Discarded { written }, discarded);
    }

    /// Gives the memory of a segment back to whom it belongs.
    #[inline]
    fn retire(
        &mut self,
        segment: Segment,
        pools: &mut Pools,
        outcome: Outcome,
        back: &mut impl FnMut(Sent),
    ) {
        match segment {
            Segment::Copied(copied) => pools.give_back(copied.buffer),
            Segment::Message(message) => {
                self.payloads -= 1;
                back(message.into_sent(outcome, pools));
                self.held_back.drain(..).for_each(back);
            }
            Segment::Shared(..) | Segment::Control { .. } | Segment::Close { .. } => {}
        }
    }
}

/// Does a write; one that would block took nothing.
#[inline]
pub(super) fn offer(
    offered: usize,
    mut write: impl FnMut() -> io::Result<usize>,
) -> io::Result<(usize, usize)> {
    loop {
        match write() {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(taken) => return Ok((offered, taken)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok((offered, 0)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
