//! Connections that the loop dials: how they open, and that they are as good as accepted ones.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use rand_chacha::{ChaCha20Rng, rand_core::SeedableRng};
use wsloop::{
    CloseCause, CloseCode, Config, Connect, ConnectError, DialErrorKind, EventLoop, Frames,
    Initiator, ListenAddr, MessageKind, Payload, protocol::Backoff,
};

use super::support::{DEADLINE, Event, Frame, Peer, RawServer, Server, Session, frame, pattern};

/// Around every threshold: header forms, read buffer, large buffer.
const SIZES: [usize; 13] = [
    0, 1, 20, 125, 126, 127, 4095, 4096, 4097, 65_535, 65_536, 65_537, 300_000,
];

fn tagged(tag: u64) -> Session {
    Session {
        tag,
        ..Session::default()
    }
}

fn unix_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("wsloop-{name}-{}.sock", std::process::id()))
}

/// A dialled connection and its server, both of the library's.
fn echoing() -> (Server, Server, wsloop::ConnId) {
    let echo = Server::echo();
    let dialler = Server::dialler(Config::default());
    let id = dialler.open(&echo.url("/"));
    (echo, dialler, id)
}

// Against a server of the library's.

#[test]
fn every_size_kind_and_way_of_sending_comes_back() {
    let (_echo, dialler, id) = echoing();
    for size in SIZES {
        let payload = pattern(size, 1);
        for way in 0..5 {
            let payload = payload.clone();
            let sent = payload.clone();
            dialler.on(id, move |conn| match way {
                0 => conn.send_copy(MessageKind::Binary, &payload).unwrap(),
                1 => conn.send(MessageKind::Binary, payload).unwrap(),
                2 => conn
                    .send(MessageKind::Binary, Bytes::from(payload))
                    .unwrap(),
                3 => conn
                    .send_frames(&Frames::message(MessageKind::Binary, &payload))
                    .unwrap(),
                _ => {
                    let (front, back) = payload.split_at(payload.len() / 3);
                    let parts = vec![
                        Payload::from(front.to_vec()),
                        Payload::from(Bytes::copy_from_slice(back)),
                    ];
                    conn.send(MessageKind::Binary, Payload::Parts(parts))
                        .unwrap();
                }
            });
            assert_eq!(dialler.expect_message(), sent, "{size} {way}");
        }
    }
}

#[test]
fn sixteen_mebibytes_come_back() {
    let (_echo, dialler, id) = echoing();
    let payload = pattern(16 << 20, 2);
    let sent = payload.clone();
    dialler.on(id, move |conn| {
        conn.send(MessageKind::Binary, sent).unwrap()
    });
    assert!(dialler.expect_message() == payload);
}

#[test]
fn many_in_one_turn_come_back_in_order() {
    let (_echo, dialler, id) = echoing();
    dialler.on(id, |conn| {
        for at in 0..1000 {
            conn.send_copy(MessageKind::Binary, &pattern(at % 300, at as u32))
                .unwrap();
        }
    });
    for at in 0..1000 {
        assert_eq!(dialler.expect_message(), pattern(at % 300, at as u32));
    }
}

#[test]
fn fragments_with_pings_between_are_one_message_both_ways() {
    let frames = || {
        Frames::builder()
            .fragments(MessageKind::Text, &[b"fr", b"", b"ag"])
            .ping(b"between")
            .unwrap()
            .message(MessageKind::Text, b"next")
            .build()
    };
    let server = Server::start(Config::default(), move |app| {
        app.on_open = Some(Box::new(move |conn| conn.send_frames(&frames()).unwrap()));
    });
    let dialler = Server::dialler(Config::default());
    let id = dialler.open(&server.url("/"));
    // The server's own fragments.
    assert_eq!(dialler.expect_message(), b"frag");
    assert_eq!(dialler.expect_message(), b"next");
    // Ours, as its echo.
    dialler.on(id, move |conn| conn.send_frames(&frames()).unwrap());
    assert_eq!(dialler.expect_message(), b"frag");
    let pong = |event: &Event| {
        matches!(event, Event::Pong(_, payload) if payload == b"between").then_some(())
    };
    assert_eq!(dialler.expect_message(), b"next");
    server.expect("our pong", pong);
    let answered = dialler.stats();
    assert_eq!(answered.received.pings, 1);
}

#[test]
fn pings_are_answered_in_both_directions() {
    let (echo, dialler, id) = echoing();
    let server_id = echo.expect_open();
    dialler.on(id, |conn| conn.send_ping(b"up").unwrap());
    dialler.expect("pong", |event| {
        matches!(event, Event::Pong(_, payload) if payload == b"up").then_some(())
    });
    echo.on(server_id, |conn| conn.send_ping(b"down").unwrap());
    echo.expect("pong", |event| {
        matches!(event, Event::Pong(_, payload) if payload == b"down").then_some(())
    });
}

#[test]
fn messages_through_small_buffers_come_back_and_leave_nothing_behind() {
    let config = Config::default()
        .read_buffer_size(256)
        .large_buffer_size(1024)
        .max_head_size(1024)
        .max_message_size(200_000);
    let echo = Server::start(config.clone(), |_| {});
    let dialler = Server::dialler(config);
    let id = dialler.open(&echo.url("/"));
    for size in (240..260)
        .chain(1010..1030)
        .chain([4096, 16_384, 199_999, 200_000])
    {
        let payload = pattern(size, size as u32);
        let sent = payload.clone();
        dialler.on(id, move |conn| {
            conn.send_copy(MessageKind::Binary, &sent).unwrap()
        });
        assert_eq!(dialler.expect_message(), payload, "{size}");
    }
    dialler.wait_for("an idle connection leases nothing", |stats| {
        stats.read_buffers.current == 0 && stats.large_buffers.current == 0
    });
}

#[test]
fn many_dials_at_once_all_open_and_do_not_mix() {
    const COUNT: u64 = 200;
    let echo = Server::echo();
    let dialler = Server::start(Config::default(), |app| {
        app.on_open = Some(Box::new(|conn| {
            let tag = conn.session().tag;
            conn.send_copy(MessageKind::Text, tag.to_string().as_bytes())
                .unwrap();
        }));
        let reporter = app.reporter();
        app.on_message = Some(Box::new(move |conn, message| {
            assert_eq!(message.text(), Some(&*conn.session().tag.to_string()));
            let _ = reporter.send(Event::Note("mine".to_owned()));
        }));
    });
    let url = echo.url("/");
    dialler.with(move |_, connections| {
        for tag in 1..=COUNT {
            connections
                .connect(Connect::to(&url).unwrap(), tagged(tag))
                .unwrap();
        }
        let stats = connections.stats();
        assert_eq!(stats.dials.current, COUNT as usize);
    });
    for _ in 0..COUNT {
        dialler.expect_note("mine");
    }
    let stats = dialler.stats();
    assert_eq!((stats.dials.current, stats.dials.peak), (0, COUNT as usize));
    assert_eq!(stats.connections.current, COUNT as usize);
    assert_eq!(stats.opened, COUNT);
}

#[test]
fn a_loop_dials_itself() {
    let server = Server::start(Config::default(), |app| {
        let reporter = app.reporter();
        app.on_message = Some(Box::new(move |conn, message| {
            if conn.session().tag == 0 {
                conn.send_copy(message.kind(), message.as_bytes()).unwrap();
            } else {
                let _ = reporter.send(Event::Note("round".to_owned()));
                conn.close(CloseCode::NORMAL, "done").unwrap();
            }
        }));
        app.on_open = Some(Box::new(|conn| {
            if conn.session().tag != 0 {
                conn.send_copy(MessageKind::Text, b"hello").unwrap();
            }
        }));
    });
    server.dial(&server.url("/"));
    server.expect_note("round");
    let (one, other) = (server.expect_close(), server.expect_close());
    assert!(one.clean && other.clean);
    assert_ne!(one.initiator, other.initiator);
}

/// Outbound connections have a limit of their own.
#[test]
fn outbound_connections_take_no_room_of_accepted_ones() {
    let echo = Server::echo();
    let server = Server::start(
        Config::default().max_connections(1).initial_connections(1),
        |_| {},
    );
    for _ in 0..3 {
        server.open(&echo.url("/"));
    }
    let mut client = server.connect();
    client.send_text("room");
    assert_eq!(client.read_frame(), Frame::text("room"));
}

// Where to, and what is asked.

#[test]
fn every_kind_of_host_is_reached() {
    let dialler = Server::dialler(Config::default());
    let v4 = RawServer::bind();
    let v6 = RawServer::bind_to(Ipv6Addr::LOCALHOST);
    for (url, host, raw) in [
        (v4.url(), format!("127.0.0.1:{}", v4.port()), &v4),
        (v6.url(), format!("[::1]:{}", v6.port()), &v6),
        (
            format!("ws://localhost:{}", v4.port()),
            format!("localhost:{}", v4.port()),
            &v4,
        ),
        (
            format!("WS://LOCALHOST:{}?q", v4.port()),
            format!("localhost:{}", v4.port()),
            &v4,
        ),
    ] {
        dialler.dial(&url);
        let mut peer = raw.open();
        assert_eq!(peer.fields("Host")[0].to_ascii_lowercase(), host, "{url}");
        let id = dialler.expect_dialled();
        dialler.on(id, |conn| conn.send_copy(MessageKind::Text, b"hi").unwrap());
        assert_eq!(peer.read_frame(), Frame::text("hi"), "{url}");
    }
}

#[test]
fn unix_sockets_are_dialled_too() {
    let path = unix_path("dial");
    let server = Server::start_on(
        Config::default(),
        vec![([127, 0, 0, 1], 0).into(), ListenAddr::Unix(path.clone())],
        |app| {
            app.on_upgrade = Some(Box::new(|request, _| {
                assert_eq!(request.header("Host"), Some("localhost"));
                Ok(())
            }));
        },
    );
    let dialler = Server::dialler(Config::default());
    for (suffix, target) in [("", "/"), (":/chat?room=1", "/chat?room=1")] {
        dialler.dial(&format!("ws+unix:{}{suffix}", path.display()));
        let seen = server.expect("upgrade", |event| match event {
            Event::Upgrade { path } => Some(path.clone()),
            _ => None,
        });
        assert_eq!(seen, target.split('?').next().unwrap());
        let id = dialler.expect_dialled();
        let payload = pattern(100_000, 1);
        let sent = payload.clone();
        dialler.on(id, move |conn| {
            conn.send(MessageKind::Binary, sent).unwrap()
        });
        assert_eq!(dialler.expect_message(), payload);
    }
}

#[test]
fn the_request_is_what_was_asked_for() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default());
    let connect = Connect::to(&format!("ws://127.0.0.1:{}/a%20b/c?d=e&f", raw.port()))
        .and_then(|connect| connect.header("X-First", "1"))
        .and_then(|connect| connect.subprotocol("chat.v2"))
        .and_then(|connect| connect.origin("https://example.com"))
        .and_then(|connect| connect.subprotocol("chat"))
        .and_then(|connect| connect.header("Authorization", "Bearer secret"))
        .and_then(|connect| connect.header("X-First", "2"))
        .and_then(|connect| connect.host("example.com:8080"))
        .unwrap();
    let mut keys = Vec::new();
    for tag in 1..3 {
        dialler.try_dial(connect.clone(), tag).unwrap();
        let mut peer = raw.accept();
        assert!(
            peer.request.starts_with("GET /a%20b/c?d=e&f HTTP/1.1\r\n"),
            "{}",
            peer.request
        );
        assert_eq!(peer.fields("Host"), ["example.com:8080"]);
        assert_eq!(peer.fields("Upgrade"), ["websocket"]);
        assert_eq!(peer.fields("Connection"), ["Upgrade"]);
        assert_eq!(peer.fields("Sec-WebSocket-Version"), ["13"]);
        assert_eq!(peer.fields("Origin"), ["https://example.com"]);
        assert_eq!(peer.fields("Sec-WebSocket-Protocol"), ["chat.v2, chat"]);
        assert_eq!(peer.fields("X-First"), ["1", "2"]);
        assert_eq!(peer.fields("Authorization"), ["Bearer secret"]);
        assert!(peer.fields("Sec-WebSocket-Extensions").is_empty());
        let key = peer.fields("Sec-WebSocket-Key")[0].to_owned();
        assert!(key.len() == 24 && key.ends_with("=="), "{key}");
        keys.push(key);
        let answer = peer.switching("Sec-WebSocket-Protocol: chat\r\nX-Server: raw\r\n");
        peer.write(answer.as_bytes());
        let connected = dialler.expect("on_connected", |event| match event {
            Event::Connected { tag, subprotocol } => Some((*tag, subprotocol.clone())),
            _ => None,
        });
        assert_eq!(connected, (tag, Some("chat".to_owned())));
        let id = dialler.expect_dialled();
        assert_eq!(dialler.on(id, |conn| conn.session().tag), tag);
    }
    assert_ne!(keys[0], keys[1], "a key for each request");
}

#[test]
fn a_server_may_choose_no_subprotocol() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default());
    let connect = Connect::to(&raw.url())
        .unwrap()
        .subprotocol("chat")
        .unwrap();
    dialler.try_dial(connect, 1).unwrap();
    let _peer = raw.open();
    let chosen = dialler.expect("on_connected", |event| match event {
        Event::Connected { subprotocol, .. } => Some(subprotocol.clone()),
        _ => None,
    });
    assert_eq!(chosen, None);
}

#[test]
fn a_local_address_is_bound() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default());
    let local = IpAddr::from([127, 0, 0, 2]);
    let connect = Connect::to(&raw.url()).unwrap().local_address(local);
    dialler.try_dial(connect, 1).unwrap();
    let peer = raw.open();
    assert_eq!(peer.stream.peer_addr().unwrap().ip(), local);
    dialler.expect_dialled();
    // Of the other family, and one that is not ours.
    for local in [
        IpAddr::from(Ipv6Addr::LOCALHOST),
        IpAddr::from(Ipv4Addr::new(192, 0, 2, 1)),
    ] {
        let connect = Connect::to(&raw.url()).unwrap().local_address(local);
        dialler.try_dial(connect, 1).unwrap();
        assert_eq!(
            dialler.expect_failed(),
            ConnectError::Io(std::io::ErrorKind::AddrNotAvailable)
        );
    }
}

// The 101.

#[test]
fn a_101_split_at_every_byte_is_the_same_101() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default());
    let mut cut = 1;
    loop {
        dialler.dial(&raw.url());
        let mut peer = raw.accept();
        let answer = [peer.switching("").into_bytes(), frame(0x81, b"hi")].concat();
        if cut == answer.len() {
            // Left without an answer: ended with the loop.
            return;
        }
        peer.write(&answer[..cut]);
        // The loop has turned: it has seen the first part.
        dialler.with(|_, _| ());
        peer.write(&answer[cut..]);
        dialler.expect_dialled();
        assert_eq!(dialler.expect_message(), b"hi", "{cut}");
        cut += 1;
    }
}

#[test]
fn a_101_that_comes_byte_by_byte_is_the_same_101() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default());
    dialler.dial(&raw.url());
    let mut peer = raw.accept();
    let answer = [
        b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n",
        peer.switching("").as_bytes(),
        &frame(0x81, b"hi"),
    ]
    .concat();
    for byte in answer {
        peer.write(&[byte]);
    }
    dialler.expect_dialled();
    assert_eq!(dialler.expect_message(), b"hi");
}

#[test]
fn frames_behind_the_101_are_delivered_in_order() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default());
    dialler.dial(&raw.url());
    let behind = [
        frame(0x01, b"le"),
        frame(0x89, b"ping"),
        frame(0x80, b"ft"),
        frame(0x82, &pattern(300, 1)),
    ]
    .concat();
    let mut peer = raw.open_with(&behind);
    dialler.expect_dialled();
    assert_eq!(dialler.expect_message(), b"left");
    assert_eq!(dialler.expect_message(), pattern(300, 1));
    assert_eq!(peer.read_frame(), Frame::pong(b"ping"));
}

#[test]
fn a_close_frame_behind_the_101_ends_the_connection_behind_what_came_before() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default());
    dialler.dial(&raw.url());
    let mut peer = raw.open_with(&[frame(0x81, b"left"), frame(0x88, &[])].concat());
    dialler.expect_dialled();
    assert_eq!(dialler.expect_message(), b"left");
    let echo = peer.read_frame();
    assert_eq!((echo.opcode, echo.payload.len()), (8, 0));
    peer.expect_end();
    let close = dialler.expect_close();
    assert!(close.clean && close.cause == CloseCause::Peer);
}

/// What a test saw of a connection, by kind.
fn order(events: &[Event]) -> Vec<&'static str> {
    let name = |event: &Event| match event {
        Event::Connected { .. } => Some("connected"),
        Event::Open(_) => Some("open"),
        Event::BytesRead(..) => Some("bytes"),
        Event::Message(..) => Some("message"),
        Event::Close(..) => Some("close"),
        _ => None,
    };
    events.iter().filter_map(name).collect()
}

#[test]
fn a_connection_with_a_leftover_is_told_of_in_order() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default());
    let hold = dialler.hold();
    let url = raw.url();
    let remote = dialler.remote();
    let posted = remote.post(Box::new(move |_, connections| {
        connections
            .connect(Connect::to(&url).unwrap(), tagged(1))
            .unwrap();
    }));
    assert!(posted.is_ok());
    drop(hold);
    let peer = raw.open_with(&[frame(0x81, b"a"), frame(0x81, b"b")].concat());
    dialler.wait_for("both", |stats| stats.received.messages == 2);
    drop(peer);
    let mut events = Vec::new();
    while !order(&events).contains(&"close") {
        events.extend(dialler.events());
    }
    assert_eq!(
        order(&events),
        ["connected", "open", "bytes", "message", "message", "close"]
    );
}

/// More behind the 101 than any buffer of a handshake holds.
#[test]
fn a_large_leftover_is_delivered_whole() {
    for config in [
        Config::default(),
        Config::default().scratch_size(12_288),
        Config::default()
            .read_buffer_size(256)
            .large_buffer_size(1024)
            .max_head_size(512)
            .scratch_size(4096),
    ] {
        let raw = RawServer::bind();
        let dialler = Server::dialler(config);
        dialler.dial(&raw.url());
        let small: Vec<u8> = (0..2000u32)
            .flat_map(|at| frame(0x82, &at.to_be_bytes()))
            .collect();
        let behind = [small, frame(0x82, &pattern(100_000, 1))].concat();
        let _peer = raw.open_with(&behind);
        dialler.expect_dialled();
        for at in 0..2000u32 {
            assert_eq!(dialler.expect_message(), at.to_be_bytes());
        }
        assert_eq!(dialler.expect_message(), pattern(100_000, 1));
    }
}

/// What comes behind the 101 is copied once, so it must not be much: the rest waits in the kernel.
#[test]
fn no_more_than_a_read_buffer_is_taken_behind_the_101() {
    for (read_buffer, head_len) in [(4096, 200), (4096, 8000), (256, 200), (256, 8000)] {
        let raw = RawServer::bind();
        let (report, unread) = std::sync::mpsc::channel();
        let config = Config::default().read_buffer_size(read_buffer);
        let dialler = Server::start(config, move |app| {
            app.on_open = Some(Box::new(move |conn| {
                report.send(conn.unread().len()).unwrap();
            }));
            app.on_message = Some(Box::new(|_, _| {}));
        });
        dialler.dial(&raw.url());
        let mut peer = raw.accept();
        let bare = peer.switching("X: \r\n").len();
        let answer = peer.switching(&format!("X: {}\r\n", "y".repeat(head_len - bare)));
        let behind = frame(0x82, &pattern(100, 1)).repeat(300);
        // All of it is there at once.
        let hold = dialler.hold();
        peer.write(&[answer.as_bytes(), &behind].concat());
        drop(hold);
        let unread = unread.recv_timeout(DEADLINE).unwrap();
        assert!(unread <= read_buffer, "{unread} of {read_buffer}");
        for _ in 0..300 {
            assert_eq!(dialler.expect_message(), pattern(100, 1));
        }
    }
}

#[test]
fn a_pause_in_on_open_holds_the_leftover_back() {
    let raw = RawServer::bind();
    let dialler = Server::start(Config::default(), |app| {
        app.on_open = Some(Box::new(|conn| conn.pause_reads()));
        app.on_message = Some(Box::new(|_, _| {}));
    });
    dialler.dial(&raw.url());
    let behind: Vec<u8> = (0..1000u32)
        .flat_map(|at| frame(0x82, &at.to_be_bytes()))
        .collect();
    let _peer = raw.open_with(&behind);
    let id = dialler.expect_dialled();
    assert_eq!(dialler.stats().received.messages, 0);
    dialler.on(id, |conn| conn.resume_reads());
    for at in 0..1000u32 {
        assert_eq!(dialler.expect_message(), at.to_be_bytes());
    }
}

#[test]
fn a_leftover_beyond_the_turns_budget_is_delivered_in_the_next() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default().turn_messages(1));
    dialler.dial(&raw.url());
    let behind = frame(0x81, b"tick").repeat(50);
    let _peer = raw.open_with(&behind);
    for _ in 0..50 {
        assert_eq!(dialler.expect_message(), b"tick");
    }
}

#[test]
fn interim_answers_are_passed_over() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default());
    for interim in [
        "HTTP/1.1 100 Continue\r\n\r\n".to_owned(),
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\n\r\n".to_owned(),
        "HTTP/1.1 100 \r\n\r\nHTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 199 X\r\nA: b\r\n\r\n"
            .to_owned(),
        // All of it within the bound for heads.
        "HTTP/1.1 100\r\n\r\n".repeat(450),
    ] {
        for in_one in [true, false] {
            dialler.dial(&raw.url());
            let mut peer = raw.accept();
            let answer = peer.switching("");
            if in_one {
                peer.write(format!("{interim}{answer}").as_bytes());
            } else {
                peer.write(interim.as_bytes());
                dialler.with(|_, _| ());
                peer.write(answer.as_bytes());
            }
            let id = dialler.expect_dialled();
            dialler.on(id, |conn| conn.send_copy(MessageKind::Text, b"in").unwrap());
            assert_eq!(peer.read_frame(), Frame::text("in"));
        }
    }
}

// From inside callbacks.

#[test]
fn a_lost_connection_is_dialled_again_from_on_close() {
    let raw = RawServer::bind();
    let url = raw.url();
    let dialler = Server::start(Config::default(), move |app| {
        app.on_end = Some(Box::new(move |connections, session, _| {
            let next = tagged(session.tag + 1);
            // Refused when the loop is shut down.
            let _ = connections.connect(Connect::to(&url).unwrap(), next);
        }));
    });
    dialler.dial(&raw.url());
    for tag in 1..=5 {
        let peer = raw.open();
        let id = dialler.expect_dialled();
        assert_eq!(dialler.on(id, |conn| conn.session().tag), tag);
        drop(peer);
        assert_eq!(dialler.expect_close().cause, CloseCause::EndOfStream);
    }
}

#[test]
fn a_message_makes_the_application_dial() {
    let raw = RawServer::bind();
    let url = raw.url();
    let proxy = Server::start(Config::default(), move |app| {
        app.on_message = Some(Box::new(move |conn, message| {
            if conn.session().tag == 0 {
                let mut connections = conn.connections();
                connections
                    .connect(Connect::to(&url).unwrap(), tagged(9))
                    .unwrap();
                assert_eq!(message.text(), Some("dial"));
            }
        }));
    });
    let mut client = proxy.connect();
    client.send_text("dial");
    let mut peer = raw.open();
    proxy.expect("both", |event| {
        matches!(event, Event::Connected { tag: 9, .. }).then_some(())
    });
    peer.send_text("in");
    while proxy.expect_message() != b"in" {}
}

#[test]
fn failures_are_retried_with_a_backoff_until_a_server_is_there() {
    let unused = RawServer::bind();
    let port = unused.port();
    drop(unused);
    let url = format!("ws://127.0.0.1:{port}/");
    let retry = url.clone();
    let dialler = Server::start(Config::default(), move |app| {
        let mut backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(8));
        app.on_connect_failed = Some(Box::new(move |connections, session, error| {
            assert_eq!(
                error,
                ConnectError::Io(std::io::ErrorKind::ConnectionRefused)
            );
            let wait = backoff.next(u64::MAX).unwrap();
            connections.set_timer(wait, session.tag + 1).unwrap();
        }));
        app.on_timer = Some(Box::new(move |connections, _, tag| {
            connections
                .connect(Connect::to(&retry).unwrap(), tagged(tag))
                .unwrap();
        }));
    });
    dialler.dial(&url);
    for tag in 1..=5 {
        let failed = dialler.expect("failure", |event| match event {
            Event::ConnectFailed(of, _) => Some(*of),
            _ => None,
        });
        assert_eq!(failed, tag);
    }
    let late = Server::start_on(
        Config::default(),
        vec![([127, 0, 0, 1], port).into()],
        |_| {},
    );
    dialler.expect("on_open", |event| {
        matches!(event, Event::Open(_)).then_some(())
    });
    drop(late);
}

/// A dial that fails at once and is repeated at once must not keep the loop from everything else.
#[test]
fn dialling_again_at_once_does_not_stop_the_loop() {
    let url = format!("ws+unix:{}", unix_path("nobody").display());
    let again = url.clone();
    let dialler = Server::start(Config::default(), move |app| {
        app.on_connect_failed = Some(Box::new(move |connections, session, _| {
            let _ = connections.connect(Connect::to(&again).unwrap(), session);
        }));
    });
    dialler.dial(&url);
    let mut client = dialler.connect();
    client.send_text("still here?");
    assert_eq!(client.read_frame(), Frame::text("still here?"));
}

// What is refused before it begins.

#[test]
fn without_a_generator_nothing_is_dialled() {
    let mut event_loop: EventLoop<Session> = EventLoop::new(Config::default()).unwrap();
    let connect = Connect::to("ws://127.0.0.1:1/").unwrap();
    let error = event_loop.connect(connect.clone(), tagged(5)).unwrap_err();
    assert_eq!(
        (error.kind, error.session),
        (DialErrorKind::NoRng, tagged(5))
    );
    event_loop.set_rng(ChaCha20Rng::from_seed([1; 32]));
    assert!(event_loop.connect(connect, tagged(5)).is_ok());
}

#[test]
fn each_limit_gives_the_session_back() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(Config::default().max_dials(2).max_outbound(3));
    let connect = || Connect::to(&raw.url()).unwrap();
    dialler.try_dial(connect(), 1).unwrap();
    dialler.try_dial(connect(), 2).unwrap();
    assert_eq!(
        dialler.try_dial(connect(), 3),
        Err((DialErrorKind::TooManyDials, tagged(3)))
    );
    let mut peers: Vec<Peer> = vec![raw.open(), raw.open()];
    dialler.expect_dialled();
    dialler.expect_dialled();
    dialler.try_dial(connect(), 4).unwrap();
    assert_eq!(
        dialler.try_dial(connect(), 5),
        Err((DialErrorKind::TooManyConnections, tagged(5)))
    );
    peers.push(raw.open());
    dialler.expect_dialled();
    assert_eq!(
        dialler.try_dial(connect(), 6),
        Err((DialErrorKind::TooManyConnections, tagged(6)))
    );
    // One ends, and there is room for one.
    peers.pop();
    dialler.expect_close();
    dialler.try_dial(connect(), 7).unwrap();
    peers.push(raw.open());
    dialler.expect_dialled();
}

#[test]
fn no_outbound_connection_at_all_can_be_configured() {
    let dialler = Server::dialler(Config::default().max_outbound(0));
    let connect = Connect::to("ws://127.0.0.1:1/").unwrap();
    assert_eq!(
        dialler.try_dial(connect, 3),
        Err((DialErrorKind::TooManyConnections, tagged(3)))
    );
}

#[test]
fn a_loop_that_shuts_down_dials_no_more() {
    let raw = RawServer::bind();
    let (report, refused) = std::sync::mpsc::channel();
    let url = raw.url();
    let dialler = Server::start(Config::default(), move |app| {
        app.on_end = Some(Box::new(move |connections, session, close| {
            assert_eq!(close.initiator, Initiator::Local);
            let error = connections
                .connect(Connect::to(&url).unwrap(), session)
                .unwrap_err();
            report.send((error.kind, error.session.tag)).unwrap();
        }));
    });
    dialler.dial(&raw.url());
    let mut peer = raw.open();
    dialler.expect_dialled();
    let answer = std::thread::spawn(move || {
        assert_eq!(peer.read_frame(), Frame::close(1001, ""));
        peer.send_close(1001, "");
        peer.expect_end();
    });
    assert!(dialler.stop(DEADLINE).shutdown.is_clean());
    answer.join().unwrap();
    assert_eq!(
        refused.recv_timeout(DEADLINE).unwrap(),
        (DialErrorKind::ShuttingDown, 1)
    );
}
