//! The answer that opens the WebSocket.

use alloc::{boxed::Box, vec::Vec};

use super::deferred::DeferredResponse;
use super::field::{self, HeaderError};
use super::request::RequestHead;
use super::subprotocol::choose_subprotocol;
use crate::protocol::DeflateParams;

/// The 101 for an accepted upgrade (RFC 6455 §4.2.2, step 5), to which the application may add.
///
/// Without an added header field nothing is allocated.
#[derive(Debug)]
pub struct Response<'a> {
    head: RequestHead<'a>,
    /// One of the offers in `head`.
    subprotocol: Option<&'a str>,
    deflate: Option<DeflateParams>,
    /// True exactly when there is to be none, whatever the settings say.
    no_subprotocol: bool,
    /// Whole header lines, ready to be sent.
    extra: Vec<u8>,
    /// True exactly when the answer is to be given later.
    deferred: bool,
}

impl<'a> Response<'a> {
    /// An answer without subprotocol, to a request that passed [`check_upgrade`](super::check_upgrade).
    pub fn new(head: &RequestHead<'a>) -> Self {
        Self {
            head: *head,
            subprotocol: None,
            deflate: None,
            no_subprotocol: false,
            extra: Vec::new(),
            deferred: false,
        }
    }

    /// Chooses one of the subprotocols that the client offered, once. Case counts. RFC 6455 §4.2.2, step 5.5.
    ///
    /// # Errors
    ///
    /// [`HeaderError::AlreadyChosen`] the second time, [`HeaderError::NotOffered`] for any other name.
    pub fn subprotocol(&mut self, name: &str) -> Result<(), HeaderError> {
        if self.subprotocol.is_some() {
            return Err(HeaderError::AlreadyChosen);
        }
        // The client's own text is kept: it is borrowed anyway, and it cannot hold a line end.
        let offer = self.head.subprotocols().find(|offer| *offer == name);
        self.subprotocol = Some(offer.ok_or(HeaderError::NotOffered)?);
        Ok(())
    }

    /// The subprotocol chosen so far.
    pub fn chosen_subprotocol(&self) -> Option<&'a str> {
        self.subprotocol
    }

    /// Goes without a subprotocol although the settings have a list of them.
    pub fn decline_subprotocols(&mut self) {
        self.no_subprotocol = true;
    }

    /// Chooses by a list in the order of preference, unless there is a choice already or none is wanted.
    pub fn choose_subprotocol<S: AsRef<str>>(&mut self, preferred: &[S]) {
        if self.subprotocol.is_none() && !self.no_subprotocol {
            self.subprotocol = choose_subprotocol(preferred, self.head.subprotocols());
        }
    }

    /// What of the client's offers of permessage-deflate the server takes up, `None` if it takes up none (RFC 7692 §5.1). A loop
    /// has decided that before it asks the application, as its settings say; whether windows are kept from message to message
    /// is decided when the answer is written.
    pub fn deflate(&self) -> Option<&DeflateParams> {
        self.deflate.as_ref()
    }

    /// Takes up such an offer, or with `None` refuses them all: what [`accept_deflate`](crate::protocol::accept_deflate) says.
    pub fn set_deflate(&mut self, params: Option<DeflateParams>) {
        self.deflate = params;
    }

    /// Goes without compression, whatever the client offers.
    pub fn refuse_deflate(&mut self) {
        self.deflate = None;
    }

    /// Adds a header field. A name may occur several times, as `Set-Cookie` does.
    ///
    /// # Errors
    ///
    /// [`HeaderError::InvalidName`], [`HeaderError::InvalidValue`], and [`HeaderError::Reserved`] for a field that the
    /// library sets.
    pub fn header(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        field::check(name, value)?;
        field::encode(name, value.as_bytes(), &mut self.extra);
        Ok(())
    }

    /// Puts the answer off: the 101, or a refusal, follows when the application has made up its mind. What was added before
    /// stays.
    pub fn defer(&mut self) {
        self.deferred = true;
    }

    /// True exactly when [`defer`](Self::defer) was called.
    pub fn is_deferred(&self) -> bool {
        self.deferred
    }

    /// The same answer, independent of the request; `accept` comes from [`Upgrade::accept`](super::Upgrade::accept).
    pub fn into_deferred(self, accept: [u8; 28]) -> DeferredResponse {
        let offers: Vec<Box<str>> = self.head.subprotocols().map(Box::from).collect();
        let chosen = |name: &str| offers.iter().position(|offer| **offer == *name);
        let subprotocol = self.subprotocol.and_then(chosen);
        DeferredResponse::new(accept, offers, subprotocol, self.deflate, self.extra)
    }

    /// Appends the whole answer to `out`; `accept` comes from [`Upgrade::accept`](super::Upgrade::accept).
    pub fn encode(&self, accept: &[u8; 28], out: &mut Vec<u8>) {
        encode_switching(
            accept,
            self.subprotocol,
            self.deflate.as_ref(),
            &self.extra,
            out,
        );
    }
}

/// Appends a 101 to `out`. The caller vouches for the subprotocol and for `extra`, which is whole header lines.
pub(super) fn encode_switching(
    accept: &[u8; 28],
    subprotocol: Option<&str>,
    deflate: Option<&DeflateParams>,
    extra: &[u8],
    out: &mut Vec<u8>,
) {
    out.extend_from_slice(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n",
    );
    field::encode("Sec-WebSocket-Accept", accept, out);
    if let Some(name) = subprotocol {
        field::encode("Sec-WebSocket-Protocol", name.as_bytes(), out);
    }
    if let Some(params) = deflate {
        field::encode_display("Sec-WebSocket-Extensions", params, out);
    }
    out.extend_from_slice(extra);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::super::fields::HeaderSlots;
    use super::*;

    const ACCEPT: &[u8; 28] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    const START: &str = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
    const REQUEST: &[u8] =
        b"GET / HTTP/1.1\r\nSec-WebSocket-Protocol: chat, v1\r\nSec-WebSocket-Protocol: v2\r\n\r\n";

    fn with_response(change: impl FnOnce(&mut Response<'_>)) -> String {
        let mut slots = HeaderSlots::new(8);
        let head = RequestHead::parse(REQUEST, &mut slots).unwrap();
        let mut response = Response::new(&head);
        change(&mut response);
        let mut out = Vec::new();
        response.encode(ACCEPT, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_bare_answer() {
        let text = with_response(|response| assert_eq!(response.chosen_subprotocol(), None));
        assert_eq!(text, format!("{START}\r\n"));
    }

    #[test]
    fn the_bare_answer_allocates_nothing() {
        let mut slots = HeaderSlots::new(8);
        let head = RequestHead::parse(REQUEST, &mut slots).unwrap();
        let mut response = Response::new(&head);
        response.subprotocol("v1").unwrap();
        let mut out = Vec::with_capacity(256);
        let capacity = out.capacity();
        response.encode(ACCEPT, &mut out);
        assert_eq!(response.extra.capacity(), 0);
        assert_eq!(out.capacity(), capacity);
    }

    #[test]
    fn a_subprotocol_is_chosen_once_among_the_offers() {
        let text = with_response(|response| {
            for other in ["", "v3", "CHAT", "chat, v1", "v2\r\nX: y"] {
                let refused = response.subprotocol(other);
                assert_eq!(refused, Err(HeaderError::NotOffered), "{other:?}");
            }
            assert_eq!(response.subprotocol("v2"), Ok(()));
            assert_eq!(response.subprotocol("v1"), Err(HeaderError::AlreadyChosen));
            assert_eq!(response.chosen_subprotocol(), Some("v2"));
        });
        assert_eq!(text, format!("{START}Sec-WebSocket-Protocol: v2\r\n\r\n"));
    }

    #[test]
    fn added_fields_keep_their_order() {
        let text = with_response(|response| {
            response.header("Set-Cookie", "a=1").unwrap();
            response.header("Set-Cookie", "b=2").unwrap();
        });
        assert_eq!(
            text,
            format!("{START}Set-Cookie: a=1\r\nSet-Cookie: b=2\r\n\r\n")
        );
    }

    #[test]
    fn injection_is_refused_and_leaves_nothing_behind() {
        let text = with_response(|response| {
            let injected = response.header("X", "a\r\n\r\nHTTP/1.1 200 OK");
            assert_eq!(injected, Err(HeaderError::InvalidValue));
            let reserved = response.header("sec-websocket-protocol", "v1");
            assert_eq!(reserved, Err(HeaderError::Reserved("Sec-WebSocket-*")));
        });
        assert_eq!(text, format!("{START}\r\n"));
    }
}
