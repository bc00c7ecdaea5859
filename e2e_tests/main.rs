//! End to end over real sockets: a server of the library's in a thread, and a raw client that can say what no good client
//! would.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::cast_possible_truncation,
    unreachable_pub
)]

mod support;

mod backpressure;
mod client_connect;
mod client_limits;
mod client_masking;
mod client_proxies;
mod client_proxy_refusals;
mod client_refusal;
mod client_server;
mod close;
#[cfg(feature = "deflate")]
mod compression;
mod control;
mod deferred;
mod echo;
mod embedding;
mod errors;
mod examples;
mod forwarding;
mod fragmentation;
mod handshake;
mod limits;
mod lone_client;
mod lone_client_life;
mod pause;
mod proxy;
mod raw_frames;
mod rejection;
#[cfg(all(target_os = "linux", target_env = "gnu"))]
mod resolving;
mod shutdown;
mod streaming;
mod stress;
mod tiers;
mod timeouts;
