use std::{fmt, io::IoSlice};

use bytes::Bytes;

use crate::{memory::PoolBuf, protocol::apply_mask};

/// What a message is made of when its bytes are handed over with `send`.
///
/// It is moved into the loop and comes back when it was written or discarded; that is what makes sending without a copy
/// safe. There is a `From` for what people have in hand.
#[non_exhaustive]
pub enum Payload {
    /// Bytes that live for ever.
    Static(&'static [u8]),
    /// Bytes that others share.
    Shared(Bytes),
    /// Bytes of the caller's.
    Owned(Vec<u8>),
    /// A buffer of the loop's pool.
    Pooled(PoolBuf),
    /// Several payloads that together are one message.
    Parts(Vec<Payload>),
}

impl Payload {
    /// Length in bytes, of all parts together.
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Parts(parts) => parts.iter().map(Self::len).sum(),
            single => single.as_slice().map_or(0, <[u8]>::len),
        }
    }

    /// True exactly when there is not one byte in it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The bytes, or `None` when they lie in several parts.
    #[must_use]
    pub fn as_slice(&self) -> Option<&[u8]> {
        match self {
            Self::Static(bytes) => Some(bytes),
            Self::Shared(bytes) => Some(bytes),
            Self::Owned(bytes) => Some(bytes),
            Self::Pooled(bytes) => Some(bytes),
            Self::Parts(_) => None,
        }
    }

    /// The bytes in a vector: moved when they are `Owned`, copied otherwise.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        match self {
            Self::Owned(bytes) => bytes,
            Self::Parts(parts) => parts.into_iter().flat_map(Self::into_vec).collect(),
            single => single.as_slice().map(<[u8]>::to_vec).unwrap_or_default(),
        }
    }

    /// Masks (or unmasks) the bytes in place, as the payload of one frame. False, with nothing changed, when they are shared
    /// with others.
    pub(crate) fn apply_mask(&mut self, key: [u8; 4]) -> bool {
        self.is_exclusive() && {
            self.mask_from(key, 0);
            true
        }
    }

    /// True exactly when nobody else sees the bytes.
    fn is_exclusive(&self) -> bool {
        match self {
            Self::Owned(_) | Self::Pooled(_) => true,
            Self::Static(bytes) => bytes.is_empty(),
            Self::Shared(bytes) => bytes.is_empty(),
            Self::Parts(parts) => parts.iter().all(Self::is_exclusive),
        }
    }

    /// Masks bytes that begin at `offset` of the frame; returns the offset behind them.
    fn mask_from(&mut self, key: [u8; 4], offset: usize) -> usize {
        let bytes = match self {
            Self::Owned(bytes) => &mut bytes[..],
            Self::Pooled(bytes) => &mut bytes[..],
            Self::Static(_) | Self::Shared(_) => &mut [],
            Self::Parts(parts) => {
                return parts
                    .iter_mut()
                    .fold(offset, |offset, part| part.mask_from(key, offset));
            }
        };
        apply_mask(key, offset, bytes);
        offset + bytes.len()
    }

    /// Copies all parts to `out`, which has just their length.
    pub(crate) fn copy_to(&self, out: &mut [u8]) {
        match self {
            Self::Parts(parts) => {
                let mut at = 0;
                for part in parts {
                    part.copy_to(&mut out[at..at + part.len()]);
                    at += part.len();
                }
            }
            single => out.copy_from_slice(single.as_slice().unwrap_or_default()),
        }
    }

    /// Writes the slices behind the first `skip` bytes to the front of `slices`; returns how many slices were written and
    /// how many bytes are in them. Stops when `slices` is full.
    pub(crate) fn fill<'a>(&'a self, skip: usize, slices: &mut [IoSlice<'a>]) -> (usize, usize) {
        let mut cursor = Cursor {
            slices,
            used: 0,
            bytes: 0,
            skip,
        };
        cursor.add(self);
        (cursor.used, cursor.bytes)
    }
}

struct Cursor<'s, 'a> {
    slices: &'s mut [IoSlice<'a>],
    used: usize,
    bytes: usize,
    /// Bytes still to be left out.
    skip: usize,
}

impl<'a> Cursor<'_, 'a> {
    fn add(&mut self, payload: &'a Payload) {
        match payload {
            Payload::Parts(parts) => parts.iter().for_each(|part| self.add(part)),
            single => self.add_slice(single.as_slice().unwrap_or_default()),
        }
    }

    fn add_slice(&mut self, slice: &'a [u8]) {
        let rest = &slice[self.skip.min(slice.len())..];
        self.skip -= slice.len() - rest.len();
        if !rest.is_empty() && self.used < self.slices.len() {
            self.slices[self.used] = IoSlice::new(rest);
            self.used += 1;
            self.bytes += rest.len();
        }
    }
}

/// Says kind and length: contents can be secret, and long.
impl fmt::Debug for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self {
            Self::Static(_) => "Static",
            Self::Shared(_) => "Shared",
            Self::Owned(_) => "Owned",
            Self::Pooled(_) => "Pooled",
            Self::Parts(_) => "Parts",
        };
        write!(f, "{kind}({} bytes)", self.len())
    }
}

impl From<&'static str> for Payload {
    fn from(text: &'static str) -> Self {
        Self::Static(text.as_bytes())
    }
}

impl From<&'static [u8]> for Payload {
    fn from(bytes: &'static [u8]) -> Self {
        Self::Static(bytes)
    }
}

impl<const N: usize> From<&'static [u8; N]> for Payload {
    fn from(bytes: &'static [u8; N]) -> Self {
        Self::Static(bytes)
    }
}

impl From<String> for Payload {
    fn from(text: String) -> Self {
        Self::Owned(text.into_bytes())
    }
}

impl From<Vec<u8>> for Payload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Owned(bytes)
    }
}

impl From<Box<[u8]>> for Payload {
    fn from(bytes: Box<[u8]>) -> Self {
        Self::Owned(bytes.into_vec())
    }
}

impl From<Bytes> for Payload {
    fn from(bytes: Bytes) -> Self {
        Self::Shared(bytes)
    }
}

impl From<PoolBuf> for Payload {
    fn from(buffer: PoolBuf) -> Self {
        Self::Pooled(buffer)
    }
}

impl From<Vec<Payload>> for Payload {
    fn from(parts: Vec<Payload>) -> Self {
        Self::Parts(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_skip_of_nested_parts_gives_the_rest() {
        let payload = Payload::from(vec![
            Payload::from("ab"),
            Payload::from(vec![
                Payload::from(""),
                Payload::from(vec![b'c', b'd', b'e']),
            ]),
            Payload::from(Bytes::from_static(b"f")),
        ]);
        assert_eq!(payload.len(), 6);
        for skip in 0..=6 {
            let mut slices = [IoSlice::new(&[]); 8];
            let (used, bytes) = payload.fill(skip, &mut slices);
            let joined: Vec<u8> = slices[..used]
                .iter()
                .flat_map(|slice| slice.to_vec())
                .collect();
            assert_eq!(joined, b"abcdef"[skip..]);
            assert_eq!(bytes, 6 - skip);
        }
        assert_eq!(payload.into_vec(), b"abcdef");
    }

    #[test]
    fn only_bytes_of_ones_own_are_masked_and_parts_are_one_frame() {
        let key = [1, 2, 3, 4];
        let mut parts = Payload::from(vec![
            Payload::from(vec![0; 3]),
            Payload::from(""),
            Payload::from(vec![0; 3]),
        ]);
        assert!(parts.apply_mask(key));
        assert_eq!(parts.into_vec(), [1, 2, 3, 4, 1, 2]);
        let mut mixed = Payload::from(vec![Payload::from(vec![0; 3]), Payload::from("x")]);
        assert!(!mixed.apply_mask(key));
        let mut copy = [9; 4];
        mixed.copy_to(&mut copy);
        assert_eq!(copy, [0, 0, 0, b'x'], "nothing was changed");
    }

    #[test]
    fn more_parts_than_slices_are_left_for_the_next_time() {
        let payload = Payload::from((0..5).map(|_| Payload::from("xy")).collect::<Vec<_>>());
        let mut slices = [IoSlice::new(&[]); 3];
        assert_eq!(payload.fill(1, &mut slices), (3, 5));
    }
}
