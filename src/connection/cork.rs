use std::{
    io::{self, IoSlice, Write},
    ops::Range,
};

use super::{
    output::Output,
    queue::offer,
    segment::{Copied, Segment, Walk},
};
use crate::{
    memory::{Buffer, BufferPool},
    protocol::{FrameHeader, ParsedHeader},
};

/// Payloads that are written from where they lie, at a time.
const MAX_BORROWED: usize = 31;
/// Each with its header, and what follows the last one.
const MAX_SLICES: usize = 2 * MAX_BORROWED + 1;

/// What the connection at hand has staged and nobody has queued: one place for all of them, because hardly ever does more
/// than one have something that the kernel has not got yet.
///
/// Small frames are put together in a buffer. Large payloads that lie in the settled input stay there, and only their headers
/// are in the buffer. All of it is moved to a queue of the connection's own when something else is staged behind it, or when
/// the kernel does not take it all. Its owner is the outbox whose `corked` is not 0.
#[derive(Default)]
pub(crate) struct Cork {
    /// Leased when it is first needed in a turn, and empty otherwise.
    buffer: Buffer,
    /// Bytes of the buffer in use.
    filled: usize,
    /// In the order of the frames.
    borrowed: Vec<Borrowed>,
    /// Leased while something is borrowed, with room for all frames: what the kernel does not take is copied there.
    reserve: Buffer,
    /// Bytes of all frames, which are whole; 0 exactly when the cork has no owner.
    len: u32,
    /// True exactly when there is never a buffer: a lone client does not keep one beside the queue that it has anyway.
    is_off: bool,
}

/// A payload in the settled input.
struct Borrowed {
    /// Its header in the buffer.
    header: Range<usize>,
    /// In the input; from its header on, once that is in place.
    payload: Range<usize>,
    place: Place,
}

/// Where the header of a borrowed payload is written from.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// From the buffer.
    Buffer,
    /// Could be right before the payload, where the longer header of the message lay that it came in.
    CouldMove,
    /// From there.
    Moved,
}

impl Cork {
    pub(super) fn new(is_off: bool) -> Self {
        Self {
            is_off,
            ..Self::default()
        }
    }

    /// The next `len` bytes of the buffer, behind which `behind` bytes follow that lie elsewhere. `None` when that is too much,
    /// or no buffer is to be had.
    #[inline]
    pub(super) fn space(
        &mut self,
        len: usize,
        behind: usize,
        buffers: &mut BufferPool,
    ) -> Option<&mut [u8]> {
        if self.buffer.is_empty() {
            self.lease(buffers)?;
        }
        let total = self.len as usize + len + behind;
        // What is borrowed may have to be copied, and then all of it.
        if !self.borrowed.is_empty() && total > self.reserve.len() {
            return None;
        }
        let space = self.buffer.get_mut(self.filled..self.filled + len)?;
        self.len = u32::try_from(total).ok()?;
        self.filled += len;
        Some(space)
    }

    #[cold]
    fn lease(&mut self, buffers: &mut BufferPool) -> Option<()> {
        if self.is_off {
            return None;
        }
        self.buffer = buffers.lease_spare(buffers.large_buffer_size())?;
        Some(())
    }

    /// Bytes of all frames.
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    #[inline]
    pub(super) fn has_borrowed(&self) -> bool {
        !self.borrowed.is_empty()
    }

    pub(super) fn is_full_of_borrowed(&self) -> bool {
        self.borrowed.len() == MAX_BORROWED
    }

    /// Stages a frame whose payload lies in the settled input, behind a longer header if `may_move`. There is a reserve for it.
    #[inline(always)]
    pub(super) fn borrow(
        &mut self,
        header: &[u8],
        payload: Range<usize>,
        may_move: bool,
        buffers: &mut BufferPool,
    ) -> Option<()> {
        self.space(header.len(), payload.len(), buffers)?
            .copy_from_slice(header);
        // Not over something that is borrowed too.
        let last = self.borrowed.last();
        let is_free = last.is_none_or(|last| last.payload.end + header.len() <= payload.start);
        self.borrowed.push(Borrowed {
            header: self.filled - header.len()..self.filled,
            place: if is_free && may_move {
                Place::CouldMove
            } else {
                Place::Buffer
            },
            payload,
        });
        Some(())
    }

    /// Sees to it that `total` bytes can be copied.
    pub(super) fn reserve(&mut self, total: usize, buffers: &mut BufferPool) -> Option<()> {
        if self.reserve.len() < total {
            // Once for all: no visit is likely to borrow more than a read brings.
            let usual = buffers.lease_spare(total.max(buffers.scratch_size()));
            let larger = usual.or_else(|| buffers.lease_spare(total))?;
            give_back(std::mem::replace(&mut self.reserve, larger), buffers);
        }
        if self.borrowed.capacity() == 0 {
            self.borrowed.reserve_exact(MAX_BORROWED);
        }
        Some(())
    }

    /// At the end of a turn: the buffers go back, unless there is something in them.
    pub(crate) fn release(&mut self, buffers: &mut BufferPool) {
        if self.len == 0 {
            give_back(std::mem::take(&mut self.buffer), buffers);
            give_back(std::mem::take(&mut self.reserve), buffers);
        }
    }

    /// True when `len` more bytes do not fit behind what is staged.
    #[inline]
    pub(super) fn is_full_for(&self, len: usize) -> bool {
        self.buffer.len() - self.filled < len
            || (!self.borrowed.is_empty() && self.len as usize + len > self.reserve.len())
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        self.filled = 0;
        self.borrowed.clear();
    }

    /// One write of everything. How many bytes were offered and how many taken.
    #[inline]
    pub(super) fn write(&self, out: &mut Output<'_, impl Write>) -> io::Result<(usize, usize)> {
        let whole = if self.borrowed.is_empty() {
            Some(&self.buffer[..self.filled])
        } else {
            self.only_frame().map(|frame| &out.settled()[frame])
        };
        match whole {
            Some(bytes) => offer(bytes.len(), || out.write(bytes)),
            None => self.write_pieces(out),
        }
    }

    /// Apart, so that what is in one piece need not pass through its preparations.
    #[inline(never)]
    fn write_pieces(&self, out: &mut Output<'_, impl Write>) -> io::Result<(usize, usize)> {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let used = self.fill(out.settled(), &mut slices);
        offer(self.len as usize, || out.write_vectored(&slices[..used]))
    }

    /// Where in the settled input everything is: one frame, whose header has been put before its payload.
    #[inline]
    fn only_frame(&self) -> Option<Range<usize>> {
        match self.borrowed.as_slice() {
            [only] if only.place == Place::Moved && only.header.len() == self.filled => {
                Some(only.payload.clone())
            }
            _ => None,
        }
    }

    fn fill<'a>(&'a self, settled: &'a [u8], slices: &mut [IoSlice<'a>; MAX_SLICES]) -> usize {
        let mut used = 0;
        let mut push = |piece: &'a [u8]| {
            if let (false, Some(slot)) = (piece.is_empty(), slices.get_mut(used)) {
                *slot = IoSlice::new(piece);
                used += 1;
            }
        };
        let mut from = 0;
        for borrowed in &self.borrowed {
            let to = match borrowed.place {
                Place::Moved => borrowed.header.start,
                Place::Buffer | Place::CouldMove => borrowed.header.end,
            };
            push(&self.buffer[from..to]);
            push(&settled[borrowed.payload.clone()]);
            from = borrowed.header.end;
        }
        push(&self.buffer[from..self.filled]);
        used
    }

    /// Puts headers before their payloads, which makes one piece of two.
    pub(super) fn move_headers(&mut self, settled: &mut [u8]) {
        let movable = self.borrowed.iter_mut();
        for borrowed in movable.filter(|borrowed| borrowed.place == Place::CouldMove) {
            let payload = borrowed.payload.start;
            borrowed.payload.start -= borrowed.header.len();
            settled[borrowed.payload.start..payload]
                .copy_from_slice(&self.buffer[borrowed.header.clone()]);
            borrowed.place = Place::Moved;
        }
    }

    /// Everything behind the first `written` bytes, as a segment of a queue. This cannot fail: what is borrowed has its reserve,
    /// and where nothing is, the buffer itself will do.
    pub(super) fn take(
        &mut self,
        written: usize,
        settled: &[u8],
        buffers: &mut BufferPool,
    ) -> Segment {
        let rest = self.len as usize - written;
        let moved = if !self.borrowed.is_empty() {
            Some(std::mem::take(&mut self.reserve))
        } else if rest <= buffers.read_buffer_size() {
            buffers.lease(rest)
        } else {
            // What would fill a buffer of this size anyway keeps this one.
            None
        };
        let copied = match moved {
            Some(buffer) => self.copy(written, settled, buffer),
            None => Copied {
                buffer: std::mem::take(&mut self.buffer),
                end: self.filled,
                walk: Walk {
                    written,
                    boundary: 0,
                },
            },
        };
        self.clear();
        Segment::Copied(copied)
    }

    fn copy(&self, written: usize, settled: &[u8], mut buffer: Buffer) -> Copied {
        let mut slices = [IoSlice::new(&[]); MAX_SLICES];
        let used = self.fill(settled, &mut slices);
        let (mut skip, mut end) = (written, 0);
        for slice in &slices[..used] {
            let rest = &slice[skip.min(slice.len())..];
            skip -= slice.len() - rest.len();
            buffer[end..end + rest.len()].copy_from_slice(rest);
            end += rest.len();
        }
        Copied {
            buffer,
            end,
            walk: Walk {
                written: 0,
                boundary: self.boundary(written) - written,
            },
        }
    }

    /// The first place at or behind `written` where a frame starts.
    fn boundary(&self, written: usize) -> usize {
        let mut borrowed = self.borrowed.iter().peekable();
        // In the buffer, and in the frames.
        let (mut place, mut boundary) = (0, 0);
        while boundary < written && place < self.filled {
            let bytes = &self.buffer[place..self.filled];
            let Ok(ParsedHeader::Complete(header, header_len)) = FrameHeader::parse(bytes) else {
                return self.len as usize;
            };
            let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
            boundary = boundary
                .saturating_add(header_len)
                .saturating_add(payload_len);
            place += header_len;
            if borrowed
                .next_if(|borrowed| borrowed.header.end == place)
                .is_none()
            {
                place = place.saturating_add(payload_len);
            }
        }
        boundary
    }
}

fn give_back(buffer: Buffer, buffers: &mut BufferPool) {
    if !buffer.is_empty() {
        buffers.give_back(buffer);
    }
}
