use std::time::{Duration, Instant};

use wsloop::{CloseCause, CloseCode, Config, Initiator, MessageKind, Outcome};

use super::support::{Client, Event, Frame, Server, masked_frame, pattern, upgrade_request};

const SHORT: Duration = Duration::from_millis(60);
/// A busy machine may be late, by this much at most.
const LATE: Duration = Duration::from_millis(600);

fn assert_about(elapsed: Duration, wanted: Duration) {
    assert!(elapsed >= wanted, "{elapsed:?} is before {wanted:?}");
    assert!(
        elapsed < wanted + LATE,
        "{elapsed:?} is long after {wanted:?}"
    );
}

#[test]
fn a_handshake_has_only_so_much_time() {
    let server = Server::start(Config::default().upgrade_timeout(SHORT), |_| {});
    let start = Instant::now();
    let mut silent = Client::raw(server.addr);
    let mut slow = Client::raw(server.addr);
    slow.write(b"GET / HTTP/1.1\r\nHost:");
    assert_eq!(silent.read_to_end(), b"");
    assert_about(start.elapsed(), SHORT);
    assert_eq!(slow.read_answer().status, 408);
    assert_about(start.elapsed(), SHORT);
    // Dripping does not move the deadline: it is for the whole handshake.
    let start = Instant::now();
    let mut dripping = Client::raw(server.addr);
    let request = upgrade_request("/", &"X-More: of the same\r\n".repeat(50));
    for byte in request.as_bytes() {
        if std::io::Write::write_all(&mut dripping.stream, &[*byte]).is_err()
            || start.elapsed() > SHORT * 2
        {
            break;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(dripping.read_to_end().starts_with(b"HTTP/1.1 408"));
    drop((silent, slow, dripping));
    let stats = server.wait_for("all are gone", |stats| stats.handshakes.current == 0);
    assert_eq!(stats.refused.timeout, 3);
    assert_eq!(stats.opened, 0);
}

#[test]
fn an_open_connection_outlives_the_upgrade_timeout() {
    let server = Server::start(Config::default().upgrade_timeout(SHORT), |_| {});
    let mut client = server.connect();
    server.with(|_, connections| connections.set_timer(SHORT * 2, 1).unwrap());
    server.expect("the timer", |event| {
        matches!(event, Event::Timer(1)).then_some(())
    });
    client.send_text("still here");
    assert_eq!(client.read_frame(), Frame::text("still here"));
}

#[test]
fn silence_ends_a_connection_after_the_idle_timeout() {
    let config = Config::default().idle_timeout(Some(SHORT * 3));
    let server = Server::start(config, |_| {});
    let mut client = server.connect();
    let last = Instant::now();
    let frame = client.read_frame();
    assert_about(last.elapsed() + Duration::from_millis(20), SHORT * 3);
    assert_eq!(frame, Frame::close(1001, ""));
    client.send_close(1001, "");
    client.expect_end();
    let close = server.expect_close();
    assert_eq!(close.cause, CloseCause::IdleTimeout);
    assert_eq!(close.code, Some(CloseCode::GOING_AWAY));
    assert_eq!(close.initiator, Initiator::Local);
    assert!(close.clean);
}

#[test]
fn every_byte_moves_the_idle_timeout() {
    let server = Server::start(Config::default().idle_timeout(Some(SHORT * 4)), |_| {});
    let mut client = server.connect();
    let start = Instant::now();
    // One message that takes three idle timeouts to arrive.
    let wire = masked_frame(0x81, b"byte by byte");
    let step = SHORT * 12 / wire.len() as u32;
    for byte in &wire {
        std::thread::sleep(step);
        client.write(&[*byte]);
    }
    let last = Instant::now();
    assert_eq!(client.read_frame(), Frame::text("byte by byte"));
    assert!(start.elapsed() > SHORT * 10);
    // What we send does not count.
    assert_eq!(client.read_frame().close_code(), Some(1001));
    assert_about(last.elapsed() + Duration::from_millis(20), SHORT * 4);
    drop(client);
    assert_eq!(server.expect_close().cause, CloseCause::IdleTimeout);
}

#[test]
fn a_heartbeat_asks_and_any_answer_counts() {
    let config = Config::default()
        .heartbeat_interval(Some(SHORT))
        .heartbeat_timeout(SHORT * 3);
    let server = Server::start(config, |_| {});
    let mut client = server.connect();
    let mut last = Instant::now();
    for round in 0..6 {
        assert_eq!(client.read_frame(), Frame::ping(b""), "{round}");
        assert_about(last.elapsed() + Duration::from_millis(20), SHORT);
        last = Instant::now();
        match round % 3 {
            0 => client.write(&masked_frame(0x8A, b"")),
            1 => {
                client.send_text("this will do");
                assert_eq!(client.read_frame(), Frame::text("this will do"));
            }
            _ => client.write(&masked_frame(0x82, &pattern(100, 1))[..50]),
        }
        if round % 3 == 2 {
            client.write(&masked_frame(0x82, &pattern(100, 1))[50..]);
            assert_eq!(client.read_frame(), Frame::binary(pattern(100, 1)));
        }
    }
    assert_eq!(client.read_frame(), Frame::ping(b""));
    let asked = Instant::now();
    // Now nothing: closed after the timeout, not after the interval.
    assert_eq!(client.read_frame().close_code(), Some(1001));
    assert_about(asked.elapsed() + Duration::from_millis(20), SHORT * 3);
    client.expect_end();
    let close = server.expect_close();
    assert_eq!(close.cause, CloseCause::HeartbeatTimeout);
    assert!(!close.clean);
    let stats = server.stats();
    assert_eq!(stats.sent.pings, 7);
    let trips = stats.round_trips;
    assert_eq!(trips.count, 6);
    assert!(trips.min <= trips.last && trips.last <= trips.max && trips.max < SHORT * 3);
    assert_eq!(stats.closed.heartbeat_timeout, 1);
}

#[test]
fn a_busy_connection_gets_no_heartbeat() {
    let config = Config::default().heartbeat_interval(Some(SHORT * 4));
    let server = Server::start(config, |_| {});
    let mut client = server.connect();
    let start = Instant::now();
    while start.elapsed() < SHORT * 10 {
        client.send_text("busy");
        assert_eq!(client.read_frame(), Frame::text("busy"));
        std::thread::sleep(SHORT / 4);
    }
    assert_eq!(server.stats().sent.pings, 0);
}

#[test]
fn a_client_that_does_not_answer_a_close_is_cut_off() {
    let server = Server::start(Config::default().close_timeout(SHORT), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.close(CloseCode::new(4000), "enough").unwrap();
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    let start = Instant::now();
    assert_eq!(client.read_frame(), Frame::close(4000, "enough"));
    // It keeps on talking, but not about the end.
    while std::io::Write::write_all(&mut client.stream, &masked_frame(0x81, b"and")).is_ok()
        && start.elapsed() < LATE + SHORT
    {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_about(start.elapsed() + Duration::from_millis(20), SHORT);
    let close = server.expect_close();
    assert_eq!(close.cause, CloseCause::Application);
    assert_eq!(close.code, Some(CloseCode::new(4000)));
    assert!(!close.clean);
}

#[test]
fn a_client_that_answers_and_stays_is_cut_off_too() {
    let server = Server::start(Config::default().close_timeout(SHORT), |_| {});
    let mut client = server.connect();
    client.send_close(1000, "");
    assert_eq!(client.read_frame(), Frame::close(1000, ""));
    // Both close frames are there, only the client's end of the stream is not.
    let close = server.expect_close();
    assert!(close.clean);
    assert_eq!(close.cause, CloseCause::Peer);
    assert_eq!(client.read_to_end(), b"");
}

/// A client that reads nothing cannot hold the end up, nor the payloads.
#[test]
fn a_close_behind_a_backlog_is_forced_as_well() {
    let config = Config::default()
        .close_timeout(SHORT)
        .send_queue(3)
        .send_buffer_size(Some(4096));
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, _| {
            for at in 0..3 {
                conn.send(MessageKind::Binary, pattern(1_000_000, at))
                    .unwrap();
            }
            conn.close(CloseCode::NORMAL, "").unwrap();
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    for _ in 0..3 {
        server.expect("a discarded payload", |event| match event {
            Event::WriteComplete(_, _, Outcome::Discarded { .. }) => Some(()),
            Event::WriteComplete(..) | Event::Close(..) => panic!("{event:?}"),
            _ => None,
        });
    }
    assert!(!server.expect_close().clean);
}

#[test]
fn a_refused_client_that_stays_is_cut_off() {
    let server = Server::start(Config::default().close_timeout(SHORT), |_| {});
    let mut client = Client::raw(server.addr);
    client.write(b"BREW / HTTP/1.1\r\n\r\n");
    assert!(client.read_head().status >= 400);
    let start = Instant::now();
    server.wait_for("the handshake is over", |stats| {
        stats.handshakes.current == 0
    });
    assert!(start.elapsed() < SHORT + LATE);
}

/// The end of a client that came together with a bad request is not waited for.
#[test]
fn a_refused_client_that_has_ended_is_gone_at_once() {
    let config = Config::default().close_timeout(Duration::from_secs(100));
    let server = Server::start(config, |_| {});
    let mut client = Client::raw(server.addr);
    let (release, wait) = std::sync::mpsc::channel::<()>();
    server.wait_for("accepted", |stats| stats.handshakes.current == 1);
    let posted = server.remote().post(Box::new(move |_, _| {
        let _ = wait.recv();
    }));
    assert!(posted.is_ok());
    client.write(b"BREW / HTTP/1.1\r\n\r\nand a body");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    drop(release);
    assert!(client.read_answer().status >= 400);
    server.wait_for("the handshake is over", |stats| {
        stats.handshakes.current == 0
    });
}

/// The peer is not silent when it is we who do not read.
#[test]
fn a_pause_does_not_make_a_busy_peer_an_idle_one() {
    let config = Config::default()
        .read_buffer_size(256)
        .idle_timeout(Some(SHORT))
        .heartbeat_interval(Some(SHORT / 2))
        .heartbeat_timeout(SHORT / 2);
    let server = Server::start(config, |app| {
        app.on_open = Some(Box::new(|conn| conn.pause_reads()));
        app.on_timer = Some(Box::new(|connections, _, _| {
            connections.for_each(|conn| conn.resume_reads());
        }));
    });
    let mut client = server.connect();
    // More than the fixed buffer: the rest stays in the kernel.
    client.send_binary(&pattern(1000, 1));
    server.with(|_, connections| connections.set_timer(SHORT * 5, 1).unwrap());
    let mut frame = client.read_frame();
    while frame.opcode == 9 {
        frame = client.read_frame();
    }
    assert_eq!(frame, Frame::binary(pattern(1000, 1)));
}
