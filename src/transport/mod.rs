//! Floor 2: bytes in and out of the kernel.
//!
//! | to fix | look in |
//! | --- | --- |
//! | connected sockets: reading, writing, shutting down | `stream` |
//! | listening sockets, accepting | `listener` |
//! | socket options | `options` |
//! | how an event finds what it is for | `tokens` |

mod listener;
mod options;
mod stream;
mod tokens;

pub use listener::ListenAddr;
pub(crate) use listener::{Listener, is_clients_fault};
pub(crate) use options::SocketOptions;
pub use stream::{PeerAddr, Stream};
pub(crate) use tokens::TokenKind;
pub use tokens::Tokens;
