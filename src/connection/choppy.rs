//! What the tests of this folder share: input that arrives in pieces, and a naive frame codec to compare with.

use rand_chacha::{ChaCha8Rng, rand_core::Rng};

/// Input that arrives in pieces, as a network would cut it, and worse.
pub(super) struct Choppy<'a> {
    input: &'a [u8],
    position: usize,
    cut: Cut,
}

/// Where a piece ends.
#[derive(Clone)]
pub(super) enum Cut {
    /// In two pieces.
    At(usize),
    /// In pieces of so many bytes.
    Every(usize),
    /// In pieces of any size, most of them small.
    Random(Box<ChaCha8Rng>),
}

impl<'a> Choppy<'a> {
    pub(super) fn new(input: &'a [u8], cut: Cut) -> Self {
        Self {
            input,
            position: 0,
            cut,
        }
    }

    /// Moves the next piece to the front of `room`, or as much of it as there is room for; returns its length. Zero exactly
    /// at the end or without room.
    pub(super) fn read(&mut self, room: &mut [u8]) -> usize {
        let rest = &self.input[self.position..];
        let piece = match &mut self.cut {
            Cut::At(at) if self.position < *at => *at - self.position,
            Cut::At(_) => rest.len(),
            Cut::Every(len) => *len,
            Cut::Random(rng) => {
                let most = [1, 4, 20, 200, 5_000, 100_000][below(rng, 6)];
                1 + below(rng, most)
            }
        };
        let len = piece.min(rest.len()).min(room.len());
        room[..len].copy_from_slice(&rest[..len]);
        self.position += len;
        len
    }

    /// Bytes that have arrived.
    pub(super) fn position(&self) -> usize {
        self.position
    }

    pub(super) fn is_at_end(&self) -> bool {
        self.position == self.input.len()
    }
}

/// A number below `bound`, which is not zero.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    rng.next_u32() as usize % bound
}

/// One frame, encoded by the book (RFC 6455 §5.2).
pub(super) fn frame(first: u8, key: Option<[u8; 4]>, payload: &[u8]) -> Vec<u8> {
    let masked = if key.is_some() { 0x80 } else { 0 };
    let mut bytes = vec![first];
    match payload.len() {
        len @ 0..126 => bytes.push(masked | len as u8),
        len @ 126..65_536 => {
            bytes.push(masked | 126);
            bytes.extend((len as u16).to_be_bytes());
        }
        len => {
            bytes.push(masked | 127);
            bytes.extend((len as u64).to_be_bytes());
        }
    }
    bytes.extend(key.into_iter().flatten());
    let key = key.unwrap_or_default();
    bytes.extend(
        payload
            .iter()
            .enumerate()
            .map(|(index, byte)| byte ^ key[index % 4]),
    );
    bytes
}

/// First byte and payload of every frame; panics unless `wire` is nothing but whole, unmasked frames of the shortest form.
pub(super) fn decode(mut wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while !wire.is_empty() {
        let (header_len, len) = match wire[1] {
            126 => (4, u16::from_be_bytes([wire[2], wire[3]]) as usize),
            127 => (
                10,
                u64::from_be_bytes(wire[2..10].try_into().unwrap()) as usize,
            ),
            short => (2, usize::from(short)),
        };
        let payload = wire[header_len..header_len + len].to_vec();
        let encoded = frame(wire[0], None, &payload);
        assert_eq!(
            &encoded[..],
            &wire[..encoded.len()],
            "not the shortest form"
        );
        wire = &wire[encoded.len()..];
        frames.push((encoded[0], payload));
    }
    frames
}
