//! Where the request head ends.

/// The index just behind the first `\r\n\r\n`, or `None` when the head is not complete yet.
///
/// `scanned` is the number of bytes that earlier calls already looked at (0 on the first call). They are not read again,
/// but for the last three, where a terminator may have begun: a head dripped byte by byte costs as much as one that comes
/// at once, up to a constant. Bare line feeds do not end a head (RFC 9112 §2.2 would permit it; agreeing with every proxy
/// on the way is worth more).
pub fn find_head_end(bytes: &[u8], scanned: usize) -> Option<usize> {
    let start = scanned.saturating_sub(TERMINATOR.len() - 1);
    let unseen = bytes.get(start..)?;
    // The last byte of where the terminator could lie says how far away the next such place is: mostly by its whole length.
    let mut end = TERMINATOR.len();
    while let Some(window) = unseen.get(..end) {
        end += match window {
            [.., b'\r', b'\n', b'\r', b'\n'] => return Some(start + end),
            [.., b'\n'] => 2,
            [.., b'\r'] => 1,
            _ => TERMINATOR.len(),
        };
    }
    None
}

const TERMINATOR: &[u8] = b"\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;

    const INPUTS: [&[u8]; 8] = [
        b"",
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\nrest\r\n\r\n",
        b"a\r\r\n\r\r\n\r\nb",
        b"a\r\n\n\r\n\r\r\n\r\n\r\n",
        b"a\n\nb\n\r\n\r",
        b"\r\n\r\r\n\r",
        b"a\r\n\r",
    ];

    #[test]
    fn agrees_with_a_naive_search_at_every_split() {
        for input in INPUTS {
            let expected = naive(input);
            for split in 0..=input.len() {
                let found =
                    find_head_end(&input[..split], 0).or_else(|| find_head_end(input, split));
                assert_eq!(found, expected, "{input:?} at {split}");
            }
        }
    }

    #[test]
    fn agrees_with_a_naive_search_byte_by_byte() {
        for input in INPUTS {
            let found = (1..=input.len()).find_map(|end| find_head_end(&input[..end], end - 1));
            assert_eq!(found, naive(input), "{input:?}");
        }
    }

    /// CVE-2023-43669: the cost of a call depends on the new bytes, not on all of them.
    #[test]
    fn looks_back_three_bytes_and_no_further() {
        let mut bytes = b"\r\n\r\n".repeat(2_000);
        bytes.extend_from_slice(b"x\r\n\r");
        let scanned = bytes.len();
        assert_eq!(find_head_end(&bytes, scanned), None);
        bytes.push(b'\n');
        assert_eq!(find_head_end(&bytes, scanned), Some(bytes.len()));
        assert_eq!(find_head_end(b"\r\n\r\nxxxx", 7), None);
    }

    #[test]
    fn a_count_beyond_the_bytes_finds_nothing() {
        assert_eq!(find_head_end(b"\r\n\r\n", 100), None);
        assert_eq!(find_head_end(b"", usize::MAX), None);
    }

    fn naive(bytes: &[u8]) -> Option<usize> {
        (4..=bytes.len()).find(|&end| bytes[..end].ends_with(b"\r\n\r\n"))
    }
}
