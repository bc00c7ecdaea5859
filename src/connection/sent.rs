use super::Payload;
use crate::protocol::MessageKind;

/// A payload that comes back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sent {
    /// The kind it was sent as.
    pub kind: MessageKind,
    /// The payload. A client masks what it can in place, so its bytes may be masked: see [`unmask`](Self::unmask).
    pub payload: Payload,
    /// What became of it.
    pub outcome: Outcome,
    mask: Mask,
}

/// Whether a payload was masked in place (RFC 6455 §5.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mask {
    None,
    InPlace([u8; 4]),
}

/// What became of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The kernel has all of it.
    Flushed,
    /// The connection ended, or was closed with `close_now`, before the kernel had all of it.
    Discarded {
        /// Bytes of the payload that the kernel did take; of its compressed form, if it was compressed.
        written: usize,
    },
}

impl Sent {
    pub(super) fn new(kind: MessageKind, payload: Payload, outcome: Outcome, mask: Mask) -> Self {
        Self {
            kind,
            payload,
            outcome,
            mask,
        }
    }

    /// True exactly when the payload's bytes are masked. Never on a server; on a client for payloads that it could mask in
    /// place (`Owned` and `Pooled`), and not for those that are shared.
    #[must_use]
    pub fn is_masked(&self) -> bool {
        self.mask != Mask::None
    }

    /// Makes the payload what it was when it was handed over, in place; does nothing when it is that already.
    pub fn unmask(&mut self) {
        if let Mask::InPlace(key) = std::mem::replace(&mut self.mask, Mask::None) {
            // Masking is its own inverse.
            let unmasked = self.payload.apply_mask(key);
            debug_assert!(unmasked, "what could be masked can be unmasked");
        }
    }
}
