//! What all families share.

mod app;
mod client;
pub mod lone;
mod process;
mod raw_server;
mod server;
mod wire;

pub use app::{App, Event, Session};
pub use client::{Client, HttpAnswer};
#[cfg(target_os = "linux")]
pub use process::run_example_on_terminal;
pub use process::{EchoServer, run_example, run_example_on};
pub use raw_server::{MaskedFrame, Peer, RawServer};
pub use server::{SEED, Server, Stopped};
pub use wire::{Frame, close_payload, frame, masked_frame, upgrade_request};

use std::time::Duration;

/// How long a test waits for anything. Long enough for a busy machine; no test gets near it unless it fails.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// `len` bytes that differ from their neighbours and from other seeds.
pub fn pattern(len: usize, seed: u32) -> Vec<u8> {
    (0..len as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761).wrapping_add(seed) >> 13) as u8)
        .collect()
}
