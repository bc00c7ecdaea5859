//! A client that its owner drives: the ways to do so, and from one to another.

use std::{
    sync::mpsc::Receiver,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token};
use wsloop::{
    Client, ClientState, Close, CloseCause, CloseCode, Config, Conn, ConnId, Connect, ConnectError,
    Connections, DialErrorKind, Handler, Message, MessageKind, Pulled,
};

use super::support::{
    DEADLINE, Event, RawServer, Server, frame,
    lone::{Heard, Teller, Wait, ZERO, client, dialled, next, patient, requested, teller, waiting},
    pattern,
};

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
    app: Talkative,
}

impl Owner {
    /// To be called after an event of the client's, and after it was asked for something.
    fn drive(&mut self) {
        let _ = self.client.turn(&mut self.app, ZERO).unwrap();
        while self
            .client
            .deadline()
            .is_some_and(|at| at <= Instant::now())
        {
            let _ = self.client.turn(&mut self.app, ZERO).unwrap();
        }
    }
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
        self.drive();
    }
}

/// Says something ten times, the next time when it has come back, and closes.
#[derive(Default)]
struct Talkative {
    echoes: usize,
    failed: Option<ConnectError>,
    closed: Option<Close>,
}

impl Handler for Talkative {
    type Session = ();

    fn on_open(&mut self, conn: &mut Conn<'_, ()>) {
        conn.send(MessageKind::Binary, pattern(100_000, 0)).unwrap();
    }

    fn on_message(&mut self, conn: &mut Conn<'_, ()>, message: Message<'_>) {
        assert!(message.as_bytes() == pattern(100_000, self.echoes as u32));
        self.echoes += 1;
        if self.echoes < 10 {
            conn.send(MessageKind::Binary, pattern(100_000, self.echoes as u32))
                .unwrap();
        } else {
            conn.close(CloseCode::NORMAL, "").unwrap();
        }
    }

    fn on_connect_failed(&mut self, _: &mut Connections<'_, ()>, (): (), error: ConnectError) {
        self.failed = Some(error);
    }

    fn on_close(&mut self, _: &mut Connections<'_, ()>, _: ConnId, (): (), close: &Close) {
        self.closed = Some(close.clone());
    }
}

#[test]
fn it_is_a_foreign_source_of_an_event_loop() {
    let server = Server::echo();
    let mut event_loop = wsloop::EventLoop::new(Config::default()).unwrap();
    let mut owner = Owner {
        client: client(patient()),
        app: Talkative::default(),
    };
    let source = event_loop
        .connections()
        .register(&mut owner.client, Interest::READABLE)
        .unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("ws://{host}:{}/", server.addr.port());
        owner.app = Talkative::default();
        owner
            .client
            .connect(Connect::to(&url).unwrap(), ())
            .unwrap();
        owner.drive();
        // From here on its events alone drive it.
        while owner.app.closed.is_none() {
            let start = Instant::now();
            let progress = event_loop.turn(&mut owner, Some(DEADLINE)).unwrap();
            assert_eq!(progress, wsloop::Progress::Running);
            assert!(start.elapsed() < DEADLINE, "nothing woke it");
            assert_eq!(owner.app.failed, None);
        }
        assert!(owner.app.closed.as_ref().is_some_and(|close| close.clean));
        assert_eq!(owner.app.echoes, 10);
    }
    event_loop
        .connections()
        .deregister(source, &mut owner.client)
        .unwrap();
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
