use std::fmt;

use crate::{connection::Payload, memory::PoolBuf, protocol::MessageKind};

/// A message that was received, valid during the call that delivers it.
pub struct Message<'a> {
    kind: MessageKind,
    body: Body<'a>,
}

enum Body<'a> {
    /// In the scratch buffer.
    Borrowed(&'a [u8]),
    /// In a buffer of its own. `None` once it is taken, which ends the message.
    Whole(&'a mut Option<PoolBuf>),
}

impl<'a> Message<'a> {
    pub(crate) fn borrowed(kind: MessageKind, bytes: &'a [u8]) -> Self {
        Self {
            kind,
            body: Body::Borrowed(bytes),
        }
    }

    pub(crate) fn whole(kind: MessageKind, buffer: &'a mut Option<PoolBuf>) -> Self {
        Self {
            kind,
            body: Body::Whole(buffer),
        }
    }

    /// Text or binary.
    #[must_use]
    #[inline]
    pub fn kind(&self) -> MessageKind {
        self.kind
    }

    /// The payload, unmasked. Empty once the message was forwarded in its own buffer.
    #[must_use]
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        match &self.body {
            Body::Borrowed(bytes) => bytes,
            Body::Whole(buffer) => buffer.as_deref().unwrap_or_default(),
        }
    }

    /// The payload of a message in the scratch buffer.
    #[inline]
    pub(super) fn borrowed_bytes(&self) -> Option<&[u8]> {
        match &self.body {
            Body::Borrowed(bytes) => Some(bytes),
            Body::Whole(_) => None,
        }
    }

    /// The buffer of its own, to be sent, or put back if that is refused. `None` for a message in the scratch buffer, and for
    /// one that was taken.
    pub(super) fn buffer(&mut self) -> Option<&mut Option<PoolBuf>> {
        match &mut self.body {
            Body::Whole(buffer) if buffer.is_some() => Some(buffer),
            _ => None,
        }
    }

    /// The text of a text message; `None` for a binary one, and for text that is not UTF-8 when `check_utf8` is off.
    ///
    /// The loop has checked the bytes as they arrived; turning them into a `str` looks at them once more, which costs
    /// nothing for those who do not ask.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        match self.kind {
            MessageKind::Text => simdutf8::basic::from_utf8(self.as_bytes()).ok(),
            MessageKind::Binary => None,
        }
    }

    /// The payload, to keep or to send. A message in a buffer of its own (one that did not come in one piece, or a large one that
    /// came while the kernel took nothing) is moved; one in the loop's scratch buffer is copied into a new vector.
    #[must_use]
    pub fn take(self) -> Payload {
        match self.body {
            Body::Borrowed(bytes) => Payload::Owned(bytes.to_vec()),
            Body::Whole(buffer) => buffer.take().map_or(Payload::Static(b""), Payload::Pooled),
        }
    }
}

/// Says kind and length: contents can be secret, and long.
impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}({} bytes)", self.kind, self.as_bytes().len())
    }
}
