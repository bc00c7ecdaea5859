//! Where the request head ends.

/// The index just behind the first `\r\n\r\n`, or `None` when the head is not complete yet.
///
/// `scanned` is the number of bytes that earlier calls already looked at (0 on the first call). They are not read again,
/// but for the last three, where a terminator may have begun: a head dripped byte by byte costs as much as one that comes
/// at once, up to a constant. Bare line feeds do not end a head (RFC 9112 §2.2 would permit it; agreeing with every proxy
/// on the way is worth more).
pub fn find_head_end(bytes: &[u8], scanned: usize) -> Option<usize> {
    let mut start = scanned.saturating_sub(TERMINATOR.len() - 1);
    let mut unseen = bytes.get(start..)?;
    // The two line feeds are looked for in many places at once, without a branch for each.
    while let Some((piece, _)) = unseen.split_first_chunk::<{ STEP + 3 }>() {
        let found = (0..STEP).fold(false, |found, at| {
            found | ((piece[at + 1] == b'\n') & (piece[at + 3] == b'\n'))
        });
        if found {
            break;
        }
        start += STEP;
        unseen = &unseen[STEP..];
    }
    let position = unseen
        .windows(TERMINATOR.len())
        .position(|window| window == TERMINATOR)?;
    Some(start + position + TERMINATOR.len())
}

const TERMINATOR: &[u8] = b"\r\n\r\n";
const STEP: usize = 32;

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

    #[test]
    fn agrees_with_a_naive_search_wherever_the_end_lies() {
        for decoy in [&b"\r\n"[..], b"\n\n", b"\nx\n", b"\n\r\n"] {
            for before in 0..3 * STEP {
                for between in 0..2 * STEP {
                    let parts: [&[u8]; 5] = [
                        &[b'a'; 3 * STEP][..before],
                        decoy,
                        &[b'b'; 2 * STEP][..between],
                        b"\r\n\r\n",
                        b"c\r\n\r\n",
                    ];
                    let input = parts.concat();
                    assert_eq!(find_head_end(&input, 0), naive(&input), "{input:?}");
                }
            }
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
