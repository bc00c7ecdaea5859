use super::{Opcode, ProtocolError};

/// The longest frame header in bytes: two, a 64-bit length and a mask key (RFC 6455 §5.2).
pub const MAX_HEADER_LEN: usize = 14;
/// The largest payload of a control frame in bytes (RFC 6455 §5.5).
pub const MAX_CONTROL_PAYLOAD: usize = 125;

/// The bit of the first byte that says "last frame of its message".
pub(crate) const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
/// The reserved bit that says that a message is compressed, on its first frame (RFC 7692 §6).
pub const RSV1: u8 = 0x40;
pub(super) const MASKED: u8 = 0x80;
pub(super) const LENGTH: u8 = 0x7F;
/// Length values that say "the next two bytes" and "the next eight bytes".
pub(super) const LENGTH_16: u8 = 126;
pub(super) const LENGTH_64: u8 = 127;
pub(super) const KEY_LEN: usize = 4;

/// A frame header (RFC 6455 §5.2), as it stands on the wire: whether a peer may send it is the matter of
/// [`Rules`](super::Rules).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameHeader {
    /// True exactly on the last frame of a message and on control frames.
    pub fin: bool,
    /// The reserved bits where they stand on the wire: RSV1 is 0x40, RSV2 0x20, RSV3 0x10.
    pub rsv: u8,
    /// What the frame is.
    pub opcode: Opcode,
    /// The mask key, `None` for an unmasked frame.
    pub mask: Option<[u8; 4]>,
    /// Bytes of payload behind the header; below 2^63.
    pub payload_len: u64,
}

/// What [`FrameHeader::parse`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParsedHeader {
    /// A whole header, and its length in bytes (2–14).
    Complete(FrameHeader, usize),
    /// The header goes on: at least so many more bytes are needed.
    Incomplete {
        /// Never 0.
        missing: usize,
    },
}

impl FrameHeader {
    /// The header of an unmasked, unfragmented frame.
    #[must_use]
    pub const fn new(opcode: Opcode, payload_len: u64) -> Self {
        Self {
            fin: true,
            rsv: 0,
            opcode,
            mask: None,
            payload_len,
        }
    }

    /// Reads the header at the front of `bytes`.
    ///
    /// # Errors
    /// `NonMinimalLength` and `LengthOverflow`, as soon as the length can be seen.
    #[inline]
    pub fn parse(bytes: &[u8]) -> Result<ParsedHeader, ProtocolError> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(ParsedHeader::Incomplete {
                missing: 2 - bytes.len(),
            });
        };
        let (payload_len, length_len) = match second & LENGTH {
            LENGTH_16 => match rest.first_chunk::<2>() {
                Some(length) => (u64::from(u16::from_be_bytes(*length)), 2),
                None => return Ok(Self::incomplete(*second, 2, rest.len())),
            },
            LENGTH_64 => match rest.first_chunk::<8>() {
                Some(length) => (u64::from_be_bytes(*length), 8),
                None => return Ok(Self::incomplete(*second, 8, rest.len())),
            },
            short => (u64::from(short), 0),
        };
        check_length(payload_len, length_len)?;
        let mask = if second & MASKED == 0 {
            None
        } else {
            match rest[length_len..].first_chunk::<KEY_LEN>() {
                Some(key) => Some(*key),
                None => return Ok(Self::incomplete(*second, length_len, rest.len())),
            }
        };
        let header = Self {
            fin: first & FIN != 0,
            rsv: first & RSV,
            opcode: Opcode::from_bits(*first),
            mask,
            payload_len,
        };
        Ok(ParsedHeader::Complete(
            header,
            2 + length_len + if mask.is_some() { KEY_LEN } else { 0 },
        ))
    }

    fn incomplete(second: u8, length_len: usize, have: usize) -> ParsedHeader {
        let key_len = if second & MASKED == 0 { 0 } else { KEY_LEN };
        ParsedHeader::Incomplete {
            missing: length_len + key_len - have,
        }
    }

    /// Length of this header on the wire in bytes (2–14).
    #[must_use]
    pub const fn encoded_len(&self) -> usize {
        let length_len = match self.payload_len {
            0..=125 => 0,
            126..=0xFFFF => 2,
            _ => 8,
        };
        2 + length_len + if self.mask.is_some() { KEY_LEN } else { 0 }
    }

    /// Writes the header to the front of `out` with the length in its shortest form, and returns its length (2–14 bytes).
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "each arm's range fits its type"
    )]
    pub fn encode(&self, out: &mut [u8; MAX_HEADER_LEN]) -> usize {
        out[0] = if self.fin { FIN } else { 0 } | (self.rsv & RSV) | self.opcode.bits();
        let mut len = match self.payload_len {
            short @ 0..=125 => {
                out[1] = short as u8;
                2
            }
            medium @ 126..=0xFFFF => {
                out[1] = LENGTH_16;
                out[2..4].copy_from_slice(&(medium as u16).to_be_bytes());
                4
            }
            long => {
                out[1] = LENGTH_64;
                out[2..10].copy_from_slice(&long.to_be_bytes());
                10
            }
        };
        if let Some(key) = self.mask {
            out[1] |= MASKED;
            out[len..len + KEY_LEN].copy_from_slice(&key);
            len += KEY_LEN;
        }
        len
    }
}

/// RFC 6455 §5.2: "the minimal number of bytes MUST be used", and the top bit of 64 must be clear.
#[inline]
fn check_length(payload_len: u64, length_len: usize) -> Result<(), ProtocolError> {
    match length_len {
        2 if payload_len < u64::from(LENGTH_16) => Err(ProtocolError::NonMinimalLength),
        8 if payload_len > i64::MAX as u64 => Err(ProtocolError::LengthOverflow),
        8 if payload_len <= 0xFFFF => Err(ProtocolError::NonMinimalLength),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::{
        ChaCha8Rng,
        rand_core::{Rng, SeedableRng},
    };

    use super::*;

    fn encode(header: FrameHeader) -> Vec<u8> {
        let mut out = [0; MAX_HEADER_LEN];
        let len = header.encode(&mut out);
        assert_eq!(len, header.encoded_len());
        out[..len].to_vec()
    }

    #[test]
    fn the_samples_of_section_5_7() {
        assert_eq!(encode(FrameHeader::new(Opcode::Text, 5)), [0x81, 0x05]);
        let masked = FrameHeader {
            mask: Some([0x37, 0xfa, 0x21, 0x3d]),
            ..FrameHeader::new(Opcode::Text, 5)
        };
        assert_eq!(encode(masked), [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d]);
        let fragment = FrameHeader {
            fin: false,
            ..FrameHeader::new(Opcode::Text, 3)
        };
        assert_eq!(encode(fragment), [0x01, 0x03]);
        assert_eq!(
            encode(FrameHeader::new(Opcode::Binary, 256)),
            [0x82, 0x7E, 0x01, 0x00]
        );
        assert_eq!(
            encode(FrameHeader::new(Opcode::Binary, 65536)),
            [0x82, 0x7F, 0, 0, 0, 0, 0, 1, 0, 0]
        );
    }

    #[test]
    fn headers_survive_a_round_trip_and_every_prefix_says_what_is_missing() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let edges = [
            0,
            1,
            125,
            126,
            127,
            0xFFFF,
            0x1_0000,
            1 << 32,
            i64::MAX as u64,
        ];
        for round in 0..4000 {
            let payload_len = if round % 2 == 0 {
                edges[round / 2 % edges.len()]
            } else {
                rng.next_u64() >> (1 + rng.next_u32() % 63)
            };
            let header = FrameHeader {
                fin: rng.next_u32() % 2 == 0,
                rsv: rng.next_u32() as u8 & RSV,
                opcode: Opcode::from_bits(rng.next_u32() as u8),
                mask: (rng.next_u32() % 2 == 0).then(|| rng.next_u32().to_le_bytes()),
                payload_len,
            };
            let wire = encode(header);
            assert_eq!(
                FrameHeader::parse(&wire),
                Ok(ParsedHeader::Complete(header, wire.len()))
            );
            for cut in 0..wire.len() {
                match FrameHeader::parse(&wire[..cut]).unwrap() {
                    ParsedHeader::Incomplete { missing } if cut >= 2 => {
                        assert_eq!(missing, wire.len() - cut)
                    }
                    ParsedHeader::Incomplete { missing } => assert_eq!(missing, 2 - cut),
                    complete => panic!("{complete:?} from {cut} bytes of {wire:?}"),
                }
            }
        }
    }

    #[test]
    fn lengths_that_are_not_minimal_are_refused_before_the_key_arrives() {
        for length in [0u16, 1, 125] {
            let [high, low] = length.to_be_bytes();
            assert_eq!(
                FrameHeader::parse(&[0x82, 0xFE, high, low]),
                Err(ProtocolError::NonMinimalLength)
            );
        }
        for length in [0u64, 126, 0xFFFF] {
            let wire = [&[0x82, 0xFF][..], &length.to_be_bytes()].concat();
            assert_eq!(
                FrameHeader::parse(&wire),
                Err(ProtocolError::NonMinimalLength)
            );
        }
    }

    #[test]
    fn the_top_bit_of_a_64_bit_length_is_refused() {
        for length in [1 << 63, u64::MAX] {
            let wire = [&[0x82, 0xFF][..], &length.to_be_bytes()].concat();
            assert_eq!(
                FrameHeader::parse(&wire),
                Err(ProtocolError::LengthOverflow)
            );
        }
    }
}
