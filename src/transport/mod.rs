//! Floor 2: bytes in and out of the kernel.
//!
//! | to fix | look in |
//! | --- | --- |
//! | connected sockets: reading, writing, shutting down | `stream` |
//! | listening sockets, accepting | `listener` |
//! | starting a connection | `connect` |
//! | host names | `resolver` |
//! | messages from other threads | `mailbox` |
//! | socket options | `options` |
//! | how an event finds what it is for | `tokens`, `registrar` |

mod connect;
mod listener;
mod mailbox;
mod options;
mod registrar;
mod resolver;
mod stream;
mod tokens;

pub(crate) use connect::start_connect;
pub use listener::ListenAddr;
pub(crate) use listener::{Listener, is_clients_fault};
pub(crate) use mailbox::Mailbox;
pub use mailbox::{PostError, PostErrorKind, Remote};
pub(crate) use options::SocketOptions;
pub(crate) use registrar::{BOTH_WAYS, Registrar};
pub(crate) use resolver::{Answer, Resolver};
pub use stream::{PeerAddr, Stream};
pub(crate) use tokens::TokenKind;
pub use tokens::Tokens;
