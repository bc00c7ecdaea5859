use std::{
    sync::mpsc::{Receiver, Sender, channel},
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    Backoff, Client, ClientState, Close, CloseCause, CloseCode, Config, Conn, ConnId, Connect,
    ConnectError, Connections, DialErrorKind, Handler, Message, MessageKind, Pulled, TimerId,
};

use super::support::{DEADLINE, Event, Frame, Peer, RawServer, Server, frame, pattern};

const ZERO: Option<Duration> = Some(Duration::ZERO);

/// Tells the test what it is told.
struct Teller {
    heard: Sender<Heard>,
}

#[derive(Debug, PartialEq)]
enum Heard {
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

fn teller() -> (Teller, Receiver<Heard>) {
    let (heard, hears) = channel();
    (Teller { heard }, hears)
}

fn client(config: Config) -> Client<()> {
    Client::new(config, ChaCha20Rng::from_seed([3; 32])).unwrap()
}

fn dialled(server: &Server) -> Client<()> {
    let mut client = client(Config::default());
    client
        .connect(Connect::to(&format!("ws://{}/", server.addr)).unwrap(), ())
        .unwrap();
    client
}

/// Turns by `turn` until the teller has something to say.
fn next(hears: &Receiver<Heard>, mut turn: impl FnMut()) -> Heard {
    let end = Instant::now() + DEADLINE;
    loop {
        if let Ok(heard) = hears.try_recv() {
            return heard;
        }
        assert!(Instant::now() < end, "nothing was heard");
        turn();
    }
}

/// Open, one echo, close: with whatever way of driving.
fn conversation(client: &mut Client<()>, mut turn: impl FnMut(&mut Client<()>, &mut Teller)) {
    let (mut app, hears) = teller();
    assert_eq!(next(&hears, || turn(client, &mut app)), Heard::Open);
    assert_eq!(client.state(), ClientState::Open);
    for len in [0, 20, 5000, 300_000] {
        let payload = pattern(len, 1);
        client
            .conn()
            .unwrap()
            .send_copy(MessageKind::Binary, &payload)
            .unwrap();
        assert_eq!(
            next(&hears, || turn(client, &mut app)),
            Heard::Message(payload)
        );
    }
    client
        .conn()
        .unwrap()
        .close(CloseCode::NORMAL, "done")
        .unwrap();
    let Heard::Closed(close) = next(&hears, || turn(client, &mut app)) else {
        panic!()
    };
    assert!(close.clean, "{close:?}");
    assert_eq!(
        (close.code, close.reason.as_str()),
        (Some(CloseCode::NORMAL), "done")
    );
    assert_eq!(client.state(), ClientState::Idle);
    assert!(client.conn().is_none());
}

#[test]
fn it_can_be_driven_by_spinning() {
    let server = Server::echo();
    let mut client = dialled(&server);
    conversation(&mut client, |client, app| {
        client.turn(app, ZERO).unwrap();
    });
}

#[test]
fn it_can_wait_by_itself() {
    let server = Server::echo();
    let mut client = dialled(&server);
    conversation(&mut client, |client, app| {
        client.turn(app, Some(DEADLINE)).unwrap();
    });
}

#[test]
fn it_is_a_source_on_the_owners_poll() {
    let server = Server::echo();
    let mut client = client(Config::default());
    let mut poll = Poll::new().unwrap();
    poll.registry()
        .register(&mut client, Token(7), Interest::READABLE)
        .unwrap();
    client
        .connect(
            Connect::to(&format!("ws://localhost:{}/", server.addr.port())).unwrap(),
            (),
        )
        .unwrap();
    let mut events = Events::with_capacity(16);
    conversation(&mut client, |client, app| {
        let wait = client
            .deadline()
            .map(|at| at.saturating_duration_since(Instant::now()));
        let wait = wait.unwrap_or(DEADLINE).min(DEADLINE);
        poll.poll(&mut events, Some(wait)).unwrap();
        assert!(events.iter().all(|event| event.token() == Token(7)));
        client.turn(app, ZERO).unwrap();
    });
    poll.registry().deregister(&mut client).unwrap();
}

/// The application of a loop that owns a client of its own besides.
struct Owner {
    client: Client<()>,
    teller: Teller,
}

impl Handler for Owner {
    type Session = ();

    fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}

    fn on_source(
        &mut self,
        _: &mut Connections<'_, ()>,
        _: wsloop::SourceId,
        _: &mio::event::Event,
    ) {
        let _ = self.client.turn(&mut self.teller, ZERO).unwrap();
    }
}

#[test]
fn it_is_a_foreign_source_of_an_event_loop() {
    let server = Server::echo();
    let mut event_loop = wsloop::EventLoop::new(Config::default()).unwrap();
    let (teller, hears) = teller();
    let mut owner = Owner {
        client: dialled(&server),
        teller,
    };
    let mut connections = event_loop.connections();
    connections
        .register(&mut owner.client, Interest::READABLE)
        .unwrap();
    // What is staged or asked for outside of an event is worked off by a turn of the client's.
    let mut turn = |owner: &mut Owner| {
        let _ = owner.client.turn(&mut owner.teller, ZERO).unwrap();
        while owner
            .client
            .deadline()
            .is_some_and(|at| at <= Instant::now())
        {
            let _ = owner.client.turn(&mut owner.teller, ZERO).unwrap();
        }
        let waited = event_loop
            .turn(owner, Some(Duration::from_millis(20)))
            .unwrap();
        assert_eq!(waited, wsloop::Progress::Running);
    };
    assert_eq!(next(&hears, || turn(&mut owner)), Heard::Open);
    owner
        .client
        .conn()
        .unwrap()
        .send_copy(MessageKind::Text, b"through the loop")
        .unwrap();
    let echo = Heard::Message(b"through the loop".to_vec());
    assert_eq!(next(&hears, || turn(&mut owner)), echo);
    owner
        .client
        .conn()
        .unwrap()
        .close(CloseCode::NORMAL, "")
        .unwrap();
    let Heard::Closed(close) = next(&hears, || turn(&mut owner)) else {
        panic!()
    };
    assert!(close.clean);
}

#[test]
fn it_connects_again_after_the_end() {
    let server = Server::echo();
    let mut client = dialled(&server);
    for _ in 0..3 {
        conversation(&mut client, |client, app| {
            client.turn(app, Some(DEADLINE)).unwrap();
        });
        client
            .connect(Connect::to(&format!("ws://{}/", server.addr)).unwrap(), ())
            .unwrap();
    }
}

#[test]
fn there_is_room_for_one() {
    let server = Server::echo();
    let mut client = dialled(&server);
    let again = Connect::to(&format!("ws://{}/", server.addr)).unwrap();
    assert_eq!(client.state(), ClientState::Connecting);
    let error = client.connect(again.clone(), ()).unwrap_err();
    assert_eq!(error.kind, DialErrorKind::TooManyDials);
    let (mut app, hears) = teller();
    assert_eq!(
        next(&hears, || {
            let _ = client.turn(&mut app, ZERO).unwrap();
        }),
        Heard::Open
    );
    let error = client.connect(again, ()).unwrap_err();
    assert_eq!(error.kind, DialErrorKind::TooManyConnections);
}

#[test]
fn run_ends_with_the_connection_and_with_a_failed_attempt() {
    let server = Server::start(Config::default(), |app| {
        app.on_open = Some(Box::new(|conn| {
            conn.close(CloseCode::GOING_AWAY, "").unwrap()
        }));
    });
    let mut client = dialled(&server);
    let (mut app, hears) = teller();
    client.run(&mut app).unwrap();
    assert_eq!(hears.recv().unwrap(), Heard::Open);
    let Heard::Closed(close) = hears.recv().unwrap() else {
        panic!()
    };
    assert_eq!(
        (close.code, close.cause),
        (Some(CloseCode::GOING_AWAY), CloseCause::Peer)
    );

    let addr = server.addr;
    drop(server);
    client
        .connect(Connect::to(&format!("ws://{addr}/")).unwrap(), ())
        .unwrap();
    client.run(&mut app).unwrap();
    let refused = ConnectError::Io(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(hears.recv().unwrap(), Heard::Failed(refused));
}

#[test]
fn the_deadline_is_that_of_the_timeouts() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let timeout = Duration::from_millis(50);
    let mut client = client(Config::default().connect_timeout(timeout));
    assert_eq!(client.deadline(), None);
    let url = format!("ws://{}/", listener.local_addr().unwrap());
    client.connect(Connect::to(&url).unwrap(), ()).unwrap();
    let start = Instant::now();
    let (mut app, hears) = teller();
    client.run(&mut app).unwrap();
    assert!(start.elapsed() >= timeout);
    assert_eq!(hears.recv().unwrap(), Heard::Failed(ConnectError::Timeout));
}

#[test]
fn messages_can_be_pulled() {
    let server = Server::start(Config::default(), |app| {
        app.on_open = Some(Box::new(|conn| {
            conn.send_ping(b"first").unwrap();
            conn.send_copy(MessageKind::Text, b"one").unwrap();
            conn.send_pong(b"unasked").unwrap();
            conn.send_copy(MessageKind::Binary, &[7; 100]).unwrap();
            conn.send_copy(MessageKind::Text, b"two").unwrap();
        }));
    });
    let mut client = dialled(&server);
    let mut buffer = [0; 50];
    let mut pull =
        |client: &mut Client<()>| client.read_message(&mut buffer, Some(DEADLINE)).unwrap();
    assert_eq!(pull(&mut client), Pulled::Message(MessageKind::Text, 3));
    assert_eq!(pull(&mut client), Pulled::TooBig(MessageKind::Binary, 100));
    assert_eq!(pull(&mut client), Pulled::Message(MessageKind::Text, 3));
    server.expect("the answer to the ping", |event| {
        matches!(event, Event::Pong(_, payload) if payload == b"first").then_some(())
    });
    server.with(|_, connections| {
        connections.for_each(|conn| conn.close(CloseCode::NORMAL, "that was all").unwrap());
    });
    let Pulled::Closed(Some(close)) = pull(&mut client) else {
        panic!()
    };
    assert_eq!(close.reason, "that was all");
    assert_eq!(pull(&mut client), Pulled::Closed(None));
    assert_eq!(&buffer[..3], b"two");
}

#[test]
fn a_pull_ends_in_time_and_says_why_there_is_no_connection() {
    let server = Server::echo();
    let mut client = dialled(&server);
    let pulled = client
        .read_message(&mut [], Some(Duration::from_millis(30)))
        .unwrap();
    assert_eq!(pulled, Pulled::TimedOut);
    let addr = server.addr;
    drop(server);
    assert!(matches!(
        client.read_message(&mut [], Some(DEADLINE)).unwrap(),
        Pulled::Closed(Some(_))
    ));
    client
        .connect(Connect::to(&format!("ws://{addr}/")).unwrap(), ())
        .unwrap();
    let pulled = client.read_message(&mut [], Some(DEADLINE)).unwrap();
    assert!(
        matches!(pulled, Pulled::ConnectFailed(ConnectError::Io(_))),
        "{pulled:?}"
    );
}

// What is in the socket already.

/// Dials `raw` and spins until the request is there.
fn requested(client: &mut Client<()>, app: &mut Teller, raw: RawServer) -> Peer {
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
enum Wait {
    ByItself,
    OnTheOwnersPoll,
}

/// Turns that wait, each of which has to be woken by something.
fn waiting(client: &mut Client<()>, way: Wait) -> impl FnMut(&mut Client<()>, &mut Teller) + use<> {
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
fn patient() -> Config {
    Config::default().connect_timeout(10 * DEADLINE)
}

#[test]
fn messages_behind_the_101_wake_it() {
    const COUNT: usize = 100;
    for way in [Wait::ByItself, Wait::OnTheOwnersPoll] {
        let (mut client, (mut app, hears)) = (client(patient()), teller());
        let mut peer = requested(&mut client, &mut app, RawServer::bind());
        let mut turn = waiting(&mut client, way);
        let behind = frame(0x82, &[5; 256]).repeat(COUNT);
        peer.write(&[peer.switching("").as_bytes(), &behind].concat());
        assert_eq!(next(&hears, || turn(&mut client, &mut app)), Heard::Open);
        for at in 0..COUNT {
            let heard = next(&hears, || turn(&mut client, &mut app));
            assert_eq!(heard, Heard::Message(vec![5; 256]), "{way:?} {at}");
        }
    }
}

/// The end comes with the 101, with messages behind it, and with a message of an open connection: one event for both.
#[test]
fn an_end_that_comes_with_something_else_wakes_it() {
    for way in [Wait::ByItself, Wait::OnTheOwnersPoll] {
        for (opens_first, messages) in
            [(false, 0), (false, 1), (false, 100), (true, 1), (true, 100)]
        {
            let (mut client, (mut app, hears)) = (client(patient()), teller());
            let mut peer = requested(&mut client, &mut app, RawServer::bind());
            let mut turn = waiting(&mut client, way);
            let answer = peer.switching("");
            peer.write(answer.as_bytes());
            if opens_first {
                assert_eq!(next(&hears, || turn(&mut client, &mut app)), Heard::Open);
            }
            peer.write(&frame(0x82, &[5; 256]).repeat(messages));
            peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
            if !opens_first {
                assert_eq!(next(&hears, || turn(&mut client, &mut app)), Heard::Open);
            }
            for _ in 0..messages {
                let heard = next(&hears, || turn(&mut client, &mut app));
                assert_eq!(heard, Heard::Message(vec![5; 256]));
            }
            let heard = next(&hears, || turn(&mut client, &mut app));
            let Heard::Closed(close) = heard else {
                panic!("{heard:?}")
            };
            assert_eq!(
                close.cause,
                CloseCause::EndOfStream,
                "{way:?} {opens_first} {messages}"
            );
        }
    }
}

// Timers.

/// Connects again after a backoff, to one port after the other.
struct Reconnecting {
    ports: Vec<u16>,
    backoff: Backoff,
    failed: usize,
    opened: usize,
}

impl Reconnecting {
    fn retry(&mut self, connections: &mut Connections<'_, ()>) {
        if !self.ports.is_empty() {
            let wait = self.backoff.next(u64::MAX).unwrap();
            connections.set_timer(wait, 0).unwrap();
        }
    }
}

impl Handler for Reconnecting {
    type Session = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        self.opened += 1;
        conn.close(CloseCode::NORMAL, "").unwrap();
    }

    fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}

    fn on_connect_failed(
        &mut self,
        connections: &mut Connections<'_, ()>,
        (): (),
        _: ConnectError,
    ) {
        self.failed += 1;
        self.retry(connections);
    }

    fn on_close(&mut self, connections: &mut Connections<'_, ()>, _: ConnId, (): (), _: &Close) {
        self.retry(connections);
    }

    fn on_timer(&mut self, connections: &mut Connections<'_, ()>, _: TimerId, _: u64) {
        let url = format!("ws://127.0.0.1:{}/", self.ports.pop().unwrap());
        connections.connect(Connect::to(&url).unwrap(), ()).unwrap();
    }
}

#[test]
fn run_goes_on_while_a_timer_is_to_connect_again() {
    let server = Server::echo();
    let nobody = RawServer::bind().port();
    let mut app = Reconnecting {
        ports: vec![
            nobody,
            server.addr.port(),
            nobody,
            server.addr.port(),
            nobody,
        ],
        backoff: Backoff::new(Duration::from_millis(2), Duration::from_millis(8)),
        failed: 0,
        opened: 0,
    };
    let mut client = dialled(&server);
    client.run(&mut app).unwrap();
    assert_eq!((app.failed, app.opened), (3, 3));
    assert_eq!(client.deadline(), None);
}

#[test]
fn a_turn_waits_for_a_timer_also_without_a_connection() {
    let mut client = client(Config::default());
    let mut app = Reconnecting {
        ports: vec![RawServer::bind().port()],
        backoff: Backoff::new(Duration::from_millis(1), Duration::from_millis(1)),
        failed: 0,
        opened: 0,
    };
    assert_eq!(client.turn(&mut app, None).unwrap(), ClientState::Idle);
    let mut connections = client.connections();
    connections.set_timer(Duration::from_millis(50), 0).unwrap();
    let mut turns = 0;
    while app.failed == 0 {
        client.turn(&mut app, None).unwrap();
        turns += 1;
    }
    assert!(turns < 10, "{turns}");
}

#[test]
fn a_pull_does_not_wait_for_a_timer() {
    let mut client = client(Config::default());
    let mut connections = client.connections();
    connections.set_timer(2 * DEADLINE, 0).unwrap();
    let start = Instant::now();
    let pulled = client.read_message(&mut [], None).unwrap();
    assert_eq!(pulled, Pulled::Closed(None));
    assert!(start.elapsed() < DEADLINE);
}

// From one poll to another.

/// A turn on a poll of its owner's.
fn turn_on(poll: &mut Poll, client: &mut Client<()>, app: &mut Teller) {
    let wait = client
        .deadline()
        .map_or(DEADLINE, |at| at.saturating_duration_since(Instant::now()));
    let mut events = Events::with_capacity(4);
    poll.poll(&mut events, Some(wait.min(DEADLINE))).unwrap();
    client.turn(app, ZERO).unwrap();
}

/// The name of the host makes for a resolver, whose bell is a source too.
#[test]
fn it_goes_from_poll_to_poll_with_everything_that_it_has() {
    let server = Server::echo();
    let url = format!("ws://localhost:{}/", server.addr.port());
    for connects_on_the_way in [false, true] {
        let mut client = client(patient());
        let (mut app, hears) = teller();
        client.connect(Connect::to(&url).unwrap(), ()).unwrap();
        if !connects_on_the_way {
            while client.state() != ClientState::Open {
                client.turn(&mut app, Some(DEADLINE)).unwrap();
            }
            assert_eq!(hears.recv().unwrap(), Heard::Open);
        }
        let mut polls = [Poll::new().unwrap(), Poll::new().unwrap()];
        for round in 0..3 {
            for poll in &mut polls {
                poll.registry()
                    .register(&mut client, Token(7), Interest::READABLE)
                    .unwrap();
                echo(&mut client, &mut app, &hears, |client, app| {
                    turn_on(poll, client, app)
                });
                poll.registry()
                    .reregister(&mut client, Token(8), Interest::READABLE)
                    .unwrap();
                echo(&mut client, &mut app, &hears, |client, app| {
                    turn_on(poll, client, app)
                });
                if round == 1 {
                    poll.registry().deregister(&mut client).unwrap();
                }
            }
            // By itself, whether or not it is still registered.
            echo(&mut client, &mut app, &hears, |client, app| {
                client.turn(app, Some(DEADLINE)).unwrap();
            });
            if round == 2 {
                polls[0].registry().deregister(&mut client).unwrap();
                echo(&mut client, &mut app, &hears, |client, app| {
                    client.turn(app, Some(DEADLINE)).unwrap();
                });
            }
        }
    }
}

/// Waits until the client is open, and for an echo.
fn echo(
    client: &mut Client<()>,
    app: &mut Teller,
    hears: &Receiver<Heard>,
    mut turn: impl FnMut(&mut Client<()>, &mut Teller),
) {
    if client.state() == ClientState::Connecting {
        assert_eq!(next(hears, || turn(client, app)), Heard::Open);
    }
    let start = Instant::now();
    let mut conn = client.conn().unwrap();
    conn.send_copy(MessageKind::Text, b"there").unwrap();
    let heard = next(hears, || turn(client, app));
    assert_eq!(heard, Heard::Message(b"there".to_vec()));
    assert!(start.elapsed() < DEADLINE, "nothing woke it");
}

#[test]
fn it_waits_by_itself_when_the_owners_poll_is_gone() {
    let server = Server::echo();
    let mut client = dialled(&server);
    let (mut app, hears) = teller();
    let mut poll = Poll::new().unwrap();
    poll.registry()
        .register(&mut client, Token(7), Interest::READABLE)
        .unwrap();
    echo(&mut client, &mut app, &hears, |client, app| {
        turn_on(&mut poll, client, app)
    });
    drop(poll);
    echo(&mut client, &mut app, &hears, |client, app| {
        client.turn(app, Some(DEADLINE)).unwrap();
    });
}

/// What was registered for reading and has left is not there to be taken off again.
#[test]
fn an_idle_client_can_be_put_on_a_poll_and_taken_off_it() {
    let server = Server::echo();
    let mut client = client(Config::default());
    let poll = Poll::new().unwrap();
    for _ in 0..2 {
        poll.registry()
            .register(&mut client, Token(7), Interest::READABLE)
            .unwrap();
        poll.registry().deregister(&mut client).unwrap();
    }
    client
        .connect(Connect::to(&format!("ws://{}/", server.addr)).unwrap(), ())
        .unwrap();
    conversation(&mut client, |client, app| {
        client.turn(app, Some(DEADLINE)).unwrap();
    });
}

// Shutdown.

/// Tries to connect again whenever an attempt or a connection ends.
#[derive(Default)]
struct Stubborn {
    url: String,
    opened: usize,
    failed: Vec<ConnectError>,
    closed: Vec<Close>,
    refused: Vec<DialErrorKind>,
}

impl Stubborn {
    fn retry(&mut self, connections: &mut Connections<'_, ()>) {
        let again = connections.connect(Connect::to(&self.url).unwrap(), ());
        self.refused.extend(again.err().map(|error| error.kind));
        // That one is not waited for either.
        connections.set_timer(100 * DEADLINE, 0).unwrap();
    }
}

impl Handler for Stubborn {
    type Session = ();

    fn on_open(&mut self, _: &mut Conn<'_, ()>) {
        self.opened += 1;
    }

    fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}

    fn on_connect_failed(
        &mut self,
        connections: &mut Connections<'_, ()>,
        (): (),
        error: ConnectError,
    ) {
        self.failed.push(error);
        self.retry(connections);
    }

    fn on_close(
        &mut self,
        connections: &mut Connections<'_, ()>,
        _: ConnId,
        (): (),
        close: &Close,
    ) {
        self.closed.push(close.clone());
        self.retry(connections);
    }
}

#[test]
fn a_shutdown_gives_an_attempt_up_for_good() {
    let raw = RawServer::bind();
    for turns in 0..3 {
        let mut client = client(patient());
        let mut app = Stubborn {
            url: raw.url(),
            ..Stubborn::default()
        };
        client
            .connect(Connect::to(&raw.url()).unwrap(), ())
            .unwrap();
        for _ in 0..turns {
            client.turn(&mut app, ZERO).unwrap();
        }
        client.connections().shutdown(DEADLINE);
        client.run(&mut app).unwrap();
        assert_eq!(app.failed, [ConnectError::Shutdown]);
        assert_eq!(app.refused, [DialErrorKind::ShuttingDown]);
        assert_eq!(client.state(), ClientState::Idle);
        let again = client.connect(Connect::to(&raw.url()).unwrap(), ());
        assert_eq!(again.unwrap_err().kind, DialErrorKind::ShuttingDown);
    }
}

/// An open client, whose peer says nothing more, that is to shut down within `deadline`.
fn shut_down(deadline: Duration) -> (Client<()>, Stubborn, Peer) {
    let raw = RawServer::bind();
    let mut app = Stubborn {
        url: raw.url(),
        ..Stubborn::default()
    };
    let mut client = client(patient().close_timeout(2 * DEADLINE));
    let mut peer = requested(&mut client, &mut teller().0, raw);
    peer.write(peer.switching("").as_bytes());
    while app.opened == 0 {
        client.turn(&mut app, Some(DEADLINE)).unwrap();
    }
    client.connections().shutdown(deadline);
    (client, app, peer)
}

#[test]
fn a_shutdown_closes_in_order() {
    let (mut client, mut app, mut peer) = shut_down(2 * DEADLINE);
    let answer = std::thread::spawn(move || {
        assert_eq!(peer.read_frame(), Frame::close(1001, ""));
        peer.send_close(1001, "");
        peer.expect_end();
    });
    client.run(&mut app).unwrap();
    answer.join().unwrap();
    assert!(app.closed[0].clean);
    assert_eq!(app.closed[0].cause, CloseCause::Shutdown);
    assert_eq!(app.refused, [DialErrorKind::ShuttingDown]);
}

#[test]
fn a_shutdown_ends_by_force_at_its_deadline_which_can_be_brought_forward() {
    for (first, second, end) in [(0, None, 0), (50, None, 50), (100_000, Some(50), 50)] {
        let (mut client, mut app, mut peer) = shut_down(Duration::from_millis(first));
        let start = Instant::now();
        if let Some(second) = second {
            client.turn(&mut app, ZERO).unwrap();
            client.connections().shutdown(Duration::from_millis(second));
        }
        client.run(&mut app).unwrap();
        assert!(start.elapsed() >= Duration::from_millis(end));
        assert!(start.elapsed() < DEADLINE, "{:?}", start.elapsed());
        assert_eq!((app.closed.len(), app.closed[0].clean), (1, false));
        assert_eq!(app.closed[0].cause, CloseCause::Shutdown);
        assert_eq!(peer.read_frame(), Frame::close(1001, ""));
        assert_eq!(peer.read_to_end(), b"");
    }
}
