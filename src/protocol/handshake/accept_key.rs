//! `Sec-WebSocket-Key` and its answer `Sec-WebSocket-Accept` (RFC 6455 §4.2.2, step 5.4).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rand_chacha::rand_core::CryptoRng;
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
    // 21 characters are 126 bits: the one after them has the last two, and four that are zero.
    let Some([digits @ .., last]) = key.as_bytes().strip_suffix(b"==") else {
        return false;
    };
    let is_digit = |&byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'/');
    digits.len() == NONCE_LENGTH * 8 / 6
        && digits.iter().all(is_digit)
        && matches!(last, b'A' | b'Q' | b'g' | b'w')
}

/// The nonce of one handshake as the client sends it: `Sec-WebSocket-Key`. RFC 6455 §4.1, item 7.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientKey {
    /// Base64, hence ASCII.
    text: [u8; KEY_LENGTH],
}

impl ClientKey {
    /// A key of 16 bytes that the caller drew at random, for this handshake only.
    pub fn new(nonce: [u8; NONCE_LENGTH]) -> Self {
        let mut text = [0; KEY_LENGTH];
        let written = STANDARD.encode_slice(nonce, &mut text);
        // 16 bytes are always 24 characters: there is no error to pass on.
        debug_assert_eq!(written, Ok(KEY_LENGTH));
        Self { text }
    }

    /// A key of 16 bytes drawn from a cryptographic generator.
    pub fn generate(rng: &mut impl CryptoRng) -> Self {
        let mut nonce = [0; NONCE_LENGTH];
        rng.fill_bytes(&mut nonce);
        Self::new(nonce)
    }

    /// The value of `Sec-WebSocket-Key`.
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.text).unwrap_or_default()
    }

    /// The value of `Sec-WebSocket-Accept` that a server has to answer with.
    pub fn accept(&self) -> [u8; ACCEPT_LENGTH] {
        accept_key(&self.text)
    }

    /// True exactly when `answer` is [`accept`](Self::accept). Every byte is compared, whichever is the first to differ.
    pub fn is_answered_by(&self, answer: &[u8]) -> bool {
        let accept = self.accept();
        let difference = accept
            .iter()
            .zip(answer)
            .fold(0, |seen, (expected, byte)| seen | (expected ^ byte));
        answer.len() == accept.len() && difference == 0
    }
}

const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
const ACCEPT_LENGTH: usize = 28;
const KEY_LENGTH: usize = 24;
const NONCE_LENGTH: usize = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_keys_are_good_and_different() {
        let mut rng = crate::protocol::fuzz::rng(1);
        let keys: std::collections::HashSet<String> = (0..100)
            .map(|_| ClientKey::generate(&mut rng).as_str().to_owned())
            .collect();
        assert_eq!(keys.len(), 100);
        assert!(keys.iter().all(|key| is_valid_key(key)));
    }

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

    #[test]
    fn a_key_is_valid_exactly_when_it_decodes_to_16_bytes() {
        let sample = *b"dGhlIHNhbXBsZSBub25jZQ==";
        for at in 0..sample.len() {
            for byte in 0..0x80 {
                let mut text = sample;
                text[at] = byte;
                let decoded = STANDARD.decode(text);
                let key = core::str::from_utf8(&text).unwrap();
                let expected = decoded.is_ok_and(|nonce| nonce.len() == NONCE_LENGTH);
                assert_eq!(is_valid_key(key), expected, "{key}");
            }
        }
    }

    #[test]
    fn the_clients_key_is_a_valid_one_and_knows_its_answer() {
        let key = ClientKey::new(*b"the sample nonce");
        assert_eq!(key.as_str(), "dGhlIHNhbXBsZSBub25jZQ==");
        assert_eq!(&key.accept(), b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        for nonce in [[0; 16], [0xff; 16]] {
            assert!(is_valid_key(ClientKey::new(nonce).as_str()));
        }
    }

    #[test]
    fn an_answer_that_differs_anywhere_is_none() {
        let key = ClientKey::new([7; 16]);
        let accept = key.accept();
        assert!(key.is_answered_by(&accept));
        for at in 0..accept.len() {
            let mut other = accept;
            other[at] ^= 0x20;
            assert!(!key.is_answered_by(&other), "{at}");
            assert!(!key.is_answered_by(&accept[..at]), "{at}");
        }
        assert!(!key.is_answered_by(&[&accept[..], b"="].concat()));
    }
}
