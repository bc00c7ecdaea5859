use super::core::Settings;
use crate::{connection::Link, protocol::Rules};

/// What is taken from a peer during one visit to its connection: by which rules, and how much before the others get their turn.
pub(super) struct Terms {
    /// The same for as long as frames are read: role and settings never change, and compression ends with the connection.
    pub(super) rules: Rules,
    bytes: usize,
    messages: usize,
}

impl Terms {
    #[inline]
    pub(super) fn new(link: &Link, settings: &Settings) -> Self {
        Self {
            rules: settings.rules(link),
            bytes: settings.config.turn_bytes,
            messages: settings.config.turn_messages,
        }
    }

    /// Otherwise nothing more is read; what was read is still dispatched.
    #[inline]
    pub(super) fn allow_reading(&self) -> bool {
        self.bytes > 0 && self.messages > 0
    }

    /// Otherwise nothing more is dispatched.
    #[inline]
    pub(super) fn allow_messages(&self) -> bool {
        self.messages > 0
    }

    #[inline]
    pub(super) fn spend_bytes(&mut self, count: usize) {
        self.bytes = self.bytes.saturating_sub(count);
    }

    #[inline]
    pub(super) fn spend_message(&mut self) {
        self.messages = self.messages.saturating_sub(1);
    }
}
