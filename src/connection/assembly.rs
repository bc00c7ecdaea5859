use super::{Pools, inbox::Fault};
use crate::{
    memory::Buffer,
    protocol::{FrameHeader, MessageKind, Opcode, ProtocolError, Rules, Utf8Validator, apply_mask},
};

/// A message that has not come in one piece: the payload of its fragments so far, unmasked and checked as it arrives.
pub(super) struct Assembly {
    pub(super) kind: MessageKind,
    /// True exactly when it has to be inflated (RFC 7692 §6): only then it is text or not.
    pub(super) is_compressed: bool,
    /// Empty until the first byte of payload arrives. `len <= buffer.len()`
    pub(super) buffer: Buffer,
    pub(super) len: usize,
    utf8: Utf8Validator,
    /// The frame whose payload is arriving; `None` between fragments.
    frame: Option<FrameRest>,
    /// True exactly when the message is complete and nobody has been told.
    pub(super) is_held: bool,
}

/// What is still to come of a data frame.
pub(super) struct FrameRest {
    remaining: u64,
    key: Option<[u8; 4]>,
    /// Position in the frame's payload of the next byte to unmask, modulo the key's length.
    mask_offset: usize,
    pub(super) fin: bool,
}

impl FrameRest {
    pub(super) fn new(header: &FrameHeader) -> Self {
        Self {
            remaining: header.payload_len,
            key: header.mask,
            mask_offset: 0,
            fin: header.fin,
        }
    }

    /// Bytes that are still to come. What does not fit a `usize` is more than any input holds.
    pub(super) fn remaining(&self) -> usize {
        usize::try_from(self.remaining).unwrap_or(usize::MAX)
    }

    /// Unmasks the next bytes of the payload, no more than remain.
    #[inline]
    pub(super) fn take(&mut self, arrived: &mut [u8]) {
        if let Some(key) = self.key {
            apply_mask(key, self.mask_offset, arrived);
        }
        self.mask_offset = (self.mask_offset + arrived.len()) % 4;
        self.remaining -= arrived.len() as u64;
    }
}

/// How far some bytes of payload have brought a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// The frame goes on.
    Part,
    /// The frame is complete, its message is not.
    Frame,
    /// The message is complete.
    Message,
}

impl Assembly {
    /// A message that starts with this frame.
    pub(super) fn new(header: &FrameHeader) -> Self {
        let kind = match header.opcode {
            Opcode::Text => MessageKind::Text,
            _ => MessageKind::Binary,
        };
        Self {
            kind,
            is_compressed: header.rsv != 0,
            buffer: Buffer::default(),
            len: 0,
            utf8: Utf8Validator::default(),
            frame: None,
            is_held: false,
        }
    }

    /// The payload of a frame follows.
    pub(super) fn begin_frame(&mut self, header: &FrameHeader) {
        self.frame = Some(FrameRest::new(header));
    }

    /// Bytes that are still to come of the frame under way; `None` between fragments.
    pub(super) fn remaining(&self) -> Option<usize> {
        self.frame.as_ref().map(FrameRest::remaining)
    }

    /// Where the next bytes of payload belong: at least `min` bytes, which must be above 0 and no more than remain, and
    /// never more than remain.
    pub(super) fn space(&mut self, min: usize, pools: &mut Pools) -> Result<&mut [u8], Fault> {
        let remaining = self.remaining().unwrap_or(0);
        self.reserve(min, remaining, pools)?;
        let end = self.buffer.len().min(self.len.saturating_add(remaining));
        Ok(&mut self.buffer[self.len..end])
    }

    /// Makes room for `min` more bytes, of which `announced` are said to come.
    ///
    /// What is announced counts up to one large-message buffer. Beyond that the buffer follows what has arrived, so that a
    /// header alone never takes more than that.
    fn reserve(&mut self, min: usize, announced: usize, pools: &mut Pools) -> Result<(), Fault> {
        let needed = self.len + min;
        if needed <= self.buffer.len() {
            return Ok(());
        }
        let large = pools.buffers.large_buffer_size();
        let size = needed.max(self.len.saturating_add(announced).min(large));
        let mut buffer = pools.buffers.lease(size).ok_or(Fault::OutOfBuffers)?;
        buffer[..self.len].copy_from_slice(&self.buffer[..self.len]);
        pools.give_back(std::mem::replace(&mut self.buffer, buffer));
        Ok(())
    }

    /// Unmasks and checks `count` bytes that were put into [`Assembly::space`].
    pub(super) fn arrived(&mut self, count: usize, rules: &Rules) -> Result<Progress, Fault> {
        let Some(frame) = &mut self.frame else {
            return Ok(Progress::Part);
        };
        let arrived = &mut self.buffer[self.len..self.len + count];
        frame.take(arrived);
        let check_utf8 = self.kind == MessageKind::Text && rules.check_utf8 && !self.is_compressed;
        if check_utf8 {
            self.utf8
                .feed(arrived)
                .map_err(|_| ProtocolError::InvalidUtf8)?;
        }
        self.len += count;
        if frame.remaining() > 0 {
            return Ok(Progress::Part);
        }
        let fin = frame.fin;
        self.frame = None;
        if !fin {
            return Ok(Progress::Frame);
        }
        if check_utf8 {
            self.utf8.finish().map_err(|_| ProtocolError::InvalidUtf8)?;
        }
        Ok(Progress::Message)
    }
}
