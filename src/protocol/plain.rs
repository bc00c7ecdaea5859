use super::{
    MessageKind,
    frame::{FIN, KEY_LEN, LENGTH, LENGTH_16, LENGTH_64, MASKED},
};

const TEXT: u8 = FIN | MessageKind::Text.opcode().bits();
const BINARY: u8 = FIN | MessageKind::Binary.opcode().bits();

/// The header of a message in one frame, not compressed and below 64 KiB (RFC 6455 §5.2): what nearly all are. Everything
/// else, and everything that is wrong, is a [`FrameHeader`](super::FrameHeader)'s matter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PlainHeader {
    pub(crate) kind: MessageKind,
    pub(crate) mask: Option<[u8; KEY_LEN]>,
    /// Bytes of the header itself.
    pub(crate) len: usize,
    pub(crate) payload_len: usize,
}

impl PlainHeader {
    /// Of longer messages the header is another one.
    pub(crate) const MAX_PAYLOAD: usize = u16::MAX as usize;
    /// Bytes of the longer one of the unmasked headers.
    pub(crate) const MAX_UNMASKED_LEN: usize = 4;

    /// Reads the header at the front of `bytes`, `masked` or not; `None` when it is no such one, not whole, or wrong.
    #[inline(always)]
    pub(crate) fn parse(bytes: &[u8], masked: bool) -> Option<Self> {
        let [first, second, rest @ ..] = bytes else {
            return None;
        };
        let kind = match *first {
            TEXT => MessageKind::Text,
            BINARY => MessageKind::Binary,
            _ => return None,
        };
        if (second & MASKED != 0) != masked {
            return None;
        }
        let (payload_len, length_len) = match second & LENGTH {
            LENGTH_16 => match u16::from_be_bytes(*rest.first_chunk()?).into() {
                minimal if minimal >= usize::from(LENGTH_16) => (minimal, 2),
                _ => return None,
            },
            LENGTH_64 => return None,
            short => (usize::from(short), 0),
        };
        let len = 2 + length_len;
        let unmasked = Self {
            kind,
            mask: None,
            len,
            payload_len,
        };
        if !masked {
            return Some(unmasked);
        }
        Some(Self {
            mask: Some(*rest[length_len..].first_chunk()?),
            len: len + KEY_LEN,
            ..unmasked
        })
    }

    /// Bytes of the header of an unmasked message of so many bytes, below 64 KiB.
    #[inline]
    pub(crate) fn unmasked_len(payload_len: usize) -> usize {
        if payload_len < usize::from(LENGTH_16) {
            2
        } else {
            Self::MAX_UNMASKED_LEN
        }
    }

    /// Writes the header of an unmasked message of so many bytes, below 64 KiB, into `out`, which has just the length for it.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "longer messages have other headers"
    )]
    pub(crate) fn encode_unmasked(kind: MessageKind, payload_len: usize, out: &mut [u8]) {
        debug_assert!(payload_len <= Self::MAX_PAYLOAD);
        let kind = match kind {
            MessageKind::Text => TEXT,
            MessageKind::Binary => BINARY,
        };
        let [high, low] = (payload_len as u16).to_be_bytes();
        match out {
            [first, second] => (*first, *second) = (kind, low),
            [first, second, third, fourth] => {
                (*first, *second, *third, *fourth) = (kind, LENGTH_16, high, low);
            }
            _ => debug_assert!(false, "{} bytes are no header's length", out.len()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{FrameHeader, MAX_HEADER_LEN, ParsedHeader},
        *,
    };

    /// All first two bytes, before lengths and keys of many kinds, cut everywhere.
    #[test]
    fn a_plain_header_says_what_the_whole_parser_says() {
        let tails: [&[u8]; 4] = [
            &[0; 12],
            &[0, 126, 1, 2, 3, 4, 5],
            &[0, 125, 9, 9, 9, 9],
            &[0xFF; 12],
        ];
        let mut plain = 0;
        for start in 0..=u16::MAX {
            for tail in tails {
                let bytes = [&start.to_be_bytes(), tail].concat();
                for end in 0..=bytes.len() {
                    let bytes = &bytes[..end];
                    for masked in [false, true] {
                        let Some(found) = PlainHeader::parse(bytes, masked) else {
                            continue;
                        };
                        plain += 1;
                        assert_eq!(found.mask.is_some(), masked);
                        let header = FrameHeader {
                            mask: found.mask,
                            ..FrameHeader::new(found.kind.opcode(), found.payload_len as u64)
                        };
                        let whole = FrameHeader::parse(bytes);
                        assert_eq!(whole, Ok(ParsedHeader::Complete(header, found.len)));
                    }
                }
            }
        }
        assert!(plain > 1000);
    }

    #[test]
    fn what_is_encoded_is_what_the_whole_encoder_writes() {
        for kind in [MessageKind::Text, MessageKind::Binary] {
            for len in (0..300).chain([0x7FFF, 0xFFFE, 0xFFFF]) {
                let mut whole = [0; MAX_HEADER_LEN];
                let header_len = FrameHeader::new(kind.opcode(), len as u64).encode(&mut whole);
                assert_eq!(PlainHeader::unmasked_len(len), header_len);
                let mut out = vec![0; header_len];
                PlainHeader::encode_unmasked(kind, len, &mut out);
                assert_eq!(out, whole[..header_len]);
            }
        }
    }
}
