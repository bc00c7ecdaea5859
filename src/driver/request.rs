use std::ops::Deref;

use crate::{protocol::handshake::RequestHead, transport::PeerAddr};

/// A request of a client, with where it comes from. Everything of its head is in [`RequestHead`].
#[derive(Debug)]
pub struct Request<'a> {
    head: RequestHead<'a>,
    peer: &'a PeerAddr,
    listener: Option<ListenerId>,
}

/// Names a listener of a loop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ListenerId(pub(crate) usize);

impl<'a> Request<'a> {
    pub(crate) fn new(
        head: RequestHead<'a>,
        peer: &'a PeerAddr,
        listener: Option<ListenerId>,
    ) -> Self {
        Self {
            head,
            peer,
            listener,
        }
    }

    /// Who asks.
    #[must_use]
    pub fn peer_addr(&self) -> &PeerAddr {
        self.peer
    }

    /// The listener that accepted the connection; `None` for an adopted one.
    #[must_use]
    pub fn listener(&self) -> Option<ListenerId> {
        self.listener
    }
}

impl<'a> Deref for Request<'a> {
    type Target = RequestHead<'a>;

    fn deref(&self) -> &RequestHead<'a> {
        &self.head
    }
}
