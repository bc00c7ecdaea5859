use core::{error::Error, fmt};

use super::{
    ClosePayload, FrameHeader, MAX_CONTROL_PAYLOAD, MAX_HEADER_LEN, MessageKind, Opcode, apply_mask,
};

/// Encodes one frame into a caller's buffer (RFC 6455 §5.2).
///
/// ```
/// use wsloop::protocol::FrameBuilder;
///
/// let mut out = [0; 20];
/// let len = FrameBuilder::text().encode(b"hello", &mut out)?;
/// assert_eq!(&out[..len], b"\x81\x05hello");
///
/// let ping = FrameBuilder::ping().masked([1, 2, 3, 4]);
/// assert_eq!(ping.len_for(5), 11);
/// let len = ping.encode(b"hello", &mut out)?;
/// assert_eq!(&out[..6], b"\x89\x85\x01\x02\x03\x04");
/// # Ok::<(), wsloop::protocol::BuildError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameBuilder {
    /// Without a length.
    header: FrameHeader,
}

/// Why a frame was not encoded. Nothing was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BuildError {
    /// The buffer is too small.
    BufferTooSmall {
        /// Bytes that it has to have.
        needed: usize,
    },
    /// A control frame of more than 125 bytes of payload (RFC 6455 §5.5).
    ControlFrameTooBig,
}

impl FrameBuilder {
    /// A frame with this opcode, the last one of its message.
    #[must_use]
    pub const fn new(opcode: Opcode) -> Self {
        Self {
            header: FrameHeader::new(opcode, 0),
        }
    }

    /// A text message. That the payload is UTF-8 is the caller's matter.
    #[must_use]
    pub const fn text() -> Self {
        Self::new(Opcode::Text)
    }

    /// A binary message.
    #[must_use]
    pub const fn binary() -> Self {
        Self::new(Opcode::Binary)
    }

    /// A ping (RFC 6455 §5.5.2).
    #[must_use]
    pub const fn ping() -> Self {
        Self::new(Opcode::Ping)
    }

    /// A pong (RFC 6455 §5.5.3).
    #[must_use]
    pub const fn pong() -> Self {
        Self::new(Opcode::Pong)
    }

    /// A close frame (RFC 6455 §5.5.1); its payload is a [`ClosePayload`]'s: see [`encode_close`](Self::encode_close).
    #[must_use]
    pub const fn close() -> Self {
        Self::new(Opcode::Close)
    }

    /// As a client has to send it, masked with `key`, which must be fresh and unpredictable (RFC 6455 §5.3).
    #[must_use]
    pub const fn masked(mut self, key: [u8; 4]) -> Self {
        self.header.mask = Some(key);
        self
    }

    /// With reserved bits, where they stand on the wire: [`RSV1`](super::RSV1) says that a message is compressed.
    #[must_use]
    pub const fn rsv(mut self, bits: u8) -> Self {
        self.header.rsv = bits;
        self
    }

    /// Whether it is the last frame of its message (RFC 6455 §5.4). Control frames always are.
    #[must_use]
    pub const fn fin(mut self, fin: bool) -> Self {
        self.header.fin = fin || self.header.opcode.is_control();
        self
    }

    /// Bytes that the frame takes with a payload of so many bytes.
    #[must_use]
    pub const fn len_for(&self, payload_len: usize) -> usize {
        self.header(payload_len)
            .encoded_len()
            .saturating_add(payload_len)
    }

    /// The header before a payload of so many bytes.
    #[must_use]
    pub const fn header(&self, payload_len: usize) -> FrameHeader {
        let mut header = self.header;
        header.payload_len = payload_len as u64;
        header
    }

    /// Writes the frame to the front of `out`; returns its length.
    ///
    /// # Errors
    /// `BufferTooSmall`; `ControlFrameTooBig`.
    pub fn encode(&self, payload: &[u8], out: &mut [u8]) -> Result<usize, BuildError> {
        self.encode_parts([payload], out)
    }

    /// As [`encode`](Self::encode), of a payload in several parts.
    ///
    /// # Errors
    /// As `encode`.
    pub fn encode_parts<'a>(
        &self,
        parts: impl IntoIterator<Item = &'a [u8], IntoIter: Clone>,
        out: &mut [u8],
    ) -> Result<usize, BuildError> {
        let parts = parts.into_iter();
        let payload_len = parts.clone().map(<[u8]>::len).sum();
        if self.header.opcode.is_control() && payload_len > MAX_CONTROL_PAYLOAD {
            return Err(BuildError::ControlFrameTooBig);
        }
        let needed = self.len_for(payload_len);
        let out = out
            .get_mut(..needed)
            .ok_or(BuildError::BufferTooSmall { needed })?;
        let mut encoded = [0; MAX_HEADER_LEN];
        let header_len = self.header(payload_len).encode(&mut encoded);
        out[..header_len].copy_from_slice(&encoded[..header_len]);
        let mut at = header_len;
        for part in parts {
            out[at..at + part.len()].copy_from_slice(part);
            at += part.len();
        }
        if let Some(key) = self.header.mask {
            apply_mask(key, 0, &mut out[header_len..]);
        }
        Ok(needed)
    }

    /// Writes a frame with the payload of a close frame to the front of `out`; returns its length.
    ///
    /// # Errors
    /// `BufferTooSmall`.
    pub fn encode_close(
        &self,
        payload: &ClosePayload<'_>,
        out: &mut [u8],
    ) -> Result<usize, BuildError> {
        let mut encoded = [0; MAX_CONTROL_PAYLOAD];
        let len = payload.encode(&mut encoded);
        self.encode(&encoded[..len], out)
    }
}

/// With everything that the header says but the length, which is the payload's.
impl From<FrameHeader> for FrameBuilder {
    fn from(header: FrameHeader) -> Self {
        Self { header }
    }
}

impl fmt::Display for BuildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall { needed } => write!(f, "the frame needs {needed} bytes"),
            Self::ControlFrameTooBig => f.write_str("more than 125 bytes in a control frame"),
        }
    }
}

impl Error for BuildError {}

/// Splits a message into frames of at most so many bytes of payload (RFC 6455 §5.4): the first one says what it is, the
/// others continue it, the last one ends it.
///
/// ```
/// use wsloop::{MessageKind, protocol::Fragmenter};
///
/// let mut out = [0; 16];
/// let mut wire = Vec::new();
/// for (frame, part) in Fragmenter::new(MessageKind::Text, b"hello", 2) {
///     let len = frame.encode(part, &mut out)?;
///     wire.extend_from_slice(&out[..len]);
/// }
/// assert_eq!(wire, b"\x01\x02he\x00\x02ll\x80\x01o");
/// # Ok::<(), wsloop::protocol::BuildError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Fragmenter<'a> {
    opcode: Opcode,
    /// `None` when the last frame was given.
    rest: Option<&'a [u8]>,
    max: usize,
}

impl<'a> Fragmenter<'a> {
    /// Frames of at most `max` bytes; 0 counts as 1. An empty message is one empty frame.
    #[must_use]
    pub fn new(kind: MessageKind, payload: &'a [u8], max: usize) -> Self {
        Self {
            opcode: kind.opcode(),
            rest: Some(payload),
            max: max.max(1),
        }
    }
}

impl<'a> Iterator for Fragmenter<'a> {
    type Item = (FrameBuilder, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let rest = self.rest?;
        let (part, rest) = rest.split_at(rest.len().min(self.max));
        self.rest = (!rest.is_empty()).then_some(rest);
        let opcode = core::mem::replace(&mut self.opcode, Opcode::Continuation);
        Some((FrameBuilder::new(opcode).fin(rest.is_empty()), part))
    }
}

#[cfg(test)]
mod tests {
    use super::super::{CloseCode, RSV1};
    use super::*;

    #[test]
    fn every_kind_has_its_first_byte() {
        for (frame, first) in [
            (FrameBuilder::text(), 0x81),
            (FrameBuilder::binary(), 0x82),
            (FrameBuilder::close(), 0x88),
            (FrameBuilder::ping(), 0x89),
            (FrameBuilder::pong(), 0x8A),
            (FrameBuilder::text().fin(false), 0x01),
            (FrameBuilder::binary().rsv(RSV1), 0xC2),
            (FrameBuilder::ping().fin(false), 0x89),
        ] {
            let mut out = [0; 4];
            assert_eq!(frame.encode(b"ab", &mut out), Ok(4));
            assert_eq!(out, [first, 2, b'a', b'b']);
        }
    }

    #[test]
    fn a_frame_fits_just_what_it_says() {
        for payload_len in [0, 1, 125, 126, 65_535, 65_536] {
            for frame in [
                FrameBuilder::binary(),
                FrameBuilder::binary().masked([9, 8, 7, 6]),
            ] {
                let payload = vec![5; payload_len];
                let needed = frame.len_for(payload_len);
                let mut out = vec![0; needed];
                assert_eq!(
                    frame.encode(&payload, &mut out[1..]),
                    Err(BuildError::BufferTooSmall { needed })
                );
                assert_eq!(frame.encode(&payload, &mut out), Ok(needed));
                let Ok(super::super::ParsedHeader::Complete(header, header_len)) =
                    FrameHeader::parse(&out)
                else {
                    panic!("not a header");
                };
                assert_eq!(header.payload_len, payload_len as u64);
                if let Some(key) = header.mask {
                    apply_mask(key, 0, &mut out[header_len..]);
                }
                assert!(out[header_len..] == payload);
            }
        }
    }

    #[test]
    fn control_frames_are_short() {
        let mut out = [0; 200];
        let refused = FrameBuilder::ping().encode(&[0; 126], &mut out);
        assert_eq!(refused, Err(BuildError::ControlFrameTooBig));
        assert_eq!(FrameBuilder::ping().encode(&[0; 125], &mut out), Ok(127));
    }

    #[test]
    fn a_close_frame_has_code_and_reason() {
        let mut out = [0; 20];
        let payload = ClosePayload::new(CloseCode::GOING_AWAY, "bye");
        assert_eq!(
            FrameBuilder::close().encode_close(&payload, &mut out),
            Ok(7)
        );
        assert_eq!(out[..7], *b"\x88\x05\x03\xe9bye");
    }

    #[test]
    fn parts_make_one_payload() {
        let mut out = [0; 20];
        let parts: [&[u8]; 3] = [b"ab", b"", b"c"];
        assert_eq!(FrameBuilder::text().encode_parts(parts, &mut out), Ok(5));
        assert_eq!(out[..5], *b"\x81\x03abc");
    }

    #[test]
    fn a_message_is_split_at_every_size() {
        let payload: Vec<u8> = (0..50).collect();
        for len in 0..payload.len() {
            for max in 0..60 {
                let payload = &payload[..len];
                let frames: Vec<_> = Fragmenter::new(MessageKind::Binary, payload, max).collect();
                assert_eq!(frames.len(), len.div_ceil(max.max(1)).max(1));
                let parts: Vec<&[u8]> = frames.iter().map(|(_, part)| *part).collect();
                assert_eq!(parts.concat(), payload);
                assert!(parts.iter().all(|part| part.len() <= max.max(1)));
                let heads: Vec<_> = frames
                    .iter()
                    .map(|(frame, _)| (frame.header.opcode, frame.header.fin))
                    .collect();
                for (index, (opcode, fin)) in heads.iter().enumerate() {
                    let first = index == 0;
                    let expected = if first {
                        Opcode::Binary
                    } else {
                        Opcode::Continuation
                    };
                    assert_eq!((*opcode, *fin), (expected, index + 1 == heads.len()));
                }
            }
        }
    }
}
