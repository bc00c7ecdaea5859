//! Clients that the test owns and drives.

use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    Client, Close, Config, Conn, ConnId, Connect, ConnectError, Connections, Handler, Message,
};

use super::{DEADLINE, Peer, RawServer, Server};

pub const ZERO: Option<Duration> = Some(Duration::ZERO);

/// Tells the test what it is told.
pub struct Teller {
    pub heard: Sender<Heard>,
}

#[derive(Debug, PartialEq)]
pub enum Heard {
    Open,
    Message(Vec<u8>),
    Failed(ConnectError),
    Closed(Close),
}

impl Handler for Teller {
    type Session = ();

    fn on_open(&mut self, _: &mut Conn<'_, ()>) {
        self.heard.send(Heard::Open).unwrap();
    }

    fn on_message(&mut self, _: &mut Conn<'_, ()>, message: Message<'_>) {
        self.heard
            .send(Heard::Message(message.as_bytes().to_vec()))
            .unwrap();
    }

    fn on_connect_failed(&mut self, _: &mut Connections<'_, ()>, (): (), error: ConnectError) {
        self.heard.send(Heard::Failed(error)).unwrap();
    }

    fn on_close(&mut self, _: &mut Connections<'_, ()>, _: ConnId, (): (), close: &Close) {
        self.heard.send(Heard::Closed(close.clone())).unwrap();
    }
}

pub fn teller() -> (Teller, Receiver<Heard>) {
    let (heard, hears) = channel();
    (Teller { heard }, hears)
}

pub fn client(config: Config) -> Client<()> {
    Client::new(config, ChaCha20Rng::from_seed([3; 32])).unwrap()
}

pub fn dialled(server: &Server) -> Client<()> {
    let mut client = client(Config::default());
    client
        .connect(Connect::to(&format!("ws://{}/", server.addr)).unwrap(), ())
        .unwrap();
    client
}

/// Turns by `turn` until the teller has something to say.
pub fn next(hears: &Receiver<Heard>, mut turn: impl FnMut()) -> Heard {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Ok(heard) = hears.try_recv() {
            return heard;
        }
        assert!(Instant::now() < end, "nothing was heard");
        turn();
    }
}

/// Dials `raw` and spins until the request is there.
pub fn requested(client: &mut Client<()>, app: &mut Teller, raw: RawServer) -> Peer {
    client
        .connect(Connect::to(&raw.url()).unwrap(), ())
        .unwrap();
    let peer = std::thread::spawn(move || raw.accept());
    while !peer.is_finished() {
        client.turn(app, ZERO).unwrap();
    }
    peer.join().unwrap()
}

/// Ways of driving that wait for an event between turns.
#[derive(Debug, Clone, Copy)]
pub enum Wait {
    ByItself,
    OnTheOwnersPoll,
}

/// Turns that wait, each of which has to be woken by something.
pub fn waiting(
    client: &mut Client<()>,
    way: Wait,
) -> impl FnMut(&mut Client<()>, &mut Teller) + use<> {
    let mut poll = Poll::new().unwrap();
    let mut events = Events::with_capacity(4);
    match way {
        // It makes its poll when it has nothing to do for the first time.
        Wait::ByItself => drop(client.turn(&mut teller().0, Some(Duration::from_millis(1)))),
        Wait::OnTheOwnersPoll => poll
            .registry()
            .register(client, Token(7), Interest::READABLE)
            .unwrap(),
    }
    move |client, app| {
        let start = Instant::now();
        if let Wait::ByItself = way {
            client.turn(app, Some(DEADLINE)).unwrap();
        } else {
            let wait = client
                .deadline()
                .map(|at| at.saturating_duration_since(start));
            poll.poll(&mut events, Some(wait.unwrap_or(DEADLINE).min(DEADLINE)))
                .unwrap();
            client.turn(app, ZERO).unwrap();
        }
        assert!(start.elapsed() < DEADLINE, "nothing woke it");
    }
}

/// Long after the deadline of the tests, so that it wakes nobody.
pub fn patient() -> Config {
    Config::default().connect_timeout(10 * DEADLINE)
}
