//! Masking of client payloads.

#[cfg(feature = "simd")]
use std::sync::LazyLock;

#[cfg(feature = "simd")]
use fearless_simd::{Level, dispatch};

/// XORs `data` in place with the masking `key`; masking twice gives the original back. RFC 6455 §5.3.
///
/// `data[0]` is byte number `offset` of the frame's payload, so a payload may be unmasked piece by piece as it
/// arrives. Only `offset` modulo 4 matters: a caller whose count is longer than `usize` may pass its low bits.
#[inline]
pub fn apply_mask(key: [u8; 4], offset: usize, data: &mut [u8]) {
    let key = rotate_key(u32::from_le_bytes(key), offset);
    if data.len() < LONG {
        xor(key, data);
    } else {
        xor_long(key, data);
    }
}

/// From this many bytes on it pays to ask for the widest vectors, and to begin at an aligned place: vectors that lie across two
/// lines of the cache take twice as long.
const LONG: usize = 1024;
/// Bytes of the widest vector register of x86-64, and of a line of most caches.
const WIDEST: usize = 64;

/// With the widest vector registers that the processor has.
#[cfg(feature = "simd")]
#[inline(never)]
fn xor_long(key: u32, data: &mut [u8]) {
    static LEVEL: LazyLock<Level> = LazyLock::new(Level::new);
    xor_at(*LEVEL, key, data);
}

#[cfg(feature = "simd")]
#[inline]
fn xor_at(level: Level, key: u32, data: &mut [u8]) {
    dispatch!(level, _ => xor_aligned(key, data));
}

/// With the vector registers that all processors of this kind have.
#[cfg(not(feature = "simd"))]
#[inline(never)]
fn xor_long(key: u32, data: &mut [u8]) {
    xor_aligned(key, data);
}

// From here on everything is inlined always: it is compiled once for each kind of vector register.

#[inline(always)]
fn xor_aligned(key: u32, data: &mut [u8]) {
    let before = data.as_ptr().align_offset(WIDEST).min(data.len());
    let (before, aligned) = data.split_at_mut(before);
    xor(key, before);
    xor(rotate_key(key, before.len()), aligned);
}

/// The key, as a little-endian number, as it lies over the payload from byte number `offset` on.
#[inline(always)]
fn rotate_key(key: u32, offset: usize) -> u32 {
    let bits = match offset % 4 {
        0 => 0,
        1 => 8,
        2 => 16,
        _ => 24,
    };
    key.rotate_right(bits)
}

#[inline(always)]
fn xor(key: u32, data: &mut [u8]) {
    match data.len() {
        BLOCK.. => xor_blocks(key, data),
        16.. => xor_both_ends::<16>(key, data),
        8.. => xor_both_ends::<8>(key, data),
        4.. => xor_both_ends::<4>(key, data),
        _ => xor_bytes(key, data),
    }
}

/// Bytes that are masked in one step: the compiler makes vector registers of them, in which it spreads the key in one step, without
/// the set-up that a vectorized loop of unknown length costs a short payload. Wider blocks are left scalar by some compilers:
/// measure before changing it.
const BLOCK: usize = 32;

/// A block at least: all that there are, and the last bytes as one more, which lies over the one before it.
#[inline(always)]
fn xor_blocks(key: u32, data: &mut [u8]) {
    let last = xored_end::<BLOCK>(key, data);
    for block in data.chunks_exact_mut(BLOCK) {
        xor_words(key, block);
    }
    put_end(data, last);
}

/// `N` bytes at least, which are a multiple of the key's length, and twice as many at most, as two blocks that may lie over each
/// other.
#[inline(always)]
fn xor_both_ends<const N: usize>(key: u32, data: &mut [u8]) {
    debug_assert!((N..=2 * N).contains(&data.len()));
    let last = xored_end::<N>(key, data);
    if let Some(first) = data.first_chunk_mut::<N>() {
        *first = xored(key, *first);
    }
    put_end(data, last);
}

/// What the last `N` bytes will be, to be asked before any of them is changed.
#[inline(always)]
fn xored_end<const N: usize>(key: u32, data: &[u8]) -> Option<[u8; N]> {
    let last = data.last_chunk::<N>()?;
    Some(xored(rotate_key(key, data.len()), *last))
}

#[inline(always)]
fn put_end<const N: usize>(data: &mut [u8], end: Option<[u8; N]>) {
    if let (Some(place), Some(end)) = (data.last_chunk_mut::<N>(), end) {
        *place = end;
    }
}

#[inline(always)]
fn xored<const N: usize>(key: u32, mut block: [u8; N]) -> [u8; N] {
    xor_words(key, &mut block);
    block
}

#[inline(always)]
fn xor_words(key: u32, block: &mut [u8]) {
    for word in block.chunks_exact_mut(4) {
        let masked = u32::from_le_bytes([word[0], word[1], word[2], word[3]]) ^ key;
        word.copy_from_slice(&masked.to_le_bytes());
    }
}

#[inline(always)]
fn xor_bytes(key: u32, data: &mut [u8]) {
    for (byte, key) in data.iter_mut().zip(key.to_le_bytes().into_iter().cycle()) {
        *byte ^= key;
    }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::{WIDEST, apply_mask};

    fn naive(key: [u8; 4], offset: usize, data: &[u8]) -> Vec<u8> {
        let position = |index: usize| offset.wrapping_add(index) % 4;
        data.iter()
            .enumerate()
            .map(|(index, byte)| byte ^ key[position(index)])
            .collect()
    }

    #[test]
    fn rfc_example() {
        // RFC 6455 §5.7: a single-frame masked text message.
        let mut data = *b"\x7f\x9f\x4d\x51\x58";
        apply_mask([0x37, 0xfa, 0x21, 0x3d], 0, &mut data);
        assert_eq!(&data, b"Hello");
    }

    #[test]
    fn every_short_length_offset_and_alignment() {
        let key = [0x11, 0x22, 0x44, 0x88];
        let source: Vec<u8> = (0..=255).collect();
        for length in 0..200 {
            for offset in (0..8).chain([usize::MAX - 1, usize::MAX]) {
                for start in 0..9 {
                    let mut data = source[start..start + length].to_vec();
                    let expected = naive(key, offset, &data);
                    apply_mask(key, offset, &mut data);
                    assert_eq!(data, expected, "length {length}, offset {offset}");
                }
            }
        }
    }

    #[test]
    fn long_ones_at_every_alignment() {
        let key = [0x11, 0x22, 0x44, 0x88];
        let source: Vec<u8> = (0..=255).cycle().take(5000).collect();
        for start in 0..=WIDEST {
            for length in (1000..1060).chain([4000, 4097]) {
                for offset in 0..4 {
                    // In the middle of an allocation, for its beginning is aligned.
                    let mut data = source.clone();
                    let expected = naive(key, offset, &data[start..start + length]);
                    apply_mask(key, offset, &mut data[start..start + length]);
                    assert_eq!(data[start..start + length], expected, "{start}, {length}");
                    assert_eq!(data[..start], source[..start]);
                    assert_eq!(data[start + length..], source[start + length..]);
                }
            }
        }
    }

    /// Also with narrower ones than this machine's widest.
    #[cfg(all(feature = "simd", target_arch = "x86_64"))]
    #[test]
    fn with_every_kind_of_vector_register() {
        use super::{Level, xor_at};

        let key = [0x11, 0x22, 0x44, 0x88];
        let source: Vec<u8> = (0..=255).cycle().take(5000).collect();
        let widest = Level::new();
        let levels = [
            widest.as_sse2().map(Level::Sse2),
            widest.as_sse4_2().map(Level::Sse4_2),
            widest.as_avx2().map(Level::Avx2),
            Some(widest),
        ];
        assert!(levels[0].is_some(), "every x86-64 has these");
        for level in levels.into_iter().flatten() {
            for start in [0, 1, 7, 31, 63] {
                for end in [start, start + 100, 4000, 5000] {
                    let mut data = source.clone();
                    let expected = naive(key, 0, &data[start..end]);
                    xor_at(level, u32::from_le_bytes(key), &mut data[start..end]);
                    assert_eq!(data[start..end], expected, "{level:?}, {start}..{end}");
                    assert_eq!(data[end..], source[end..]);
                }
            }
        }
    }

    #[test]
    fn pieces_equal_the_whole() {
        let mut rng = ChaCha8Rng::seed_from_u64(0x6d61_736b);
        for _ in 0..2_000 {
            let mut data = vec![0; (rng.next_u32() % 600) as usize];
            rng.fill_bytes(&mut data);
            let key = rng.next_u32().to_ne_bytes();
            let expected = naive(key, 0, &data);
            let mut offset = 0;
            while offset < data.len() {
                let length = 1 + rng.next_u32() as usize % (data.len() - offset);
                apply_mask(key, offset, &mut data[offset..offset + length]);
                offset += length;
            }
            assert_eq!(data, expected);
        }
    }
}
