//! Passes every connection on to another WebSocket server.
//!
//! ```text
//! cargo run --release --example proxy -- --listen 127.0.0.1:9000 --upstream ws://127.0.0.1:9001
//! ```
//!
//! A client has its answer when the upstream server has given its own: a refused one is refused here, before any 101. Messages
//! are passed on in pieces, as they arrive, so the proxy holds no message, however large. Pings are answered here.

use std::{error::Error, fs::File, io::Read, net::SocketAddr, process::ExitCode, time::Duration};

use clap::Parser;
use mio::{Interest, event::Event};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use wsloop::{
    Close, CloseCause, CloseCode, Config, Conn, ConnId, Connect, ConnectConfigError, ConnectError,
    Connections, DialId, EventLoop, Fragment, Handler, HandshakeFailure, HttpResponse, Initiator,
    ListenAddr, Message, OriginPolicy, Request, Response, SendErrorKind, SourceId, UpgradeId,
    protocol::handshake::ResponseHead,
};

/// How long both sides have to answer the close frame when the proxy stops.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// When so many bytes wait for one side, nothing more is read from the other.
const PAUSE_AT: usize = 256 * 1024;
/// What of a client's request is passed on, beside its path, its origin and its subprotocols.
const PASSED_HEADERS: [&str; 3] = ["Authorization", "Cookie", "User-Agent"];
/// What of the upstream server's answer is passed back, beside its subprotocol.
const PASSED_BACK: [&str; 2] = ["Set-Cookie", "Server"];

/// A WebSocket proxy. Stops with the close handshake on SIGINT and SIGTERM.
#[derive(Parser)]
struct Options {
    /// Address and port to listen on; port 0 lets the system choose
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:9000")]
    listen: String,

    /// Server to pass connections on to; the client's path is appended
    #[arg(long, value_name = "URL", default_value = "ws://127.0.0.1:9001")]
    upstream: String,

    /// Largest message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = Config::default().max_message_size)]
    max_message_size: usize,

    /// Most clients at a time
    #[arg(long, value_name = "COUNT", default_value_t = Config::default().max_connections)]
    max_connections: usize,

    /// Seconds that the upstream server has to accept a connection
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    connect_timeout: u64,

    /// Seconds without a byte after which a connection is closed; never by default
    #[arg(long, value_name = "SECONDS")]
    idle_timeout: Option<u64>,
}

impl Options {
    fn config(&self) -> Config {
        let defaults = Config::default();
        let connect_timeout = Duration::from_secs(self.connect_timeout);
        Config::default()
            .max_message_size(self.max_message_size)
            .max_connections(self.max_connections)
            .initial_connections(defaults.initial_connections.min(self.max_connections))
            .max_outbound(self.max_connections)
            .connect_timeout(connect_timeout)
            // The client waits for the upstream server, and has to send its request before.
            .upgrade_timeout(connect_timeout.saturating_add(defaults.upgrade_timeout))
            .idle_timeout(self.idle_timeout.map(Duration::from_secs))
            // Which pages may connect is for the upstream server to say.
            .allowed_origins(OriginPolicy::Any)
    }
}

/// One of the two connections of a pair.
struct Session {
    /// The other one. `Some` from the moment on when there is one.
    peer: Option<ConnId>,
    leg: Leg,
}

enum Leg {
    /// Towards the client.
    Client {
        /// `Some` until connecting has begun.
        connect: Option<Box<Connect>>,
        /// `Some` from then on.
        dial: Option<DialId>,
    },
    /// Towards the upstream server.
    Upstream {
        /// The client that waits for it.
        upgrade: UpgradeId,
        /// What the server has answered.
        answer: Answer,
    },
}

/// What of an upstream server's 101 the client gets to see.
#[derive(Default)]
struct Answer {
    subprotocol: Option<String>,
    headers: Vec<(&'static str, String)>,
}

struct Proxy {
    upstream: String,
    retry_after: u32,
    signals: Signals,
}

impl Proxy {
    /// What to ask the upstream server for on behalf of a client.
    fn connect_for(&self, request: &Request<'_>) -> Result<Connect, ConnectConfigError> {
        let mut url = format!("{}{}", self.upstream, request.path());
        if let Some(query) = request.query() {
            url.push('?');
            url.push_str(query);
        }
        let mut connect = Connect::to(&url)?;
        for name in request.subprotocols() {
            connect = connect.subprotocol(name)?;
        }
        if let Some(origin) = request.origin() {
            connect = connect.origin(origin)?;
        }
        for name in PASSED_HEADERS {
            // What is not UTF-8 is not passed on.
            let values = request.header_values(name);
            for value in values.filter_map(|value| std::str::from_utf8(value).ok()) {
                connect = connect.header(name, value)?;
            }
        }
        Ok(connect)
    }

    /// Begins to connect, with a session that knows which client waits.
    fn dial(connections: &mut Connections<'_, Session>, upgrade: UpgradeId) -> Option<DialId> {
        let mut deferred = connections.deferred(upgrade)?;
        let Leg::Client { connect, .. } = &mut deferred.session_mut().leg else {
            return None;
        };
        let connect = connect.take()?;
        let session = Session {
            peer: None,
            leg: Leg::Upstream {
                upgrade,
                answer: Answer::default(),
            },
        };
        connections.connect(*connect, session).ok()
    }

    /// The upstream server has accepted: so does the proxy, with the same subprotocol.
    fn upstream_opened(conn: &mut Conn<'_, Session>, upgrade: UpgradeId, answer: &Answer) {
        let id = conn.id();
        let mut connections = conn.connections();
        let Some(mut deferred) = connections.deferred(upgrade) else {
            // The client has not waited.
            let _ = conn.close(CloseCode::GOING_AWAY, "");
            return;
        };
        if let Some(name) = &answer.subprotocol {
            // The client offered it: the upstream server was offered nothing else.
            let _ = deferred.subprotocol(name);
        }
        for (name, value) in &answer.headers {
            // What came as a header can go as one.
            let _ = deferred.header(name, value);
        }
        deferred.session_mut().peer = Some(id);
        deferred.accept();
        // Until there is somebody to pass messages on to.
        conn.pause_reads();
    }

    fn client_opened(conn: &mut Conn<'_, Session>) {
        let id = conn.id();
        let upstream = conn.session().peer;
        match upstream.and_then(|upstream| conn.peer(upstream)) {
            Some(mut upstream) => {
                upstream.session_mut().peer = Some(id);
                upstream.resume_reads();
            }
            None => {
                let _ = conn.close(CloseCode::BAD_GATEWAY, "");
            }
        }
    }
}

impl Handler for Proxy {
    type Session = Session;

    fn on_upgrade(
        &mut self,
        request: &Request<'_>,
        response: &mut Response<'_>,
    ) -> Result<Session, HttpResponse> {
        let connect = self
            .connect_for(request)
            .map_err(|_| HttpResponse::bad_request())?;
        response.defer();
        Ok(Session {
            peer: None,
            leg: Leg::Client {
                connect: Some(Box::new(connect)),
                dial: None,
            },
        })
    }

    fn on_deferred(&mut self, connections: &mut Connections<'_, Session>, upgrade: UpgradeId) {
        let begun = Self::dial(connections, upgrade);
        let Some(mut deferred) = connections.deferred(upgrade) else {
            return;
        };
        match (&mut deferred.session_mut().leg, begun) {
            (Leg::Client { dial, .. }, Some(begun)) => *dial = Some(begun),
            _ => {
                deferred.refuse(HttpResponse::unavailable(self.retry_after));
            }
        }
    }

    fn on_handshake_failed(
        &mut self,
        connections: &mut Connections<'_, Session>,
        session: Session,
        _: HandshakeFailure,
    ) {
        if let Leg::Client {
            dial: Some(dial), ..
        } = session.leg
        {
            connections.cancel_connect(dial);
        }
        if let Some(mut upstream) = session.peer.and_then(|id| connections.get(id)) {
            let _ = upstream.close(CloseCode::GOING_AWAY, "");
        }
    }

    fn on_connected(&mut self, session: &mut Session, response: &ResponseHead<'_>) {
        let Leg::Upstream { answer, .. } = &mut session.leg else {
            return;
        };
        answer.subprotocol = response.header("Sec-WebSocket-Protocol").map(str::to_owned);
        for (name, value) in response.headers() {
            let passed = PASSED_BACK.iter().find(|it| it.eq_ignore_ascii_case(name));
            if let (Some(passed), Ok(value)) = (passed, std::str::from_utf8(value)) {
                answer.headers.push((passed, value.to_owned()));
            }
        }
    }

    fn on_connect_failed(
        &mut self,
        connections: &mut Connections<'_, Session>,
        session: Session,
        error: ConnectError,
    ) {
        let Leg::Upstream { upgrade, .. } = session.leg else {
            return;
        };
        if let Some(deferred) = connections.deferred(upgrade) {
            deferred.refuse(refusal(&error));
        }
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Session>) {
        conn.stream_messages(true);
        // Reading would pause by itself on the side for which bytes wait; if the upstream server does the same, neither reads
        // what the other has to get rid of. Here the opposite side pauses.
        conn.set_backlog_pause(false);
        match &mut conn.session_mut().leg {
            Leg::Client { .. } => Self::client_opened(conn),
            Leg::Upstream { upgrade, answer } => {
                let (upgrade, answer) = (*upgrade, std::mem::take(answer));
                Self::upstream_opened(conn, upgrade, &answer);
            }
        }
    }

    /// Everything streams.
    fn on_message(&mut self, _: &mut Conn<'_, Session>, _: Message<'_>) {}

    fn on_fragment(&mut self, conn: &mut Conn<'_, Session>, fragment: Fragment<'_>) {
        let Some(mut peer) = conn.session().peer.and_then(|peer| conn.peer(peer)) else {
            return;
        };
        let sent = peer.send_fragment(fragment.kind(), fragment.as_bytes(), fragment.is_last());
        match sent {
            Ok(()) if peer.backlog() >= PAUSE_AT => {
                peer.request_drain();
                conn.pause_reads();
            }
            // The other side is closing, and `on_close` passes that on.
            Ok(()) | Err(SendErrorKind::NotOpen) => {}
            Err(_) => {
                let _ = peer.close(CloseCode::TRY_AGAIN_LATER, "");
                let _ = conn.close(CloseCode::TRY_AGAIN_LATER, "");
            }
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_, Session>) {
        if let Some(mut peer) = conn.session().peer.and_then(|peer| conn.peer(peer)) {
            peer.resume_reads();
        }
    }

    fn on_close(
        &mut self,
        connections: &mut Connections<'_, Session>,
        _: ConnId,
        session: Session,
        close: &Close,
    ) {
        let Some(mut peer) = session.peer.and_then(|peer| connections.get(peer)) else {
            return;
        };
        let _ = match (close.initiator, close.cause, close.code) {
            (Initiator::Remote, CloseCause::Peer, None) => {
                peer.close_empty();
                Ok(())
            }
            (Initiator::Remote, CloseCause::Peer, Some(code)) => peer.close(code, &close.reason),
            (_, CloseCause::Shutdown, _) => peer.close(CloseCode::GOING_AWAY, ""),
            // It broke off, or broke the protocol.
            _ => match session.leg {
                Leg::Client { .. } => peer.close(CloseCode::GOING_AWAY, ""),
                Leg::Upstream { .. } => peer.close(CloseCode::BAD_GATEWAY, ""),
            },
        };
    }

    fn on_source(&mut self, connections: &mut Connections<'_, Session>, _: SourceId, _: &Event) {
        if self.signals.pending().next().is_some() {
            connections.shutdown(SHUTDOWN_DEADLINE);
        }
    }
}

/// The answer to a client whose upstream server does not take it.
fn refusal(error: &ConnectError) -> HttpResponse {
    let status = match error {
        ConnectError::Timeout => 504,
        _ => 502,
    };
    HttpResponse::new(status).map_or_else(
        |_| HttpResponse::forbidden(),
        |answer| answer.text("no upstream"),
    )
}

/// Exit status for options that cannot work, as `clap` has it.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let options = Options::parse();
    let usage = |what: &str| {
        eprintln!("proxy: {what}");
        ExitCode::from(USAGE)
    };
    let Ok(address) = options.listen.parse() else {
        return usage("--listen: not an address and port such as 127.0.0.1:9000");
    };
    if !options.upstream.starts_with("ws://") || options.upstream.contains('?') {
        return usage("--upstream: not a URL such as ws://127.0.0.1:9001, without a query");
    }
    if let Err(error) = Connect::to(&options.upstream) {
        return usage(&format!("--upstream: {error}"));
    }
    if let Err(error) = options.config().validate() {
        return usage(&error.to_string());
    }
    match serve(&options, address) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("proxy: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(options: &Options, address: SocketAddr) -> Result<(), Box<dyn Error>> {
    let config = options.config();
    let mut app = Proxy {
        upstream: options.upstream.trim_end_matches('/').to_owned(),
        retry_after: config.retry_after,
        signals: Signals::new([SIGINT, SIGTERM])?,
    };
    let mut event_loop = EventLoop::new(config)?;
    let mut seed = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut seed)?;
    event_loop.set_rng(ChaCha20Rng::from_seed(seed));
    event_loop
        .connections()
        .register(&mut app.signals, Interest::READABLE)?;
    let listener = event_loop
        .listen(address)
        .map_err(|error| format!("cannot listen on {address}: {error}"))?;
    if let ListenAddr::Tcp(address) = event_loop.local_addr(listener)? {
        println!("listening on ws://{address}");
    }
    event_loop.run(&mut app)?;
    Ok(())
}
