//! What the seeded fuzz tests of this floor share.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

pub(super) fn rng(seed: u64) -> ChaCha8Rng {
    ChaCha8Rng::seed_from_u64(seed)
}

/// Less than `bound`, and 0 for a bound of 0.
pub(super) fn below(rng: &mut ChaCha8Rng, bound: usize) -> usize {
    rng.next_u32() as usize % bound.max(1)
}

pub(super) fn random_bytes(rng: &mut ChaCha8Rng, longest: usize) -> Vec<u8> {
    let mut bytes = vec![0; below(rng, longest + 1)];
    rng.fill_bytes(&mut bytes);
    bytes
}

/// Up to four changes. `spice` holds the bytes that matter to the grammar: with one of these a change goes deeper than with
/// a random byte.
pub(super) fn mutated(rng: &mut ChaCha8Rng, seed: &[u8], spice: &[u8]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for _ in 0..=below(rng, 4) {
        mutate(rng, &mut bytes, spice);
    }
    bytes
}

fn mutate(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>, spice: &[u8]) {
    let at = below(rng, bytes.len());
    let spice = spice[below(rng, spice.len())];
    if bytes.is_empty() {
        bytes.push(spice);
    }
    match below(rng, 6) {
        0 => bytes[at] = spice,
        1 => bytes.insert(at, spice),
        2 => drop(bytes.remove(at)),
        3 => bytes[at] = rng.next_u32() as u8,
        4 => bytes[at] ^= 0x20,
        _ => {
            let end = at + below(rng, (bytes.len() - at).min(60));
            let copy = bytes[at..end].to_vec();
            let to = below(rng, bytes.len());
            bytes.splice(to..to, copy);
        }
    }
}
