//! Where in the scratch buffer reading begins.
//!
//! Some processors (AMD's Zen 4, measured) take thirteen times as long to copy something, all of it, to a place that is 1 to 15
//! bytes behind the one it is from by the lowest twelve bits of the addresses alone. What the kernel has for us, and the room for
//! what we give it, mostly begins at the start of a page; so does a large buffer of the allocator's, but for 16 bytes, and behind
//! one header of 14 bytes the two are 2 bytes apart. So reading begins as far from there as can be: in the middle.

use std::ops::Range;

use super::buffers::MAX_MOVED;

/// Addresses that are so far apart look alike.
const ALIAS: usize = 4096;
/// Of smaller buffers nothing is left free; of larger ones at most a sixteenth.
const MIN_LEN: usize = 16 * ALIAS;

/// Where in the scratch buffer `len` bytes are put so that more is read behind them. What is much may need all the room there is.
#[inline]
pub(crate) fn place(scratch: &[u8], len: usize) -> usize {
    if scratch.len() >= MIN_LEN && len <= MAX_MOVED {
        (ALIAS / 2).wrapping_sub(scratch.as_ptr().addr()) % ALIAS
    } else {
        0
    }
}

/// Where reading begins: an empty range.
#[inline]
pub(crate) fn front(scratch: &[u8]) -> Range<usize> {
    let start = place(scratch, 0);
    start..start
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn what_is_read_begins_between_the_starts_of_pages() {
        let scratch = vec![0; MIN_LEN];
        let start = place(&scratch, 0);
        assert_eq!(scratch[start..].as_ptr().addr() % ALIAS, ALIAS / 2);
        assert!(start < ALIAS);
        // Wherever the buffer itself begins.
        let larger = vec![0; MIN_LEN + ALIAS];
        for at in 0..ALIAS {
            let scratch = &larger[at..];
            let start = place(scratch, 0);
            assert_eq!(scratch[start..].as_ptr().addr() % ALIAS, ALIAS / 2);
        }
    }

    #[test]
    fn there_is_always_room_behind() {
        let memory = vec![0; 4 * MIN_LEN + ALIAS];
        for (len, at) in [1, 4096, MIN_LEN - 1, MIN_LEN, MIN_LEN + 1, 4 * MIN_LEN]
            .into_iter()
            .flat_map(|len| (0..ALIAS).step_by(15).map(move |at| (len, at)))
        {
            let scratch = &memory[at..at + len];
            let kept = [0, len / 2, MAX_MOVED, MAX_MOVED + 1, len - 1];
            for kept in kept.into_iter().filter(|kept| *kept < len) {
                assert!(place(scratch, kept) + kept < len, "{kept} of {len}");
            }
        }
    }

    #[test]
    fn sixteen_messages_of_16_kib_are_read_at_once_by_default() {
        const FRAME: usize = 8 + 16 * 1024;
        let largest_start = ALIAS - 1;
        assert!(Config::default().scratch_size - largest_start >= 16 * FRAME);
    }

    #[test]
    fn of_small_buffers_nothing_is_left_free() {
        let memory = vec![0; MIN_LEN + ALIAS];
        for at in 0..ALIAS {
            assert_eq!(place(&memory[at..at + MIN_LEN - 1], 7), 0);
        }
    }
}
