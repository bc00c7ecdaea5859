use std::ops::Range;

use super::{Pools, inbox::Fault, reach::Awaited};
use crate::{
    memory::Buffer,
    protocol::{FrameHeader, Incoming, Progress, Rules},
};

/// A message that has not come in one piece: the payload of its fragments so far, unmasked and checked as it arrives.
pub(super) struct Assembly {
    pub(super) incoming: Incoming,
    /// Empty until the first byte of payload arrives. `start + incoming.len <= buffer.len()`
    pub(super) buffer: Buffer,
    /// Where the payload begins.
    start: usize,
    /// True exactly when the message is complete and nobody has been told.
    pub(super) is_held: bool,
}

impl Assembly {
    /// A message that starts with this frame.
    pub(super) fn new(header: &FrameHeader) -> Self {
        Self {
            incoming: Incoming::new(header),
            buffer: Buffer::default(),
            start: 0,
            is_held: false,
        }
    }

    /// As `new`, of a frame whose payload goes on in this buffer from `start` on.
    pub(super) fn within(header: &FrameHeader, buffer: Buffer, start: usize) -> Self {
        let mut message = Self {
            buffer,
            start,
            ..Self::new(header)
        };
        message.begin_frame(header);
        message
    }

    /// Where the payload lies that is there.
    pub(super) fn contents(&self) -> Range<usize> {
        self.start..self.start + self.incoming.len
    }

    /// The payload of a frame follows.
    pub(super) fn begin_frame(&mut self, header: &FrameHeader) {
        self.incoming.begin_frame(header);
    }

    /// Bytes that are still to come of the frame under way; `None` between fragments.
    pub(super) fn remaining(&self) -> Option<usize> {
        self.incoming.remaining()
    }

    /// The frame under way with what came before it; `None` between fragments.
    pub(super) fn awaited(&self) -> Option<Awaited> {
        let missing = self.remaining()?;
        let whole = self.incoming.len.saturating_add(missing);
        Some(Awaited { whole, missing })
    }

    /// Where the next bytes of payload belong: at least `min` bytes, which must be above 0 and no more than remain, and
    /// never more than remain.
    pub(super) fn space(&mut self, min: usize, pools: &mut Pools) -> Result<&mut [u8], Fault> {
        let remaining = self.remaining().unwrap_or(0);
        self.reserve(min, remaining, pools)?;
        let from = self.contents().end;
        let end = self.buffer.len().min(from.saturating_add(remaining));
        Ok(&mut self.buffer[from..end])
    }

    /// Makes room for `min` more bytes, of which `announced` are said to come.
    ///
    /// What is announced counts up to one large-message buffer. Beyond that the buffer follows what has arrived, so that a
    /// header alone never takes more than that; but one that would be outgrown is passed over if the next is not too large
    /// for what has arrived.
    fn reserve(&mut self, min: usize, announced: usize, pools: &mut Pools) -> Result<(), Fault> {
        let needed = self.incoming.len + min;
        if self.start + needed <= self.buffer.len() {
            return Ok(());
        }
        let large = pools.buffers.large_buffer_size();
        let whole = self.incoming.len.saturating_add(announced);
        let size = match pools.buffers.size_for(whole) {
            Some(size) if pools.buffers.may_hold(size, needed) => size,
            _ => needed.max(whole.min(large)),
        };
        let mut buffer = pools.buffers.lease(size).ok_or(Fault::OutOfBuffers)?;
        buffer[..self.incoming.len].copy_from_slice(&self.buffer[self.contents()]);
        self.start = 0;
        pools.give_back(std::mem::replace(&mut self.buffer, buffer));
        Ok(())
    }

    /// Unmasks and checks `count` bytes that were put into [`Assembly::space`].
    pub(super) fn arrived(&mut self, count: usize, rules: &Rules) -> Result<Progress, Fault> {
        let from = self.contents().end;
        let arrived = &mut self.buffer[from..from + count];
        Ok(self.incoming.take(arrived, rules)?)
    }
}
