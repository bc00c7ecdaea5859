//! Where in the scratch buffer reading begins.
//!
//! Some processors (AMD's Zen 4, measured) take thirteen times as long to copy something, all of it, to a place that is 1 to 15
//! bytes behind the one it is from by the lowest twelve bits of the addresses alone. What the kernel has for us, and the room for
//! what we give it, mostly begins at the start of a page; so does a large buffer of the allocator's, but for 16 bytes, and behind
//! one header of 14 bytes the two are 2 bytes apart. So reading begins as far from there as can be: in the middle.

use std::ops::Range;

/// Addresses that are so far apart look alike.
const ALIAS: usize = 4096;
/// Of smaller buffers nothing is left free: of larger ones at most a sixteenth.
const MIN_LEN: usize = 16 * ALIAS;

/// Where in the scratch buffer `len` bytes are put so that more is read behind them.
#[inline]
pub(crate) fn place(scratch: &[u8], len: usize) -> usize {
    let start = match scratch.len() >= MIN_LEN {
        true => (ALIAS / 2).wrapping_sub(scratch.as_ptr().addr()) % ALIAS,
        false => 0,
    };
    // There is room behind them.
    if start + len < scratch.len() {
        start
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
        for len in [1, 4096, MIN_LEN - 1, MIN_LEN, MIN_LEN + 1, 4 * MIN_LEN] {
            let scratch = vec![0; len];
            for kept in [0, len / 2, len.saturating_sub(ALIAS), len - 1] {
                assert!(place(&scratch, kept) + kept < len, "{kept} of {len}");
            }
        }
    }

    #[test]
    fn of_small_buffers_nothing_is_left_free() {
        let scratch = vec![0; MIN_LEN - 1];
        assert_eq!(place(&scratch, 7), 0);
    }
}
