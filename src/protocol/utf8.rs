//! UTF-8 of text messages, whole and in pieces.

use core::error::Error;
use core::fmt;

/// The bytes are not, or can no longer become, valid UTF-8: close code 1007. RFC 6455 §8.1.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct InvalidUtf8;

impl fmt::Display for InvalidUtf8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("invalid UTF-8")
    }
}

impl Error for InvalidUtf8 {}

/// Whether `bytes` are one complete, valid text. RFC 6455 §8.1.
#[inline]
#[must_use]
pub fn is_valid_utf8(bytes: &[u8]) -> bool {
    // Short texts are mostly ASCII, and looking for that alone is quicker than what looks for everything at once.
    (bytes.len() < SHORT && bytes.is_ascii()) || simdutf8::basic::from_utf8(bytes).is_ok()
}

/// Bytes below which `simdutf8` leaves a text to the standard library.
const SHORT: usize = 64;

/// Checks a text message whose bytes arrive in pieces, which may end inside a character. RFC 6455 §8.1.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Utf8Validator {
    /// The character whose end has not arrived: `open[..open_len]` can begin a valid character, but is not a whole
    /// one.
    open: [u8; 3],
    /// At most 3; zero exactly when the bytes so far are whole characters.
    open_len: u8,
}

impl Utf8Validator {
    /// Takes the next bytes of the message.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] as soon as the bytes so far cannot begin any valid text, even if the offending character is
    /// still incomplete. The validator then stands at the start of a message again.
    #[inline]
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), InvalidUtf8> {
        let rest = self.close_open(bytes)?;
        // Cutting the incomplete tail off first keeps it one pass, also for pieces cut inside a character.
        let (whole, tail) = rest.split_at(rest.len() - incomplete_tail_len(rest));
        if !is_valid_utf8(whole) {
            return Err(InvalidUtf8);
        }
        tail.iter().try_for_each(|&byte| self.extend_open(byte))
    }

    /// Ends the message; the next one may follow.
    ///
    /// # Errors
    ///
    /// [`InvalidUtf8`] if the message stops inside a character.
    #[inline]
    pub fn finish(&mut self) -> Result<(), InvalidUtf8> {
        let ended = core::mem::take(self);
        if ended.open_len == 0 {
            Ok(())
        } else {
            Err(InvalidUtf8)
        }
    }

    /// Brings the open character forward as far as `bytes` reach, and returns the bytes behind it.
    #[inline]
    fn close_open<'a>(&mut self, mut bytes: &'a [u8]) -> Result<&'a [u8], InvalidUtf8> {
        while let (true, Some((&byte, rest))) = (self.open_len > 0, bytes.split_first()) {
            self.extend_open(byte)?;
            bytes = rest;
        }
        Ok(bytes)
    }

    /// Adds one byte to the open character, or opens one.
    fn extend_open(&mut self, byte: u8) -> Result<(), InvalidUtf8> {
        let Self {
            open: [a, b, c],
            open_len,
        } = core::mem::take(self);
        let (character, len) = match open_len {
            0 => ([byte, 0, 0, 0], 1),
            1 => ([a, byte, 0, 0], 2),
            2 => ([a, b, byte, 0], 3),
            _ => ([a, b, c, byte], 4),
        };
        match core::str::from_utf8(&character[..len]) {
            Ok(_) => Ok(()),
            Err(error) if error.error_len().is_some() => Err(InvalidUtf8),
            Err(_) => {
                // Four bytes are never incomplete: three are all there is to keep.
                let [a, b, c, _] = character;
                *self = Self {
                    open: [a, b, c],
                    open_len: open_len + 1,
                };
                Ok(())
            }
        }
    }
}

/// Length of the incomplete character at the end: a first byte with fewer bytes behind it than it announces.
///
/// At most three, zero if there is none. Looks at lengths only: whether a character can begin so is not its concern.
#[inline]
fn incomplete_tail_len(bytes: &[u8]) -> usize {
    let last_first_byte = bytes
        .iter()
        .rev()
        .take(3)
        .position(|byte| !matches!(byte, 0x80..=0xBF));
    let Some(behind) = last_first_byte else {
        return 0;
    };
    let present = behind + 1;
    let announced = match bytes[bytes.len() - present] {
        0xC0..=0xDF => 2,
        0xE0..=0xEF => 3,
        0xF0..=0xFF => 4,
        _ => 1,
    };
    if present < announced { present } else { 0 }
}

#[cfg(test)]
mod tests {
    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::{Rng, SeedableRng};

    use super::{InvalidUtf8, Utf8Validator, is_valid_utf8};

    const TRICKY: &[&[u8]] = &[
        b"",
        b"plain",
        "κόσμε".as_bytes(),
        "\u{0}\u{7f}\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
        "\u{d7ff}\u{e000}\u{fffd}".as_bytes(),
        "a€b𝄞c".as_bytes(),
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
        b"\x80",
        b"a\xbf\xbf\xbf\xbf",
        b"\xc0\xaf",
        b"\xc1\xbf",
        b"\xe0\x80\xaf",
        b"\xe0\x9f\xbf",
        b"\xed\xa0\x80",
        b"\xed\xbf\xbf",
        b"\xf0\x80\x80\xaf",
        b"\xf0\x8f\xbf\xbf",
        b"\xf4\x90\x80\x80",
        b"\xf5\x80\x80\x80",
        b"\xff",
        b"ab\xe2\x82",
        b"ab\xe2\x82z",
        b"ab\xf0\x9d\x84",
        b"ab\xf0\x9d\x84\x9e\x9e",
        b"\xe2\xe2\x82\xac",
    ];

    fn is_broken(bytes: &[u8]) -> bool {
        core::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_some())
    }

    /// Length of the shortest prefix that no valid text begins with.
    fn naive_failure(bytes: &[u8]) -> Option<usize> {
        (0..=bytes.len()).find(|&length| is_broken(&bytes[..length]))
    }

    fn failure_by_bytes(bytes: &[u8]) -> Option<usize> {
        let mut validator = Utf8Validator::default();
        let failed = bytes
            .iter()
            .position(|&byte| validator.feed(&[byte]).is_err());
        failed.map(|index| index + 1)
    }

    fn feed_pieces(pieces: &[&[u8]]) -> Result<(), InvalidUtf8> {
        let mut validator = Utf8Validator::default();
        pieces.iter().try_for_each(|piece| validator.feed(piece))?;
        validator.finish()
    }

    /// Every verdict on `bytes`: as a whole text, byte by byte, and in one piece.
    fn check(bytes: &[u8]) {
        let valid = core::str::from_utf8(bytes).is_ok();
        let failure = naive_failure(bytes);
        assert_eq!(is_valid_utf8(bytes), valid, "{bytes:x?}");
        assert_eq!(failure_by_bytes(bytes), failure, "{bytes:x?}");
        let mut validator = Utf8Validator::default();
        assert_eq!(
            validator.feed(bytes).is_err(),
            failure.is_some(),
            "{bytes:x?}"
        );
        assert_eq!(
            failure.is_none() && validator.finish().is_ok(),
            valid,
            "{bytes:x?}"
        );
    }

    #[test]
    fn state_is_small() {
        assert!(size_of::<Utf8Validator>() <= 8);
    }

    #[test]
    fn every_split_in_three() {
        // The padding reaches the vector code on both sides of the tricky part.
        for padding in [vec![], vec![b'x'; 70]] {
            for tricky in TRICKY {
                let text = [&padding[..], tricky, &padding[..]].concat();
                check(&text);
                for second in 0..=text.len() {
                    let valid = core::str::from_utf8(&text[..second]).is_ok();
                    for first in 0..=second {
                        let [a, b, c] = [&text[..first], &text[first..second], &text[second..]];
                        assert_eq!(feed_pieces(&[a, b]).is_ok(), valid, "{a:x?} {b:x?}");
                        let mut validator = Utf8Validator::default();
                        let failed = [a, b, c].iter().any(|piece| validator.feed(piece).is_err());
                        assert_eq!(failed, is_broken(&text), "{a:x?} {b:x?} {c:x?}");
                    }
                }
            }
        }
    }

    #[test]
    fn every_sequence_up_to_three_bytes() {
        for a in 0..=255 {
            check(&[a]);
            for b in 0..=255 {
                check(&[a, b]);
                for c in 0..=255 {
                    check(&[a, b, c]);
                }
            }
        }
    }

    #[test]
    fn every_boundary_of_four_bytes() {
        const EDGES: [u8; 10] = [0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xe0, 0xf4];
        for a in 0xe0..=255 {
            for b in 0..=255 {
                for c in EDGES {
                    for d in EDGES {
                        check(&[a, b, c, d]);
                    }
                }
            }
        }
    }

    #[test]
    fn starts_over_after_an_error_and_after_the_end() {
        let mut validator = Utf8Validator::default();
        assert_eq!(validator.feed(b"\xe2\x82"), Ok(()));
        assert_eq!(validator.finish(), Err(InvalidUtf8));
        assert_eq!(validator, Utf8Validator::default());
        assert_eq!(validator.feed(b"\xe2\x82"), Ok(()));
        assert_eq!(validator.feed(b"z"), Err(InvalidUtf8));
        assert_eq!(validator, Utf8Validator::default());
    }

    /// Valid text, in half of the cases with one byte overwritten.
    fn random_text(rng: &mut ChaCha8Rng) -> Vec<u8> {
        let length = rng.next_u32() % 120;
        let mut text = String::new();
        for _ in 0..length {
            let bits = [7, 7, 11, 16, 21][rng.next_u32() as usize % 5];
            text.push(char::from_u32(rng.next_u32() % (1 << bits)).unwrap_or('€'));
        }
        let mut text = text.into_bytes();
        if rng.next_u32() % 2 == 0 && !text.is_empty() {
            let position = rng.next_u32() as usize % text.len();
            text[position] = rng.next_u32() as u8;
        }
        text
    }

    #[test]
    fn random_pieces_fail_in_the_first_piece_that_can() {
        let mut rng = ChaCha8Rng::seed_from_u64(0x7574_6638);
        for _ in 0..4_000 {
            let text = random_text(&mut rng);
            let failure = naive_failure(&text);
            let mut validator = Utf8Validator::default();
            let (mut fed, mut result) = (0, Ok(()));
            while fed < text.len() && result.is_ok() {
                let piece = rng.next_u32() as usize % (text.len() - fed + 1);
                result = validator.feed(&text[fed..fed + piece]);
                fed += piece;
                assert_eq!(
                    result.is_err(),
                    failure.is_some_and(|failure| failure <= fed),
                    "{text:x?} at {fed}"
                );
            }
            if result.is_ok() {
                assert_eq!(
                    validator.finish().is_ok(),
                    core::str::from_utf8(&text).is_ok(),
                    "{text:x?}"
                );
            }
        }
    }
}
