use super::ConnId;

/// What is being worked off while the application is called: the input of one connection, in the loop's scratch buffer.
///
/// What of it has been used up stays as it is until the visit to the connection is over, so that what is sent from there need
/// not be copied; and what is staged on the connection is written when the visit is over, without anybody remembering it.
#[derive(Clone, Copy)]
pub(crate) struct Visit<'a> {
    id: Option<ConnId>,
    input: &'a [u8],
    /// Where the event at hand ends. `consumed <= input.len()`
    consumed: usize,
}

impl<'a> Visit<'a> {
    /// No connection's input is being worked off.
    pub(crate) const NONE: Self = Self {
        id: None,
        input: &[],
        consumed: 0,
    };

    pub(crate) fn new(id: ConnId, input: &'a [u8], consumed: usize) -> Self {
        Self {
            id: Some(id),
            input,
            consumed,
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

    /// What this connection may refer to until the visit is over: that to another one may be over earlier than it can write.
    #[inline]
    pub(super) fn settled_for(&self, id: ConnId) -> &'a [u8] {
        if self.is_to(id) {
            &self.input[..self.consumed]
        } else {
            &[]
        }
    }
}
