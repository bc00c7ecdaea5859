use alloc::{boxed::Box, vec};
use rand_chacha::rand_core::CryptoRng;

use super::Role;

/// Bytes that are fetched from the generator at a time: keys for 64 frames.
const BLOCK_LEN: usize = 256;
/// The same for a connection that has the generator to itself: keys for 4 frames.
const SMALL_BLOCK_LEN: usize = 16;
const KEY_LEN: usize = 4;

/// The mask keys of client frames (RFC 6455 §5.3), from the caller's generator.
pub(crate) struct MaskKeys {
    /// `None` while nobody has supplied one: then there is no connection of the client role either.
    rng: Option<Box<dyn CryptoRng + Send>>,
    block: Box<[u8]>,
    /// Bytes of the block that are used up.
    used: usize,
}

impl MaskKeys {
    /// `alone`: for one connection.
    pub(crate) fn new(alone: bool) -> Self {
        let block_len = if alone { SMALL_BLOCK_LEN } else { BLOCK_LEN };
        Self {
            rng: None,
            block: vec![0; block_len].into_boxed_slice(),
            used: block_len,
        }
    }

    /// Takes the generator; keys of an earlier one are forgotten.
    pub(crate) fn supply(&mut self, rng: Box<dyn CryptoRng + Send>) {
        self.rng = Some(rng);
        self.used = self.block.len();
    }

    /// True exactly when a connection of the client role can be had.
    pub(crate) fn is_supplied(&self) -> bool {
        self.rng.is_some()
    }

    /// A fresh key for a frame that is sent in this role; servers do not mask.
    #[inline]
    pub(crate) fn for_frame(&mut self, role: Role) -> Option<[u8; 4]> {
        match role {
            Role::Server => None,
            Role::Client => Some(self.bytes()),
        }
    }

    /// Random bytes that nobody has seen: `N` divides the block.
    pub(crate) fn bytes<const N: usize>(&mut self) -> [u8; N] {
        const { assert!(SMALL_BLOCK_LEN % N == 0 && N % KEY_LEN == 0) };
        // What is left of the block may be too short for more than a key.
        if self.used + N > self.block.len() {
            self.refill();
        }
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.block[self.used..self.used + N]);
        // A key is used once: it must not be found in memory afterwards.
        self.block[self.used..self.used + N].fill(0);
        self.used += N;
        bytes
    }

    #[cold]
    fn refill(&mut self) {
        #[expect(
            clippy::expect_used,
            reason = "dialling is refused without a generator"
        )]
        let rng = self
            .rng
            .as_mut()
            .expect("a client connection has a generator");
        rng.fill_bytes(&mut self.block);
        self.used = 0;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};

    use super::*;

    #[test]
    fn no_key_is_given_twice_and_servers_get_none() {
        let mut keys = MaskKeys::new(false);
        assert!(!keys.is_supplied());
        assert_eq!(keys.for_frame(Role::Server), None);
        keys.supply(Box::new(ChaCha20Rng::from_seed([7; 32])));
        let drawn: HashSet<_> = (0..1000)
            .map(|_| keys.for_frame(Role::Client).unwrap())
            .collect();
        assert_eq!(drawn.len(), 1000);
    }

    #[test]
    fn the_generator_is_the_callers() {
        let mut keys = MaskKeys::new(false);
        keys.supply(Box::new(ChaCha20Rng::from_seed([7; 32])));
        let mut expected = [0; BLOCK_LEN];
        rand_chacha::rand_core::Rng::fill_bytes(
            &mut ChaCha20Rng::from_seed([7; 32]),
            &mut expected,
        );
        assert_eq!(keys.bytes::<16>(), expected[..16]);
        assert_eq!(keys.bytes::<4>(), expected[16..20]);
    }
}
