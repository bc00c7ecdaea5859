//! Loads an echo server and measures its answers: messages per second, and how long they take.
//!
//! Every connection keeps the same number of messages in flight: for each that comes back, the next goes out. A server that
//! is slow is therefore asked less, and the percentiles say how it fares at its own pace, not at a given rate.
//!
//! ```text
//! cargo run --release --example load -- --connections 64 --in-flight 16 --seconds 10
//! ```

use std::{
    collections::VecDeque,
    error::Error,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    Close, Config, Conn, ConnId, Connect, ConnectError, Connections, EventLoop, Handler,
    HttpResponse, Message, MessageKind, Progress, Request, Response, TimerId, protocol,
};

/// Attempts to connect at a time: fewer than the backlog of a listener commonly has room for.
const DIALS: usize = 64;
/// Time for the close handshakes at the end.
const SHUTDOWN_DEADLINE: Duration = Duration::from_secs(5);
/// The longest latency that is told apart from longer ones, in nanoseconds.
const LONGEST: u64 = 60_000_000_000;
/// The part of the time that does not count: a tenth.
const WARM_UP_SHARE: u32 = 10;
/// Connections on which the first messages are sent in one turn.
const STARTS: usize = 64;
/// How often the progress is shown.
const TICK: Duration = Duration::from_millis(100);
/// Exit status for options that cannot work, as `clap` has it.
const USAGE: u8 = 2;

// What the timers are set with.
const START: u64 = 0;
const WARM: u64 = 1;
const END: u64 = 2;
const SHOW: u64 = 3;

/// Keeps messages in flight to a WebSocket echo server, and measures messages per second and latency.
#[derive(Parser)]
struct Options {
    /// The server: ws://HOST[:PORT][/PATH] or ws+unix:/PATH/TO.SOCK[:/PATH]
    #[arg(long, default_value = "ws://127.0.0.1:9001")]
    url: String,

    /// Connections at a time
    #[arg(long, value_name = "COUNT", default_value_t = 64,
          value_parser = clap::value_parser!(u32).range(1..))]
    connections: u32,

    /// Payload of a message in bytes
    #[arg(long, value_name = "BYTES", default_value_t = 20)]
    size: usize,

    /// Messages in flight on each connection
    #[arg(long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,

    /// Duration, of which the first tenth warms up and does not count
    #[arg(long, value_name = "SECONDS", default_value_t = 10,
          value_parser = clap::value_parser!(u64).range(1..=24 * 3600))]
    seconds: u64,

    /// Poll without waiting: one core is busy all the time
    #[arg(long)]
    busy_poll: bool,

    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

impl Options {
    fn config(&self) -> Config {
        let defaults = Config::default();
        let in_flight = (self.size.saturating_add(protocol::MAX_HEADER_LEN))
            .saturating_mul(self.in_flight as usize);
        let backlog = defaults.max_backlog.max(in_flight);
        Config::default()
            .max_outbound(self.connections as usize)
            .max_dials(DIALS)
            .max_message_size(defaults.max_message_size.max(self.size))
            .max_backlog(backlog)
            // Reading never pauses because of what waits to be written: the server would pause as well, and neither side
            // would move again.
            .high_water(backlog)
    }

    fn duration(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// What is kept for each connection.
struct Session {
    /// When the messages in flight were sent; answers come in the same order.
    sent: VecDeque<Instant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Connecting,
    WarmingUp,
    Measuring,
    Over,
}

struct Load<'o> {
    options: &'o Options,
    connect: Connect,
    payload: Vec<u8>,
    phase: Phase,
    /// Connections that were not dialled yet, and those that are open.
    undialled: u32,
    open: u32,
    /// Those on which nothing was sent yet.
    unstarted: Vec<ConnId>,
    /// When bytes were read last: the time of all messages among them, since asking for it once is cheaper.
    now: Instant,
    /// Of the phase at hand.
    began: Instant,
    messages: u64,
    /// In nanoseconds.
    latency: Histogram<u64>,
    measured: Duration,
    bar: ProgressBar,
    failed: Option<String>,
}

impl Load<'_> {
    fn dial(&mut self, connections: &mut Connections<'_, Session>) {
        if self.undialled == 0 || self.phase != Phase::Connecting {
            return;
        }
        self.undialled -= 1;
        let session = Session {
            sent: VecDeque::with_capacity(self.options.in_flight as usize),
        };
        if let Err(error) = connections.connect(self.connect.clone(), session) {
            self.fail(error.to_string(), connections);
        }
    }

    /// Sends the first messages, on some of the connections in a turn: on all at once they would need a buffer each.
    fn start_some(&mut self, connections: &mut Connections<'_, Session>) {
        self.now = Instant::now();
        for _ in 0..STARTS {
            let Some(id) = self.unstarted.pop() else {
                return self.warm_up(connections);
            };
            if let Some(mut conn) = connections.get(id) {
                for _ in 0..self.options.in_flight {
                    self.send(&mut conn);
                }
            }
        }
        set_timer(connections, Duration::ZERO, START);
    }

    fn warm_up(&mut self, connections: &mut Connections<'_, Session>) {
        self.enter(Phase::WarmingUp);
        let duration = self.options.duration();
        let style = ProgressStyle::with_template("{elapsed_precise} [{wide_bar}] {msg}");
        self.bar
            .set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.set_length(millis(duration));
        self.bar.reset();
        set_timer(connections, duration / WARM_UP_SHARE, WARM);
        set_timer(connections, duration, END);
        set_timer(connections, TICK, SHOW);
    }

    fn enter(&mut self, phase: Phase) {
        self.phase = phase;
        self.now = Instant::now();
        self.began = self.now;
        self.messages = 0;
    }

    #[inline]
    fn send(&mut self, conn: &mut Conn<'_, Session>) {
        let (session, mut sender) = conn.split();
        session.sent.push_back(self.now);
        if let Err(error) = sender.send_copy(MessageKind::Binary, &self.payload) {
            self.fail(format!("cannot send: {error}"), &mut conn.connections());
        }
    }

    #[cold]
    fn fail(&mut self, error: String, connections: &mut Connections<'_, Session>) {
        self.failed.get_or_insert(error);
        self.stop(connections);
    }

    fn stop(&mut self, connections: &mut Connections<'_, Session>) {
        self.phase = Phase::Over;
        self.bar.finish_and_clear();
        connections.shutdown(SHUTDOWN_DEADLINE);
    }

    fn show(&self) {
        let elapsed = self.began.elapsed();
        let before = match self.phase {
            Phase::Measuring => self.options.duration() / WARM_UP_SHARE,
            _ => Duration::ZERO,
        };
        self.bar.set_position(millis(before + elapsed));
        let rate = self.messages as f64 / elapsed.as_secs_f64();
        let warming = if self.phase == Phase::WarmingUp {
            ", warming up"
        } else {
            ""
        };
        self.bar
            .set_message(format!("{rate:.0} messages/s{warming}"));
    }
}

impl Handler for Load<'_> {
    type Session = Session;

    /// Nobody connects to a loop that does not listen.
    fn on_upgrade(
        &mut self,
        _: &Request<'_>,
        _: &mut Response<'_>,
    ) -> Result<Session, HttpResponse> {
        Err(HttpResponse::not_found())
    }

    fn on_connect_failed(
        &mut self,
        connections: &mut Connections<'_, Session>,
        _: Session,
        error: ConnectError,
    ) {
        // When it is over, the attempts that were under way fail as well.
        if self.phase != Phase::Over {
            let (open, all) = (self.open, self.options.connections);
            self.fail(
                format!("{error} ({open} of {all} connections open)"),
                connections,
            );
        }
    }

    fn on_open(&mut self, conn: &mut Conn<'_, Session>) {
        self.open += 1;
        self.unstarted.push(conn.id());
        self.bar.set_position(self.open.into());
        self.dial(&mut conn.connections());
        if self.open == self.options.connections {
            set_timer(&mut conn.connections(), Duration::ZERO, START);
        }
    }

    fn on_bytes_read(&mut self, _: &mut Conn<'_, Session>, _: usize) {
        self.now = Instant::now();
    }

    fn on_message(&mut self, conn: &mut Conn<'_, Session>, message: Message<'_>) {
        let sent = conn.session_mut().sent.pop_front();
        let (Some(sent), true) = (sent, message.as_bytes().len() == self.payload.len()) else {
            return self.fail(
                "the server does not echo".to_owned(),
                &mut conn.connections(),
            );
        };
        self.messages += 1;
        if self.phase == Phase::Measuring {
            let latency = self.now.saturating_duration_since(sent).as_nanos();
            self.latency
                .saturating_record(u64::try_from(latency).unwrap_or(LONGEST));
        }
        if self.phase != Phase::Over {
            self.send(conn);
        }
    }

    fn on_timer(&mut self, connections: &mut Connections<'_, Session>, _: TimerId, data: u64) {
        match data {
            _ if self.phase == Phase::Over => {}
            START => self.start_some(connections),
            WARM => self.enter(Phase::Measuring),
            END => {
                self.measured = self.began.elapsed();
                self.stop(connections);
            }
            _ => {
                self.show();
                set_timer(connections, TICK, SHOW);
            }
        }
    }

    fn on_close(
        &mut self,
        connections: &mut Connections<'_, Session>,
        _: ConnId,
        _: Session,
        close: &Close,
    ) {
        self.open -= 1;
        if self.phase != Phase::Over {
            let error = match close.code {
                Some(code) => format!("a connection was lost: {code} {}", close.reason),
                None => format!("a connection was lost: {:?}", close.cause),
            };
            self.fail(error, connections);
        }
    }
}

/// There is room: a handful of timers are all that this program sets.
fn set_timer(connections: &mut Connections<'_, Session>, delay: Duration, data: u64) {
    let _ = connections.set_timer(delay, data);
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Err(error) = options.config().validate() {
        eprintln!("load: {error}");
        return ExitCode::from(USAGE);
    }
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("load: {}: {error}", options.url);
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)?;
    let mut event_loop = EventLoop::new(options.config())?;
    event_loop.set_rng(ChaCha20Rng::from_seed(seed));
    let bar = if options.json {
        ProgressBar::hidden()
    } else {
        // Draws nothing unless it is a terminal.
        ProgressBar::with_draw_target(
            Some(options.connections.into()),
            ProgressDrawTarget::stderr(),
        )
    };
    let mut app = Load {
        options,
        connect: Connect::to(&options.url)?,
        payload: vec![b'x'; options.size],
        phase: Phase::Connecting,
        undialled: options.connections,
        open: 0,
        unstarted: Vec::new(),
        now: Instant::now(),
        began: Instant::now(),
        messages: 0,
        latency: Histogram::new_with_bounds(1, LONGEST, 3)?,
        measured: Duration::ZERO,
        bar,
        failed: None,
    };
    for _ in 0..DIALS {
        app.dial(&mut event_loop.connections());
    }
    let timeout = options.busy_poll.then_some(Duration::ZERO);
    while event_loop.turn(&mut app, timeout)? == Progress::Running {}
    if let Some(error) = app.failed {
        return Err(error.into());
    }
    if app.latency.is_empty() {
        return Err("no message came back".into());
    }
    report(options, &app.latency, app.measured);
    Ok(())
}

fn report(options: &Options, latency: &Histogram<u64>, measured: Duration) {
    let messages = latency.len();
    let rate = messages as f64 / measured.as_secs_f64();
    let percentiles = [
        ("p50", 0.5),
        ("p99", 0.99),
        ("p99.9", 0.999),
        ("p99.99", 0.9999),
        ("max", 1.0),
    ]
    .map(|(name, quantile)| (name, latency.value_at_quantile(quantile)));
    if options.json {
        let percentiles: serde_json::Map<_, _> = percentiles
            .iter()
            .map(|&(name, nanos)| (name.to_owned(), nanos.into()))
            .collect();
        let result = serde_json::json!({
            "url": options.url,
            "connections": options.connections,
            "size": options.size,
            "in_flight": options.in_flight,
            "seconds": measured.as_secs_f64(),
            "messages": messages,
            "messages_per_second": rate,
            "latency_ns": percentiles,
        });
        println!("{result}");
        return;
    }
    println!(
        "{} connections, {} in flight, {} bytes: {rate:.0} messages/s ({messages} in {:.1} s)",
        options.connections,
        options.in_flight,
        options.size,
        measured.as_secs_f64()
    );
    println!("latency in µs");
    for (name, nanos) in percentiles {
        println!("{name:>8} {:>12.1}", nanos as f64 / 1000.0);
    }
}
