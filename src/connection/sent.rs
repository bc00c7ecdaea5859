use super::Payload;
use crate::protocol::MessageKind;

/// A payload that comes back.
#[derive(Debug)]
#[non_exhaustive]
pub struct Sent {
    /// The kind it was sent as.
    pub kind: MessageKind,
    /// The payload, as it was handed over.
    pub payload: Payload,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// The kernel has all of it.
    Flushed,
    /// The connection ended, or was closed with `close_now`, before the kernel had all of it.
    Discarded {
        /// Bytes of the payload that the kernel did take.
        written: usize,
    },
}
