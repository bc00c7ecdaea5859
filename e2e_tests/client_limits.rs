//! The rules and bounds of an open connection, in the client's role.

use std::{
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

use wsloop::{
    Close, CloseCause, CloseCode, Config, Connect, ConnectError, Initiator, MessageKind,
    ProtocolError, SendErrorKind,
};

use super::support::{DEADLINE, Event, Frame, Peer, RawServer, Server, frame, pattern};

const SHORT: Duration = Duration::from_millis(60);
/// A busy machine may be late, by this much at most.
const LATE: Duration = Duration::from_millis(900);

fn opened(config: Config) -> (Server, wsloop::ConnId, Peer) {
    let raw = RawServer::bind();
    let dialler = Server::dialler(config);
    dialler.dial(&raw.url());
    let peer = raw.open();
    let id = dialler.expect_dialled();
    (dialler, id, peer)
}

fn assert_about(elapsed: Duration, wanted: Duration) {
    assert!(
        elapsed >= wanted && elapsed < wanted + LATE,
        "{elapsed:?}, not about {wanted:?}"
    );
}

fn ended_with(close: &Close, cause: CloseCause, initiator: Initiator, clean: bool) {
    assert_eq!(
        (close.cause, close.initiator, close.clean),
        (cause, initiator, clean),
        "{close:?}"
    );
}

// Rules.

#[test]
fn each_fault_of_a_server_fails_the_connection() {
    use ProtocolError as P;
    let head = |bytes: &[u8]| bytes.to_vec();
    let cases: Vec<(ProtocolError, u16, Vec<u8>)> = vec![
        (P::ReservedBits, 1002, frame(0xC1, b"x")),
        (P::ReservedBits, 1002, frame(0xA2, b"x")),
        (P::ReservedBits, 1002, frame(0x99, b"x")),
        (P::ReservedOpcode(3), 1002, frame(0x83, b"x")),
        (P::ReservedOpcode(11), 1002, frame(0x8B, b"")),
        (P::MaskedFrame, 1002, head(&[0x81, 0x80, 0, 0, 0, 0])),
        (P::NonMinimalLength, 1002, head(&[0x82, 126, 0, 125])),
        (
            P::NonMinimalLength,
            1002,
            head(&[0x82, 127, 0, 0, 0, 0, 0, 0, 255, 255]),
        ),
        (
            P::LengthOverflow,
            1002,
            head(&[0x82, 127, 0x80, 0, 0, 0, 0, 1, 0, 0]),
        ),
        (P::ControlFrameTooBig, 1002, head(&[0x89, 126, 0, 126])),
        (P::FragmentedControlFrame, 1002, frame(0x09, b"x")),
        (P::UnexpectedContinuation, 1002, frame(0x80, b"x")),
        (
            P::InterruptedMessage,
            1002,
            [frame(0x01, b"x"), frame(0x81, b"y")].concat(),
        ),
        (P::CloseLength, 1002, frame(0x88, &[3])),
        (P::CloseCode(1005), 1002, frame(0x88, &[3, 0xED])),
        (P::CloseCode(999), 1002, frame(0x88, &[3, 0xE7])),
        (P::CloseReason, 1007, frame(0x88, &[3, 0xE8, 0xFF])),
        (P::InvalidUtf8, 1007, frame(0x81, &[0xC3, 0x28])),
        (
            P::InvalidUtf8,
            1007,
            [frame(0x01, &[0xE2, 0x82]), frame(0x80, b"x")].concat(),
        ),
        (P::MessageTooBig, 1009, head(&[0x82, 126, 0x03, 0xE9])),
        (
            P::MessageTooBig,
            1009,
            head(&[0x82, 127, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
        ),
        (
            P::MessageTooBig,
            1009,
            [frame(0x02, &[0; 600]), head(&[0x80, 126, 0x01, 0x91])].concat(),
        ),
    ];
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default().max_message_size(1000));
    for behind_the_101 in [false, true] {
        for (error, code, wire) in &cases {
            dialler.dial(&raw.url());
            let mut peer = if behind_the_101 {
                raw.open_with(wire)
            } else {
                raw.open()
            };
            dialler.expect_dialled();
            if !behind_the_101 {
                peer.write(wire);
            }
            // What comes behind does not matter any more.
            peer.send_text("ignored");
            assert_eq!(peer.expect_close(*code), Frame::close(*code, ""), "{error}");
            let close = dialler.expect("on_close", |event| match event {
                Event::Message(..) => panic!("{error}: {event:?}"),
                Event::Close(_, close) => Some(close.clone()),
                _ => None,
            });
            ended_with(
                &close,
                CloseCause::Protocol(*error),
                Initiator::Local,
                false,
            );
            assert_eq!(close.code.map(CloseCode::get), Some(*code));
        }
    }
}

#[test]
fn messages_up_to_the_limit_are_taken() {
    let (dialler, _, mut peer) = opened(Config::default().max_message_size(1000));
    let payload = pattern(1000, 1);
    peer.write(&frame(0x82, &payload));
    assert_eq!(dialler.expect_message(), payload);
    peer.write(&frame(0x02, &payload[..999]));
    peer.write(&frame(0x00, b""));
    peer.write(&frame(0x80, &payload[999..]));
    assert_eq!(dialler.expect_message(), payload);
}

/// RFC 6455 asks for no limit on their number.
#[test]
fn fragments_by_the_thousand_are_one_message() {
    let (dialler, _, mut peer) = opened(Config::default());
    let mut wire = frame(0x02, b"a");
    for _ in 0..65_534 {
        wire.extend(frame(0x00, b""));
    }
    wire.extend(frame(0x80, b"z"));
    peer.write(&wire);
    assert_eq!(dialler.expect_message(), b"az");
}

// Closing.

#[test]
fn we_close() {
    let (dialler, id, mut peer) = opened(Config::default());
    dialler.on(id, |conn| {
        conn.send_copy(MessageKind::Text, b"last").unwrap();
        conn.close(CloseCode::new(4000), "so long").unwrap();
        assert_eq!(
            conn.send_copy(MessageKind::Text, b"late"),
            Err(SendErrorKind::NotOpen)
        );
    });
    assert_eq!(peer.read_frame(), Frame::text("last"));
    assert_eq!(peer.read_frame(), Frame::close(4000, "so long"));
    peer.send_text("on its way");
    peer.send_close(4000, "");
    peer.expect_end();
    let close = dialler.expect("on_close", |event| match event {
        Event::Message(..) => panic!("{event:?}"),
        Event::Close(_, close) => Some(close.clone()),
        _ => None,
    });
    ended_with(&close, CloseCause::Application, Initiator::Local, true);
    assert_eq!(close.code, Some(CloseCode::new(4000)));
    assert_eq!(close.reason, "so long");
}

#[test]
fn the_server_closes() {
    let (dialler, _, mut peer) = opened(Config::default());
    peer.send_close(1001, "restart");
    assert_eq!(peer.read_frame(), Frame::close(1001, "restart"));
    peer.expect_end();
    let close = dialler.expect_close();
    ended_with(&close, CloseCause::Peer, Initiator::Remote, true);
    assert_eq!(close.code, Some(CloseCode::GOING_AWAY));
    assert_eq!(close.reason, "restart");
}

/// RFC 6455 §7.1.1: a server ends the TCP connection first, whoever closed and why.
#[test]
fn after_the_close_frames_it_is_the_servers_turn() {
    for way in 0..3 {
        let (dialler, id, mut peer) = opened(Config::default());
        match way {
            0 => dialler.on(id, |conn| conn.close(CloseCode::NORMAL, "").unwrap()),
            1 => peer.send_close(1000, ""),
            _ => peer.write(&frame(0xC1, b"x")),
        }
        assert_eq!(peer.read_frame().opcode, 8);
        if way != 1 {
            peer.send_close(1000, "");
        }
        // The loop has turned: what it does behind its close frame is done.
        dialler.wait_for("the close frame", |stats| stats.received.bytes > 0);
        dialler.with(|_, _| ());
        peer.expect_nothing_yet();
        assert_eq!(dialler.stats().connections.current, 1);
        peer.expect_end();
        assert_eq!(dialler.expect_close().clean, way < 2, "{way}");
    }
}

#[test]
fn a_server_that_does_not_end_after_the_close_frames_is_left() {
    for by_us in [true, false] {
        let (dialler, id, mut peer) = opened(Config::default().close_timeout(SHORT));
        let start = Instant::now();
        if by_us {
            dialler.on(id, |conn| conn.close(CloseCode::NORMAL, "").unwrap());
        }
        peer.send_close(1000, "");
        assert_eq!(peer.read_frame(), Frame::close(1000, ""));
        let close = dialler.expect_close();
        assert_about(start.elapsed(), SHORT);
        assert!(close.clean, "{close:?}");
        assert_eq!(peer.read_to_end(), b"");
    }
}

#[test]
fn the_socket_is_closed_before_on_close() {
    let raw = RawServer::bind();
    let (tell, told) = channel();
    let dialler = Server::start(Config::default(), |app| {
        app.on_end = Some(Box::new(move |_, _, _| {
            told.recv_timeout(DEADLINE).expect("the socket is closed");
        }));
    });
    dialler.dial(&raw.url());
    let mut peer = raw.open();
    peer.send_close(1000, "");
    assert_eq!(peer.read_frame(), Frame::close(1000, ""));
    peer.expect_end();
    tell.send(()).unwrap();
    assert!(dialler.expect_close().clean);
}

#[test]
fn both_close_at_once() {
    let (dialler, id, mut peer) = opened(Config::default());
    let hold = dialler.hold_then(move |_, connections| {
        let mut conn = connections.get(id).unwrap();
        conn.close(CloseCode::NORMAL, "ours").unwrap();
    });
    peer.send_close(1001, "theirs");
    drop(hold);
    let frame = peer.read_frame();
    peer.expect_end();
    // Whichever was first; never two close frames.
    let close = dialler.expect_close();
    assert!(close.clean);
    assert_eq!(frame.close_code(), close.code.map(CloseCode::get));
}

#[test]
fn two_ends_of_the_library_close_cleanly_from_either_side() {
    let server = Server::echo();
    let dialler = Server::dialler(Config::default());
    for by_client in [true, false] {
        let id = dialler.open(&server.url("/"));
        let server_id = server.expect_open();
        let (closing, id) = if by_client {
            (&dialler, id)
        } else {
            (&server, server_id)
        };
        closing.on(id, |conn| conn.close(CloseCode::NORMAL, "bye").unwrap());
        let (ours, theirs) = (dialler.expect_close(), server.expect_close());
        for close in [&ours, &theirs] {
            assert!(close.clean, "{close:?}");
            assert_eq!(
                (close.code, &*close.reason),
                (Some(CloseCode::NORMAL), "bye")
            );
        }
        assert_eq!(ours.initiator == Initiator::Local, by_client);
        assert_eq!(theirs.initiator == Initiator::Remote, by_client);
    }
}

#[test]
fn a_server_that_vanishes() {
    let (dialler, _, peer) = opened(Config::default());
    drop(peer);
    ended_with(
        &dialler.expect_close(),
        CloseCause::EndOfStream,
        Initiator::Remote,
        false,
    );
    let (dialler, id, peer) = opened(Config::default());
    // What it has not read makes its end a reset.
    dialler.on(id, |conn| conn.send_copy(MessageKind::Text, b"x").unwrap());
    assert!(peer.stream.peek(&mut [0]).unwrap() > 0);
    drop(peer);
    let close = dialler.expect_close();
    assert!(
        matches!(close.cause, CloseCause::Io(_) | CloseCause::EndOfStream),
        "{close:?}"
    );
}

#[test]
fn a_server_that_does_not_answer_our_close_is_left() {
    let (dialler, id, mut peer) = opened(Config::default().close_timeout(SHORT));
    let start = Instant::now();
    dialler.on(id, |conn| conn.close(CloseCode::NORMAL, "").unwrap());
    assert_eq!(peer.read_frame(), Frame::close(1000, ""));
    let close = dialler.expect_close();
    assert_about(start.elapsed(), SHORT);
    ended_with(&close, CloseCause::Application, Initiator::Local, false);
    assert_eq!(peer.read_to_end(), b"");
}

#[test]
fn a_close_in_on_open_is_the_first_thing_a_server_hears() {
    let raw = RawServer::bind();
    let dialler = Server::start(Config::default(), |app| {
        app.on_open = Some(Box::new(|conn| {
            conn.close(CloseCode::NORMAL, "no").unwrap()
        }));
    });
    dialler.dial(&raw.url());
    let mut peer = raw.open_with(&frame(0x81, b"hello"));
    assert_eq!(peer.read_frame(), Frame::close(1000, "no"));
    peer.send_close(1000, "");
    peer.expect_end();
    let close = dialler.expect("on_close", |event| match event {
        Event::Message(..) => panic!("{event:?}"),
        Event::Close(_, close) => Some(close.clone()),
        _ => None,
    });
    assert!(close.clean);
}

// Time.

#[test]
fn a_silent_server_is_left_after_the_idle_timeout() {
    let start = Instant::now();
    let (dialler, _, mut peer) = opened(Config::default().idle_timeout(Some(SHORT)));
    assert_eq!(peer.read_frame(), Frame::close(1001, ""));
    assert_about(start.elapsed(), SHORT);
    peer.send_close(1001, "");
    peer.expect_end();
    ended_with(
        &dialler.expect_close(),
        CloseCause::IdleTimeout,
        Initiator::Local,
        true,
    );
}

#[test]
fn a_heartbeat_of_a_client_is_masked_and_wants_an_answer() {
    let config = Config::default()
        .heartbeat_interval(Some(SHORT))
        .heartbeat_timeout(SHORT);
    let (dialler, _, mut peer) = opened(config);
    for _ in 0..3 {
        let start = Instant::now();
        assert_eq!(peer.read_frame(), Frame::ping(b""));
        assert!(start.elapsed() < SHORT + LATE);
        peer.send(&Frame::pong(b""));
    }
    assert_eq!(peer.read_frame(), Frame::ping(b""));
    let start = Instant::now();
    assert_eq!(peer.read_frame(), Frame::close(1001, ""));
    assert!(start.elapsed() < SHORT + LATE);
    peer.send_close(1001, "");
    peer.expect_end();
    assert_eq!(dialler.expect_close().cause, CloseCause::HeartbeatTimeout);
    let times = dialler.stats().round_trips;
    assert_eq!(times.count, 3);
    assert!(times.min <= times.last && times.last <= times.max && times.max < SHORT + LATE);
}

// Flow.

#[test]
fn a_pause_holds_messages_back_and_nothing_is_lost() {
    let (dialler, id, mut peer) = opened(Config::default());
    dialler.on(id, |conn| conn.pause_reads());
    let wire: Vec<u8> = (0..1000u32)
        .flat_map(|at| frame(0x82, &at.to_be_bytes()))
        .collect();
    peer.write(&wire);
    dialler.wait_for("something is read ahead", |stats| stats.received.bytes > 0);
    assert_eq!(dialler.stats().received.messages, 0);
    dialler.on(id, |conn| conn.resume_reads());
    for at in 0..1000u32 {
        assert_eq!(dialler.expect_message(), at.to_be_bytes());
    }
}

/// A client that echoes to a server that does not read: the backlog is bounded, reading pauses, and in the end it is all
/// there.
#[test]
fn a_server_that_does_not_read_is_waited_for() {
    const COUNT: usize = 3000;
    let raw = RawServer::bind();
    let config = Config::default()
        .send_buffer_size(Some(16_384))
        .recv_buffer_size(Some(16_384))
        .high_water(32_768)
        .low_water(8192);
    let dialler = Server::start(config, |_| {});
    dialler.dial(&raw.url());
    let mut peer = raw.open();
    let id = dialler.expect_dialled();
    let mut writer = peer.stream.try_clone().unwrap();
    let payload = pattern(1000, 1);
    let wire = frame(0x82, &payload).repeat(COUNT);
    let sender = std::thread::spawn(move || std::io::Write::write_all(&mut writer, &wire).unwrap());
    let end = Instant::now() + DEADLINE;
    while dialler.on(id, |conn| conn.backlog()) < 32_768 {
        assert!(Instant::now() < end, "nothing waits");
    }
    let backlog = dialler.on(id, |conn| conn.backlog());
    assert!(backlog < 32_768 + 2000, "{backlog}");
    for _ in 0..COUNT {
        assert!(peer.read_frame() == Frame::binary(&payload[..]));
    }
    sender.join().unwrap();
    dialler.expect("on_drain", |event| {
        matches!(event, Event::Drain(_)).then_some(())
    });
}

#[test]
fn a_full_backlog_drains_and_takes_more() {
    let config = Config::default()
        .send_buffer_size(Some(8192))
        .max_backlog(100_000)
        .high_water(50_000)
        .low_water(10_000);
    let (dialler, id, mut peer) = opened(config);
    let mut sent = 0;
    loop {
        let full = dialler.on(id, move |conn| {
            conn.send_copy(MessageKind::Binary, &pattern(9000, sent))
        });
        match full {
            Ok(()) => sent += 1,
            Err(kind) => {
                assert_eq!(kind, SendErrorKind::BacklogFull);
                break;
            }
        }
    }
    assert!(dialler.on(id, |conn| conn.backlog()) <= 100_000);
    for at in 0..sent {
        assert!(
            peer.read_frame() == Frame::binary(pattern(9000, at)),
            "{at}"
        );
    }
    dialler.expect("on_drain", |event| {
        matches!(event, Event::Drain(_)).then_some(())
    });
    dialler.on(id, |conn| {
        conn.send_copy(MessageKind::Text, b"more").unwrap()
    });
    assert_eq!(peer.read_frame(), Frame::text("more"));
}

/// Endless pings at a client whose pongs nobody reads: only the newest is kept.
#[test]
fn pings_without_end_do_not_pile_up() {
    let (dialler, _, mut peer) = opened(Config::default().send_buffer_size(Some(4096)));
    // Not read, they fill every buffer on the way.
    let wire = frame(0x89, &[b'p'; 125]).repeat(100);
    for _ in 0..200 {
        peer.write(&wire);
    }
    peer.write(&frame(0x89, b"newest"));
    let stats = dialler.wait_for("all pings", |stats| stats.received.pings == 20_001);
    assert!(stats.buffer_memory.current < 2 << 20, "{stats:#?}");
    loop {
        let frame = peer.read_frame();
        assert_eq!(frame.opcode, 10);
        if frame.payload == b"newest" {
            break;
        }
    }
}

// What dials leave behind.

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// How a dial is made to fail.
#[derive(Clone, Copy, Debug)]
enum Way {
    Refused,
    Unresolved,
    Cancelled,
    Closed,
    Answered,
    Connected,
}

/// With room for one alone, any that is counted wrongly is the last.
#[test]
fn every_failure_gives_its_place_back() {
    let (report, outcomes): (_, Receiver<ConnectError>) = channel();
    let config = Config::default().max_outbound(1).max_dials(1);
    let dialler = Server::start(config, move |app| {
        app.on_connect_failed = Some(Box::new(move |_, _, error| {
            report.send(error).unwrap();
        }));
    });
    let raw = RawServer::bind();
    let unused = RawServer::bind().url();
    let ways = [
        Way::Refused,
        Way::Unresolved,
        Way::Cancelled,
        Way::Closed,
        Way::Answered,
        Way::Connected,
    ];
    for _ in 0..20 {
        for way in ways {
            let url = match way {
                Way::Refused => unused.clone(),
                Way::Unresolved => "ws://nobody-here.invalid/".to_owned(),
                _ => raw.url(),
            };
            let id = dialler.dial(&url);
            match way {
                Way::Refused | Way::Unresolved => {}
                Way::Cancelled => {
                    let peer = raw.accept();
                    dialler.with(move |_, connections| connections.cancel_connect(id));
                    drop(peer);
                }
                Way::Closed => drop(raw.accept()),
                Way::Answered => raw
                    .accept()
                    .write(b"HTTP/1.1 403 No\r\nContent-Length: 0\r\n\r\n"),
                Way::Connected => {
                    drop(raw.open());
                    dialler.expect_close();
                    continue;
                }
            }
            let error = outcomes.recv_timeout(DEADLINE).expect("it fails");
            let as_wanted = match way {
                Way::Refused => error == ConnectError::Io(std::io::ErrorKind::ConnectionRefused),
                Way::Unresolved => matches!(error, ConnectError::Resolve(_)),
                Way::Cancelled => error == ConnectError::Cancelled,
                Way::Closed => error == ConnectError::Io(std::io::ErrorKind::UnexpectedEof),
                _ => matches!(error, ConnectError::Refused(_)),
            };
            assert!(as_wanted, "{way:?}: {error:?}");
        }
    }
    let stats = dialler.stats();
    assert_eq!((stats.dials.current, stats.dials.peak), (0, 1));
    assert_eq!(stats.opened, 20);
}

/// Sockets of dials that fail are closed. Other tests open and close descriptors meanwhile, but none of them thousands.
#[test]
fn failed_dials_keep_no_descriptor() {
    const ROUNDS: usize = 2000;
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default());
    let before = descriptors();
    for _ in 0..ROUNDS / 100 {
        let url = raw.url();
        let ids = dialler.with(move |_, connections| {
            let connect = Connect::to(&url).unwrap();
            (0..100)
                .map(|_| {
                    connections
                        .connect(connect.clone(), super::support::Session::default())
                        .unwrap()
                })
                .collect::<Vec<_>>()
        });
        let peers: Vec<Peer> = (0..100).map(|_| raw.accept()).collect();
        dialler.with(move |_, connections| {
            for id in ids {
                connections.cancel_connect(id);
            }
        });
        for _ in 0..100 {
            assert_eq!(dialler.expect_failed(), ConnectError::Cancelled);
        }
        for mut peer in peers {
            assert_eq!(peer.read_to_end(), b"");
        }
    }
    let after = descriptors();
    assert!(after < before + ROUNDS / 2, "{before}, then {after}");
    assert_eq!(dialler.stats().dials.peak, 100);
}
