//! One single-threaded server per peer, each as its own documentation shows it, and two references of the least work.
//!
//! A server runs in a process of its own, which prints the port that it listens on. `uwebsockets.cpp` is a program of its own
//! altogether.

mod fastwebsockets;
mod http;
mod raw;
mod sockudo;
mod stream;
mod tokio_tungstenite;
mod tokio_websockets;
mod wsloop;
mod yawc;

use std::{
    error::Error,
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
};

use clap::ValueEnum;
use serde::Serialize;

/// Who serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
pub(crate) enum Peer {
    /// epoll, and the bytes go back as they came
    RawBytes,
    /// epoll, and frames of a size that is known beforehand go back without their mask
    RawFrames,
    /// This library
    Wsloop,
    /// uWebSockets, C++
    Uwebsockets,
    /// fastwebsockets, upon hyper and tokio
    Fastwebsockets,
    /// sockudo-ws, upon tokio
    SockudoWs,
    /// tokio-tungstenite
    TokioTungstenite,
    /// tokio-websockets
    TokioWebsockets,
    /// yawc, upon hyper and tokio
    Yawc,
}

/// What a server does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
pub(crate) enum Service {
    /// Every message goes back.
    Echo,
    /// The first byte of a message says how many announcements go to all connections.
    Broadcast,
}

/// What is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
pub(crate) enum Deflate {
    /// Nothing
    Off,
    /// Each message by itself
    Shared,
    /// With a window per connection
    Dedicated,
}

/// Which side of a connection a peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum, Serialize)]
pub(crate) enum Role {
    /// Listens
    Server,
    /// Dials, and sends back what the server says
    Client,
}

/// How a server is to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::Args)]
pub(crate) struct Options {
    #[arg(long, value_enum)]
    pub(crate) peer: Peer,
    #[arg(long, value_enum, default_value = "server")]
    pub(crate) role: Role,
    #[arg(long, value_enum, default_value = "echo")]
    pub(crate) service: Service,
    #[arg(long, value_enum, default_value = "off")]
    pub(crate) deflate: Deflate,
    /// Payload of the messages in bytes: only the reference with framing needs to know
    #[arg(long, default_value_t = 20)]
    pub(crate) size: usize,
    /// More than one message is in flight on a connection: those that can be told so write several at a time
    #[arg(long)]
    pub(crate) batch: bool,
    /// Polls without waiting, where the peer knows how
    #[arg(long)]
    pub(crate) busy_poll: bool,
    /// Where a client dials
    #[arg(long)]
    pub(crate) dial: Option<SocketAddr>,
    /// How often it does
    #[arg(long, default_value_t = 1)]
    pub(crate) connections: usize,
}

/// Payload of an announcement in bytes.
pub(crate) const ANNOUNCEMENT_LEN: usize = 64;
/// The payload itself.
const ANNOUNCEMENT: [u8; ANNOUNCEMENT_LEN] = [b'b'; ANNOUNCEMENT_LEN];
/// The largest message, so that none of the peers refuses one of ours.
const MAX_MESSAGE: usize = 64 * 1024 * 1024;

impl Peer {
    /// As in its own documentation.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::RawBytes => "least (bytes)",
            Self::RawFrames => "least (frames)",
            Self::Wsloop => "wsloop",
            Self::Uwebsockets => "uWebSockets",
            Self::Fastwebsockets => "fastwebsockets",
            Self::SockudoWs => "sockudo-ws",
            Self::TokioTungstenite => "tokio-tungstenite",
            Self::TokioWebsockets => "tokio-websockets",
            Self::Yawc => "yawc",
        }
    }

    /// Not somebody else's: its failure is ours.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::RawBytes | Self::RawFrames | Self::Wsloop)
    }

    /// Whether it can do this at all.
    pub(crate) fn can(self, options: &Options) -> bool {
        match (self, options.service, options.deflate) {
            (_, Service::Broadcast, _) | (Self::Uwebsockets, ..)
                if options.role == Role::Client =>
            {
                false
            }
            (Self::Uwebsockets, ..) if crate::process::UWEBSOCKETS.is_none() => false,
            (Self::RawBytes, ..)
                if options.service == Service::Broadcast || options.role == Role::Client =>
            {
                false
            }
            // Its halves can be had apart only under an unstable feature.
            (Self::Fastwebsockets, Service::Broadcast, _) => false,
            (_, _, Deflate::Off) => true,
            // Its client has no way to offer it.
            (Self::SockudoWs, ..) => options.role == Role::Server,
            (Self::Wsloop | Self::Uwebsockets | Self::Yawc, ..) => true,
            _ => false,
        }
    }
}

/// Serves until the process is ended.
pub(crate) fn serve(options: &Options) -> Result<(), Box<dyn Error>> {
    match options.peer {
        Peer::RawBytes | Peer::RawFrames => raw::serve(options),
        Peer::Wsloop => wsloop::serve(options),
        Peer::Uwebsockets => Err("uWebSockets is a program of its own".into()),
        Peer::Fastwebsockets => fastwebsockets::serve(options),
        Peer::SockudoWs => sockudo::serve(options),
        Peer::TokioTungstenite => tokio_tungstenite::serve(options),
        Peer::TokioWebsockets => tokio_websockets::serve(options),
        Peer::Yawc => yawc::serve(options),
    }
}

/// What clients ask for.
const URL: &str = "ws://localhost/";

/// A listener on a port that the system chooses, which is announced.
fn listen() -> Result<TcpListener, Box<dyn Error>> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    announce(listener.local_addr()?.port())?;
    Ok(listener)
}

fn announce(port: u16) -> Result<(), Box<dyn Error>> {
    let mut out = std::io::stdout();
    writeln!(out, "{port}")?;
    Ok(out.flush()?)
}
