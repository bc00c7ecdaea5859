//! Both sides of the opening handshake (RFC 6455 §4), as pure functions over bytes.
//!
//! A server calls [`find_head_end`] after every read until the head is complete, [`RequestHead::parse`] on exactly that head,
//! [`check_upgrade`] on the result. Then it gives one answer: a [`Response`] (101) for an accepted upgrade, an
//! [`HttpResponse`] for everything else.
//!
//! A client encodes a [`ClientRequest`] with a fresh [`ClientKey`], finds the end of the answer's head in the same way, and
//! calls [`ResponseHead::parse`] and, unless the answer [is interim](ResponseHead::is_interim), [`check_response`]. A
//! refusal may have a body: how it ends says [`body_length`].
//!
//! Nothing here reads a socket or a clock; size limits and deadlines belong to the caller.

mod accept_key;
mod client_check;
mod client_error;
mod client_request;
mod client_response;
mod cookie;
mod deferred;
mod error;
mod extensions;
mod field;
mod fields;
mod head;
mod http_response;
mod origin;
mod request;
mod response;
mod subprotocol;
mod token;
mod upgrade;

pub use accept_key::{ClientKey, accept_key, is_valid_key};
pub use client_check::{Accepted, check_response};
pub use client_error::ResponseError;
pub use client_request::{ClientRequest, ClientRequestError};
pub(crate) use client_response::ChunkedEnd;
pub use client_response::{BodyLength, ResponseHead, body_length};
pub use cookie::cookie;
pub use deferred::DeferredResponse;
pub use error::HandshakeError;
pub use extensions::{Extension, Extensions, InvalidExtensions, extensions};
pub use field::HeaderError;
pub use fields::{HeaderSlots, MAX_HEADER_FIELDS};
pub use head::find_head_end;
pub use http_response::HttpResponse;
pub use origin::OriginPolicy;
pub use request::RequestHead;
pub use response::Response;
pub use subprotocol::choose_subprotocol;
pub(crate) use token::is_token;
pub use upgrade::{MAX_SUBPROTOCOL_OFFERS, Upgrade, check_upgrade};

#[cfg(test)]
mod tests {
    use super::super::fuzz;
    use super::*;

    const SEED: &[u8] = b"GET /chat?room=1 HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\
        Connection: keep-alive, Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Origin: http://example.com\r\nSec-WebSocket-Protocol: chat, superchat\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; x=\"y\"\r\nSec-WebSocket-Version: 13\r\n\r\n";

    /// Bytes that matter to the grammar: a mutation with one of these goes deeper than a random byte.
    const SPICE: &[u8] = b"\r\n\t ,;:=\"/?#\0\x7f\x80\xff13";

    #[test]
    fn a_request_sent_byte_by_byte_is_accepted() {
        for end in 0..SEED.len() {
            assert_eq!(find_head_end(&SEED[..end], end.saturating_sub(1)), None);
        }
        assert_eq!(find_head_end(SEED, SEED.len() - 1), Some(SEED.len()));
        assert!(drive(SEED));
    }

    #[test]
    fn mutated_requests_never_panic() {
        let mut rng = fuzz::rng(0x6455);
        let mut accepted = 0_u32;
        for _ in 0..50_000 {
            let bytes = fuzz::mutated(&mut rng, SEED, SPICE);
            accepted += u32::from(drive(&bytes));
        }
        // Both answers have to occur, else the mutations test only one path.
        assert!((1_000..49_000).contains(&accepted), "{accepted} accepted");
    }

    #[test]
    fn random_bytes_never_panic() {
        let mut rng = fuzz::rng(0x1342_3669);
        for _ in 0..20_000 {
            let mut bytes = fuzz::random_bytes(&mut rng, 200);
            bytes.extend_from_slice(b"\r\n\r\n");
            drive(&bytes);
        }
    }

    /// Takes the bytes through every public function. True exactly when the upgrade was accepted.
    fn drive(bytes: &[u8]) -> bool {
        let Some(end) = find_head_end(bytes, 0) else {
            return false;
        };
        let mut slots = HeaderSlots::new(MAX_HEADER_FIELDS);
        let checked = RequestHead::parse(&bytes[..end], &mut slots)
            .and_then(|head| check_upgrade(&head).map(|upgrade| (head, upgrade)));
        match checked {
            Ok((head, Some(upgrade))) => {
                accept(&head, &upgrade);
                true
            }
            Ok((head, None)) => {
                touch(&head);
                false
            }
            Err(error) => {
                refuse(error);
                false
            }
        }
    }

    fn accept(head: &RequestHead<'_>, upgrade: &Upgrade<'_>) {
        touch(head);
        let mut response = Response::new(head);
        for offer in head.subprotocols().take(1) {
            response.subprotocol(offer).unwrap();
        }
        let mut out = Vec::new();
        response.encode(&upgrade.accept(), &mut out);
        assert_eq!(parse_response(&out), (101, out.len()));
    }

    fn refuse(error: HandshakeError) {
        let mut out = Vec::new();
        HttpResponse::from(error).encode(&mut out, false);
        assert_eq!(parse_response(&out), (error.status(), out.len()));
    }

    fn touch(head: &RequestHead<'_>) {
        assert!(head.headers().count() <= MAX_HEADER_FIELDS);
        assert!(head.subprotocols().all(|offer| !offer.is_empty()));
        assert!(head.path().len() <= head.target().len().max(1));
        let _ = (head.query(), head.host(), head.origin(), head.key());
        let _ = (head.extensions().count(), head.is_upgrade());
    }

    fn parse_response(bytes: &[u8]) -> (u16, usize) {
        let mut headers = [httparse::EMPTY_HEADER; 16];
        let mut response = httparse::Response::new(&mut headers);
        let length = response.parse(bytes).unwrap().unwrap();
        (response.code.unwrap(), length)
    }
}
