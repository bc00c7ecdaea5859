//! Masking of client payloads.

/// XORs `data` in place with the masking `key`; masking twice gives the original back. RFC 6455 §5.3.
///
/// `data[0]` is byte number `offset` of the frame's payload, so a payload may be unmasked piece by piece as it
/// arrives. Only `offset` modulo 4 matters: a caller whose count is longer than `usize` may pass its low bits.
#[inline]
pub fn apply_mask(key: [u8; 4], offset: usize, data: &mut [u8]) {
    let key = rotate_key(key, offset);
    // The widths are multiples of the key's length: no step has to rotate the key again.
    let rest = xor_blocks::<32>(key, data);
    let rest = xor_blocks::<8>(key, rest);
    let rest = xor_blocks::<4>(key, rest);
    for (byte, key) in rest.iter_mut().zip(key) {
        *byte ^= key;
    }
}

/// The key as it lies over the payload from byte number `offset` on.
#[inline]
fn rotate_key(key: [u8; 4], offset: usize) -> [u8; 4] {
    let bits = match offset % 4 {
        0 => 0,
        1 => 8,
        2 => 16,
        _ => 24,
    };
    // As a number in a register: rotating the array goes through memory, and takes longer than a short payload.
    u32::from_le_bytes(key).rotate_right(bits).to_le_bytes()
}

/// XORs as many whole blocks of `N` bytes as `data` holds, and returns what is left.
///
/// The fixed width makes the compiler use vector registers (`N` = 32) or one word (8 and 4), without the set-up that
/// a vectorized loop of unknown length costs a short payload. Wider blocks are left scalar by some compilers: measure
/// before changing it.
#[inline]
fn xor_blocks<const N: usize>(key: [u8; 4], data: &mut [u8]) -> &mut [u8] {
    let mut blocks = data.chunks_exact_mut(N);
    for block in &mut blocks {
        for (index, byte) in block.iter_mut().enumerate() {
            *byte ^= key[index % 4];
        }
    }
    blocks.into_remainder()
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::apply_mask;

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
