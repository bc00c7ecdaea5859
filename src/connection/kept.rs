use std::ops::Range;

use crate::memory::{Buffer, BufferPool, place};

/// Bytes of a connection that nobody has looked at yet.
#[derive(Default)]
pub(super) struct Kept {
    /// Leased exactly when `len > 0`, or when room was made to read ahead.
    pub(super) buffer: Buffer,
    /// Where in the buffer they lie.
    start: usize,
    len: usize,
    /// True exactly when these bytes were set aside before they were parsed (a pause, a spent budget), so that there may be
    /// whole frames in them.
    pub(super) held: bool,
}

impl Kept {
    /// Takes bytes out of the scratch buffer. When those that are held are many, they stay where they are, and the scratch
    /// buffer is exchanged for another. `None` at a bound of the pool.
    pub(super) fn take(
        scratch: &mut Buffer,
        bytes: Range<usize>,
        held: bool,
        buffers: &mut BufferPool,
    ) -> Option<Self> {
        let len = bytes.len();
        let exchanged = if held {
            buffers.exchange(scratch, len)
        } else {
            None
        };
        let (buffer, start) = match exchanged {
            Some(buffer) => (buffer, bytes.start),
            None => {
                let mut buffer = buffers.lease(len)?;
                buffer[..len].copy_from_slice(&scratch[bytes]);
                (buffer, 0)
            }
        };
        Some(Self {
            buffer,
            start,
            len,
            held,
        })
    }

    /// Puts the bytes into the scratch buffer, where more is read behind them; a buffer that was exchanged for it becomes it again.
    /// Returns where they lie there; what is left behind is a buffer to be given back.
    pub(super) fn restore(&mut self, scratch: &mut Buffer) -> Range<usize> {
        if self.held && self.buffer.len() == scratch.len() {
            std::mem::swap(scratch, &mut self.buffer);
            self.start..self.start + self.len
        } else {
            let start = place(scratch, self.len);
            let bytes = start..start + self.len;
            scratch[bytes.clone()].copy_from_slice(self.bytes());
            bytes
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.start + self.len]
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Room behind the bytes, for as many in all as a fixed read buffer holds. Empty when it is used up, or nothing is leased.
    pub(super) fn room(&mut self, read_buffer_size: usize) -> &mut [u8] {
        let limit = self.buffer.len().min(self.start + read_buffer_size);
        let room = self.buffer.get_mut(self.start + self.len..limit);
        room.unwrap_or_default()
    }

    /// `count` bytes were read into the room.
    pub(super) fn arrived(&mut self, count: usize) {
        self.len += count;
        self.held |= count > 0;
    }
}
