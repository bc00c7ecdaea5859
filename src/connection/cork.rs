use std::io::{self, Write};

use super::{
    Pools, SendErrorKind,
    outbox::{Flushed, Outbox},
    queue::offer,
    segment::{Copied, Segment, Walk},
};
use crate::memory::{Buffer, BufferPool};

/// A buffer for the connection that is sending: one for all, because hardly ever does more than one of them have something
/// that the kernel has not got yet. What is staged in it needs no queue and no buffer of its own; it is moved there when
/// something else is staged behind it, or when the kernel does not take it all.
///
/// Its owner is the outbox whose `corked` is not 0.
pub(crate) struct Cork {
    /// Leased when it is first needed in a turn, and empty otherwise.
    buffer: Buffer,
    /// Bytes of whole frames; 0 exactly when it has no owner.
    len: u32,
    /// False exactly when there is never a buffer: a lone client does not keep one beside the queue that it has anyway.
    is_used: bool,
}

impl Cork {
    pub(super) fn new(is_used: bool) -> Self {
        Self {
            buffer: Buffer::default(),
            len: 0,
            is_used,
        }
    }

    /// The next `len` bytes, unless they do not fit or there is no buffer to be had.
    #[inline]
    fn space(&mut self, len: usize, buffers: &mut BufferPool) -> Option<&mut [u8]> {
        if self.buffer.is_empty() {
            self.lease(buffers)?;
        }
        let start = self.len as usize;
        let space = self.buffer.get_mut(start..start + len)?;
        self.len = u32::try_from(start + len).ok()?;
        Some(space)
    }

    fn lease(&mut self, buffers: &mut BufferPool) -> Option<()> {
        if !self.is_used {
            return None;
        }
        self.buffer = buffers.lease(buffers.large_buffer_size())?;
        Some(())
    }

    /// At the end of a turn: the buffer goes back, unless there is something in it.
    pub(crate) fn release(&mut self, buffers: &mut BufferPool) {
        if self.len == 0 && !self.buffer.is_empty() {
            buffers.give_back(std::mem::take(&mut self.buffer));
        }
    }

    /// What is in it behind the first `written` bytes, as a segment of a queue. What would fill a buffer of this size anyway
    /// keeps this one, and so it does where there is no smaller one: this cannot fail.
    fn take(&mut self, written: usize, buffers: &mut BufferPool) -> Segment {
        let end = std::mem::take(&mut self.len) as usize;
        let rest = end - written;
        let smaller = if rest <= buffers.read_buffer_size() {
            buffers.lease(rest)
        } else {
            None
        };
        let mut walk = Walk {
            written,
            boundary: 0,
        };
        let Some(mut buffer) = smaller else {
            let buffer = std::mem::take(&mut self.buffer);
            return Segment::Copied(Copied { buffer, end, walk });
        };
        let boundary = walk.next_boundary(&self.buffer[..end]);
        buffer[..rest].copy_from_slice(&self.buffer[written..end]);
        Segment::Copied(Copied {
            buffer,
            end: rest,
            walk: Walk {
                written: 0,
                boundary: boundary - written,
            },
        })
    }
}

impl Outbox {
    /// Stages `len` bytes of whole frames, which `fill` writes.
    #[inline]
    pub(super) fn append(
        &mut self,
        len: usize,
        pools: &mut Pools,
        fill: impl FnOnce(&mut [u8]),
    ) -> Result<(), SendErrorKind> {
        if self.may_cork(pools) {
            if let Some(space) = pools.cork.space(len, &mut pools.buffers) {
                fill(space);
                self.corked = pools.cork.len;
                return Ok(());
            }
        }
        let staged = self.queue(pools).append(len, pools, fill);
        if staged.is_err() {
            self.release_if_empty(pools);
        }
        staged
    }

    /// Writes what is in the cork when `len` more bytes do not fit behind it.
    #[inline]
    pub(super) fn make_room_in_cork(
        &mut self,
        len: usize,
        pools: &mut Pools,
        out: &mut impl Write,
    ) {
        if self.corked > 0 && pools.cork.buffer.len() - (self.corked as usize) < len {
            // An error is not lost: the flush that follows meets it again.
            let _ = self.flush_cork(out, pools);
        }
    }

    /// True exactly when nothing is staged but what is in the cork, and the cork is nobody else's.
    #[inline]
    fn may_cork(&self, pools: &Pools) -> bool {
        self.queue.is_none() && !self.blocked && self.corked == pools.cork.len
    }

    /// Moves what is in the cork to the queue.
    #[cold]
    pub(super) fn uncork(&mut self, written: usize, pools: &mut Pools) {
        self.corked = 0;
        let segment = pools.cork.take(written, &mut pools.buffers);
        self.queue(pools).push(segment);
    }

    /// Writes what is in the cork. There is no queue.
    #[inline]
    pub(super) fn flush_cork(
        &mut self,
        out: &mut impl Write,
        pools: &mut Pools,
    ) -> io::Result<Flushed> {
        let bytes = &pools.cork.buffer[..self.corked as usize];
        let (offered, taken) = offer(bytes.len(), || out.write(bytes))?;
        if taken < offered {
            self.blocked = true;
            self.uncork(taken, pools);
            return Ok(Flushed::Blocked);
        }
        self.discard_cork(pools);
        Ok(Flushed::All)
    }

    /// Forgets what is in the cork.
    #[inline]
    pub(super) fn discard_cork(&mut self, pools: &mut Pools) {
        if self.corked > 0 {
            self.corked = 0;
            pools.cork.len = 0;
        }
    }
}
