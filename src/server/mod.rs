//! Floor 4: from a listening socket to an open connection, and the way out.
//!
//! | to fix | look in |
//! | --- | --- |
//! | listening, accepting, admission, back-off | `accept` |
//! | one opening handshake: reading the head, deciding | `handshake` |
//! | writing the answer, and what follows it; handshakes that fail | `answer` |
//! | upgrades that are answered later | `defer` |
//! | graceful shutdown | `shutdown` |

mod accept;
mod answer;
mod defer;
mod handshake;
mod shutdown;

use slab::Slab;

pub use self::shutdown::Shutdown;
use self::{accept::Port, handshake::Handshake, shutdown::Stopping};
use crate::memory::Slots;

/// Listeners and handshakes of a loop.
pub(crate) struct Server<S> {
    ports: Slab<Port>,
    handshakes: Slots<Handshake<S>>,
    /// True exactly while accepting pauses because something has run out.
    backing_off: bool,
    stopping: Option<Stopping>,
    /// For composing answers.
    answer: Vec<u8>,
}

impl<S> Server<S> {
    pub(crate) fn new(initial_handshakes: usize) -> Self {
        Self {
            ports: Slab::new(),
            handshakes: Slots::with_capacity(initial_handshakes),
            backing_off: false,
            stopping: None,
            answer: Vec::new(),
        }
    }
}
