use super::ConnId;
use crate::connection::Output;

/// What is being worked off while the application is called: the input of one connection, in the loop's scratch buffer.
///
/// What of it has been used up stays as it is until more is read, and what is sent from there is written before, so that it need
/// not be copied; and what is staged on the connection is written when the visit is over, without anybody remembering it.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'a> {
    id: Option<ConnId>,
    input: &'a [u8],
    /// Where the event at hand ends. `consumed <= input.len()`
    consumed: usize,
    /// Where the payload of the message at hand begins, if it lies in the input as a whole, behind its header.
    message: Option<usize>,
}

impl<'a> Visit<'a> {
    /// No connection's input is being worked off.
    pub(crate) const NONE: Self = Self {
        id: None,
        input: &[],
        consumed: 0,
        message: None,
    };

    pub(crate) fn new(id: ConnId, input: &'a [u8], consumed: usize) -> Self {
        Self {
            id: Some(id),
            input,
            consumed,
            message: None,
        }
    }

    pub(super) fn with_message(self, start: usize) -> Self {
        Self {
            message: Some(start),
            ..self
        }
    }

    /// True exactly when what is staged on this connection is written when the visit is over.
    #[inline]
    pub(super) fn is_to(&self, id: ConnId) -> bool {
        self.id == Some(id)
    }

    /// What lies behind the event at hand.
    #[inline]
    pub(super) fn unread(&self) -> &'a [u8] {
        &self.input[self.consumed..]
    }

    /// Where this connection's bytes go. It may refer to what lies still until more is read; another one may not, for that may be
    /// earlier than it can write.
    #[inline]
    pub(super) fn output<W>(&self, id: ConnId, stream: &'a mut W) -> Output<'a, W> {
        if self.is_to(id) {
            Output::new(stream, &self.input[..self.consumed]).with_message(self.message)
        } else {
            Output::new(stream, &[])
        }
    }
}
