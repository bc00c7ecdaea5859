use std::{
    collections::HashMap,
    io::Write,
    net::TcpStream,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use wsloop::{CloseCause, Config, Conn, ConnId, EventLoop, HandshakeFailure, MessageKind};

use super::support::{
    App, Client, DEADLINE, EchoServer, Event, Frame, Server, Session, pattern, upgrade_request,
};

/// How often each connection was opened and closed.
fn count(events: &[Event]) -> HashMap<ConnId, (u32, u32)> {
    let mut counts: HashMap<ConnId, (u32, u32)> = HashMap::new();
    for event in events {
        match event {
            Event::Open(id) => counts.entry(*id).or_default().0 += 1,
            Event::Close(id, _) => counts.entry(*id).or_default().1 += 1,
            _ => {}
        }
    }
    counts
}

fn pause(conn: &mut Conn<'_, Session>) {
    conn.pause_reads();
}

/// Reports into a channel that outlives the server.
fn server_with_count(config: Config) -> (Server, std::sync::mpsc::Receiver<(ConnId, CloseCause)>) {
    let (report, closes) = std::sync::mpsc::channel();
    let server = Server::start(config, move |app| {
        app.on_close = Some(Box::new(move |(id, close)| {
            report.send((id, close.cause)).unwrap();
        }));
    });
    (server, closes)
}

#[test]
fn a_shutdown_with_good_clients_is_clean() {
    let (server, closes) = server_with_count(Config::default());
    let clients: Vec<Client> = (0..50).map(|_| server.connect()).collect();
    let addr = server.addr;
    let events = server.events();
    assert_eq!(count(&events).len(), 50);
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                assert_eq!(client.read_frame(), Frame::close(1001, ""));
                client.send_close(1001, "");
                client.expect_end();
            })
        })
        .collect();
    let start = Instant::now();
    let stopped = server.stop(DEADLINE);
    assert!(start.elapsed() < DEADLINE / 2);
    assert!(stopped.shutdown.is_clean());
    assert_eq!(stopped.stats.closed.shutdown, 50);
    for reader in readers {
        reader.join().unwrap();
    }
    let mut closed: Vec<_> = closes.try_iter().collect();
    assert_eq!(closed.len(), 50);
    assert!(
        closed
            .iter()
            .all(|(_, cause)| *cause == CloseCause::Shutdown)
    );
    closed.sort_by_key(|(id, _)| *id);
    closed.dedup();
    assert_eq!(closed.len(), 50, "on_close once for each");
    assert!(TcpStream::connect(addr).is_err(), "nobody listens");
}

#[test]
fn who_does_not_answer_is_forced_at_the_deadline() {
    let (server, closes) = server_with_count(Config::default());
    let deadline = Duration::from_millis(150);
    let mut stubborn: Vec<Client> = (0..3).map(|_| server.connect()).collect();
    let mut good = server.connect();
    let reader = std::thread::spawn(move || {
        assert_eq!(good.read_frame().close_code(), Some(1001));
        good.send_close(1001, "");
        good.expect_end();
    });
    let start = Instant::now();
    let stopped = server.stop(deadline);
    assert!(start.elapsed() >= deadline);
    assert_eq!(stopped.shutdown.forced, 3);
    assert!(!stopped.shutdown.is_clean());
    reader.join().unwrap();
    for client in &mut stubborn {
        assert_eq!(client.read_frame(), Frame::close(1001, ""));
        assert_eq!(client.read_to_end(), b"");
    }
    assert_eq!(closes.try_iter().count(), 4);
}

#[test]
fn a_second_shutdown_brings_the_deadline_forward() {
    let (server, _closes) = server_with_count(Config::default());
    let mut stubborn = server.connect();
    server.with(|_, connections| connections.shutdown(DEADLINE * 100));
    assert_eq!(stubborn.read_frame(), Frame::close(1001, ""));
    let stopped = server.stop(Duration::from_millis(50));
    assert_eq!(stopped.shutdown.forced, 1);
}

#[test]
fn an_empty_loop_shuts_down_at_once() {
    let server = Server::echo();
    let start = Instant::now();
    assert!(server.stop(DEADLINE).shutdown.is_clean());
    assert!(start.elapsed() < DEADLINE / 2);
}

/// "As long as it takes" is a deadline too.
#[test]
fn the_longest_deadline_is_no_overflow() {
    let server = Server::echo();
    let mut client = server.connect();
    server.with(|_, connections| connections.shutdown(Duration::MAX));
    client.expect_close(1001);
    assert!(server.stop(Duration::ZERO).shutdown.is_clean());
    let server = Server::echo();
    let mut client = server.connect();
    server.with(|_, connections| {
        connections.shutdown_staggered(Duration::MAX, Duration::from_millis(1));
    });
    client.expect_close(1001);
    assert!(server.stop(Duration::ZERO).shutdown.is_clean());
}

#[test]
fn handshakes_under_way_get_503() {
    let server = Server::echo();
    let mut half = Client::raw(server.addr);
    half.write(b"GET / HTTP/1.1\r\nHost: loc");
    let mut silent = Client::raw(server.addr);
    server.wait_for("both are accepted", |stats| stats.handshakes.current == 2);
    server.with(|_, connections| connections.shutdown(DEADLINE));
    let answer = half.read_answer();
    assert_eq!(answer.status, 503);
    assert_eq!(answer.header("retry-after"), Some("1"));
    drop(half);
    assert!(silent.read_to_end().starts_with(b"HTTP/1.1 503"));
    drop(silent);
    let stopped = server.stop(DEADLINE);
    assert!(stopped.shutdown.is_clean());
    assert_eq!(stopped.stats.refused.shutdown, 2);
}

#[test]
fn a_staggered_shutdown_spreads_the_ends() {
    let (server, closes) = server_with_count(Config::default());
    let clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    let stagger = Duration::from_millis(400);
    let start = Instant::now();
    server.with(move |_, connections| connections.shutdown_staggered(DEADLINE, stagger));
    let readers: Vec<_> = clients
        .into_iter()
        .map(|mut client| {
            std::thread::spawn(move || {
                assert_eq!(client.read_frame().close_code(), Some(1001));
                let at = Instant::now();
                client.send_close(1001, "");
                client.expect_end();
                at
            })
        })
        .collect();
    let ends: Vec<Duration> = readers
        .into_iter()
        .map(|reader| reader.join().unwrap() - start)
        .collect();
    assert!(server.stop(DEADLINE).shutdown.is_clean());
    let early = ends.iter().filter(|end| **end < stagger / 2).count();
    assert!((4..=14).contains(&early), "half in half the time: {ends:?}");
    assert!(*ends.iter().max().unwrap() >= stagger * 3 / 4, "{ends:?}");
    assert_eq!(closes.try_iter().count(), 20);
}

#[test]
fn what_is_staged_is_sent_before_the_end() {
    let config = Config::default().send_queue(3).send_buffer_size(Some(4096));
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, _| {
            for at in 0..3 {
                conn.send(MessageKind::Binary, pattern(500_000, at))
                    .unwrap();
            }
            conn.connections().shutdown(DEADLINE);
        }));
    });
    let mut reading = server.connect();
    reading.send_text("go");
    for at in 0..3 {
        assert!(reading.read_frame() == Frame::binary(pattern(500_000, at)));
    }
    reading.expect_close(1001);
    for _ in 0..3 {
        server.expect("a flushed payload", |event| {
            matches!(event, Event::WriteComplete(_, _, wsloop::Outcome::Flushed)).then_some(())
        });
    }
    assert!(server.stop(DEADLINE).shutdown.is_clean());
}

#[test]
fn payloads_of_forced_connections_come_back_before_on_close() {
    let config = Config::default().send_queue(3).send_buffer_size(Some(4096));
    let server = Server::start(config, |app| {
        app.on_open = Some(Box::new(|conn| {
            for at in 0..3 {
                conn.send(MessageKind::Binary, pattern(1_000_000, at))
                    .unwrap();
            }
        }));
    });
    let _unread = server.connect();
    server.expect_open();
    server.with(|_, connections| connections.shutdown(Duration::from_millis(50)));
    for _ in 0..3 {
        server.expect("a discarded payload", |event| match event {
            Event::WriteComplete(_, _, outcome) => {
                assert!(matches!(outcome, wsloop::Outcome::Discarded { .. }));
                Some(())
            }
            Event::Close(..) => panic!("on_close before the payloads are back"),
            _ => None,
        });
    }
    assert_eq!(server.expect_close().cause, CloseCause::Shutdown);
    assert_eq!(server.stop(Duration::ZERO).shutdown.forced, 1);
}

/// A pause does not hold the end up.
#[test]
fn a_paused_connection_closes_cleanly() {
    let server = Server::start(Config::default(), |app| {
        app.on_open = Some(Box::new(pause));
    });
    let mut client = server.connect();
    for at in 0..20 {
        client.send_binary(&pattern(1000, at));
    }
    server.expect("read ahead", |event| {
        matches!(event, Event::BytesRead(..)).then_some(())
    });
    server.with(|_, connections| connections.shutdown(DEADLINE));
    assert_eq!(client.read_frame(), Frame::close(1001, ""));
    client.send_close(1001, "");
    client.expect_end();
    assert!(server.expect_close().clean);
    assert!(server.stop(DEADLINE).shutdown.is_clean());
}

#[test]
fn the_file_of_a_unix_socket_is_removed() {
    let path = std::env::temp_dir().join(format!("wsloop-shutdown-{}.sock", std::process::id()));
    let (report, events) = std::sync::mpsc::channel();
    let mut app = App::new(report);
    let mut event_loop = EventLoop::new(Config::default()).unwrap();
    event_loop.listen(path.as_path()).unwrap();
    assert!(event_loop.listen(path.as_path()).is_err(), "it is taken");
    assert!(path.exists(), "the failure has not removed it");
    let mut client = UnixStream::connect(&path).unwrap();
    client
        .write_all(upgrade_request("/", "").as_bytes())
        .unwrap();
    while event_loop.stats().opened == 0 {
        let _ = event_loop.turn(&mut app, None).unwrap();
    }
    event_loop.connections().shutdown(Duration::ZERO);
    assert_eq!(event_loop.run(&mut app).unwrap().forced, 1);
    assert!(!path.exists());
    assert!(UnixStream::connect(&path).is_err());
    drop(app);
    let events: Vec<Event> = events.try_iter().collect();
    assert_eq!(count(&events).into_values().collect::<Vec<_>>(), [(1, 1)]);
    assert!(!events.contains(&Event::HandshakeFailed(HandshakeFailure::Shutdown)));
    // What it was at the end it stays.
    let again = event_loop.turn(
        &mut App::new(std::sync::mpsc::channel().0),
        Some(Duration::ZERO),
    );
    assert!(matches!(again.unwrap(), wsloop::Progress::Finished(_)));
}

#[test]
fn the_example_closes_its_connections_on_a_signal() {
    for signal in ["TERM", "INT"] {
        let mut server = EchoServer::start(None);
        let mut clients: Vec<Client> = (0..5).map(|_| Client::connect(server.addr)).collect();
        for client in &mut clients {
            client.send_text("there?");
            assert_eq!(client.read_frame(), Frame::text("there?"));
        }
        server.signal(signal);
        for client in &mut clients {
            assert_eq!(client.read_frame(), Frame::close(1001, ""));
            client.send_close(1001, "");
            client.expect_end();
        }
        assert_eq!(server.wait().code(), Some(0), "{signal}");
        assert_eq!(server.output(), "");
    }
}

#[test]
fn the_example_says_what_is_wrong() {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();

    let nonsense = EchoServer::run(&["--listen", "nonsense"]);
    assert_eq!(nonsense.status.code(), Some(2));
    assert_eq!(text(&nonsense.stdout), "");
    let message = text(&nonsense.stderr);
    assert_eq!(message.lines().count(), 1, "{message}");
    let first = message.lines().next().unwrap();
    assert!(
        first.contains("nonsense") && first.contains("--listen"),
        "{message}"
    );

    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let busy = EchoServer::run(&["--listen", &address]);
    assert_eq!(busy.status.code(), Some(1));
    assert_eq!(text(&busy.stdout), "");
    let message = text(&busy.stderr);
    assert_eq!(message.lines().count(), 1, "{message}");
    assert!(message.contains(&address), "{message}");

    let bad = EchoServer::run(&["--max-connections", "0"]);
    assert_eq!(bad.status.code(), Some(2));
    assert_eq!(text(&bad.stderr).lines().count(), 1);
    assert!(text(&bad.stderr).contains("max_connections"));

    let help = EchoServer::run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for option in [
        "--listen",
        "--max-message-size",
        "--max-connections",
        "--max-handshakes",
        "--idle-timeout",
        "--read-buffer-size",
        "--busy-poll",
        "--help",
    ] {
        assert!(text(&help.stdout).contains(option), "{option}");
    }
}
