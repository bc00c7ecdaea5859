use std::io::IoSlice;

use bytes::Bytes;

use super::{Outcome, Payload, Pools, Sent, sent::Mask};
use crate::{
    memory::Buffer,
    protocol::{FrameHeader, MAX_HEADER_LEN, MessageKind, ParsedHeader, RSV1, apply_mask},
};

/// A piece of what waits to be written: one or more whole frames, or the rest of them.
pub(crate) enum Segment {
    /// Frames that were copied into a leased buffer.
    Copied(Copied),
    /// Frames that others share.
    Shared(Walk, Bytes),
    /// A message whose payload was handed over.
    Message(Message),
    /// The control frames in the queue's own place; so many bytes of them are written.
    Control { written: usize },
    /// The close frame in the queue's own place; so many bytes of it are written.
    Close { written: usize },
}

pub(crate) struct Copied {
    pub(crate) buffer: Buffer,
    /// `walk.written <= end <= buffer.len()`
    pub(crate) end: usize,
    pub(crate) walk: Walk,
}

pub(crate) struct Message {
    kind: MessageKind,
    payload: Payload,
    /// The payload as it goes over the wire, when that is compressed, or masked and `payload` cannot be: leased, the front of
    /// it in use.
    copy: Option<Buffer>,
    mask: Mask,
    pub(crate) header: [u8; MAX_HEADER_LEN],
    pub(crate) header_len: usize,
    /// Bytes of header and payload that the kernel has.
    pub(crate) written: usize,
    /// Bytes of header and payload together.
    pub(crate) total: usize,
}

/// A message that is being copied: its header, and its payload in parts.
pub(crate) struct Frame<'a> {
    pub(crate) header: &'a [u8],
    pub(crate) key: Option<[u8; 4]>,
    pub(crate) parts: &'a [IoSlice<'a>],
    /// Bytes of header and payload together.
    pub(crate) total: usize,
}

impl Frame<'_> {
    /// Copies the whole frame to `space`, which has just its length, masked as its header says.
    #[inline]
    pub(crate) fn copy_masked(&self, space: &mut [u8]) {
        self.copy_rest(0, space);
        if let Some(key) = self.key {
            apply_mask(key, 0, &mut space[self.header.len()..]);
        }
    }

    /// Copies everything behind the first `skip` bytes to `space`, which has just that length. Not masked.
    #[inline]
    pub(crate) fn copy_rest(&self, mut skip: usize, space: &mut [u8]) {
        let mut at = 0;
        let slices = std::iter::once(self.header).chain(self.parts.iter().map(|part| &**part));
        for slice in slices {
            let rest = &slice[skip.min(slice.len())..];
            skip -= slice.len() - rest.len();
            space[at..at + rest.len()].copy_from_slice(rest);
            at += rest.len();
        }
    }
}

/// How far a run of unmasked frames is written, and where the frames in it start.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Walk {
    /// Bytes that the kernel has.
    pub(crate) written: usize,
    /// A place where a frame starts. It trails behind `written` until somebody asks.
    pub(crate) boundary: usize,
}

impl Walk {
    /// The first place at or behind `written` where a frame starts; `frames` is the whole run.
    pub(crate) fn next_boundary(&mut self, frames: &[u8]) -> usize {
        while self.boundary < self.written {
            match FrameHeader::parse(&frames[self.boundary..]) {
                Ok(ParsedHeader::Complete(header, header_len)) => {
                    let payload_len = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
                    self.boundary = self
                        .boundary
                        .saturating_add(header_len)
                        .saturating_add(payload_len);
                }
                // Our own frames are whole and well-formed; behind anything else there is no boundary.
                _ => self.boundary = frames.len(),
            }
        }
        self.boundary = self.boundary.min(frames.len());
        self.boundary
    }
}

impl Segment {
    /// Whole frames that fill the first `len` bytes of a leased buffer.
    pub(crate) fn copied(buffer: Buffer, len: usize) -> Self {
        Self::Copied(Copied {
            buffer,
            end: len,
            walk: Walk::default(),
        })
    }

    /// Bytes not yet written, of data (control frames do not count as backlog).
    pub(crate) fn backlog(&self) -> usize {
        match self {
            Self::Copied(copied) => copied.end - copied.walk.written,
            Self::Shared(walk, bytes) => bytes.len() - walk.written,
            Self::Message(message) => message.total - message.written,
            Self::Control { .. } | Self::Close { .. } => 0,
        }
    }

    /// The kernel took `count` more bytes; returns how many of them count as backlog.
    #[inline]
    pub(crate) fn advance(&mut self, count: usize) -> usize {
        match self {
            Self::Copied(Copied { walk, .. }) | Self::Shared(walk, _) => walk.written += count,
            Self::Message(message) => message.written += count,
            Self::Control { written } | Self::Close { written } => {
                *written += count;
                return 0;
            }
        }
        count
    }

    /// Cuts the segment behind the frame that is in flight and returns the tail; `None` when nothing is behind it. There
    /// must be a frame in flight: see [`Segment::is_between_frames`].
    pub(crate) fn split_behind_frame(&mut self, pools: &mut Pools) -> Option<Segment> {
        match self {
            Self::Copied(copied) => copied.split_behind_frame(pools).map(Segment::Copied),
            Self::Shared(walk, bytes) => {
                let at = walk.next_boundary(bytes);
                let tail = bytes.split_off(at);
                (!tail.is_empty()).then(|| Segment::Shared(Walk::default(), tail))
            }
            Self::Message(_) | Self::Control { .. } | Self::Close { .. } => None,
        }
    }

    /// Drops the frames behind the one that is in flight.
    pub(crate) fn truncate_behind_frame(&mut self) {
        match self {
            Self::Copied(copied) => {
                copied.end = copied.walk.next_boundary(&copied.buffer[..copied.end]);
            }
            Self::Shared(walk, bytes) => bytes.truncate(walk.next_boundary(bytes)),
            Self::Message(_) | Self::Control { .. } | Self::Close { .. } => {}
        }
    }

    /// True exactly when the next byte to be written is the first of a frame.
    pub(crate) fn is_between_frames(&mut self) -> bool {
        match self {
            Self::Copied(copied) => {
                copied.walk.next_boundary(&copied.buffer[..copied.end]) == copied.walk.written
            }
            Self::Shared(walk, bytes) => walk.next_boundary(bytes) == walk.written,
            Self::Message(message) => message.written == 0,
            Self::Control { written } | Self::Close { written } => *written == 0,
        }
    }
}

impl Copied {
    fn split_behind_frame(&mut self, pools: &mut Pools) -> Option<Self> {
        let at = self.walk.next_boundary(&self.buffer[..self.end]);
        let tail = &self.buffer[at..self.end];
        if tail.is_empty() {
            return None;
        }
        // Without a buffer for the tail it stays where it is: what was to come between then comes behind it.
        let mut buffer = pools.buffers.lease(tail.len())?;
        buffer[..tail.len()].copy_from_slice(tail);
        let end = tail.len();
        self.end = at;
        Some(Self {
            buffer,
            end,
            walk: Walk::default(),
        })
    }
}

impl Message {
    /// A message that goes out as the first `len` bytes of `packed`, masked with `key` if there is one.
    pub(crate) fn compressed(
        kind: MessageKind,
        payload: Payload,
        (mut packed, len): (Buffer, usize),
        key: Option<[u8; 4]>,
    ) -> Self {
        if let Some(key) = key {
            apply_mask(key, 0, &mut packed[..len]);
        }
        let header = FrameHeader {
            rsv: RSV1,
            ..FrameHeader::new(kind.opcode(), len as u64)
        };
        Self::with_header(header, kind, payload, Some(packed), (key, Mask::None))
    }

    /// A message whose frame is masked with `key` if there is one: in place if the payload allows, in a leased copy if not.
    ///
    /// # Errors
    /// The payload, untouched, when there is no buffer for the copy.
    pub(crate) fn new(
        kind: MessageKind,
        mut payload: Payload,
        key: Option<[u8; 4]>,
        pools: &mut Pools,
    ) -> Result<Self, Payload> {
        let payload_len = payload.len();
        let (copy, mask) = match key {
            None => (None, Mask::None),
            Some(key) if payload.apply_mask(key) => (None, Mask::InPlace(key)),
            Some(key) => {
                let Some(mut copy) = pools.buffers.lease(payload_len) else {
                    return Err(payload);
                };
                payload.copy_to(&mut copy[..payload_len]);
                apply_mask(key, 0, &mut copy[..payload_len]);
                (Some(copy), Mask::None)
            }
        };
        let header = FrameHeader::new(kind.opcode(), payload_len as u64);
        Ok(Self::with_header(header, kind, payload, copy, (key, mask)))
    }

    /// `header` lacks the key.
    fn with_header(
        header: FrameHeader,
        kind: MessageKind,
        payload: Payload,
        copy: Option<Buffer>,
        (key, mask): (Option<[u8; 4]>, Mask),
    ) -> Self {
        let header = FrameHeader {
            mask: key,
            ..header
        };
        let mut encoded = [0; MAX_HEADER_LEN];
        let header_len = header.encode(&mut encoded);
        // It is in memory.
        let on_the_wire = usize::try_from(header.payload_len).unwrap_or(usize::MAX);
        Self {
            kind,
            payload,
            copy,
            mask,
            header: encoded,
            header_len,
            written: 0,
            total: header_len + on_the_wire,
        }
    }

    /// The payload on its way back.
    pub(crate) fn into_sent(self, outcome: Outcome, pools: &mut Pools) -> Sent {
        if let Some(copy) = self.copy {
            pools.give_back(copy);
        }
        Sent::new(self.kind, self.payload, outcome, self.mask)
    }

    /// Bytes of the payload that the kernel has, as it goes over the wire.
    pub(crate) fn payload_written(&self) -> usize {
        self.written.saturating_sub(self.header_len)
    }

    /// Writes what is not written yet to the front of `slices`; returns how many slices and how many bytes that is.
    pub(crate) fn fill<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> (usize, usize) {
        let header = &self.header[self.written.min(self.header_len)..self.header_len];
        let mut used = 0;
        if let (false, Some(slot)) = (header.is_empty(), slices.first_mut()) {
            *slot = IoSlice::new(header);
            used = 1;
        }
        let written = self.payload_written();
        let rest = &mut slices[used..];
        let (parts, bytes) = match &self.copy {
            None => self.payload.fill(written, rest),
            Some(copy) => {
                let payload = &copy[written..self.total - self.header_len];
                match rest.first_mut() {
                    Some(slot) if !payload.is_empty() => {
                        *slot = IoSlice::new(payload);
                        (1, payload.len())
                    }
                    _ => (0, 0),
                }
            }
        };
        (used + parts, header.len() + bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run() -> Vec<u8> {
        // A frame of 3 bytes payload, an empty one, and one of 130 bytes: starts at 0, 5, 7 and ends at 141.
        [
            &[0x81, 3, 1, 2, 3][..],
            &[0x81, 0],
            &[0x82, 126, 0, 130],
            &[9; 130],
        ]
        .concat()
    }

    #[test]
    fn the_next_boundary_is_found_from_everywhere() {
        let run = run();
        for written in 0..=run.len() {
            let mut walk = Walk {
                written,
                boundary: 0,
            };
            let expected = [0, 5, 7, 141]
                .into_iter()
                .find(|&start| start >= written)
                .unwrap();
            assert_eq!(walk.next_boundary(&run), expected, "{written}");
        }
    }

    #[test]
    fn a_rest_without_a_header_ends_at_its_known_boundary() {
        let rest = [&[7; 10][..], &run()].concat();
        let mut walk = Walk {
            written: 0,
            boundary: 10,
        };
        assert_eq!(walk.next_boundary(&rest), 10);
        walk.written = 11;
        assert_eq!(walk.next_boundary(&rest), 15);
    }
}
