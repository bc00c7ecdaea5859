use super::{
    FrameHeader, InProgress, MessageKind, Opcode, ProtocolError, Rules, Utf8Validator, apply_mask,
};

/// A message that does not come in one piece, without its bytes: what its frames have said so far. Bytes are unmasked and
/// checked as they arrive (RFC 6455 §5.4, §8.1).
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) kind: MessageKind,
    /// True exactly when it has to be inflated (RFC 7692 §6): only then it is text or not.
    pub(crate) is_compressed: bool,
    /// Bytes of payload so far.
    pub(crate) len: usize,
    utf8: Utf8Validator,
    /// The frame whose payload is arriving; `None` between fragments.
    frame: Option<FrameRest>,
}

/// What is still to come of a data frame.
#[derive(Debug)]
struct FrameRest {
    remaining: u64,
    key: Option<[u8; 4]>,
    /// Position in the frame's payload of the next byte to unmask, modulo the key's length.
    mask_offset: usize,
    fin: bool,
}

/// How far some bytes of payload have brought a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Progress {
    /// The frame goes on.
    Part,
    /// The frame is complete, its message is not.
    Frame,
    /// The message is complete.
    Message,
}

impl Incoming {
    /// A message that starts with this frame.
    pub(crate) fn new(header: &FrameHeader) -> Self {
        Self {
            kind: match header.opcode {
                Opcode::Text => MessageKind::Text,
                _ => MessageKind::Binary,
            },
            is_compressed: header.rsv != 0,
            len: 0,
            utf8: Utf8Validator::default(),
            frame: None,
        }
    }

    /// What the rules have to know of it.
    pub(crate) fn in_progress(&self) -> InProgress {
        InProgress {
            len: self.len,
            is_compressed: self.is_compressed,
        }
    }

    /// The payload of a frame follows.
    pub(crate) fn begin_frame(&mut self, header: &FrameHeader) {
        self.frame = Some(FrameRest {
            remaining: header.payload_len,
            key: header.mask,
            mask_offset: 0,
            fin: header.fin,
        });
    }

    /// Bytes that are still to come of the frame under way; `None` between fragments. What does not fit a `usize` is more than
    /// any input holds.
    pub(crate) fn remaining(&self) -> Option<usize> {
        let frame = self.frame.as_ref()?;
        Some(usize::try_from(frame.remaining).unwrap_or(usize::MAX))
    }

    /// Unmasks and checks the next bytes of the payload, no more than remain.
    #[inline]
    pub(crate) fn take(
        &mut self,
        arrived: &mut [u8],
        rules: &Rules,
    ) -> Result<Progress, ProtocolError> {
        let Some(frame) = &mut self.frame else {
            return Ok(Progress::Part);
        };
        if let Some(key) = frame.key {
            apply_mask(key, frame.mask_offset, arrived);
        }
        frame.mask_offset = (frame.mask_offset + arrived.len()) % 4;
        frame.remaining -= arrived.len() as u64;
        let check_utf8 = self.kind == MessageKind::Text && rules.check_utf8 && !self.is_compressed;
        if check_utf8 {
            let checked = self.utf8.feed(arrived);
            checked.map_err(|_| ProtocolError::InvalidUtf8)?;
        }
        self.len += arrived.len();
        if frame.remaining > 0 {
            return Ok(Progress::Part);
        }
        let fin = frame.fin;
        self.frame = None;
        if !fin {
            return Ok(Progress::Frame);
        }
        if check_utf8 {
            let checked = self.utf8.finish();
            checked.map_err(|_| ProtocolError::InvalidUtf8)?;
        }
        Ok(Progress::Message)
    }
}
