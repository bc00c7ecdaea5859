use std::{
    io::Write,
    net::{Ipv6Addr, SocketAddr, TcpStream},
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

use socket2::SockRef;
use wsloop::{
    Config, HandshakeFailure, HttpResponse, ListenAddr, OriginPolicy, PeerAddr,
    protocol::handshake::HeaderError,
};

use super::support::{
    Client, DEADLINE, Event, Frame, Server, masked_frame, pattern, upgrade_request,
};

const GOOD_FIELDS: &str = "Host: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
     Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";

#[test]
fn the_callbacks_of_an_opening_come_in_order() {
    let server = Server::echo();
    let mut client = Client::raw(server.addr);
    let frames = [masked_frame(0x81, b"first"), masked_frame(0x89, b"second")].concat();
    client.write(&[upgrade_request("/chat", "").as_bytes(), &frames].concat());
    client.expect_upgrade();
    client.read_frames(2);
    let events = server.events();
    let [
        Event::Upgrade { path },
        Event::Open(id),
        Event::BytesRead(read_id, count),
        Event::Message(message_id, _, message),
        Event::Ping(ping_id, ping),
    ] = &events[..]
    else {
        panic!("{events:?}")
    };
    assert_eq!(path, "/chat");
    assert_eq!((read_id, message_id, ping_id), (id, id, id));
    assert_eq!(*count, frames.len());
    assert_eq!((&message[..], &ping[..]), (&b"first"[..], &b"second"[..]));
}

#[test]
fn without_leftover_nothing_is_reported_as_read() {
    let server = Server::echo();
    let _client = server.connect();
    server.expect_open();
    assert_eq!(server.events(), []);
}

#[test]
fn the_answer_is_just_what_the_rfc_asks_for() {
    let server = Server::echo();
    let (_client, answer) = Client::connect_with(server.addr, "/", "");
    assert_eq!(
        answer.head,
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
    );
}

#[test]
fn frames_behind_the_request_in_the_same_segment_are_not_lost() {
    let server = Server::echo();
    let payloads = [
        vec![],
        vec![pattern(5, 1)],
        (0..500).map(|at| pattern(at % 50, at as u32)).collect(),
        vec![pattern(4096, 2)],
        vec![pattern(4096 - 8, 3), pattern(4096, 4)],
        vec![pattern(70_000, 5), pattern(1, 6)],
        vec![pattern(400_000, 7)],
    ];
    for payloads in payloads {
        let mut wire = upgrade_request("/", "").into_bytes();
        for payload in &payloads {
            wire.extend(masked_frame(0x82, payload));
        }
        let mut client = Client::raw(server.addr);
        client.write(&wire);
        client.expect_upgrade();
        for payload in payloads {
            assert_eq!(client.read_frame(), Frame::binary(payload));
        }
        client.send_text("and on");
        assert_eq!(client.read_frame(), Frame::text("and on"));
    }
}

#[test]
fn a_frame_may_begin_behind_the_request_at_any_byte() {
    let server = Server::echo();
    let frame = masked_frame(0x82, &pattern(130, 1));
    for cut in 0..frame.len() {
        let mut client = Client::raw(server.addr);
        client.write(&[upgrade_request("/", "").as_bytes(), &frame[..cut]].concat());
        client.expect_upgrade();
        client.write(&frame[cut..]);
        assert_eq!(client.read_frame(), Frame::binary(pattern(130, 1)), "{cut}");
    }
}

/// Advisory class: a dripped head that is parsed again from the start on every read (tungstenite CVE-2023-43669).
#[test]
fn advisory_dripped_head_byte_by_byte_still_succeeds() {
    let server = Server::echo();
    let mut client = Client::raw(server.addr);
    let more = format!("X-Filler: {}\r\n", "x".repeat(6000));
    let wire = [
        upgrade_request("/", &more).as_bytes(),
        &masked_frame(0x81, b"drip"),
    ]
    .concat();
    for byte in wire {
        client.write(&[byte]);
    }
    client.expect_upgrade();
    assert_eq!(client.read_frame(), Frame::text("drip"));
    server.wait_for("the head's buffer is back", |stats| {
        stats.read_buffers.current == 0 && stats.large_buffers.current == 0
    });
}

#[test]
fn a_request_may_be_cut_anywhere() {
    let server = Server::echo();
    let wire = [
        upgrade_request("/", "").as_bytes(),
        &masked_frame(0x81, b"behind"),
    ]
    .concat();
    for cut in 1..wire.len() {
        let mut client = Client::raw(server.addr);
        client.write(&wire[..cut]);
        client.write(&wire[cut..]);
        client.expect_upgrade();
        assert_eq!(client.read_frame(), Frame::text("behind"), "{cut}");
    }
}

/// A head that waits in a large buffer is read on into that buffer; what comes behind it may be more than the scratch
/// buffer holds.
#[test]
fn much_behind_a_head_that_came_in_two_pieces() {
    let config = Config::default()
        .large_buffer_size(1 << 20)
        .recv_buffer_size(Some(1 << 20));
    let server = Server::start(config, |_| {});
    let more = format!("X-Filler: {}\r\n", "x".repeat(6000));
    let request = upgrade_request("/", &more);
    let mut client = Client::raw(server.addr);
    client.write(&request.as_bytes()[..5000]);
    server.wait_for("the first piece", |stats| stats.large_buffers.current == 1);
    let payload = pattern(400_000, 1);
    let wire = [&request.as_bytes()[5000..], &masked_frame(0x82, &payload)].concat();
    // The loop stands still until all of it is in the kernel.
    let hold = server.hold();
    let mut writer = client.stream.try_clone().unwrap();
    let writing = std::thread::spawn(move || {
        writer.write_all(&wire[..300_000]).unwrap();
        drop(hold);
        writer.write_all(&wire[300_000..]).unwrap();
    });
    client.expect_upgrade();
    assert_eq!(client.read_frame(), Frame::binary(payload));
    writing.join().unwrap();
}

#[test]
fn spelling_variants_of_a_good_request_are_accepted() {
    let server = Server::echo();
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
    let variants = [
        format!(
            "GET / HTTP/1.1\r\nhost:localhost\r\nupgrade:WebSocket\r\nconnection:upgrade\r\n{}\r\nsec-websocket-version:13\r\n\r\n",
            key.to_lowercase()
                .replace("dghlihnhbxbszsbub25jzq", "dGhlIHNhbXBsZSBub25jZQ")
        ),
        format!(
            "GET / HTTP/1.1\r\nHOST: localhost \t\r\nUPGRADE: \t WEBSOCKET  \r\nCONNECTION:  UPGRADE\t\r\n{key}  \r\nSEC-WEBSOCKET-VERSION:\t13 \r\n\r\n",
        ),
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n{key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ),
        format!(
            "GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c, websocket\r\nConnection: keep-alive\r\nConnection:,,upgrade,\r\n{key}\r\nSec-WebSocket-Version: 13\r\n\r\n"
        ),
        format!("GET http://localhost/chat HTTP/1.1\r\n{GOOD_FIELDS}\r\n"),
        format!("GET /?a=1#b HTTP/1.1\r\n{GOOD_FIELDS}\r\n").replace('#', "%23"),
        format!("GET / HTTP/1.1\r\n{GOOD_FIELDS}Content-Length: 0\r\n\r\n"),
        format!("\r\nGET / HTTP/1.1\r\n{GOOD_FIELDS}\r\n"),
        format!("GET / HTTP/1.1\r\n{GOOD_FIELDS}X-Latin: f\u{fc}r\r\nX-Empty:\r\n\r\n"),
    ];
    for request in variants {
        let mut client = Client::raw(server.addr);
        client.write(request.as_bytes());
        client.expect_upgrade();
        client.send_text("hi");
        assert_eq!(client.read_frame(), Frame::text("hi"), "{request}");
    }
}

#[test]
fn the_application_sees_everything_of_the_request() {
    let server = Server::start(Config::default(), |app| {
        let report = app.reporter();
        app.on_upgrade = Some(Box::new(move |request, _| {
            let seen = format!(
                "{} {} {} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {:?} {} {:?} {:?} {:?}",
                request.method(),
                request.target(),
                request.path(),
                request.query(),
                request.host(),
                request.origin(),
                request.key(),
                request.header("x-more"),
                request.header_values("X-MORE").count(),
                request.header("X-Absent"),
                request.subprotocols().collect::<Vec<_>>(),
                request.headers().count(),
                request
                    .extensions()
                    .map(|value| std::str::from_utf8(value).unwrap())
                    .collect::<Vec<_>>(),
                request.minor_version(),
                request.is_upgrade(),
            );
            report.send(Event::Note(seen)).unwrap();
            let peer = match request.peer_addr() {
                PeerAddr::Tcp(address) => address.to_string(),
                other => format!("{other:?}"),
            };
            report.send(Event::Note(peer)).unwrap();
            let listener = format!("{:?}", request.listener());
            report.send(Event::Note(listener)).unwrap();
            Ok(())
        }));
    });
    let more = "Origin: http://localhost\r\nX-More: one\r\nX-More: two\r\n\
        Sec-WebSocket-Protocol: chat, superchat\r\nSec-WebSocket-Protocol: mqtt\r\n\
        Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";
    let (client, answer) = Client::connect_with(server.addr, "/room/7?user=a%20b&x=?", more);
    server.expect_note(
        "GET /room/7?user=a%20b&x=? /room/7 Some(\"user=a%20b&x=?\") Some(\"localhost\") \
         Some(\"http://localhost\") Some(\"dGhlIHNhbXBsZSBub25jZQ==\") Some(\"one\") 2 None \
         [\"chat\", \"superchat\", \"mqtt\"] 11 \
         [\"permessage-deflate; client_max_window_bits\"] 1 true",
    );
    server.expect_note(&client.stream.local_addr().unwrap().to_string());
    server.expect_note(&format!("{:?}", Some(server.listeners[0].0)));
    assert_eq!(answer.header("Sec-WebSocket-Protocol"), None, "none chosen");
    assert_eq!(answer.header("Sec-WebSocket-Extensions"), None);
}

#[test]
fn pages_of_other_sites_are_refused() {
    let list = OriginPolicy::List(vec!["https://example.com".to_owned()]);
    for (policy, origin, status) in [
        (OriginPolicy::SameHost, "http://localhost", 101),
        (OriginPolicy::SameHost, "http://evil.example", 403),
        (OriginPolicy::SameHost, "null", 403),
        (list.clone(), "https://example.com", 101),
        (list, "http://localhost", 403),
        (OriginPolicy::Any, "http://evil.example", 101),
    ] {
        let config = Config::default().allowed_origins(policy);
        let server = Server::start(config, |_| {});
        let mut client = Client::raw(server.addr);
        let more = format!("Origin: {origin}\r\nCookie: session=secret\r\n");
        client.write(upgrade_request("/", &more).as_bytes());
        assert_eq!(client.read_head().status, status, "{origin}");
        let refused = u64::from(status == 403);
        assert_eq!(server.stats().refused.origin, refused);
        // The application was not even asked.
        let asked = |event: &Event| matches!(event, Event::Upgrade { .. });
        assert_eq!(server.events().iter().any(asked), refused == 0);
    }
    // Without an origin it is no browser.
    Server::echo().connect();
}

#[test]
fn subprotocols_of_the_settings_are_chosen_in_their_order() {
    let names = ["v3", "v2", "v1"].map(str::to_owned).to_vec();
    let server = Server::start(Config::default().subprotocols(names), |app| {
        app.on_upgrade = Some(Box::new(|request, response| {
            match request.path() {
                "/own" => response.subprotocol("other").unwrap(),
                "/none" => response.decline_subprotocols(),
                "/later" => response.defer(),
                _ => {}
            }
            Ok(())
        }));
        app.on_deferred = Some(Box::new(|connections, upgrade| {
            connections.deferred(upgrade).unwrap().accept();
        }));
    });
    for (path, offers, chosen) in [
        ("/", "v1, v2", Some("v2")),
        ("/later", "v1, v2", Some("v2")),
        ("/", "other", None),
        ("/own", "v1, other", Some("other")),
        ("/none", "v1", None),
    ] {
        let more = format!("Sec-WebSocket-Protocol: {offers}\r\n");
        let (_, answer) = Client::connect_with(server.addr, path, &more);
        assert_eq!(answer.header("Sec-WebSocket-Protocol"), chosen, "{path}");
    }
    let (_, answer) = Client::connect_with(server.addr, "/", "");
    assert_eq!(answer.header("Sec-WebSocket-Protocol"), None);
}

#[test]
fn cookies_are_found_by_name() {
    let server = Server::start(Config::default(), |app| {
        let report = app.reporter();
        app.on_upgrade = Some(Box::new(move |request, _| {
            let seen = format!("{:?} {:?}", request.cookie("b"), request.cookie("c"));
            report.send(Event::Note(seen)).unwrap();
            Ok(())
        }));
    });
    let more = "Cookie: a=1; b=2\r\nCookie: b=3\r\n";
    let _client = Client::connect_with(server.addr, "/", more);
    server.expect_note("Some(\"2\") None");
}

#[test]
fn the_application_adds_headers_cookies_and_a_subprotocol() {
    let server = Server::start(Config::default(), |app| {
        app.on_upgrade = Some(Box::new(|_, response| {
            assert_eq!(response.chosen_subprotocol(), None);
            assert_eq!(response.subprotocol("absent"), Err(HeaderError::NotOffered));
            assert_eq!(response.subprotocol("MQTT"), Err(HeaderError::NotOffered));
            assert_eq!(response.subprotocol(""), Err(HeaderError::NotOffered));
            assert_eq!(response.subprotocol("mqtt"), Ok(()));
            assert_eq!(
                response.subprotocol("chat"),
                Err(HeaderError::AlreadyChosen)
            );
            assert_eq!(response.chosen_subprotocol(), Some("mqtt"));
            response.header("Set-Cookie", "a=1; HttpOnly").unwrap();
            response.header("Set-Cookie", "b=2").unwrap();
            response.header("X-Server", "wsloop").unwrap();
            Ok(())
        }));
    });
    let offers = "Sec-WebSocket-Protocol: chat, mqtt\r\n";
    let (_client, answer) = Client::connect_with(server.addr, "/", offers);
    assert_eq!(answer.header("sec-websocket-protocol"), Some("mqtt"));
    assert_eq!(answer.header("x-server"), Some("wsloop"));
    let cookies: Vec<&str> = answer
        .head
        .lines()
        .filter(|line| line.starts_with("Set-Cookie"))
        .collect();
    assert_eq!(cookies, ["Set-Cookie: a=1; HttpOnly", "Set-Cookie: b=2"]);
}

#[test]
fn a_plain_request_is_answered_by_on_request() {
    let server = Server::start(Config::default(), |app| {
        let report = app.reporter();
        app.on_request = Some(Box::new(move |request| {
            let seen = format!("{} {}", request.method(), request.target());
            report.send(Event::Note(seen)).unwrap();
            match request.path() {
                "/health" => HttpResponse::ok_text("fine")
                    .header("X-Load", "0.5")
                    .unwrap(),
                "/nothing" => HttpResponse::new(204).unwrap().body("not sent"),
                "/big" => HttpResponse::ok_text("x".repeat(3_000_000)),
                _ => HttpResponse::not_found(),
            }
        }));
    });
    let ask = |request: &str| {
        let mut client = Client::raw(server.addr);
        client.write(request.as_bytes());
        client.read_answer()
    };
    let answer = ask("GET /health?x HTTP/1.1\r\nHost: a\r\n\r\n");
    server.expect_note("GET /health?x");
    assert_eq!((answer.status, &answer.body[..]), (200, "fine"));
    assert_eq!(answer.header("Content-Length"), Some("4"));
    assert_eq!(
        answer.header("Content-Type"),
        Some("text/plain; charset=utf-8")
    );
    assert_eq!(answer.header("Connection"), Some("close"));
    assert_eq!(answer.header("X-Load"), Some("0.5"));

    let answer = ask("HEAD /health HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, &answer.body[..]), (200, ""));
    assert_eq!(answer.header("Content-Length"), Some("4"));

    let answer = ask("POST /health HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nthe body!");
    assert_eq!((answer.status, &answer.body[..]), (200, "fine"));

    // HTTP/1.0 is good enough for a health check.
    assert_eq!(ask("GET /health HTTP/1.0\r\n\r\n").body, "fine");

    let answer = ask("DELETE /nothing HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!((answer.status, &answer.body[..]), (204, ""));
    assert_eq!(answer.header("Content-Length"), None);

    assert_eq!(ask("GET /other HTTP/1.1\r\nHost: a\r\n\r\n").status, 404);

    // More than the kernel takes at once.
    let answer = ask("GET /big HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.body.len(), 3_000_000);

    let stats = server.wait_for("no handshake", |stats| stats.handshakes.current == 0);
    assert_eq!((stats.requests, stats.opened), (7, 0));
    assert_eq!(stats.refused, wsloop::Refused::default());
}

/// A client that asks, ends its side and reads the answer is done when it has read it. Its end came with the request, and
/// under edge-triggered polling nobody announces it again.
#[test]
fn a_half_closed_plain_request_does_not_keep_its_slot() {
    let config = Config::default().close_timeout(Duration::from_secs(60));
    let server = Server::start(config, |app| {
        app.on_request = Some(Box::new(|_| HttpResponse::ok_text("fine")));
    });
    let hold = server.hold();
    let mut client = Client::raw(server.addr);
    client.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    drop(hold);
    assert_eq!(client.read_answer().body, "fine");
    server.wait_for("the slot is free", |stats| stats.handshakes.current == 0);
}

#[test]
fn a_request_with_frames_and_the_end_of_the_stream_in_one_go() {
    let server = Server::echo();
    let hold = server.hold();
    let mut client = Client::raw(server.addr);
    let wire = [
        upgrade_request("/", "").as_bytes(),
        &masked_frame(0x81, b"hi"),
    ]
    .concat();
    client.write(&wire);
    client.stream.shutdown(std::net::Shutdown::Write).unwrap();
    drop(hold);
    client.expect_upgrade();
    assert_eq!(client.read_frame(), Frame::text("hi"));
    client.expect_end();
    assert_eq!(server.expect_close().cause, wsloop::CloseCause::EndOfStream);
}

/// What a 101 can be made to be: larger than everything that the kernel takes for a client that does not read.
fn with_endless_answer(config: Config) -> Server {
    Server::start(config.send_buffer_size(Some(16_384)), |app| {
        app.on_upgrade = Some(Box::new(|_, response| {
            response.header("X-Long", &"x".repeat(2 << 20)).unwrap();
            Ok(())
        }));
    })
}

/// A client that offers little room.
fn narrow(server: &Server) -> Client {
    let client = Client::raw(server.addr);
    SockRef::from(&client.stream)
        .set_recv_buffer_size(16_384)
        .unwrap();
    client
}

#[test]
fn a_connection_opens_when_all_of_the_answer_is_written() {
    let server = with_endless_answer(Config::default().max_connections(1).initial_connections(1));
    let mut client = narrow(&server);
    let wire = [
        upgrade_request("/", "").as_bytes(),
        &masked_frame(0x81, b"early"),
    ]
    .concat();
    client.write(&wire);
    server.wait_for("a handshake under way", |stats| {
        stats.handshakes.current == 1
    });
    server.expect("upgrade", |event| {
        matches!(event, Event::Upgrade { .. }).then_some(())
    });
    assert_eq!(server.stats().opened, 0);
    // Its place is taken already.
    let mut late = Client::raw(server.addr);
    late.write(upgrade_request("/", "").as_bytes());
    assert_eq!(late.read_answer().status, 503);
    client.send_text("later");
    // The raw client looks at the whole head again with each read: too slow for this one.
    let mut read = 0;
    let mut tail = Vec::new();
    let mut chunk = vec![0; 1 << 20];
    while !tail.windows(4).any(|window| window == b"\r\n\r\n") {
        let count = std::io::Read::read(&mut client.stream, &mut chunk).unwrap();
        assert!(count > 0);
        read += count;
        tail.extend_from_slice(&chunk[..count]);
        tail.drain(..tail.len().saturating_sub(20));
    }
    assert!(read > 2 << 20);
    server.expect_open();
    assert_eq!(server.expect_message(), b"early");
    assert_eq!(server.expect_message(), b"later");
}

#[test]
fn the_session_comes_back_when_the_answer_cannot_be_written() {
    let config = Config::default().upgrade_timeout(Duration::from_millis(50));
    let server = with_endless_answer(config);
    let failure = |server: &Server| {
        server.expect("on_handshake_failed", |event| match event {
            Event::HandshakeFailed(failure) => Some(*failure),
            _ => None,
        })
    };
    let mut client = narrow(&server);
    client.write(upgrade_request("/", "").as_bytes());
    assert_eq!(failure(&server), HandshakeFailure::Timeout);

    let server = with_endless_answer(Config::default());
    let mut client = narrow(&server);
    client.write(upgrade_request("/", "").as_bytes());
    server.expect("upgrade", |event| {
        matches!(event, Event::Upgrade { .. }).then_some(())
    });
    drop(client);
    assert!(matches!(failure(&server), HandshakeFailure::Io(_)));
    let stats = server.wait_for("free", |stats| stats.handshakes.current == 0);
    assert_eq!((stats.opened, stats.refused.lost), (0, 1));

    let mut client = narrow(&server);
    client.write(upgrade_request("/", "").as_bytes());
    server.expect("upgrade", |event| {
        matches!(event, Event::Upgrade { .. }).then_some(())
    });
    let failed = server.with(|app, connections| {
        connections.shutdown(Duration::from_secs(5));
        app.reporter()
    });
    drop(failed);
    assert_eq!(failure(&server), HandshakeFailure::Shutdown);
}

fn socket_path(name: &str) -> PathBuf {
    std::env::temp_dir().join(format!("wsloop-e2e-{}-{name}", std::process::id()))
}

#[test]
fn several_listeners_share_a_loop() {
    let path = socket_path("listeners");
    let _ = std::fs::remove_file(&path);
    let has_ipv6 = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    let mut addresses: Vec<ListenAddr> = vec![
        ([127, 0, 0, 1], 0).into(),
        ([127, 0, 0, 1], 0).into(),
        path.clone().into(),
    ];
    if has_ipv6 {
        addresses.push(SocketAddr::from((Ipv6Addr::LOCALHOST, 0)).into());
        addresses.push(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)).into());
    }
    let server = Server::start_on(Config::default(), addresses, |app| {
        let report = app.reporter();
        app.on_upgrade = Some(Box::new(move |request, _| {
            let seen = format!("{:?} {}", request.listener(), request.peer_addr());
            report.send(Event::Note(seen)).unwrap();
            Ok(())
        }));
    });
    for (at, (id, address)) in server.listeners.iter().enumerate() {
        match address {
            ListenAddr::Tcp(address) => {
                let mut targets = vec![*address];
                if address.ip().is_unspecified() {
                    // Dual stack.
                    targets = vec![
                        (Ipv6Addr::LOCALHOST, address.port()).into(),
                        ([127, 0, 0, 1], address.port()).into(),
                    ];
                }
                for target in targets {
                    let mut client = Client::connect(target);
                    let local = client.stream.local_addr().unwrap();
                    let seen = match local {
                        SocketAddr::V4(v4) if address.is_ipv6() => {
                            format!("{:?} [::ffff:{}]:{}", Some(*id), v4.ip(), v4.port())
                        }
                        _ => format!("{:?} {local}", Some(*id)),
                    };
                    server.expect_note(&seen);
                    client.send_text(&format!("listener {at}"));
                    assert_eq!(client.read_frame(), Frame::text(&format!("listener {at}")));
                }
            }
            ListenAddr::Unix(path) => {
                let stream = UnixStream::connect(path).unwrap();
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                let mut client = Client::over(stream);
                client.upgrade("/", "");
                server.expect_note(&format!("{:?} unix", Some(*id)));
                for size in [0, 5, 4096, 70_000, 300_000] {
                    let payload = pattern(size, 1);
                    let wire = masked_frame(0x82, &payload);
                    let mut writer = client.stream.try_clone().unwrap();
                    let writing = std::thread::spawn(move || writer.write_all(&wire).unwrap());
                    assert_eq!(client.read_frame(), Frame::binary(payload));
                    writing.join().unwrap();
                }
                client.send_close(1000, "");
                client.expect_close(1000);
            }
            other => panic!("{other}"),
        }
    }
    let accepted = server.listeners.len() as u64 + u64::from(has_ipv6);
    assert_eq!(server.stats().accepted, accepted);
    drop(server);
    assert!(!path.exists(), "the socket's file is removed");
}

#[test]
fn a_unix_client_that_vanishes_is_noticed() {
    let path = socket_path("vanish");
    let _ = std::fs::remove_file(&path);
    let addresses = vec![([127, 0, 0, 1], 0).into(), path.clone().into()];
    let server = Server::start_on(Config::default(), addresses, |_| {});
    let mut client = Client::over(UnixStream::connect(&path).unwrap());
    client.upgrade("/", "");
    server.expect_open();
    drop(client);
    assert_eq!(server.expect_close().cause, wsloop::CloseCause::EndOfStream);
}

#[test]
fn a_listener_that_cannot_be_bound_is_an_error() {
    let mut event_loop = wsloop::EventLoop::<(), ()>::new(Config::default()).unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(event_loop.listen(taken.local_addr().unwrap()).is_err());
    assert!(
        event_loop
            .listen(PathBuf::from("/nonexistent/socket"))
            .is_err()
    );
    let file = socket_path("file");
    std::fs::write(&file, "a file of somebody's").unwrap();
    assert!(event_loop.listen(file.clone()).is_err());
    assert!(file.exists(), "somebody else's file stays");
    std::fs::remove_file(&file).unwrap();
}

#[test]
fn many_handshakes_at_once_beyond_the_handshake_pool() {
    let config = Config::default().max_handshakes(4).initial_handshakes(4);
    let server = Server::start(config, |_| {});
    // All connect, none speaks: four are let in, the others wait in the kernel.
    let mut clients: Vec<Client> = (0..40)
        .map(|_| Client::over(TcpStream::connect(server.addr).unwrap()))
        .collect();
    server.wait_for("a full pool", |stats| stats.handshakes.current == 4);
    for client in &mut clients {
        client.stream.set_read_timeout(Some(DEADLINE)).unwrap();
        client.write(upgrade_request("/", "").as_bytes());
    }
    for client in &mut clients {
        client.expect_upgrade();
    }
    let stats = server.stats();
    assert_eq!((stats.opened, stats.handshakes.peak), (40, 4));
}
