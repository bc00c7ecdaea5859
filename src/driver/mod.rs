//! Floor 3: the only code that calls the application.
//!
//! Sends and closes only change state and stage bytes; nothing is called back from inside them. What they cause is collected
//! (`Shared::dirty`, `notices`) and worked off in one place, `settle`.
//!
//! | to fix | look in |
//! | --- | --- |
//! | what the application implements | `handler` |
//! | what the application holds in its hands | `conn`, `sender`, `connections`, `message`, `request` |
//! | reading: drained or not, pause, end of stream | `receive` |
//! | what one visit takes: by which rules, and how much before the others get their turn | `terms` |
//! | delivering messages, pings and closes | `dispatch` |
//! | what of the input may be referred to | `visit` |
//! | delivering compressed messages | `inflated` |
//! | flushing, water marks, shutting down the write side | `flush` |
//! | completions, drains, retirement | `settle` |
//! | from an accepted request to an open connection | `open` |
//! | taking over sockets | `adopt` |
//! | messages in fragments, both ways | `fragment` |
//! | upgrades that are answered later | `deferred` |
//! | what connecting asks for and can fail with | `dial` |
//! | timeouts | `deadline` |
//! | timers, foreign sources and posted messages of the application | `outside` |
//! | what belongs to a loop | `core` |
//! | what waits to be told | `notices` |
//! | what is counted | `counters`, `stats` |

mod adopt;
mod conn;
mod connections;
mod core;
mod counters;
mod deadline;
mod deferred;
mod dial;
mod dispatch;
mod flush;
mod fragment;
mod handler;
mod inflated;
mod message;
mod notices;
mod open;
mod outside;
mod receive;
mod request;
mod sender;
mod settle;
mod stats;
mod terms;
mod visit;

use std::marker::PhantomData;

use crate::memory::Buffer;

pub(crate) use adopt::Adopted;
pub use adopt::{AdoptError, AdoptErrorKind};
pub use conn::Conn;
pub use connections::{Connections, LimitReached, SourceId, TimerId};
pub use core::ConnId;
pub(crate) use core::{Core, DialOrder, Shared, Slot, Timer, Wire};
pub(crate) use deadline::handle_deadline;
pub(crate) use deferred::Answer;
pub use deferred::{Deferred, UpgradeId};
pub use dial::{
    Connect, ConnectConfigError, ConnectError, DialError, DialErrorKind, DialId, Proxy,
    RefusedAnswer,
};
pub use fragment::Fragment;
pub use handler::{Handler, HandshakeFailure};
pub use message::Message;
pub(crate) use open::Opening;
pub use request::{ListenerId, Request};
pub use sender::Sender;
pub use stats::{Closed, Refused, RoundTrips, Stats, Traffic};
pub(crate) use visit::Visit;

/// What a socket is said to be ready for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Readiness {
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    /// The peer will not send any more, or there is an error to be fetched: either way the next read says it.
    pub(crate) hung_up: bool,
}

impl Readiness {
    /// Only what was said before.
    pub(crate) const NOTHING_NEW: Self = Self {
        readable: false,
        writable: false,
        hung_up: false,
    };
}

/// The application, the state and the scratch buffer together: everything that one step of the loop needs.
///
/// The scratch buffer is not a part of the core. That is why a message can borrow from it while the application has
/// mutable access to every connection.
pub(crate) struct Driver<'a, H: Handler<M>, M> {
    pub(crate) app: &'a mut H,
    pub(crate) core: &'a mut Core<H::Session>,
    pub(crate) scratch: &'a mut Buffer,
    message: PhantomData<M>,
}

impl<'a, H: Handler<M>, M> Driver<'a, H, M> {
    pub(crate) fn new(
        app: &'a mut H,
        core: &'a mut Core<H::Session>,
        scratch: &'a mut Buffer,
    ) -> Self {
        Self {
            app,
            core,
            scratch,
            message: PhantomData,
        }
    }
}
