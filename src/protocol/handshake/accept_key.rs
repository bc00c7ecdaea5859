//! `Sec-WebSocket-Key` and its answer `Sec-WebSocket-Accept` (RFC 6455 §4.2.2, step 5.4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha1::{Digest, Sha1};

/// Computes the value of `Sec-WebSocket-Accept`: base64 of the SHA-1 of the key and the protocol's GUID.
///
/// The key is hashed as it was sent, without being decoded; whether it is a good one says [`is_valid_key`].
/// RFC 6455 §4.2.2.
pub fn accept_key(key: &[u8]) -> [u8; ACCEPT_LENGTH] {
    let digest = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    let mut accept = [0; ACCEPT_LENGTH];
    let written = STANDARD.encode_slice(digest, &mut accept);
    // 20 bytes of digest are always 28 characters: there is no error to pass on.
    debug_assert_eq!(written, Ok(ACCEPT_LENGTH));
    accept
}

/// True exactly when the key is 16 bytes in canonical base64: 24 characters, padded, no stray bits. RFC 6455 §4.1, item 7.
pub fn is_valid_key(key: &str) -> bool {
    // Room for 24 characters without padding: the decoder asks for it before it looks at the padding.
    let mut nonce = [0; KEY_LENGTH / 4 * 3];
    key.len() == KEY_LENGTH && STANDARD.decode_slice(key, &mut nonce) == Ok(NONCE_LENGTH)
}

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const ACCEPT_LENGTH: usize = 28;
const KEY_LENGTH: usize = 24;
const NONCE_LENGTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sample_of_the_rfc() {
        assert_eq!(
            &accept_key(b"dGhlIHNhbXBsZSBub25jZQ=="),
            b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
        );
    }

    #[test]
    fn keys() {
        let cases = [
            ("dGhlIHNhbXBsZSBub25jZQ==", true),
            ("AAAAAAAAAAAAAAAAAAAAAA==", true),
            ("", false),
            ("dGhlIHNhbXBsZSBub25jZQ", false),
            ("dGhlIHNhbXBsZSBub25jZQ= ", false),
            ("dGhlIHNhbXBsZSBub25jZR==", false),
            ("dGhlIHNhbXBsZSBub25jZWE=", false),
            ("dGhlIHNhbXBsZSBub25jZWFh", false),
            ("dGhlIHNhbXBsZSBub25-ZQ==", false),
            ("========================", false),
            ("éééééééééééé", false),
        ];
        for (key, valid) in cases {
            assert_eq!(is_valid_key(key), valid, "{key}");
        }
    }
}
