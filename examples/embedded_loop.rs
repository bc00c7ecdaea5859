//! A loop inside the program's own `mio::Poll`.
//!
//! The program polls; wsloop handles the events that are its own. Four things reach the WebSocket clients here: a UDP socket
//! that wsloop knows nothing of, a foreign source that is registered with the loop (the signals), a timer, and a thread that
//! posts.
//!
//! ```text
//! cargo run --example embedded_loop
//! ```

use std::{
    error::Error,
    io::ErrorKind,
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, event::Event, net::UdpSocket};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook_mio::v1_0::Signals;
use wsloop::{
    Config, Conn, Connections, EventLoop, Frames, Handler, HttpResponse, ListenAddr, Message,
    MessageKind, Progress, Request, Response, SourceId, TimerId, Tokens,
};

/// The program's own token. wsloop's have their top bits set, so small numbers are free.
const UDP: Token = Token(0);
/// What the one timer of this program is set with.
const EVERY_SECOND: u64 = 1;
const SECOND: Duration = Duration::from_secs(1);

/// What the thread posts.
struct Reading {
    value: u64,
}

struct App {
    signals: Signals,
    started: Instant,
}

impl App {
    /// Encodes a text once and sends it to everybody.
    fn publish(connections: &mut Connections<'_, ()>, text: &str) {
        let frames = Frames::message(MessageKind::Text, text.as_bytes());
        connections.for_each(|conn| {
            // A client that does not keep up misses some.
            let _ = conn.send_frames(&frames);
        });
    }
}

impl Handler<Reading> for App {
    type Session = ();

    fn on_upgrade(&mut self, _: &Request<'_>, _: &mut Response<'_>) -> Result<(), HttpResponse> {
        Ok(())
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        println!("{:?} says {:?}", conn.id(), message.text());
    }

    fn on_timer(&mut self, connections: &mut Connections<'_, ()>, _: TimerId, data: u64) {
        Self::publish(
            connections,
            &format!("up for {} s", self.started.elapsed().as_secs()),
        );
        // There is room: the timer that has just fired was the only one.
        let _ = connections.set_timer(SECOND, data);
    }

    fn on_source(&mut self, connections: &mut Connections<'_, ()>, _: SourceId, _: &Event) {
        if self.signals.pending().next().is_some() {
            connections.shutdown(5 * SECOND);
        }
    }

    fn on_wake(&mut self, connections: &mut Connections<'_, ()>, reading: Reading) {
        Self::publish(connections, &format!("reading {}", reading.value));
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut poll = Poll::new()?;
    let mut udp = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    poll.registry()
        .register(&mut udp, UDP, Interest::READABLE)?;

    let tokens = Tokens::space(1).ok_or("1 is a space")?;
    let mut event_loop = EventLoop::with_poll(Config::default(), &poll, tokens)?;
    let listener = event_loop.listen(SocketAddr::from(([127, 0, 0, 1], 0)))?;
    if let ListenAddr::Tcp(address) = event_loop.local_addr(listener)? {
        println!("listening on ws://{address}");
    }
    println!("datagrams to {} go to every client", udp.local_addr()?);

    let mut app = App {
        signals: Signals::new([SIGINT, SIGTERM])?,
        started: Instant::now(),
    };
    let mut connections = event_loop.connections();
    connections.register(&mut app.signals, Interest::READABLE)?;
    connections.set_timer(SECOND, EVERY_SECOND)?;

    let remote = event_loop.remote();
    thread::spawn(move || {
        for value in 0.. {
            // Ends with the loop; a full mailbox drops this reading.
            if remote
                .post(Reading { value })
                .is_err_and(|error| error.kind.is_gone())
            {
                break;
            }
            thread::sleep(SECOND / 2);
        }
    });

    let mut events = Events::with_capacity(1024);
    loop {
        match poll.poll(&mut events, event_loop.next_timeout()) {
            // A signal came in: its event is there in the next round.
            Err(error) if error.kind() == ErrorKind::Interrupted => events.clear(),
            result => result?,
        }
        if events.iter().any(|event| event.token() == UDP) {
            forward(&udp, &mut event_loop.connections());
        }
        if let Progress::Finished(shutdown) = event_loop.handle_events(&mut app, &events) {
            println!("stopped, {} connections by force", shutdown.forced);
            return Ok(());
        }
    }
}

/// Polling is edge-triggered: everything that is there has to be read.
fn forward(udp: &UdpSocket, connections: &mut Connections<'_, ()>) {
    let mut datagram = [0; 2048];
    while let Ok(len) = udp.recv(&mut datagram) {
        App::publish(connections, &String::from_utf8_lossy(&datagram[..len]));
    }
}
