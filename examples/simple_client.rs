//! Sends lines of standard input as text messages and prints what comes.
//!
//! ```text
//! cargo run --example simple_client -- ws://127.0.0.1:9001
//! ```

use std::{
    error::Error,
    io::{self, BufRead, ErrorKind, Write},
    process::ExitCode,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
    time::Duration,
};

use clap::Parser;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    Close, CloseCause, CloseCode, Config, Conn, ConnId, Connect, ConnectConfigError, ConnectError,
    Connections, EventLoop, Handler, HttpResponse, Message, MessageKind, Remote, Request, Response,
    Sent, TimerId, protocol::handshake::ResponseHead,
};

/// How many bytes of a binary message are shown.
const SHOWN: usize = 16;
/// Payload of the ping behind the last line.
const LAST_PING: &[u8] = b"all lines are sent";
/// Time for answers that the server sends behind its pong.
const LAST_ANSWERS: Duration = Duration::from_millis(100);
/// Exit status for options that cannot work, as `clap` has it.
const USAGE: u8 = 2;

/// A WebSocket client. Sends each line of standard input as a text message, prints what comes, and closes at the end of
/// the input.
#[derive(Parser)]
struct Options {
    /// Where to connect to: ws://HOST[:PORT][/PATH] or ws+unix:/PATH/TO.SOCK[:/PATH]
    #[arg(default_value = "ws://127.0.0.1:9001")]
    url: String,

    /// Subprotocol to offer, in the order of preference; may be repeated
    #[arg(long, value_name = "NAME")]
    subprotocol: Vec<String>,

    /// Further field of the request; may be repeated
    #[arg(long, value_name = "NAME: VALUE", value_parser = parse_header)]
    header: Vec<(String, String)>,

    /// Origin of the request, as browsers send it
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,

    /// Seconds for connecting, and again for the server to answer at the end
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=24 * 3600))]
    timeout: u64,
}

fn parse_header(field: &str) -> Result<(String, String), &'static str> {
    let (name, value) = field.split_once(':').ok_or("not of the form NAME: VALUE")?;
    Ok((name.trim().to_owned(), value.trim().to_owned()))
}

impl Options {
    fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout)
    }

    fn config(&self) -> Config {
        let defaults = Config::default();
        Config::default()
            .close_timeout(self.timeout())
            // Reading never pauses because of what waits to be written: a server that echoes would pause as well, and
            // neither side would move again. What waits is one line; the next is read when it is written.
            .high_water(defaults.max_backlog)
    }

    /// What the options add to the request.
    fn complete(&self, mut connect: Connect) -> Result<Connect, ConnectConfigError> {
        for name in &self.subprotocol {
            connect = connect.subprotocol(name)?;
        }
        for (name, value) in &self.header {
            connect = connect.header(name, value)?;
        }
        if let Some(origin) = &self.origin {
            connect = connect.origin(origin)?;
        }
        Ok(connect.timeout(self.timeout()))
    }
}

/// What the thread that reads standard input posts.
enum Input {
    Line(String),
    End,
    Failed(io::Error),
}

struct Client {
    remote: Remote<Input>,
    timeout: Duration,
    /// `None` unless the connection is open.
    open: Option<ConnId>,
    /// Tells the reading thread that its line is written.
    written: Option<SyncSender<()>>,
    failed: Option<String>,
}

impl Client {
    /// Starts the thread that reads. It blocks in `read` and ends with the process.
    ///
    /// A thread and not a source on the loop: standard input can be a regular file, which no poll takes.
    fn start_reading(&mut self) {
        let (written, next) = sync_channel(1);
        let remote = self.remote.clone();
        self.written = Some(written);
        thread::spawn(move || read_lines(&remote, &next));
    }

    /// Everything is sent: asks for a sign that the server has read it. What comes behind our close frame would be
    /// dropped, so the last answers have to come before it.
    fn ask_for_pong(&mut self, connections: &mut Connections<'_, ()>) {
        if let Some(mut conn) = self.open.and_then(|id| connections.get(id)) {
            let _ = conn.send_ping(LAST_PING);
        }
        // Not every server answers pings.
        let _ = connections.set_timer(self.timeout, 0);
    }

    fn close(&mut self, connections: &mut Connections<'_, ()>) {
        if let Some(mut conn) = self.open.and_then(|id| connections.get(id)) {
            let _ = conn.close(CloseCode::NORMAL, "");
        }
    }

    fn fail(&mut self, error: String, connections: &mut Connections<'_, ()>) {
        self.failed.get_or_insert(error);
        self.close(connections);
    }
}

fn read_lines(remote: &Remote<Input>, next: &Receiver<()>) {
    for line in io::stdin().lock().lines() {
        let input = line.map_or_else(Input::Failed, Input::Line);
        // One line at a time: a server that does not read stops the reading here, and the mailbox is never full.
        if remote.post(input).is_err() || next.recv().is_err() {
            return;
        }
    }
    let _ = remote.post(Input::End);
}

fn print(message: &Message<'_>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match message.text() {
        Some(text) => writeln!(out, "{text}"),
        None => {
            let bytes = message.as_bytes();
            write!(out, "binary, {} bytes:", bytes.len())?;
            for byte in bytes.iter().take(SHOWN) {
                write!(out, " {byte:02x}")?;
            }
            writeln!(out, "{}", if bytes.len() > SHOWN { " ..." } else { "" })
        }
    }
}

impl Handler<Input> for Client {
    type Session = ();

    /// Nobody connects to a loop that does not listen.
    fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<(), HttpResponse> {
        Err(HttpResponse::not_found())
    }

    fn on_connected(&mut self, (): &mut (), response: &ResponseHead<'_>) {
        if let Some(name) = response.header("Sec-WebSocket-Protocol") {
            eprintln!("simple_client: the server has chosen {name}");
        }
    }

    fn on_connect_failed(
        &mut self,
        connections: &mut Connections<'_, ()>,
        (): (),
        error: ConnectError,
    ) {
        self.failed = Some(error.to_string());
        connections.shutdown(Duration::ZERO);
    }

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        self.open = Some(conn.id());
        self.start_reading();
    }

    fn on_wake(&mut self, connections: &mut Connections<'_, ()>, input: Input) {
        let Some(mut conn) = self.open.and_then(|id| connections.get(id)) else {
            return;
        };
        match input {
            // One line is in flight at a time, so only a connection that is being closed refuses it.
            Input::Line(line) => drop(conn.send(MessageKind::Text, line.into_bytes())),
            Input::End => self.ask_for_pong(connections),
            Input::Failed(error) => self.fail(format!("standard input: {error}"), connections),
        }
    }

    fn on_write_complete(&mut self, _: &mut Conn<'_, ()>, _: Sent) {
        if let Some(written) = &self.written {
            let _ = written.try_send(());
        }
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        match print(&message) {
            Ok(()) => {}
            // Whoever read what is printed has seen enough.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                self.close(&mut conn.connections());
            }
            Err(error) => self.fail(format!("standard output: {error}"), &mut conn.connections()),
        }
    }

    fn on_pong(&mut self, conn: &mut Conn<'_, ()>, payload: &[u8]) {
        if payload == LAST_PING {
            // A pong may overtake messages.
            let _ = conn.connections().set_timer(LAST_ANSWERS, 0);
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<'_, ()>, _: TimerId, _: u64) {
        self.close(connections);
    }

    fn on_close(
        &mut self,
        connections: &mut Connections<'_, ()>,
        _: ConnId,
        (): (),
        close: &Close,
    ) {
        self.open = None;
        if let Some(fault) = fault(close) {
            self.failed.get_or_insert(fault);
        }
        connections.shutdown(Duration::ZERO);
    }
}

/// What there is to complain of in the end of a connection.
fn fault(close: &Close) -> Option<String> {
    match (close.cause, close.code) {
        (CloseCause::Peer, Some(CloseCode::NORMAL)) => None,
        (CloseCause::Peer, Some(code)) => {
            Some(format!("the server closed: {code} {}", close.reason))
        }
        (CloseCause::Peer, None) => Some("the server closed without a code".to_owned()),
        (CloseCause::Application, _) if close.clean => None,
        (CloseCause::Application, _) => Some("the server did not answer the close".to_owned()),
        (CloseCause::Protocol(error), _) => Some(format!("the server broke the protocol: {error}")),
        (CloseCause::EndOfStream, _) => Some("the server ended without a close".to_owned()),
        (CloseCause::Io(kind), _) => Some(format!("the connection broke: {kind}")),
        (cause, _) => Some(format!("the connection ended: {cause:?}")),
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    let connect = match Connect::to(&options.url) {
        Ok(connect) => connect,
        Err(error) => return complain(&options, &error, ExitCode::FAILURE),
    };
    let connect = match options.complete(connect) {
        Ok(connect) => connect,
        Err(error) => return complain(&options, &error, ExitCode::from(USAGE)),
    };
    match run(&options, connect) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&options, &*error, ExitCode::FAILURE),
    }
}

fn complain(options: &Options, error: &dyn Error, code: ExitCode) -> ExitCode {
    eprintln!("simple_client: {}: {error}", options.url);
    code
}

fn run(options: &Options, connect: Connect) -> Result<(), Box<dyn Error>> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let mut event_loop = EventLoop::new(options.config())?;
    event_loop.set_rng(ChaCha20Rng::from_seed(seed));
    let mut app = Client {
        remote: event_loop.remote(),
        timeout: options.timeout(),
        open: None,
        written: None,
        failed: None,
    };
    event_loop.connect(connect, ())?;
    event_loop.run(&mut app)?;
    app.failed.map_or(Ok(()), |error| Err(error.into()))
}
