//! Control frames that wait for their turn on the wire.

/// Bytes of the ring: as many as a `u8` can index, so that positions wrap by themselves.
pub(crate) const CAPACITY: usize = 256;

/// First frame byte and payload length.
const HEADER_LEN: u8 = 2;

/// RFC 6455 §5.5.
const MAX_PAYLOAD_LEN: u8 = 125;

/// Longest frame in bytes, header included.
pub(crate) const MAX_FRAME_LEN: usize = (HEADER_LEN + MAX_PAYLOAD_LEN) as usize;

/// No room for the frame: the ring is as it was.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct RingFull;

/// A queue of control frames, oldest first, in 256 bytes.
///
/// A frame takes two bytes and its payload, which is exactly its form on the wire without a mask. Two of the longest
/// and an empty one fill the ring: 127 + 127 + 2.
#[derive(Clone, Debug)]
pub(crate) struct ControlRing {
    /// Whole frames back to back, `len` bytes from `head` on, around the end.
    bytes: [u8; CAPACITY],
    /// Where the oldest frame begins.
    head: u8,
    /// Bytes in use, at most [`CAPACITY`].
    len: u16,
}

impl Default for ControlRing {
    fn default() -> Self {
        Self {
            bytes: [0; CAPACITY],
            head: 0,
            len: 0,
        }
    }
}

impl ControlRing {
    /// Appends a frame: `first_byte` is FIN and opcode, `payload` at most 125 bytes, as the caller has checked.
    /// RFC 6455 §5.5.
    ///
    /// # Errors
    ///
    /// [`RingFull`] if header and payload take more than [`free`](Self::free) bytes.
    pub(crate) fn push(&mut self, first_byte: u8, payload: &[u8]) -> Result<(), RingFull> {
        let short = u8::try_from(payload.len())
            .ok()
            .filter(|&len| len <= MAX_PAYLOAD_LEN);
        debug_assert!(
            short.is_some(),
            "a control frame has at most 125 bytes of payload"
        );
        // Refused in release too: `pop` has no room for more.
        let payload_len = short.ok_or(RingFull)?;
        let frame_len = HEADER_LEN + payload_len;
        if usize::from(frame_len) > self.free() {
            return Err(RingFull);
        }
        self.write(0, &[first_byte, payload_len]);
        self.write(HEADER_LEN, payload);
        self.len += u16::from(frame_len);
        self.invariants();
        Ok(())
    }

    /// Moves the oldest frame to the front of `out` and returns its length, header included.
    pub(crate) fn pop(&mut self, out: &mut [u8; MAX_FRAME_LEN]) -> Option<usize> {
        if self.is_empty() {
            return None;
        }
        let frame_len = self.frame_len_at(self.head);
        self.read(&mut out[..usize::from(frame_len)]);
        self.head = self.head.wrapping_add(frame_len);
        self.len -= u16::from(frame_len);
        self.invariants();
        Some(usize::from(frame_len))
    }

    /// True exactly when no frame waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Drops all frames.
    pub(crate) fn clear(&mut self) {
        (self.head, self.len) = (0, 0);
    }

    /// Bytes not in use; a frame takes two and its payload.
    pub(crate) fn free(&self) -> usize {
        CAPACITY - usize::from(self.len)
    }

    /// Copies `source` to the unused bytes from number `offset` on.
    fn write(&mut self, offset: u8, source: &[u8]) {
        let start =
            (usize::from(self.head) + usize::from(self.len) + usize::from(offset)) % CAPACITY;
        let (until_end, wrapped) = source.split_at(source.len().min(CAPACITY - start));
        self.bytes[start..start + until_end.len()].copy_from_slice(until_end);
        self.bytes[..wrapped.len()].copy_from_slice(wrapped);
    }

    /// Fills `target` with the oldest bytes.
    fn read(&self, target: &mut [u8]) {
        let start = usize::from(self.head);
        let (until_end, wrapped) = target.split_at_mut(target.len().min(CAPACITY - start));
        until_end.copy_from_slice(&self.bytes[start..start + until_end.len()]);
        wrapped.copy_from_slice(&self.bytes[..wrapped.len()]);
    }

    /// Length, header included, of the frame that begins at `position`.
    fn frame_len_at(&self, position: u8) -> u8 {
        HEADER_LEN + self.bytes[usize::from(position.wrapping_add(1))]
    }

    /// The frames from `head` on end exactly where the used bytes end.
    fn invariants(&self) {
        if !cfg!(debug_assertions) {
            return;
        }
        assert!(usize::from(self.len) <= CAPACITY);
        let (mut position, mut walked) = (self.head, 0);
        while walked < self.len {
            let frame_len = self.frame_len_at(position);
            assert!(usize::from(frame_len) <= MAX_FRAME_LEN);
            position = position.wrapping_add(frame_len);
            walked += u16::from(frame_len);
        }
        assert_eq!(walked, self.len);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::{CAPACITY, ControlRing, MAX_FRAME_LEN, RingFull};

    fn pop(ring: &mut ControlRing) -> Option<Vec<u8>> {
        let mut out = [0; MAX_FRAME_LEN];
        let length = ring.pop(&mut out)?;
        Some(out[..length].to_vec())
    }

    #[test]
    fn popped_frames_are_wire_frames() {
        let mut ring = ControlRing::default();
        ring.push(0x89, b"Hello").unwrap();
        // RFC 6455 §5.7: an unmasked ping.
        assert_eq!(pop(&mut ring).unwrap(), b"\x89\x05Hello");
        assert_eq!(pop(&mut ring), None);
    }

    #[test]
    fn two_longest_and_an_empty_frame_fit_from_every_position() {
        let mut ring = ControlRing::default();
        for _ in 0..CAPACITY {
            assert_eq!(ring.free(), CAPACITY);
            ring.push(0x8a, &[1; 125]).unwrap();
            ring.push(0x89, &[2; 125]).unwrap();
            assert_eq!(ring.push(0x89, &[3]), Err(RingFull));
            ring.push(0x88, &[]).unwrap();
            assert_eq!(ring.free(), 0);
            assert_eq!(ring.push(0x88, &[]), Err(RingFull));
            assert_eq!(
                pop(&mut ring).unwrap(),
                [&[0x8a, 125][..], &[1; 125]].concat()
            );
            assert_eq!(
                pop(&mut ring).unwrap(),
                [&[0x89, 125][..], &[2; 125]].concat()
            );
            assert_eq!(pop(&mut ring).unwrap(), [0x88, 0]);
            assert!(ring.is_empty());
            // Three bytes on: 3 and 256 have no common factor, so every position comes up.
            ring.push(0x89, &[4]).unwrap();
            pop(&mut ring).unwrap();
        }
    }

    #[test]
    fn clear_drops_everything() {
        let mut ring = ControlRing::default();
        ring.push(0x89, &[7; 100]).unwrap();
        ring.clear();
        assert!(ring.is_empty());
        assert_eq!((ring.free(), pop(&mut ring)), (CAPACITY, None));
    }

    #[test]
    fn fuzz_against_a_deque() {
        let mut rng = ChaCha8Rng::seed_from_u64(0x7269_6e67);
        let mut ring = ControlRing::default();
        let mut model = VecDeque::<Vec<u8>>::new();
        for _ in 0..100_000 {
            match rng.next_u32() % 100 {
                0 => {
                    ring.clear();
                    model.clear();
                }
                1..50 => assert_eq!(pop(&mut ring), model.pop_front()),
                _ => push_both(&mut rng, &mut ring, &mut model),
            }
            let used: usize = model.iter().map(Vec::len).sum();
            assert_eq!(
                (ring.free(), ring.is_empty()),
                (CAPACITY - used, model.is_empty())
            );
        }
    }

    fn push_both(rng: &mut ChaCha8Rng, ring: &mut ControlRing, model: &mut VecDeque<Vec<u8>>) {
        let longest = [4, 126][rng.next_u32() as usize % 2];
        let mut payload = vec![0; rng.next_u32() as usize % longest];
        rng.fill_bytes(&mut payload);
        let first_byte = rng.next_u32() as u8;
        let used: usize = model.iter().map(Vec::len).sum();
        let fits = used + 2 + payload.len() <= CAPACITY;
        assert_eq!(ring.push(first_byte, &payload).is_ok(), fits);
        if fits {
            model.push_back([&[first_byte, payload.len() as u8][..], &payload].concat());
        }
    }
}
