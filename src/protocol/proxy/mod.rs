//! The way through a proxy, as state machines over bytes.
//!
//! Whoever dials need not know which proxy it is, or that there is one. [`Tunnel`] is driven in the same way in all cases,
//! over the stream to the proxy, until it [is done](Tunnel::is_done):
//!
//! 1. write what [`poll_output`](Tunnel::poll_output) shows, and [`advance`](Tunnel::advance) by what was written;
//! 2. when it shows nothing, read, and give what was read to [`handle_input`](Tunnel::handle_input).
//!
//! The machine keeps what it needs of its input, so that the buffer may be of any size and is free again after each call.
//! It consumes everything until it is done; what it leaves over then are the first bytes of the tunnel. After an error the
//! connection to the proxy is of no more use. Deadlines, and the end of the stream, are the caller's matter.
//!
//! | to fix | look in |
//! | --- | --- |
//! | HTTP `CONNECT` (RFC 9110 §9.3.6) | `connect` |
//! | SOCKS5 (RFC 1928, RFC 1929) | `socks5` |
//! | what a proxy can do wrong | `error` |

mod connect;
mod credentials;
mod destination;
mod error;
mod output;
mod socks5;
mod tunnel;

pub use connect::{HttpConnect, MAX_CONNECT_HEAD};
pub use credentials::{Credentials, CredentialsError};
pub use destination::Destination;
pub use error::{ProxyError, SocksReply};
pub use socks5::Socks5;
pub use tunnel::Tunnel;

/// What a call of `handle_input` has made of its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// So many bytes were taken: all of them, unless the machine is done. The rest belongs to the tunnel.
    pub consumed: usize,
}
