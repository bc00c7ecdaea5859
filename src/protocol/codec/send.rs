use core::{error::Error, fmt};

use super::Codec;
use crate::protocol::{
    BuildError, CloseCode, ClosePayload, Compress, Compressor, FrameBuilder, MessageKind, Opcode,
    Outgoing, RSV1,
};

/// Why something was not encoded. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The connection is closing or closed.
    NotOpen,
    /// A message in fragments is open, and this is not its continuation.
    MessageOpen,
    /// The close code must not be on the wire (RFC 6455 §7.4).
    CloseCode(CloseCode),
    /// The buffer is too small, or a control frame too big.
    Build(BuildError),
}

/// Everything is written to the front of `out`, whole frames or nothing, masked if this is a client's end; the length is
/// returned.
impl Codec {
    /// A text message (RFC 6455 §5.6).
    ///
    /// # Errors
    /// As [`message`](Self::message).
    pub fn text(&mut self, text: &str, out: &mut [u8]) -> Result<usize, EncodeError> {
        self.message(MessageKind::Text, &[text.as_bytes()], out)
    }

    /// A binary message (RFC 6455 §5.6).
    ///
    /// # Errors
    /// As [`message`](Self::message).
    pub fn binary(&mut self, payload: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
        self.message(MessageKind::Binary, &[payload], out)
    }

    /// A message in several parts, which are one payload. It may be compressed, as was agreed on. That text is UTF-8 is the
    /// caller's matter.
    ///
    /// # Errors
    /// `NotOpen`, `MessageOpen`, `Build` with the length that `out` has to have.
    pub fn message(
        &mut self,
        message: impl Into<Outgoing>,
        parts: &[&[u8]],
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        self.check_open()?;
        if self.open.is_some() {
            return Err(EncodeError::MessageOpen);
        }
        let message = message.into();
        let frame = self.frame(message.kind.opcode());
        let len = parts.iter().map(|part| part.len()).sum();
        let wanted = self.deflate.as_ref().is_some_and(|deflate| {
            message.compress == Compress::Always
                || message.compress == Compress::Auto && len >= deflate.threshold
        });
        // What was compressed has to be sent: it must fit for certain.
        let needed = frame.len_for(len);
        if wanted && out.len() < needed {
            return Err(BuildError::BufferTooSmall { needed }.into());
        }
        let packed = if wanted { self.pack(parts, len) } else { None };
        Ok(match packed {
            Some(packed) => frame.rsv(RSV1).encode(packed, out)?,
            None => frame.encode_parts(parts.iter().copied(), out)?,
        })
    }

    /// The message compressed; `None` when it does not become shorter.
    fn pack(&mut self, parts: &[&[u8]], len: usize) -> Option<&[u8]> {
        let deflate = self.deflate.as_mut()?;
        deflate.packed.resize(Compressor::room_for(len), 0);
        let packed_len = deflate.compressor.compress(
            parts.iter().copied(),
            &mut deflate.packed,
            deflate.keeps_own,
        )?;
        if packed_len >= len {
            deflate.compressor.reset();
            return None;
        }
        Some(&deflate.packed[..packed_len])
    }

    /// A fragment (RFC 6455 §5.4): the first one begins a message, the `last` one completes it. Fragments are not compressed.
    ///
    /// # Errors
    /// `NotOpen`, `MessageOpen` for another kind than that of the message under way, `Build`.
    pub fn fragment(
        &mut self,
        kind: MessageKind,
        part: &[u8],
        last: bool,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        self.check_open()?;
        let opcode = match self.open {
            None => kind.opcode(),
            Some(open) if open == kind => Opcode::Continuation,
            Some(_) => return Err(EncodeError::MessageOpen),
        };
        let len = self.frame(opcode).fin(last).encode(part, out)?;
        self.open = (!last).then_some(kind);
        Ok(len)
    }

    /// A ping (RFC 6455 §5.5.2).
    ///
    /// # Errors
    /// `NotOpen`, `Build`.
    pub fn ping(&mut self, payload: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
        self.check_open()?;
        Ok(self.frame(Opcode::Ping).encode(payload, out)?)
    }

    /// A pong (RFC 6455 §5.5.3).
    ///
    /// # Errors
    /// `NotOpen`, `Build`.
    pub fn pong(&mut self, payload: &[u8], out: &mut [u8]) -> Result<usize, EncodeError> {
        self.check_open()?;
        Ok(self.frame(Opcode::Pong).encode(payload, out)?)
    }

    /// The close frame (RFC 6455 §5.5.1): ours, or the answer to the peer's. It is sent once.
    ///
    /// # Errors
    /// `NotOpen` the second time; `CloseCode`; `Build`.
    pub fn close(
        &mut self,
        code: CloseCode,
        reason: &str,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        if !code.may_be_sent() {
            return Err(EncodeError::CloseCode(code));
        }
        self.close_with(&ClosePayload::new(code, reason), out)
    }

    /// As [`close`](Self::close), without a code, which the peer takes for 1005.
    ///
    /// # Errors
    /// As `close`.
    pub fn close_empty(&mut self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let payload = ClosePayload {
            code: None,
            reason: "",
        };
        self.close_with(&payload, out)
    }

    /// The close frame that answers what the peer broke (RFC 6455 §7.1.7), with 1002, 1007 or 1009; 1000 if it broke nothing.
    ///
    /// # Errors
    /// As `close`.
    pub fn fail(&mut self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let code = self
            .failed
            .map_or(CloseCode::NORMAL, |error| error.close_code());
        self.close(code, "", out)
    }

    fn close_with(
        &mut self,
        payload: &ClosePayload<'_>,
        out: &mut [u8],
    ) -> Result<usize, EncodeError> {
        if self.close_sent {
            return Err(EncodeError::NotOpen);
        }
        let len = self.frame(Opcode::Close).encode_close(payload, out)?;
        self.close_sent = true;
        let _ = self.state.close_local();
        self.finish_closing();
        Ok(len)
    }

    /// With both close frames there, or ours and nothing more to hear, it is over.
    pub(super) fn finish_closing(&mut self) {
        if self.close_sent {
            let _ = self.state.flushed();
        }
    }

    fn check_open(&self) -> Result<(), EncodeError> {
        match self.state.is_open() {
            true => Ok(()),
            false => Err(EncodeError::NotOpen),
        }
    }

    /// A frame of ours, with a key of its own if it has to be masked.
    fn frame(&mut self, opcode: Opcode) -> FrameBuilder {
        let frame = FrameBuilder::new(opcode);
        match self.mask_keys.for_frame(self.rules.role) {
            Some(key) => frame.masked(key),
            None => frame,
        }
    }
}

impl From<BuildError> for EncodeError {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotOpen => f.write_str("the connection is not open"),
            Self::MessageOpen => f.write_str("a message in fragments is open"),
            Self::CloseCode(code) => write!(f, "close code {} must not be sent", code.get()),
            Self::Build(error) => error.fmt(f),
        }
    }
}

impl Error for EncodeError {}
