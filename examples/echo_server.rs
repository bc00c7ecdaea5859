//! Sends every message back to where it came from.
//!
//! ```text
//! cargo run --release --example echo_server -- --listen 127.0.0.1:9001
//! ```

use std::{error::Error, net::SocketAddr, process::ExitCode, str::FromStr, time::Duration};

use clap::Parser;
use mio::{Interest, event::Event};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use wsloop::{
    Compression, Config, Conn, Connections, EventLoop, Handler, HttpResponse, ListenAddr, Message,
    Progress, Request, Response, SourceId,
};

const PAGE: &str = include_str!("echo_page.html");

/// How long clients have to answer the close frame when the server stops.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);

/// A WebSocket echo server, with a page for browsers at http://ADDRESS/. Stops with the close handshake on SIGINT and SIGTERM.
#[derive(Parser)]
struct Options {
    /// Address and port to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9001")]
    listen: String,

    /// Largest message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Config::default().max_message_size)]
    max_message_size: usize,

    /// Most open connections
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_connections)]
    max_connections: usize,

    /// Most handshakes at a time
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_handshakes)]
    max_handshakes: usize,

    /// Seconds without a byte after which a connection is closed; never by default
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<u64>,

    /// Size of the fixed read buffers in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Config::default().read_buffer_size)]
    read_buffer_size: usize,

    /// Compress messages: off, shared (each by itself) or dedicated (windows kept per connection), with the binary logarithm of
    /// the window, as in dedicated:12
    #[arg(long, value_name = "MODE", default_value = "off")]
    deflate: Deflate,

    /// Poll without waiting: one core is busy all the time, and answers come sooner
    #[arg(long)]
    busy_poll: bool,
}

impl Options {
    fn config(&self) -> Config {
        let defaults = Config::default();
        Config::default()
            .max_message_size(self.max_message_size)
            // Room for the largest answer behind whatever waits when reading pauses.
            .max_backlog(self.max_message_size.saturating_add(defaults.max_backlog))
            .max_connections(self.max_connections)
            .initial_connections(defaults.initial_connections.min(self.max_connections))
            .max_handshakes(self.max_handshakes)
            .initial_handshakes(defaults.initial_handshakes.min(self.max_handshakes))
            .idle_timeout(self.idle_timeout.map(Duration::from_secs))
            .read_buffer_size(self.read_buffer_size)
            .compression(self.deflate.mode)
            .compression_window_bits(self.deflate.window_bits)
    }
}

/// What `--deflate` says.
#[derive(Clone, Copy)]
struct Deflate {
    mode: Compression,
    window_bits: u8,
}

impl FromStr for Deflate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mode, bits) = match text.split_once(':') {
            Some((mode, bits)) => (mode, Some(bits)),
            None => (text, None),
        };
        let mode = match (mode, bits) {
            ("off", None) => Compression::Off,
            ("shared", _) => Compression::Shared,
            ("dedicated", _) => Compression::Dedicated,
            _ => return Err("off, shared or dedicated, perhaps with :BITS".to_owned()),
        };
        let window_bits = match bits {
            None => Config::default().compression_window_bits,
            Some(bits) => bits.parse().map_err(|_| format!("{bits}: not a number"))?,
        };
        Ok(Self { mode, window_bits })
    }
}

struct Echo {
    signals: Signals,
}

impl Handler for Echo {
    type Session = ();

    fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<(), HttpResponse> {
        Ok(())
    }

    /// A page to try it from, at `/`.
    fn on_request(&mut self, request: &Request<'_>) -> HttpResponse {
        if request.path() != "/" {
            return HttpResponse::not_found();
        }
        HttpResponse::ok_text("")
            .body(PAGE)
            .header("Content-Type", "text/html; charset=utf-8")
            .unwrap_or_else(|_| HttpResponse::not_found())
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, mut message: Message<'_>) {
        // Reading pauses by itself while the peer does not read, so there is always room for the answer.
        let _ = conn.forward(&mut message);
    }

    fn on_source(&mut self, connections: &mut Connections<'_, ()>, _: SourceId, _: &Event) {
        if self.signals.pending().next().is_some() {
            connections.shutdown(SHUTDOWN_DEADLINE);
        }
    }
}

/// Exit status for options that cannot work, as `clap` has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    let Ok(address) = options.listen.parse() else {
        eprintln!(
            "echo_server: --listen {}: not an address and port such as 127.0.0.1:9001",
            options.listen
        );
        return ExitCode::from(USAGE);
    };
    if let Err(error) = options.config().validate() {
        eprintln!("echo_server: {error}");
        return ExitCode::from(USAGE);
    }
    match serve(&options, address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo_server: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options, address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let mut event_loop = EventLoop::new(options.config())?;
    let mut app = Echo {
        signals: Signals::new([SIGINT, SIGTERM])?,
    };
    event_loop
        .connections()
        .register(&mut app.signals, Interest::READABLE)?;
    let listener = event_loop
        .listen(address)
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    if let ListenAddr::Tcp(address) = event_loop.local_addr(listener)? {
        println!("listening on ws://{address}");
    }
    let timeout = options.busy_poll.then_some(Duration::ZERO);
    while event_loop.turn(&mut app, timeout)? == Progress::Running {}
    Ok(())
}
