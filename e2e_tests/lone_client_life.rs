//! What a client that its owner drives goes through: attempts and their end, timers, pauses, proxies, the shutdown.

use std::{
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use wsloop::{
    Backoff, Client, ClientState, Close, CloseCause, CloseCode, Config, Conn, ConnId, Connect,
    ConnectError, Connections, DialErrorKind, Handler, Message, Proxy, Pulled, TimerId,
};

use super::support::{
    DEADLINE, Frame, Peer, RawServer, Server, frame,
    lone::{Heard, Wait, ZERO, client, dialled, next, patient, requested, teller, waiting},
};

const SHORT: Duration = Duration::from_millis(60);

/// A client that is open, driven by turns that wait.
fn opened(
    config: Config,
    way: Wait,
) -> (
    Client<()>,
    Peer,
    Receiver<Heard>,
    impl FnMut(&mut Client<()>),
) {
    let mut client = client(config);
    let (mut app, hears) = teller();
    let mut peer = requested(&mut client, &mut app, RawServer::bind());
    let mut turn = waiting(&mut client, way);
    peer.write(peer.switching("").as_bytes());
    let mut turn = move |client: &mut Client<()>| turn(client, &mut app);
    assert_eq!(next(&hears, || turn(&mut client)), Heard::Open);
    (client, peer, hears, turn)
}

fn expect_closed(heard: Heard) -> Close {
    match heard {
        Heard::Closed(close) => close,
        other => panic!("{other:?}"),
    }
}

// Attempts.

#[test]
fn an_attempt_is_cancelled_in_every_phase() {
    let raw = RawServer::bind();
    let mut client = client(patient());
    let (mut app, hears) = teller();
    for url in [raw.url(), format!("ws://localhost:{}/", raw.port())] {
        for turns in 0..4 {
            let id = client.connect(Connect::to(&url).unwrap(), ()).unwrap();
            for _ in 0..turns {
                client.turn(&mut app, ZERO).unwrap();
            }
            client.connections().cancel_connect(id);
            client.run(&mut app).unwrap();
            assert_eq!(hears.try_recv(), Ok(Heard::Failed(ConnectError::Cancelled)));
            assert_eq!(client.state(), ClientState::Idle);
        }
    }
    let raw = RawServer::bind();
    let url = raw.url();
    let peer = std::thread::spawn(move || {
        let mut peer = raw.accept();
        peer.write(b"HTTP/1.1 101 Sw");
        peer
    });
    let id = client.connect(Connect::to(&url).unwrap(), ()).unwrap();
    while !peer.is_finished() {
        client.turn(&mut app, ZERO).unwrap();
    }
    client.connections().cancel_connect(id);
    client.run(&mut app).unwrap();
    assert_eq!(hears.try_recv(), Ok(Heard::Failed(ConnectError::Cancelled)));
    assert_eq!(peer.join().unwrap().read_to_end(), b"");
}

#[test]
fn it_goes_through_a_proxy() {
    for way in [Wait::ByItself, Wait::OnTheOwnersPoll] {
        let raw = RawServer::bind();
        let proxy = Proxy::http("127.0.0.1", raw.port()).unwrap();
        let connect = Connect::to("ws://far.example:8080/there")
            .unwrap()
            .proxy(proxy.credentials("user", "secret"));
        let proxy = std::thread::spawn(move || {
            let mut peer = raw.accept();
            assert!(
                peer.request
                    .starts_with("CONNECT far.example:8080 HTTP/1.1\r\n")
            );
            assert_eq!(
                peer.fields("Proxy-Authorization"),
                ["Basic dXNlcjpzZWNyZXQ="]
            );
            peer.write(b"HTTP/1.1 200 Connection established\r\n\r\n");
            peer.read_request();
            assert!(peer.request.starts_with("GET /there HTTP/1.1\r\n"));
            assert_eq!(peer.fields("Host"), ["far.example:8080"]);
            assert!(peer.fields("Proxy-Authorization").is_empty());
            let answer = [peer.switching("").as_bytes(), &frame(0x81, b"hi")].concat();
            peer.write(&answer);
            assert_eq!(peer.read_frame(), Frame::close(1000, ""));
            peer.send_close(1000, "");
            peer.expect_end();
        });
        let mut client = client(patient());
        let (mut app, hears) = teller();
        let mut turn = waiting(&mut client, way);
        client.connect(connect, ()).unwrap();
        let mut next = |client: &mut Client<()>| next(&hears, || turn(client, &mut app));
        assert_eq!(next(&mut client), Heard::Open);
        assert_eq!(next(&mut client), Heard::Message(b"hi".to_vec()));
        let mut conn = client.conn().unwrap();
        conn.close(CloseCode::NORMAL, "").unwrap();
        assert!(expect_closed(next(&mut client)).clean);
        proxy.join().unwrap();
    }
}

// An open connection.

#[test]
fn the_answers_to_heartbeats_are_timed() {
    let config = patient()
        .heartbeat_interval(Some(SHORT))
        .heartbeat_timeout(10 * DEADLINE);
    for way in [Wait::ByItself, Wait::OnTheOwnersPoll] {
        let (mut client, mut peer, hears, mut turn) = opened(config.clone(), way);
        let peer = std::thread::spawn(move || {
            for _ in 0..3 {
                assert_eq!(peer.read_frame(), Frame::ping(b""));
                peer.send(&Frame::pong(b""));
            }
            peer.send_close(1000, "");
            assert_eq!(peer.read_frame(), Frame::close(1000, ""));
            peer.expect_end();
        });
        let close = expect_closed(next(&hears, || turn(&mut client)));
        assert!(close.clean, "{close:?}");
        peer.join().unwrap();
        let stats = client.connections().stats();
        assert_eq!((stats.sent.pings, stats.received.pongs), (3, 3));
        let times = stats.round_trips;
        assert_eq!(times.count, 3);
        assert!(times.min <= times.last && times.last <= times.max && times.max < DEADLINE);
    }
}

#[test]
fn a_server_that_does_not_answer_a_heartbeat_is_left() {
    let config = patient()
        .heartbeat_interval(Some(SHORT))
        .heartbeat_timeout(SHORT);
    for way in [Wait::ByItself, Wait::OnTheOwnersPoll] {
        let (mut client, mut peer, hears, mut turn) = opened(config.clone(), way);
        let peer = std::thread::spawn(move || {
            assert_eq!(peer.read_frame(), Frame::ping(b""));
            assert_eq!(peer.read_frame(), Frame::close(1001, ""));
            peer.send_close(1001, "");
            peer.expect_end();
        });
        let close = expect_closed(next(&hears, || turn(&mut client)));
        assert_eq!(close.cause, CloseCause::HeartbeatTimeout);
        peer.join().unwrap();
    }
}

#[test]
fn a_silent_server_is_left_after_the_idle_timeout() {
    for way in [Wait::ByItself, Wait::OnTheOwnersPoll] {
        let start = Instant::now();
        let config = patient().idle_timeout(Some(SHORT));
        let (mut client, mut peer, hears, mut turn) = opened(config, way);
        let peer = std::thread::spawn(move || {
            assert_eq!(peer.read_frame(), Frame::close(1001, ""));
            peer.send_close(1001, "");
            peer.expect_end();
        });
        let close = expect_closed(next(&hears, || turn(&mut client)));
        assert_eq!((close.cause, close.clean), (CloseCause::IdleTimeout, true));
        assert!(start.elapsed() >= SHORT);
        peer.join().unwrap();
    }
}

/// The end waits behind the messages.
#[test]
fn a_pause_holds_messages_back_and_nothing_is_lost() {
    const COUNT: u32 = 1000;
    for way in [Wait::ByItself, Wait::OnTheOwnersPoll] {
        let (mut client, mut peer, hears, mut turn) = opened(patient(), way);
        client.conn().unwrap().pause_reads();
        for at in 0..COUNT {
            peer.write(&frame(0x82, &at.to_be_bytes()));
        }
        peer.stream.shutdown(std::net::Shutdown::Write).unwrap();
        while client.connections().stats().received.bytes == 0 {
            turn(&mut client);
        }
        assert!(hears.try_recv().is_err());
        client.conn().unwrap().resume_reads();
        for at in 0..COUNT {
            let heard = next(&hears, || turn(&mut client));
            assert_eq!(heard, Heard::Message(at.to_be_bytes().to_vec()), "{way:?}");
        }
        let close = expect_closed(next(&hears, || turn(&mut client)));
        assert_eq!(close.cause, CloseCause::EndOfStream);
    }
}

/// Waits in `on_close` until the peer has seen the end.
struct Patient(Receiver<()>);

impl Handler for Patient {
    type Session = ();

    fn on_message(&mut self, _: &mut Conn<'_, ()>, _: Message<'_>) {}

    fn on_close(&mut self, _: &mut Connections<'_, ()>, _: ConnId, (): (), _: &Close) {
        self.0.recv_timeout(DEADLINE).expect("the socket is closed");
    }
}

#[test]
fn the_socket_is_closed_before_on_close() {
    let (mut client, mut peer, ..) = opened(patient(), Wait::ByItself);
    let (tell, told) = channel();
    client.conn().unwrap().close(CloseCode::NORMAL, "").unwrap();
    let peer = std::thread::spawn(move || {
        assert_eq!(peer.read_frame(), Frame::close(1000, ""));
        peer.send_close(1000, "");
        peer.expect_end();
        tell.send(()).unwrap();
    });
    client.run(&mut Patient(told)).unwrap();
    peer.join().unwrap();
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
