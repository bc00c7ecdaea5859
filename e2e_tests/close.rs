use std::{io::Write, net::Shutdown, sync::mpsc, time::Duration};

use socket2::SockRef;
use wsloop::{
    Close, CloseCause, CloseCode, Config, ConnId, Frames, Initiator, InvalidCloseCode, MessageKind,
    Outcome, SendErrorKind,
};

use super::support::{Client, DEADLINE, Event, Frame, Server, masked_frame, pattern};

const VALID_CODES: [u16; 14] = [
    1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 4999,
];

fn assert_close(
    close: &Close,
    initiator: Initiator,
    code: Option<u16>,
    reason: &str,
    cause: CloseCause,
    clean: bool,
) {
    assert_eq!(close.initiator, initiator, "{close:?}");
    assert_eq!(close.code.map(CloseCode::get), code, "{close:?}");
    assert_eq!(close.reason, reason, "{close:?}");
    assert_eq!(close.cause, cause, "{close:?}");
    assert_eq!(close.clean, clean, "{close:?}");
}

fn patient() -> Config {
    // No test may get through by its timeout.
    Config::default().close_timeout(Duration::from_secs(60))
}

fn hasty() -> Config {
    Config::default().close_timeout(Duration::from_millis(50))
}

/// Starts the server's side of a close handshake from outside of any callback.
fn close_from_server(server: &Server, id: ConnId, code: u16, reason: &'static str) {
    server.with(move |_, connections| {
        let mut conn = connections.get(id).unwrap();
        conn.close(CloseCode::new(code), reason).unwrap();
        assert!(!conn.is_open());
    });
}

#[test]
fn every_valid_code_of_the_clients_is_echoed_and_reported() {
    let server = Server::start(patient(), |_| {});
    for code in VALID_CODES {
        for reason in ["", "so long", "für immer", &"r".repeat(123)] {
            let mut client = server.connect();
            client.send_close(code, reason);
            assert_eq!(client.expect_close(code), Frame::close(code, reason));
            assert_close(
                &server.expect_close(),
                Initiator::Remote,
                Some(code),
                reason,
                CloseCause::Peer,
                true,
            );
        }
    }
    assert_eq!(server.stats().closed.peer, 4 * VALID_CODES.len() as u64);
}

#[test]
fn an_empty_close_frame_is_answered_with_an_empty_one() {
    let server = Server::start(patient(), |_| {});
    let mut client = server.connect();
    client.write(&masked_frame(0x88, b""));
    assert_eq!(client.read_frame().payload, b"");
    client.expect_end();
    let close = server.expect_close();
    assert_close(&close, Initiator::Remote, None, "", CloseCause::Peer, true);
}

#[test]
fn a_close_frame_may_come_byte_by_byte() {
    let server = Server::start(patient(), |_| {});
    let mut client = server.connect();
    for byte in masked_frame(0x88, b"\x03\xE8slowly") {
        client.write(&[byte]);
    }
    client.expect_close(1000);
    assert_eq!(server.expect_close().reason, "slowly");
}

/// The server ends the TCP connection first (RFC 6455 §7.1.1): the client need not do anything after its close frame.
#[test]
fn the_server_ends_its_side_first() {
    let server = Server::start(patient(), |_| {});
    let mut client = server.connect();
    client.send_close(1000, "");
    assert_eq!(client.read_frame(), Frame::close(1000, ""));
    assert_eq!(client.read_to_end(), b"", "ended without our doing");
    assert_eq!(server.stats().connections.current, 1, "until we end ours");
    drop(client);
    assert!(server.expect_close().clean);
}

#[test]
fn the_application_closes_and_the_client_answers() {
    let server = Server::start(patient(), |_| {});
    for code in VALID_CODES {
        let mut client = server.connect();
        let id = server.expect_open();
        close_from_server(&server, id, code, "enough");
        assert_eq!(client.read_frame(), Frame::close(code, "enough"));
        client.send_close(code, "");
        client.expect_end();
        assert_close(
            &server.expect_close(),
            Initiator::Local,
            Some(code),
            "enough",
            CloseCause::Application,
            true,
        );
        assert!(server.with(move |_, connections| connections.get(id).is_none()));
    }
    assert_eq!(server.stats().closed.application, VALID_CODES.len() as u64);
}

/// The client's answer may have another code, or none, or be its end alone.
#[test]
fn the_initiators_code_is_the_one_that_is_reported() {
    let server = Server::start(patient(), |_| {});
    for answer in [
        masked_frame(0x88, b"\x03\xE9other"),
        masked_frame(0x88, b""),
    ] {
        let mut client = server.connect();
        close_from_server(&server, server.expect_open(), 4000, "mine");
        assert_eq!(client.read_frame(), Frame::close(4000, "mine"));
        client.write(&answer);
        client.expect_end();
        assert_close(
            &server.expect_close(),
            Initiator::Local,
            Some(4000),
            "mine",
            CloseCause::Application,
            true,
        );
    }
    let client = server.connect();
    close_from_server(&server, server.expect_open(), 4000, "mine");
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_close(
        &server.expect_close(),
        Initiator::Local,
        Some(4000),
        "mine",
        CloseCause::Application,
        false,
    );
}

#[test]
fn a_broken_answer_to_our_close_changes_nothing_but_that_it_was_not_clean() {
    let server = Server::start(patient(), |_| {});
    let mut client = server.connect();
    close_from_server(&server, server.expect_open(), 1001, "");
    assert_eq!(client.read_frame(), Frame::close(1001, ""));
    client.write(&masked_frame(0x88, b"\x03"));
    client.expect_end();
    assert_close(
        &server.expect_close(),
        Initiator::Local,
        Some(1001),
        "",
        CloseCause::Application,
        false,
    );
}

#[test]
fn close_sends_what_is_staged_first() {
    let server = Server::start(patient().send_queue(4), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.send_copy(MessageKind::Text, b"copied").unwrap();
            conn.send(MessageKind::Binary, pattern(3 << 20, 1)).unwrap();
            let frames = Frames::message(MessageKind::Binary, &pattern(100_000, 2));
            conn.send_frames(&frames).unwrap();
            conn.send(MessageKind::Text, "last").unwrap();
            conn.send_ping(b"dropped").unwrap();
            conn.close(CloseCode::NORMAL, "done").unwrap();
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    assert_eq!(client.read_frame(), Frame::text("copied"));
    assert_eq!(client.read_frame(), Frame::binary(pattern(3 << 20, 1)));
    assert_eq!(client.read_frame(), Frame::binary(pattern(100_000, 2)));
    assert_eq!(client.read_frame(), Frame::text("last"));
    assert_eq!(client.read_frame(), Frame::close(1000, "done"));
    client.send_close(1000, "");
    client.expect_end();
    let outcomes = outcomes_until_close(&server);
    assert_eq!(
        outcomes,
        [(3 << 20, Outcome::Flushed), (4, Outcome::Flushed)]
    );
}

/// Lengths and outcomes of the payloads that come back, up to `on_close`.
fn outcomes_until_close(server: &Server) -> Vec<(usize, Outcome)> {
    let mut outcomes = Vec::new();
    loop {
        let event = server.expect("on_close", |event| Some(event.clone()));
        match event {
            Event::WriteComplete(_, payload, outcome) => outcomes.push((payload.len(), outcome)),
            Event::Close(..) => return outcomes,
            _ => {}
        }
    }
}

#[test]
fn close_now_drops_what_is_staged() {
    let server = Server::start(patient().send_queue(4), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.send_copy(MessageKind::Text, b"copied").unwrap();
            conn.send(MessageKind::Text, "one").unwrap();
            conn.send(MessageKind::Text, "second").unwrap();
            conn.send_ping(b"ping").unwrap();
            conn.auto_pong(b"pong");
            conn.close_now(CloseCode::POLICY_VIOLATION, "out").unwrap();
            assert_eq!(conn.backlog(), 0);
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    assert_eq!(client.read_frame(), Frame::close(1008, "out"));
    client.send_close(1008, "");
    client.expect_end();
    let dropped = Outcome::Discarded { written: 0 };
    assert_eq!(outcomes_until_close(&server), [(3, dropped), (6, dropped)]);
}

/// A server with a connection that has two mebibytes in flight and two messages behind them.
fn clogged(config: Config) -> (Server, Client, ConnId) {
    let config = config.send_buffer_size(Some(16_384)).send_queue(4);
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.send(MessageKind::Binary, pattern(2 << 20, 1)).unwrap();
            conn.send(MessageKind::Text, "behind").unwrap();
            conn.send_copy(MessageKind::Text, b"copied").unwrap();
        }));
    });
    let mut client = server.connect();
    SockRef::from(&client.stream)
        .set_recv_buffer_size(16_384)
        .unwrap();
    let id = server.expect_open();
    client.send_text("go");
    server.expect_message();
    (server, client, id)
}

#[test]
fn close_now_finishes_the_frame_in_flight() {
    let (server, mut client, id) = clogged(patient());
    server.with(move |_, connections| {
        connections
            .get(id)
            .unwrap()
            .close_now(CloseCode::NORMAL, "")
            .unwrap();
    });
    assert_eq!(client.read_frame(), Frame::binary(pattern(2 << 20, 1)));
    assert_eq!(client.read_frame(), Frame::close(1000, ""));
    client.send_close(1000, "");
    client.expect_end();
    let mut outcomes = outcomes_until_close(&server);
    outcomes.sort_by_key(|(len, _)| *len);
    let dropped = Outcome::Discarded { written: 0 };
    assert_eq!(outcomes, [(6, dropped), (2 << 20, Outcome::Flushed)]);
}

/// Reading had paused because of the backlog; the peer's close frame must get through all the same once it is written.
#[test]
fn close_behind_a_backlog_ends_cleanly_when_the_client_reads() {
    let (server, mut client, id) = clogged(patient());
    close_from_server(&server, id, 1000, "at last");
    client.send_close(1000, "already under way");
    assert_eq!(client.read_frame(), Frame::binary(pattern(2 << 20, 1)));
    assert_eq!(client.read_frame(), Frame::text("behind"));
    assert_eq!(client.read_frame(), Frame::text("copied"));
    assert_eq!(client.read_frame(), Frame::close(1000, "at last"));
    client.expect_end();
    assert!(server.expect_close().clean);
}

#[test]
fn a_client_that_never_reads_is_ended_by_the_close_timeout() {
    let (server, client, id) = clogged(hasty());
    close_from_server(&server, id, 1000, "");
    let outcomes = outcomes_until_close(&server);
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
    let (len, Outcome::Discarded { written }) = outcomes[0] else {
        panic!("{outcomes:?}")
    };
    assert!(
        len == 2 << 20 && written > 0 && written < len,
        "{outcomes:?}"
    );
    assert_eq!(outcomes[1], (6, Outcome::Discarded { written: 0 }));
    assert_eq!(server.stats().closed.application, 1);
    drop(client);
}

#[test]
fn a_client_that_never_answers_is_ended_by_the_close_timeout() {
    let server = Server::start(hasty(), |_| {});
    let mut client = server.connect();
    close_from_server(&server, server.expect_open(), 1001, "anybody?");
    assert_eq!(client.read_frame(), Frame::close(1001, "anybody?"));
    assert_close(
        &server.expect_close(),
        Initiator::Local,
        Some(1001),
        "anybody?",
        CloseCause::Application,
        false,
    );
    assert_eq!(client.read_to_end(), b"");
}

/// Advisory class: connections that stay after the close handshake should have ended (Tomcat CVE-2024-23672).
#[test]
fn advisory_connections_do_not_stay_after_the_close_handshake() {
    let server = Server::start(hasty(), |_| {});
    // The client closes and keeps its socket open; it even keeps sending.
    let mut silent = server.connect();
    silent.send_close(1000, "");
    assert!(
        server.expect_close().clean,
        "both frames went over the wire"
    );
    let mut talking = server.connect();
    talking.send_close(1000, "");
    let mut writer = talking.stream.try_clone().unwrap();
    let flood = std::thread::spawn(move || {
        let frame = masked_frame(0x81, b"are you still there");
        while writer.write_all(&frame).is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    assert!(server.expect_close().clean);
    flood.join().unwrap();
    // The same after an error, and after a close of the application's.
    let mut failed = server.connect();
    failed.write(&masked_frame(0x83, b""));
    server.expect_close();
    let _closed = server.connect();
    close_from_server(&server, server.expect_open(), 1000, "");
    server.expect_close();
    server.wait_for("nobody", |stats| stats.connections.current == 0);
    assert_eq!(server.stats().received.messages, 0);
}

#[test]
fn both_close_at_the_same_time() {
    let server = Server::start(patient(), |_| {});
    let mut client = server.connect();
    let id = server.expect_open();
    let hold = server.hold_then(move |_, connections| {
        let mut conn = connections.get(id).unwrap();
        conn.close(CloseCode::new(4000), "mine").unwrap();
    });
    client.send_close(4001, "yours");
    drop(hold);
    assert_eq!(client.read_frame(), Frame::close(4000, "mine"));
    client.expect_end();
    assert_close(
        &server.expect_close(),
        Initiator::Local,
        Some(4000),
        "mine",
        CloseCause::Application,
        true,
    );
}

#[test]
fn a_second_close_does_nothing() {
    let server = Server::start(patient(), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.close(CloseCode::new(3001), "first").unwrap();
            conn.close(CloseCode::new(3002), "second").unwrap();
            conn.close_now(CloseCode::new(3003), "third").unwrap();
        }));
    });
    let mut client = server.connect();
    let id = server.expect_open();
    client.send_text("go");
    assert_eq!(client.read_frame(), Frame::close(3001, "first"));
    close_from_server_again(&server, id);
    client.send_close(3001, "");
    client.expect_end();
    let close = server.expect_close();
    assert_eq!(
        (close.code, &close.reason[..]),
        (Some(CloseCode::new(3001)), "first")
    );

    // After the client's close as well.
    let mut client = server.connect();
    let id = server.expect_open();
    client.send_close(1000, "");
    assert_eq!(client.read_frame(), Frame::close(1000, ""));
    close_from_server_again(&server, id);
    client.expect_end();
    assert_eq!(server.expect_close().initiator, Initiator::Remote);
}

fn close_from_server_again(server: &Server, id: ConnId) {
    server.with(move |_, connections| {
        let mut conn = connections.get(id).unwrap();
        assert!(!conn.is_open());
        conn.close(CloseCode::new(4000), "again").unwrap();
        conn.close_now(CloseCode::new(4000), "again").unwrap();
    });
}

#[test]
fn a_code_that_must_not_be_sent_is_a_typed_error_and_changes_nothing() {
    let server = Server::start(patient(), |app| {
        app.on_message = Some(Box::new(|conn, message| {
            conn.send_copy(message.kind(), b"staged").unwrap();
            for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65_535] {
                let code = CloseCode::new(code);
                assert_eq!(conn.close(code, "x"), Err(InvalidCloseCode(code)));
                assert_eq!(conn.close_now(code, "x"), Err(InvalidCloseCode(code)));
                assert!(conn.is_open());
            }
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    assert_eq!(client.read_frame(), Frame::text("staged"));
    client.send_close(1000, "");
    client.expect_close(1000);
}

#[test]
fn a_reason_is_cut_at_a_character_boundary() {
    let server = Server::start(patient(), |app| {
        app.on_message = Some(Box::new(|conn, message| {
            conn.close(CloseCode::NORMAL, message.text().unwrap())
                .unwrap();
        }));
    });
    for (reason, kept) in [
        ("a".repeat(123), 123),
        ("a".repeat(124), 123),
        ("a".repeat(5000), 123),
        ("ü".repeat(61), 122),
        ("ü".repeat(62), 122),
        ("a".to_owned() + &"ü".repeat(62), 123),
        ("€".repeat(41), 123),
        ("€".repeat(42), 123),
        ("a".to_owned() + &"€".repeat(41), 121),
        ("😀".repeat(31), 120),
    ] {
        let mut client = server.connect();
        client.send_text(&reason);
        assert_eq!(client.read_frame(), Frame::close(1000, &reason[..kept]));
        client.send_close(1000, "");
        client.expect_end();
        assert_eq!(server.expect_close().reason, &reason[..kept]);
    }
}

#[test]
fn what_the_client_sends_after_our_close_is_dropped() {
    let server = Server::start(patient(), |_| {});
    let mut client = server.connect();
    close_from_server(&server, server.expect_open(), 1000, "");
    assert_eq!(client.read_frame(), Frame::close(1000, ""));
    client.send_text("too late");
    client.send_ping(b"too late");
    client.write(&masked_frame(0x8A, b"too late"));
    client.write(&masked_frame(0x02, &pattern(300_000, 1)));
    client.write(&masked_frame(0x80, &pattern(300_000, 2)));
    client.send_close(1000, "");
    client.expect_end();
    server.wait_for("gone", |stats| stats.connections.current == 0);
    let events = server.events();
    let told: Vec<&Event> = events
        .iter()
        .filter(|event| !matches!(event, Event::BytesRead(..)))
        .collect();
    let [Event::Close(_, close)] = told[..] else {
        panic!("{told:?}")
    };
    assert!(close.clean);
}

#[test]
fn messages_behind_the_one_that_closes_are_not_delivered() {
    let server = Server::start(patient(), |app| {
        app.on_message = Some(Box::new(|conn, message| {
            if message.text() == Some("last") {
                conn.close(CloseCode::NORMAL, "").unwrap();
            } else {
                conn.send_copy(message.kind(), message.as_bytes()).unwrap();
            }
        }));
    });
    let mut client = server.connect();
    let wire: Vec<u8> = ["one", "two", "last", "three", "four"]
        .iter()
        .flat_map(|text| masked_frame(0x81, text.as_bytes()))
        .chain(masked_frame(0x89, b"ping"))
        .chain(masked_frame(0x88, b"\x03\xE8"))
        .collect();
    client.write(&wire);
    assert_eq!(client.read_frame(), Frame::text("one"));
    assert_eq!(client.read_frame(), Frame::text("two"));
    client.expect_close(1000);
    let close = server.expect_close();
    assert!(
        close.clean && close.initiator == Initiator::Local,
        "{close:?}"
    );
    assert_eq!(server.stats().received.messages, 3);
}

#[test]
fn what_was_answered_before_the_clients_close_still_arrives() {
    let server = Server::start(patient(), |_| {});
    for payload in [pattern(5, 1), pattern(5000, 2), pattern(100_000, 3)] {
        let mut client = server.connect();
        let wire = [
            masked_frame(0x82, &payload),
            masked_frame(0x88, b"\x03\xE8"),
        ]
        .concat();
        client.write(&wire);
        assert_eq!(client.read_frame(), Frame::binary(payload));
        client.expect_close(1000);
    }
}

#[test]
fn sends_after_a_close_fail_and_give_the_payload_back() {
    let server = Server::start(patient(), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.close(CloseCode::NORMAL, "").unwrap();
            let error = conn
                .send(MessageKind::Text, "mine again".to_owned())
                .unwrap_err();
            assert_eq!(error.kind, SendErrorKind::NotOpen);
            assert_eq!(error.payload.into_vec(), b"mine again");
            let not_open = Err(SendErrorKind::NotOpen);
            assert_eq!(conn.send_copy(MessageKind::Text, b"x"), not_open);
            assert_eq!(conn.send_copy(MessageKind::Binary, &[0; 50_000]), not_open);
            assert_eq!(conn.send_copy_vectored(MessageKind::Text, &[]), not_open);
            let frames = Frames::message(MessageKind::Text, b"x");
            assert_eq!(conn.send_frames(&frames), not_open);
            assert_eq!(conn.send_ping(b""), not_open);
            assert_eq!(conn.send_pong(&[0; 126]), not_open);
            conn.auto_pong(b"nothing");
            assert!(conn.sender().lease(10).is_some(), "leasing is no sending");
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    client.expect_close(1000);
    // Nothing that was refused comes back a second time.
    assert_eq!(outcomes_until_close(&server), []);
    let sent = server.stats().sent;
    assert_eq!((sent.messages, sent.pings, sent.pongs), (0, 0, 0));
}

#[test]
fn a_client_that_ends_its_stream_without_a_close_frame() {
    let server = Server::start(patient(), |_| {});
    for wire in [
        vec![],
        masked_frame(0x81, b"in the middle")[..3].to_vec(),
        masked_frame(0x01, b"of a message"),
        masked_frame(0x82, &[0; 100_000])[..50_000].to_vec(),
    ] {
        let mut client = server.connect();
        client.write(&wire);
        client.expect_end();
        assert_close(
            &server.expect_close(),
            Initiator::Remote,
            None,
            "",
            CloseCause::EndOfStream,
            false,
        );
    }
    assert_eq!(server.stats().closed.end_of_stream, 4);
}

#[test]
fn a_half_closed_client_gets_its_answers() {
    let server = Server::start(patient(), |_| {});
    let mut client = server.connect();
    client.send_text("one");
    client.write(&masked_frame(0x82, &pattern(100_000, 1)));
    client.stream.shutdown(Shutdown::Write).unwrap();
    assert_eq!(client.read_frame(), Frame::text("one"));
    assert_eq!(client.read_frame(), Frame::binary(pattern(100_000, 1)));
    client.expect_end();
    assert_eq!(server.expect_close().cause, CloseCause::EndOfStream);
}

#[test]
fn a_close_frame_and_the_end_of_the_stream_in_one_go() {
    let server = Server::start(patient(), |_| {});
    let mut client = server.connect();
    let hold = server.hold();
    client.send_text("hi");
    client.send_close(1000, "bye");
    client.stream.shutdown(Shutdown::Write).unwrap();
    drop(hold);
    assert_eq!(client.read_frame(), Frame::text("hi"));
    client.expect_close(1000);
    let close = server.expect_close();
    assert_close(
        &close,
        Initiator::Remote,
        Some(1000),
        "bye",
        CloseCause::Peer,
        true,
    );
}

#[test]
fn a_client_that_resets() {
    let server = Server::start(patient(), |_| {});
    for wire in [vec![], masked_frame(0x81, b"unfinished")[..5].to_vec()] {
        let mut client = server.connect();
        server.expect_open();
        client.write(&wire);
        SockRef::from(&client.stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(client);
        let close = server.expect_close();
        assert!(
            matches!(close.cause, CloseCause::Io(_) | CloseCause::EndOfStream),
            "{close:?}"
        );
        assert_eq!((close.initiator, close.code), (Initiator::Remote, None));
        assert!(!close.clean);
    }
}

/// What is behind the message at hand is not kept for a connection that ends when that is answered.
#[test]
fn a_reset_while_the_rest_of_the_input_is_held_leaves_no_buffer_behind() {
    let (reached, in_callback) = mpsc::channel();
    let (go_on, gone) = mpsc::channel();
    let server = Server::start(patient(), move |app| {
        app.on_message = Some(Box::new(move |conn, message| {
            conn.send_copy(message.kind(), message.as_bytes()).unwrap();
            conn.pause_reads();
            reached.send(()).unwrap();
            gone.recv_timeout(DEADLINE).unwrap();
        }));
    });
    let mut client = server.connect();
    // So large that it is written from where it lies.
    let first = masked_frame(0x82, &pattern(3000, 1));
    let behind = masked_frame(0x82, &pattern(5000, 2));
    client.write(&[first, behind].concat());
    in_callback.recv_timeout(DEADLINE).unwrap();
    SockRef::from(&client.stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    go_on.send(()).unwrap();
    assert!(matches!(server.expect_close().cause, CloseCause::Io(_)));
    let stats = server.stats();
    let leased = (stats.read_buffers.current, stats.large_buffers.current);
    assert_eq!(leased, (0, 0), "{stats:#?}");
}

#[test]
fn payloads_in_flight_come_back_from_a_client_that_resets() {
    let (server, client, _) = clogged(patient());
    SockRef::from(&client.stream)
        .set_linger(Some(Duration::ZERO))
        .unwrap();
    drop(client);
    let outcomes = outcomes_until_close(&server);
    assert_eq!(outcomes.len(), 2, "{outcomes:?}");
    assert!(matches!(
        outcomes[0],
        (2_097_152, Outcome::Discarded { .. })
    ));
    assert_eq!(outcomes[1], (6, Outcome::Discarded { written: 0 }));
}

#[test]
fn a_flood_behind_the_clients_close_is_ignored() {
    let server = Server::start(patient(), |_| {});
    let mut client = server.connect();
    let flood: Vec<u8> = (0..50_000)
        .flat_map(|_| masked_frame(0x81, b"after the end"))
        .collect();
    let wire = [masked_frame(0x88, b"\x03\xE8"), flood].concat();
    let mut writer = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || writer.write_all(&wire).unwrap());
    assert_eq!(client.read_frame(), Frame::close(1000, ""));
    writing.join().unwrap();
    client.expect_end();
    assert!(server.expect_close().clean);
    assert_eq!(server.stats().received.messages, 0);
}

/// Closing a socket with unread input makes the kernel send a reset, which overtakes the close frame.
#[test]
fn our_close_frame_is_not_eaten_by_a_reset() {
    let server = Server::start(patient(), |app| {
        app.on_message = Some(Box::new(|conn, message| match message.text() {
            Some("pause") => conn.pause_reads(),
            _ => conn.close(CloseCode::POLICY_VIOLATION, "too much").unwrap(),
        }));
    });
    for paused in [false, true] {
        let mut client = server.connect();
        let id = server.expect_open();
        client.send_text(if paused { "pause" } else { "close" });
        let mut writer = client.stream.try_clone().unwrap();
        let flood = std::thread::spawn(move || {
            let frames = masked_frame(0x82, &[0; 1000]).repeat(2000);
            writer.write_all(&frames).unwrap();
        });
        if paused {
            server.expect_message();
            server.with(move |_, connections| {
                let mut conn = connections.get(id).unwrap();
                assert!(conn.is_paused());
                conn.close(CloseCode::POLICY_VIOLATION, "too much").unwrap();
            });
        }
        flood.join().unwrap();
        assert_eq!(client.read_frame(), Frame::close(1008, "too much"));
        client.send_close(1008, "");
        client.expect_end();
        assert!(server.expect_close().clean, "paused: {paused}");
    }
    assert_eq!(server.stats().received.messages, 2);
}

#[test]
fn closing_in_on_open() {
    let server = Server::start(patient(), |app| {
        app.on_open = Some(Box::new(|conn| {
            conn.send_copy(MessageKind::Text, b"we are closed").unwrap();
            conn.close(CloseCode::TRY_AGAIN_LATER, "").unwrap();
        }));
    });
    let mut client = Client::raw(server.addr);
    let wire = [
        super::support::upgrade_request("/", "").as_bytes(),
        &masked_frame(0x81, b"not heard"),
    ]
    .concat();
    client.write(&wire);
    client.expect_upgrade();
    assert_eq!(client.read_frame(), Frame::text("we are closed"));
    assert_eq!(client.read_frame(), Frame::close(1013, ""));
    client.send_close(1013, "");
    client.expect_end();
    assert!(server.expect_close().clean);
    assert_eq!(server.stats().received.messages, 0);
}

#[test]
fn closing_another_connection() {
    let server = Server::start(patient(), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            let me = conn.id();
            conn.connections().for_each(|other| {
                if other.id() != me {
                    other.close(CloseCode::NORMAL, "kicked").unwrap();
                }
            });
        }));
    });
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    let mut king = clients.swap_remove(2);
    king.send_text("alone");
    for mut client in clients {
        assert_eq!(client.read_frame(), Frame::close(1000, "kicked"));
        client.send_close(1000, "");
        client.expect_end();
    }
    server.wait_for("alone", |stats| stats.connections.current == 1);
    assert_eq!(server.stats().closed.application, 4);
}

/// Every opened connection is closed exactly once, whatever ends it, after its payloads are back.
#[test]
fn on_close_comes_exactly_once_and_last() {
    let server = Server::start(hasty(), |_| {});
    for way in 0..6 {
        let mut client = server.connect();
        let id = server.expect_open();
        client.send_text("x");
        assert_eq!(client.read_frame(), Frame::text("x"));
        match way {
            0 => client.send_close(1000, ""),
            1 => client.write(&masked_frame(0x83, b"")),
            2 => client.stream.shutdown(Shutdown::Both).unwrap(),
            3 => close_from_server(&server, id, 1000, ""),
            4 => {
                close_from_server(&server, id, 1000, "");
                client.send_close(1000, "");
                client.send_close(1000, "");
            }
            _ => {
                client.send_close(1000, "");
                client.send_close(1000, "");
                client.write(&masked_frame(0x83, b""));
            }
        }
        server.wait_for("gone", |stats| stats.connections.current == 0);
        let events = server.events();
        let closes = events
            .iter()
            .filter(|event| matches!(event, Event::Close(..)))
            .count();
        assert_eq!(closes, 1, "{way}: {events:?}");
        assert!(matches!(events.last(), Some(Event::Close(closed, _)) if *closed == id));
    }
}
