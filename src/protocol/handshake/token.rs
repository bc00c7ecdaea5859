//! Tokens and comma-separated lists (RFC 9110 §5.6). Everything here passes over its input once.

/// True exactly when the bytes are a `token`: at least one character, no separator, no control. RFC 9110 §5.6.2.
pub(crate) fn is_token(bytes: &[u8]) -> bool {
    !bytes.is_empty() && bytes.iter().copied().all(is_token_byte)
}

/// True exactly when one element of the list is `token`, without regard to ASCII case.
pub(super) fn has_token(list: &[u8], token: &str) -> bool {
    // Mostly it is the only one.
    list.eq_ignore_ascii_case(token.as_bytes())
        || elements(list).any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
}

/// The elements between the commas, without the white space around them; an element may be empty.
///
/// Quoted strings are not known here: no list whose elements are tokens has any.
pub(super) fn elements(list: &[u8]) -> impl Iterator<Item = &[u8]> + Clone {
    list.split(|&byte| byte == b',').map(trim)
}

/// Takes optional white space (`OWS`, RFC 9110 §5.6.3) from both ends.
pub(super) fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}

pub(super) fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        for good in ["a", "chat.v2", "!#$%&'*+-.^_`|~09azAZ"] {
            assert!(is_token(good.as_bytes()), "{good}");
        }
        for bad in [
            "", " ", "a b", "a,b", "a\"", "a/b", "a:b", "a\r", "a\0", "é", "a\x7f",
        ] {
            assert!(!is_token(bad.as_bytes()), "{bad:?}");
        }
    }

    #[test]
    fn lists() {
        let cases: [(&[u8], bool); 10] = [
            (b"upgrade", true),
            (b"Upgrade", true),
            (b"keep-alive, UPGRADE", true),
            (b" \t,, upgrade\t,x", true),
            (b"", false),
            (b",", false),
            (b"upgraded", false),
            (b"up grade", false),
            (b"\"upgrade\"", false),
            (b"\xff, upgrade", true),
        ];
        for (list, expected) in cases {
            assert_eq!(has_token(list, "upgrade"), expected, "{list:?}");
        }
    }

    /// CVE-2021-32640: every byte is looked at a constant number of times, whatever the separators.
    #[test]
    fn long_lists() {
        let commas = b",".repeat(50_000);
        assert_eq!(elements(&commas).count(), 50_001);
        assert!(!has_token(&commas, "upgrade"));

        let mut blanks = b" \t".repeat(500_000);
        assert!(!has_token(&blanks, "upgrade"));
        blanks.extend_from_slice(b"x,upgrade");
        assert!(has_token(&blanks, "upgrade"));
    }
}
