//! Floor 1: one connection without its socket and without a clock. Bytes and the time come in as arguments.
//!
//! | to fix | look in |
//! | --- | --- |
//! | the close handshake | `link` |
//! | frames in: parsing, what is kept of partial input | `inbox`, `kept` |
//! | frames in: those that come in one piece | `whole` |
//! | fragmented messages, frames that arrive in pieces, growth of their buffers | `assembly` |
//! | messages that are passed on in pieces, as they arrive | `streaming` |
//! | frames out: what may be sent, when it is written | `outbox` |
//! | frames out: messages from borrowed slices, offered to the kernel or copied | `copies` |
//! | frames out: what is written together, and from where it lies | `stage`, `cork`, `output` |
//! | frames out: the same ones for many connections | `fan` |
//! | frames out: order, partial writes, completion | `queue`, `segment` |
//! | pings, pongs and the close frame, while they wait | `control` |
//! | timeouts | `deadlines` |
//! | what is sent | `payload`, `frames` |
//! | compression: windows, and who has which | `deflaters` |
//! | compression: messages out | `packer` |
//! | compression: messages in | `inflate` |
//! | what the benchmarks drive | `internals` |

mod assembly;
mod close;
mod control;
mod copies;
mod cork;
mod deadlines;
mod deflaters;
mod error;
mod fan;
mod frames;
mod inbox;
mod inflate;
#[cfg(feature = "internals")]
pub mod internals;
mod kept;
mod link;
mod outbox;
mod output;
mod packer;
mod payload;
mod pools;
mod queue;
mod reach;
mod segment;
mod sent;
mod stage;
mod streaming;
mod whole;

pub use close::{Close, CloseCause, Initiator};
pub(crate) use deadlines::{Due, Timeouts};
pub(crate) use deflaters::Agreement;
pub use error::{InvalidCloseCode, SendError, SendErrorKind};
pub use frames::{Frames, FramesBuilder, FramesError};
pub(crate) use inbox::{Assembled, Event, Fault, Partial};
pub(crate) use inflate::Inflated;
pub(crate) use link::Link;
pub(crate) use outbox::{Flushed, SendLimits};
pub(crate) use output::Output;
pub use payload::Payload;
pub(crate) use pools::Pools;
pub(crate) use reach::goes_on_at;
pub use sent::{Outcome, Sent};
pub(crate) use streaming::Piece;

#[cfg(test)]
mod choppy;
