//! The answer that opens the WebSocket, when it is not given at once.

use alloc::{boxed::Box, vec::Vec};

use super::field::{self, HeaderError};
use super::response::encode_switching;
use crate::protocol::DeflateParams;

/// A [`Response`](super::Response) that outlives its request: what was added so far, the client's offers, and the accept
/// key.
#[derive(Debug, Clone)]
pub struct DeferredResponse {
    accept: [u8; 28],
    /// What the client offered, in its order; each a token.
    offers: Vec<Box<str>>,
    /// Index into `offers`.
    subprotocol: Option<usize>,
    deflate: Option<DeflateParams>,
    /// Whole header lines, ready to be sent.
    extra: Vec<u8>,
}

impl DeferredResponse {
    pub(super) fn new(
        accept: [u8; 28],
        offers: Vec<Box<str>>,
        subprotocol: Option<usize>,
        deflate: Option<DeflateParams>,
        extra: Vec<u8>,
    ) -> Self {
        Self {
            accept,
            offers,
            subprotocol,
            deflate,
            extra,
        }
    }

    /// The subprotocols that the client offered, the preferred one first.
    pub fn offers(&self) -> impl Iterator<Item = &str> {
        self.offers.iter().map(|offer| &**offer)
    }

    /// Chooses one of the subprotocols that the client offered, once. See
    /// [`Response::subprotocol`](super::Response::subprotocol).
    ///
    /// # Errors
    ///
    /// [`HeaderError::AlreadyChosen`] the second time, [`HeaderError::NotOffered`] for any other name.
    pub fn subprotocol(&mut self, name: &str) -> Result<(), HeaderError> {
        if self.subprotocol.is_some() {
            return Err(HeaderError::AlreadyChosen);
        }
        let offer = self.offers().position(|offer| offer == name);
        self.subprotocol = Some(offer.ok_or(HeaderError::NotOffered)?);
        Ok(())
    }

    /// The subprotocol chosen so far.
    pub fn chosen_subprotocol(&self) -> Option<&str> {
        self.offers.get(self.subprotocol?).map(|offer| &**offer)
    }

    /// See [`Response::deflate`](super::Response::deflate).
    pub fn deflate(&self) -> Option<&DeflateParams> {
        self.deflate.as_ref()
    }

    /// See [`Response::set_deflate`](super::Response::set_deflate).
    pub fn set_deflate(&mut self, params: Option<DeflateParams>) {
        self.deflate = params;
    }

    /// Adds a header field. See [`Response::header`](super::Response::header).
    ///
    /// # Errors
    ///
    /// As `Response::header`.
    pub fn header(&mut self, name: &str, value: &str) -> Result<(), HeaderError> {
        field::check(name, value)?;
        field::encode(name, value.as_bytes(), &mut self.extra);
        Ok(())
    }

    /// Appends the whole answer to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let (subprotocol, deflate) = (self.chosen_subprotocol(), self.deflate());
        encode_switching(&self.accept, subprotocol, deflate, &self.extra, out);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{HeaderSlots, RequestHead, Response};
    use super::*;

    const ACCEPT: &[u8; 28] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nSec-WebSocket-Protocol: chat, v1\r\n\r\n";

    /// What was changed before deferring and after it, as one answer.
    fn answer(
        before: impl FnOnce(&mut Response<'_>),
        after: impl FnOnce(&mut DeferredResponse),
    ) -> String {
        let mut slots = HeaderSlots::new(8);
        let head = RequestHead::parse(REQUEST, &mut slots).unwrap();
        let mut response = Response::new(&head);
        before(&mut response);
        let mut deferred = response.into_deferred(*ACCEPT);
        after(&mut deferred);
        let mut out = Vec::new();
        deferred.encode(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn what_is_set_before_and_after_is_one_answer() {
        let late = answer(
            |response| response.header("A", "1").unwrap(),
            |deferred| {
                assert!(deferred.offers().eq(["chat", "v1"]));
                assert_eq!(deferred.subprotocol("v2"), Err(HeaderError::NotOffered));
                deferred.subprotocol("v1").unwrap();
                assert_eq!(
                    deferred.subprotocol("chat"),
                    Err(HeaderError::AlreadyChosen)
                );
                deferred.header("B", "2").unwrap();
                assert_eq!(
                    deferred.header("B", "2\r\n"),
                    Err(HeaderError::InvalidValue)
                );
            },
        );
        let mut slots = HeaderSlots::new(8);
        let head = RequestHead::parse(REQUEST, &mut slots).unwrap();
        let mut response = Response::new(&head);
        response.subprotocol("v1").unwrap();
        response.header("A", "1").unwrap();
        response.header("B", "2").unwrap();
        let mut at_once = Vec::new();
        response.encode(ACCEPT, &mut at_once);
        assert_eq!(late.as_bytes(), at_once);
    }

    #[test]
    fn a_subprotocol_chosen_before_stays() {
        let text = answer(
            |response| response.subprotocol("chat").unwrap(),
            |deferred| {
                assert_eq!(deferred.chosen_subprotocol(), Some("chat"));
                assert_eq!(deferred.subprotocol("v1"), Err(HeaderError::AlreadyChosen));
            },
        );
        assert!(text.contains("Sec-WebSocket-Protocol: chat\r\n"));
    }
}
