use std::{fmt, sync::Arc};

use bytes::{Bytes, BytesMut};

use crate::protocol::{
    ClosePayload, Fragmenter, FrameBuilder, FrameHeader, InProgress, MAX_CONTROL_PAYLOAD,
    MAX_HEADER_LEN, MessageKind, Opcode, ParsedHeader, ProtocolError, Role, Rules,
};
#[cfg(feature = "deflate")]
use crate::protocol::{Compressor, RSV1};

/// Frames that are encoded once and sent to any number of connections.
///
/// Cloning is cheap: clones share the bytes. Sending borrows them, so they do not come back in `on_write_complete`.
///
/// ```
/// use wsloop::{Frames, MessageKind};
///
/// let frames = Frames::builder().message(MessageKind::Text, b"to everybody").build();
/// assert_eq!(&frames.as_bytes()[..2], [0x81, 12]);
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Frames {
    plain: Encoded,
    /// The same messages compressed, by the size of the window that inflates them, the largest first.
    compressed: Option<Arc<[Compressed]>>,
}

#[derive(PartialEq, Eq)]
struct Compressed {
    /// Binary logarithm of the window.
    window_bits: u8,
    frames: Encoded,
}

/// Frames as they go over the wire of a server.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Encoded {
    /// Whole unmasked frames that make up whole messages and control frames.
    bytes: Bytes,
}

impl Frames {
    /// Starts to encode frames.
    #[must_use]
    pub fn builder() -> FramesBuilder {
        FramesBuilder {
            bytes: BytesMut::new(),
        }
    }

    /// One unfragmented message.
    #[must_use]
    pub fn message(kind: MessageKind, payload: &[u8]) -> Self {
        Self::builder().message(kind, payload).build()
    }

    /// Takes frames that somebody else encoded, after a check of every one (RFC 6455 §5): unmasked, no reserved bits or
    /// opcodes, shortest lengths, whole frames and whole messages, no close frame. Text is not checked to be UTF-8.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn from_raw(bytes: impl Into<Bytes>) -> Result<Self, FramesError> {
        let bytes = bytes.into();
        check_frames(&bytes)?;
        Ok(Self::plain(bytes))
    }

    fn plain(bytes: Bytes) -> Self {
        Self {
            plain: Encoded { bytes },
            compressed: None,
        }
    }

    /// The frames as they go over the wire (of a server), not compressed.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.plain.bytes
    }

    /// Adds the compressed form of the same messages, for all connections that have agreed on permessage-deflate with a
    /// window as large as the compressor's or larger: encoded and compressed once, sent to any number of them. Others get the
    /// plain form. Compressors with several windows may be used one after the other.
    ///
    /// ```
    /// use wsloop::{Frames, MessageKind, protocol::Compressor};
    ///
    /// let mut compressor = Compressor::new(6, 15, 8)?;
    /// let frames = Frames::message(MessageKind::Text, &[b'a'; 1000]).compress(&mut compressor);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[cfg(feature = "deflate")]
    #[must_use]
    pub fn compress(self, compressor: &mut Compressor) -> Self {
        let window_bits = compressor.window_bits();
        let form = Compressed {
            window_bits,
            frames: self.plain.compress(compressor),
        };
        let others = self.compressed.iter().flat_map(|forms| forms.iter());
        let mut forms: Vec<Compressed> = others
            .filter(|form| form.window_bits != window_bits)
            .map(|form| Compressed {
                window_bits: form.window_bits,
                frames: form.frames.clone(),
            })
            .collect();
        forms.push(form);
        forms.sort_by_key(|form| std::cmp::Reverse(form.window_bits));
        Self {
            plain: self.plain,
            compressed: Some(forms.into()),
        }
    }

    /// The best form for a connection whose peer inflates with a window of so many bits, and whether it is a compressed one; 0
    /// when it does not inflate at all.
    #[inline]
    pub(super) fn for_window(&self, bits: u8) -> (&Encoded, bool) {
        let Some(forms) = &self.compressed else {
            return (&self.plain, false);
        };
        match forms.iter().find(|form| form.window_bits <= bits) {
            Some(form) => (&form.frames, true),
            None => (&self.plain, false),
        }
    }
}

impl Encoded {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    #[inline]
    pub(super) fn shared(&self) -> &Bytes {
        &self.bytes
    }

    /// The same messages, each as one frame, compressed where that makes it shorter.
    #[cfg(feature = "deflate")]
    fn compress(&self, compressor: &mut Compressor) -> Self {
        let mut builder = FramesBuilder {
            bytes: BytesMut::new(),
        };
        let mut parts: Vec<&[u8]> = Vec::new();
        let mut opcode = Opcode::Binary;
        for (header, payload) in self.iter() {
            if header.opcode.is_control() {
                builder = builder.frame(header, payload);
                continue;
            }
            if header.opcode != Opcode::Continuation {
                opcode = header.opcode;
            }
            parts.push(payload);
            if header.fin {
                builder = builder.compressed(opcode, &parts, compressor);
                parts.clear();
            }
        }
        builder.build().plain
    }

    /// Length in bytes of the same frames with a mask key each.
    pub(super) fn masked_len(&self) -> usize {
        self.bytes.len() + 4 * self.iter().count()
    }

    /// Writes the frames to `out`, which has [`Encoded::masked_len`] bytes, each masked with a key of its own.
    pub(super) fn copy_masked(
        &self,
        mut fresh_key: impl FnMut() -> Option<[u8; 4]>,
        out: &mut [u8],
    ) {
        let mut at = 0;
        for (header, payload) in self.iter() {
            let header = FrameHeader {
                mask: fresh_key(),
                ..header
            };
            at += encode_frame(header, payload, &mut out[at..]);
        }
    }

    fn iter(&self) -> impl Iterator<Item = (FrameHeader, &[u8])> {
        let mut rest = &self.bytes[..];
        std::iter::from_fn(move || {
            // Whole and well-formed, as the constructors have seen to.
            let Ok(ParsedHeader::Complete(header, header_len)) = FrameHeader::parse(rest) else {
                return None;
            };
            let payload_len = usize::try_from(header.payload_len).ok()?;
            let payload = rest.get(header_len..header_len.checked_add(payload_len)?)?;
            rest = &rest[header_len + payload_len..];
            Some((header, payload))
        })
    }
}

impl fmt::Debug for Frames {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Frames({} bytes)", self.as_bytes().len())
    }
}

/// Encodes frames one behind the other.
#[derive(Debug)]
pub struct FramesBuilder {
    bytes: BytesMut,
}

impl FramesBuilder {
    /// An unfragmented message (RFC 6455 §5.6). That text is UTF-8 is the caller's matter.
    #[must_use]
    pub fn message(self, kind: MessageKind, payload: &[u8]) -> Self {
        self.frame(
            FrameHeader::new(kind.opcode(), payload.len() as u64),
            payload,
        )
    }

    /// A message in fragments (RFC 6455 §5.4), one for each part; no part at all is an empty message.
    #[must_use]
    pub fn fragments(mut self, kind: MessageKind, parts: &[&[u8]]) -> Self {
        let Some((last, parts)) = parts.split_last() else {
            return self.message(kind, b"");
        };
        let mut opcode = kind.opcode();
        for part in parts {
            let header = FrameHeader {
                fin: false,
                ..FrameHeader::new(opcode, part.len() as u64)
            };
            self = self.frame(header, part);
            opcode = Opcode::Continuation;
        }
        self.frame(FrameHeader::new(opcode, last.len() as u64), last)
    }

    /// A message in fragments of at most `max` bytes (RFC 6455 §5.4); 0 counts as 1.
    #[must_use]
    pub fn split(self, kind: MessageKind, payload: &[u8], max: usize) -> Self {
        let parts = Fragmenter::new(kind, payload, max);
        parts.fold(self, |builder, (frame, part)| {
            builder.frame(frame.header(part.len()), part)
        })
    }

    /// A ping (RFC 6455 §5.5.2).
    ///
    /// # Errors
    /// A payload of more than 125 bytes.
    pub fn ping(self, payload: &[u8]) -> Result<Self, FramesError> {
        self.control(Opcode::Ping, payload)
    }

    /// A pong (RFC 6455 §5.5.3).
    ///
    /// # Errors
    /// A payload of more than 125 bytes.
    pub fn pong(self, payload: &[u8]) -> Result<Self, FramesError> {
        self.control(Opcode::Pong, payload)
    }

    /// The frames so far.
    #[must_use]
    pub fn build(self) -> Frames {
        Frames::plain(self.bytes.freeze())
    }

    fn control(self, opcode: Opcode, payload: &[u8]) -> Result<Self, FramesError> {
        if payload.len() > MAX_CONTROL_PAYLOAD {
            return Err(FramesError::Protocol(ProtocolError::ControlFrameTooBig));
        }
        Ok(self.frame(FrameHeader::new(opcode, payload.len() as u64), payload))
    }

    /// A message as one frame, compressed by itself if that makes it shorter.
    #[cfg(feature = "deflate")]
    fn compressed(self, opcode: Opcode, parts: &[&[u8]], compressor: &mut Compressor) -> Self {
        let plain_len = parts.iter().map(|part| part.len()).sum();
        let mut out = vec![0; Compressor::room_for(plain_len)];
        match compressor.compress(parts.iter().copied(), &mut out, false) {
            Some(len) if len < plain_len => {
                let header = FrameHeader {
                    rsv: RSV1,
                    ..FrameHeader::new(opcode, len as u64)
                };
                self.frame(header, &out[..len])
            }
            _ => {
                let message = parts.concat();
                self.frame(FrameHeader::new(opcode, message.len() as u64), &message)
            }
        }
    }

    fn frame(mut self, header: FrameHeader, payload: &[u8]) -> Self {
        let mut encoded = [0; MAX_HEADER_LEN];
        let len = header.encode(&mut encoded);
        self.bytes.extend_from_slice(&encoded[..len]);
        self.bytes.extend_from_slice(payload);
        self
    }
}

/// Why raw frames were refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FramesError {
    /// A frame breaks a rule of RFC 6455 §5.
    Protocol(ProtocolError),
    /// The last frame is cut off.
    Truncated,
    /// The last message has no final fragment.
    Unfinished,
    /// There is a close frame: closing is `close`'s matter.
    CloseFrame,
}

impl fmt::Display for FramesError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Protocol(error) => error.fmt(f),
            Self::Truncated => f.write_str("the last frame is cut off"),
            Self::Unfinished => f.write_str("the last message has no final fragment"),
            Self::CloseFrame => f.write_str("close frames are not sent raw"),
        }
    }
}

impl std::error::Error for FramesError {}

impl From<ProtocolError> for FramesError {
    fn from(error: ProtocolError) -> Self {
        Self::Protocol(error)
    }
}

fn check_frames(mut bytes: &[u8]) -> Result<(), FramesError> {
    // What a server sends is what a client accepts.
    let rules = Rules {
        role: Role::Client,
        max_message_size: usize::MAX >> 1,
        check_utf8: false,
        compression: false,
    };
    let mut in_progress = None;
    while !bytes.is_empty() {
        let ParsedHeader::Complete(header, header_len) = FrameHeader::parse(bytes)? else {
            return Err(FramesError::Truncated);
        };
        rules.check(&header, in_progress)?;
        if header.opcode == Opcode::Close {
            // Told apart from a malformed one, so that the error names the real mistake.
            return Err(FramesError::CloseFrame);
        }
        let payload_len =
            usize::try_from(header.payload_len).map_err(|_| FramesError::Truncated)?;
        bytes = bytes[header_len..]
            .get(payload_len..)
            .ok_or(FramesError::Truncated)?;
        if header.opcode.is_data() {
            in_progress = if header.fin {
                None
            } else {
                let before = in_progress.map_or(0, |message: InProgress| message.len);
                Some(InProgress {
                    len: before + payload_len,
                    is_compressed: false,
                })
            };
        }
    }
    if in_progress.is_some() {
        Err(FramesError::Unfinished)
    } else {
        Ok(())
    }
}

/// Length in bytes of the largest control frame, mask key included.
pub(crate) const MAX_CONTROL_FRAME: usize = 2 + 4 + MAX_CONTROL_PAYLOAD;

/// A close frame, ready to be written.
pub(crate) fn encode_close(
    payload: &ClosePayload<'_>,
    key: Option<[u8; 4]>,
    out: &mut [u8; MAX_CONTROL_FRAME],
) -> usize {
    let mut encoded = [0; MAX_CONTROL_PAYLOAD];
    let payload_len = payload.encode(&mut encoded);
    encode_control(Opcode::Close, &encoded[..payload_len], key, out)
}

/// A control frame, ready to be written. `payload` has at most 125 bytes.
pub(crate) fn encode_control(
    opcode: Opcode,
    payload: &[u8],
    key: Option<[u8; 4]>,
    out: &mut [u8; MAX_CONTROL_FRAME],
) -> usize {
    let header = FrameHeader {
        mask: key,
        ..FrameHeader::new(opcode, payload.len() as u64)
    };
    encode_frame(header, payload, out)
}

/// Writes a frame to the front of `out`, which has room for it, masked as its header says; returns its length.
fn encode_frame(header: FrameHeader, payload: &[u8], out: &mut [u8]) -> usize {
    let encoded = FrameBuilder::from(header).encode(payload, out);
    debug_assert!(encoded.is_ok(), "{encoded:?}");
    encoded.unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::apply_mask;

    #[test]
    fn what_is_built_passes_the_check() {
        let frames = Frames::builder()
            .message(MessageKind::Text, b"one")
            .fragments(MessageKind::Binary, &[b"a", b"", b"bc"])
            .ping(b"p")
            .unwrap()
            .fragments(MessageKind::Text, &[])
            .split(MessageKind::Text, b"in pieces", 4)
            .build();
        assert_eq!(
            Frames::from_raw(frames.as_bytes().to_vec()).unwrap(),
            frames
        );
    }

    #[test]
    fn a_masked_copy_holds_the_same_frames_with_a_key_each() {
        let frames = Frames::builder()
            .message(MessageKind::Text, b"hello")
            .fragments(MessageKind::Binary, &[b"", &[7; 300]])
            .build();
        let frames = &frames.plain;
        let mut out = vec![0; frames.masked_len()];
        let mut keys = (1..).map(|n| [n, 2, 3, 4]);
        frames.copy_masked(|| keys.next(), &mut out);
        let mut unmasked = Vec::new();
        let mut rest = &out[..];
        for expected_key in 1..=3 {
            let Ok(ParsedHeader::Complete(header, header_len)) = FrameHeader::parse(rest) else {
                panic!()
            };
            assert_eq!(header.mask, Some([expected_key, 2, 3, 4]));
            let end = header_len + header.payload_len as usize;
            let mut payload = rest[header_len..end].to_vec();
            apply_mask(header.mask.unwrap(), 0, &mut payload);
            let mut frame = vec![0; end];
            let len = encode_frame(
                FrameHeader {
                    mask: None,
                    ..header
                },
                &payload,
                &mut frame,
            );
            unmasked.extend_from_slice(&frame[..len]);
            rest = &rest[end..];
        }
        assert!(rest.is_empty());
        assert_eq!(unmasked, frames.as_bytes());
    }

    #[test]
    fn each_fault_of_raw_frames_is_named() {
        let check = |bytes: &[u8]| Frames::from_raw(bytes.to_vec()).unwrap_err();
        assert_eq!(check(&[0x81]), FramesError::Truncated);
        assert_eq!(check(&[0x81, 2, b'x']), FramesError::Truncated);
        assert_eq!(check(&[0x01, 1, b'x']), FramesError::Unfinished);
        assert_eq!(check(&[0x88, 0]), FramesError::CloseFrame);
        assert_eq!(
            check(&[0x81, 0x80, 1, 2, 3, 4]),
            FramesError::Protocol(ProtocolError::MaskedFrame)
        );
        assert_eq!(
            check(&[0x83, 0]),
            FramesError::Protocol(ProtocolError::ReservedOpcode(3))
        );
        assert_eq!(
            check(&[0x80, 0]),
            FramesError::Protocol(ProtocolError::UnexpectedContinuation)
        );
        assert_eq!(
            check(&[0xC1, 0]),
            FramesError::Protocol(ProtocolError::ReservedBits)
        );
        assert_eq!(
            check(&[0x82, 126, 0, 1, 0]),
            FramesError::Protocol(ProtocolError::NonMinimalLength)
        );
        assert!(Frames::builder().ping(&[0; 126]).is_err());
    }
}
