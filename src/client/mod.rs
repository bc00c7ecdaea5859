//! Floor 4: from an address to an open connection of the client role.
//!
//! | to fix | look in |
//! | --- | --- |
//! | which attempts are under way: limits, events, timers, cancelling | `dialler` |
//! | one attempt: connecting, its phases | `dial` |
//! | the proxy, the request, the answer | `talk` |
//! | the body of a refusal | `refusal` |
//! | which address is tried when | `race` |

mod dial;
mod dialler;
mod race;
mod refusal;
mod talk;

pub(crate) use dialler::{Dialler, RESOLVER_MAILBOX};
