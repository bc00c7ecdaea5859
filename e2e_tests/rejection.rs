use std::{
    io::Write,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::channel,
    },
    time::Duration,
};

use socket2::SockRef;
use wsloop::{Config, HttpResponse, Refused, protocol::handshake::HeaderError};

use super::support::{
    Client, Event, Frame, HttpAnswer, Server, Stopped, masked_frame, upgrade_request,
};

/// A request with its good fields, those left out whose line starts with `without`, and with `with` behind them.
fn request(line: &str, without: &str, with: &[&str]) -> String {
    let good = [
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Version: 13",
    ];
    let mut lines = vec![line];
    lines.extend(
        good.into_iter()
            .filter(|field| without.is_empty() || !field.starts_with(without)),
    );
    lines.extend(with);
    format!("{}\r\n\r\n", lines.join("\r\n"))
}

fn fields(without: &str, with: &[&str]) -> String {
    request("GET / HTTP/1.1", without, with)
}

fn ask(server: &Server, request: &[u8]) -> HttpAnswer {
    let mut client = Client::raw(server.addr);
    client.write(request);
    client.read_answer()
}

/// The connection ends after it, and it says so; there is a body that says why, as long as announced.
fn assert_final(answer: &HttpAnswer, what: &str) {
    let connection = answer.header("Connection").unwrap_or_default();
    assert!(connection.contains("close"), "{what}: {answer:?}");
    assert!(!answer.body.is_empty(), "{what}: {answer:?}");
    let length = answer.body.len().to_string();
    assert_eq!(answer.header("Content-Length"), Some(&length[..]), "{what}");
}

#[test]
fn every_broken_request_gets_its_status() {
    let key = |value: &str| {
        fields(
            "Sec-WebSocket-Key",
            &[&format!("Sec-WebSocket-Key: {value}")],
        )
    };
    let version = |value: &str| {
        fields(
            "Sec-WebSocket-Version",
            &[&format!("Sec-WebSocket-Version: {value}")],
        )
    };
    let protocols = |value: &str| fields("", &[&format!("Sec-WebSocket-Protocol: {value}")]);
    let too_many_offers: Vec<String> = (0..65).map(|at| format!("p{at}")).collect();
    let many_fields: Vec<String> = (0..60).map(|at| format!("X-{at}: v")).collect();
    let many_fields: Vec<&str> = many_fields.iter().map(|field| &field[..]).collect();
    let long = format!("X-Long: {}", "x".repeat(8192));
    let table = [
        (400, request("GET / HTTP/1.0", "", &[])),
        (400, request("GET / HTTP/2.0", "", &[])),
        (400, request("GET /", "", &[])),
        (400, request("GET /a b HTTP/1.1", "", &[])),
        (400, request("GET /a#b HTTP/1.1", "", &[])),
        (400, request("GET * HTTP/1.1", "", &[])),
        (400, request("GET ws://localhost/ HTTP/1.1", "", &[])),
        (400, fields("Host", &[])),
        (400, fields("Host", &["Host:"])),
        (400, fields("", &["Host: other"])),
        (400, fields("Host", &["Host: a, b"])),
        (400, fields("Host", &["Host: a/b"])),
        (400, fields("Connection", &[])),
        (400, fields("Connection", &["Connection: keep-alive"])),
        (400, fields("Connection", &["Connection: Upgraded"])),
        (400, fields("Sec-WebSocket-Key", &[])),
        (400, key("")),
        (400, key("short")),
        (400, key("dGhlIHNhbXBsZSBub25jZQ=")),
        (400, key("dGhlIHNhbXBsZSBub25jZQ===")),
        (400, key("dGhlIHNhbXBsZSBub25jZR==")),
        (400, key("dGhlIHNhbXBsZSBub25j!Q==")),
        (400, key("AAAAAAAAAAAAAAAAAAAAAAAA")),
        (
            400,
            fields("", &["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="]),
        ),
        (400, fields("Sec-WebSocket-Version", &[])),
        (400, fields("", &["Sec-WebSocket-Version: 13"])),
        (400, fields("", &["Content-Length: 5"])),
        (400, fields("", &["Transfer-Encoding: chunked"])),
        (400, protocols("")),
        (400, protocols("a,,b")),
        (400, protocols("a b")),
        (400, protocols("a, b, a")),
        (400, protocols(&too_many_offers.join(","))),
        (400, fields("", &["No colon"])),
        (400, fields("", &["Space : before"])),
        (400, fields("", &[": no name"])),
        (400, fields("", &["X-Folded: a\r\n b"])),
        (400, fields("", &["X-Nul: a\0b"])),
        (400, fields("", &["X-Bare: a\nX-Feed: b"])),
        (400, fields("", &["X-Return: a\rb"])),
        (400, "\r\n\r\n".to_owned()),
        (400, "complete nonsense\r\n\r\n".to_owned()),
        (405, request("POST / HTTP/1.1", "", &[])),
        (405, request("HEAD2 / HTTP/1.1", "", &[])),
        (405, request("get / HTTP/1.1", "", &[])),
        (426, version("12")),
        (426, version("8")),
        (426, version("13, 8")),
        (426, version("")),
        (426, version("013")),
        (431, fields("", &[&long])),
        (431, fields("", &many_fields)),
    ];
    let server = Server::echo();
    let mut counted = Refused::default();
    for (status, request) in &table {
        let what = format!("{:?}", &request[..request.len().min(400)]);
        let answer = ask(&server, request.as_bytes());
        assert_eq!(answer.status, *status, "{what}: {answer:?}");
        assert_final(&answer, &what);
        let allow = answer.header("Allow");
        assert_eq!(allow, (*status == 405).then_some("GET"), "{what}");
        let version = answer.header("Sec-WebSocket-Version");
        assert_eq!(version, (*status == 426).then_some("13"), "{what}");
        match status {
            426 => counted.version += 1,
            431 => counted.head_too_large += 1,
            _ => counted.malformed += 1,
        }
    }
    let stats = server.wait_for("no handshake", |stats| stats.handshakes.current == 0);
    assert_eq!(stats.refused, counted);
    assert_eq!(stats.opened, 0);
    assert_eq!(server.events(), [], "the application was not asked");
}

#[test]
fn a_head_or_field_count_at_the_limit_is_accepted_and_one_above_is_not() {
    let config = Config::default().max_head_size(1024).max_header_fields(10);
    let server = Server::start(config, |_| {});
    let with_len = |len: usize| {
        let bare = upgrade_request("/", "X: \r\n").len();
        upgrade_request("/", &format!("X: {}\r\n", "x".repeat(len - bare)))
    };
    let with_fields = |count: usize| upgrade_request("/", &"X: y\r\n".repeat(count - 5));
    for (request, status) in [
        (with_len(1024), 101),
        (with_len(1025), 431),
        (with_fields(10), 101),
        (with_fields(11), 431),
    ] {
        for cut in [0, 900.min(request.len() - 1)] {
            let mut client = Client::raw(server.addr);
            client.write(&request.as_bytes()[..cut]);
            client.write(&request.as_bytes()[cut..]);
            assert_eq!(client.read_head().status, status, "{}", request.len());
        }
    }
}

/// Advisory class: a head without an end (tungstenite CVE-2023-43669, websocket-driver).
#[test]
fn advisory_endless_head_is_cut_off_at_its_limit() {
    let server = Server::echo();
    for start in ["GET / HTTP/1.1\r\nX: ", "x", "GET /"] {
        let mut client = Client::raw(server.addr);
        client.write(start.as_bytes());
        let mut writer = client.stream.try_clone().unwrap();
        let flood = std::thread::spawn(move || {
            // The server ends it at some point.
            for _ in 0..2000 {
                if writer.write_all(&[b'x'; 500]).is_err() {
                    break;
                }
            }
        });
        assert_eq!(client.read_head().status, 431);
        flood.join().unwrap();
    }
    let stats = server.wait_for("nothing left", |stats| {
        stats.handshakes.current == 0 && stats.read_buffers.current == 0
    });
    assert_eq!(stats.refused.head_too_large, 3);
    assert_eq!(stats.large_buffers.current, 0);
}

/// Advisory class: quadratic parsing of header lists (ws CVE-2021-32640, websocket-extensions).
#[test]
fn advisory_header_lists_of_nothing_are_linear() {
    let server = Server::echo();
    let filler = |unit: &str| unit.repeat(7000 / unit.len());
    for field in [
        format!("Sec-WebSocket-Protocol: {}", filler(",")),
        format!("Sec-WebSocket-Protocol: a{}b", filler(" ")),
        format!("Sec-WebSocket-Extensions: {}", filler("x;a=\"")),
        format!("Sec-WebSocket-Extensions: a; b=\"{}", filler("\\")),
        format!("Connection: {}", filler(" ,\t,")),
        format!("Upgrade: {}", filler("a ")),
    ] {
        let mut clients: Vec<Client> = (0..100).map(|_| Client::raw(server.addr)).collect();
        for client in &mut clients {
            client.write(fields("", &[&field]).as_bytes());
        }
        for client in &mut clients {
            assert!(matches!(client.read_head().status, 101 | 400));
        }
    }
}

#[test]
fn what_is_not_http_is_refused_and_hurts_nobody() {
    let config = Config::default().upgrade_timeout(Duration::from_millis(50));
    let server = Server::start(config, |_| {});
    // The preface of HTTP/2 looks like a request and is refused at once.
    let answer = ask(
        &server,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    );
    assert_eq!(answer.status, 400);
    // What cannot become a request is refused with its first byte.
    let hello = b"\x16\x03\x01\x02\0\x01\0\x01\xFC\x03\x03 a client hello of TLS";
    let garbage: Vec<u8> = (0..500u32).map(|at| (at * 7 % 256) as u8).collect();
    let frame = masked_frame(0x81, b"a frame without a handshake");
    for bytes in [&hello[..], &garbage, &frame] {
        assert_eq!(ask(&server, bytes).status, 400, "{bytes:02x?}");
    }
    // What could, but never is a whole head, waits for the deadline.
    for bytes in [b"\r\n", &b"\n\n\n\n"[..], b"GET / HTTP/1.1\n\n"] {
        let answer = ask(&server, bytes);
        assert_eq!(answer.status, 408, "{bytes:02x?}");
        assert_final(&answer, "timeout");
    }
    // Who says nothing at all is not answered.
    let mut client = Client::raw(server.addr);
    assert_eq!(client.read_to_end(), b"");
    let stats = server.wait_for("nothing left", |stats| {
        stats.handshakes.current == 0 && stats.read_buffers.current == 0
    });
    assert_eq!(stats.refused.timeout, 4);
    assert_eq!(stats.refused.malformed, 4);
    let mut client = server.connect();
    client.send_text("as ever");
    assert_eq!(client.read_frame(), Frame::text("as ever"));
}

/// Advisory class: a dripped head that never ends. The deadline is for the whole of it, whatever arrives.
#[test]
fn advisory_dripped_head_does_not_outlive_the_deadline() {
    let config = Config::default().upgrade_timeout(Duration::from_millis(100));
    let server = Server::start(config, |_| {});
    let mut client = Client::raw(server.addr);
    let mut writer = client.stream.try_clone().unwrap();
    let drip = std::thread::spawn(move || {
        // The pace is what is tested: always something, never enough.
        while writer.write_all(b"x").is_ok() {
            std::thread::sleep(Duration::from_millis(2));
        }
    });
    assert_eq!(client.read_head().status, 408);
    assert_eq!(server.stats().refused.timeout, 1);
    drop(client.stream.shutdown(std::net::Shutdown::Both));
    drip.join().unwrap();
}

#[test]
fn the_application_refuses_with_an_answer_of_its_own() {
    let server = Server::start(Config::default(), |app| {
        app.on_upgrade = Some(Box::new(|request, response| {
            // What was added to the 101 does not leak into the refusal.
            response.header("X-Secret", "1").unwrap();
            Err(match request.path() {
                "/401" => HttpResponse::unauthorized("Bearer realm=\"x\"").unwrap(),
                "/403" => HttpResponse::forbidden(),
                "/404" => HttpResponse::not_found(),
                "/429" => HttpResponse::new(429)
                    .unwrap()
                    .header("Retry-After", "30")
                    .unwrap()
                    .header("Content-Type", "application/json")
                    .unwrap()
                    .body(r#"{"error":"slow down"}"#),
                "/302" => HttpResponse::new(302)
                    .unwrap()
                    .header("Location", "wss://elsewhere.example/")
                    .unwrap(),
                _ => HttpResponse::new(599).unwrap().text("ü"),
            })
        }));
    });
    let get = |path: &str| ask(&server, upgrade_request(path, "").as_bytes());
    let answer = get("/401");
    assert_eq!(answer.status, 401);
    assert_eq!(
        answer.header("WWW-Authenticate"),
        Some("Bearer realm=\"x\"")
    );
    assert_final(&answer, "401");
    for status in [403, 404] {
        let answer = get(&format!("/{status}"));
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("X-Secret"), None);
        assert_final(&answer, "refusal");
    }
    let answer = get("/429");
    assert_eq!(
        (answer.status, &answer.body[..]),
        (429, r#"{"error":"slow down"}"#)
    );
    assert_eq!(answer.header("Retry-After"), Some("30"));
    assert_eq!(answer.header("Content-Type"), Some("application/json"));
    let answer = get("/302");
    assert_eq!((answer.status, &answer.body[..]), (302, ""));
    assert_eq!(answer.header("Location"), Some("wss://elsewhere.example/"));
    let answer = get("/other");
    assert_eq!((answer.status, &answer.body[..]), (599, "ü"));
    let stats = server.wait_for("no handshake", |stats| stats.handshakes.current == 0);
    assert_eq!((stats.refused.application, stats.opened), (6, 0));
    // Neither opened nor failed: the session never was.
    let events = server.events();
    assert!(
        events
            .iter()
            .all(|event| matches!(event, Event::Upgrade { .. })),
        "{events:?}"
    );
}

/// Frames behind a request that is refused are nobody's.
#[test]
fn frames_behind_a_refused_request_are_not_delivered() {
    let server = Server::start(Config::default(), |app| {
        app.on_upgrade = Some(Box::new(|_, _| Err(HttpResponse::forbidden())));
    });
    let wire = [
        upgrade_request("/", "").as_bytes(),
        &masked_frame(0x81, b"x"),
    ]
    .concat();
    assert_eq!(ask(&server, &wire).status, 403);
    let events = server.events();
    assert_eq!(events.len(), 1, "{events:?}");
}

#[test]
fn plain_requests_are_told_to_upgrade_by_default() {
    struct Bare;
    impl wsloop::Handler for Bare {
        type Session = ();
        fn on_upgrade(
            &mut self,
            _: &wsloop::Request<'_>,
            _: &mut wsloop::Response<'_>,
        ) -> Result<(), HttpResponse> {
            Ok(())
        }
        fn on_message(&mut self, _: &mut wsloop::Conn<'_, ()>, _: wsloop::Message<'_>) {}
    }
    let mut event_loop = wsloop::EventLoop::new(Config::default()).unwrap();
    let listener = event_loop.listen(([127, 0, 0, 1], 0)).unwrap();
    let wsloop::ListenAddr::Tcp(addr) = event_loop.local_addr(listener).unwrap() else {
        panic!()
    };
    let client = std::thread::spawn(move || {
        let ask = |request: &str| {
            let mut client = Client::raw(addr);
            client.write(request.as_bytes());
            client.read_answer()
        };
        let answer = ask("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(answer.status, 426);
        assert_eq!(answer.header("Upgrade"), Some("websocket"));
        assert_eq!(answer.header("Sec-WebSocket-Version"), Some("13"));
        assert_final(&answer, "426");
        let answer = ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!((answer.status, &answer.body[..]), (426, ""));
        let answer = ask("PUT / HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(answer.status, 405);
        assert!(answer.header("Allow").unwrap().contains("GET"));
    });
    while !client.is_finished() {
        let _ = event_loop
            .turn(&mut Bare, Some(Duration::from_millis(5)))
            .unwrap();
    }
    client.join().unwrap();
}

#[test]
fn with_no_connection_free_the_answer_is_503_before_the_application_is_asked() {
    let config = Config::default()
        .max_connections(2)
        .initial_connections(2)
        .retry_after(7);
    let upgrades = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&upgrades);
    let server = Server::start(config, move |app| {
        app.on_upgrade = Some(Box::new(move |_, _| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok(())
        }));
        app.on_request = Some(Box::new(|_| HttpResponse::ok_text("full, but well")));
    });
    let mut first = server.connect();
    let mut second = server.connect();
    for round in 1..=3 {
        let answer = ask(&server, upgrade_request("/", "").as_bytes());
        assert_eq!(answer.status, 503);
        assert_eq!(answer.header("Retry-After"), Some("7"));
        assert_final(&answer, "503");
        assert_eq!(server.stats().refused.no_connection, round);
    }
    assert_eq!(upgrades.load(Ordering::SeqCst), 2);
    // Plain requests need no connection.
    let answer = ask(&server, b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n");
    assert_eq!(answer.body, "full, but well");
    first.send_close(1000, "");
    first.expect_close(1000);
    server.wait_for("a free connection", |stats| stats.connections.current == 1);
    let mut third = server.connect();
    for client in [&mut second, &mut third] {
        client.send_text("here");
        assert_eq!(client.read_frame(), Frame::text("here"));
    }
    assert_eq!(
        ask(&server, upgrade_request("/", "").as_bytes()).status,
        503
    );
    assert_eq!(server.stats().connections.peak, 2);
}

/// Header injection: a line end in a value would be a header field of the attacker's choice.
#[test]
fn advisory_header_injection_is_a_typed_error() {
    let server = Server::start(Config::default(), |app| {
        app.on_upgrade = Some(Box::new(|_, response| {
            use HeaderError::*;
            for value in [
                "a\r\nSet-Cookie: evil=1",
                "a\nb",
                "a\rb",
                "a\0b",
                "\x7F",
                "\x1B",
            ] {
                assert_eq!(response.header("X-Fine", value), Err(InvalidValue));
                let refusal = HttpResponse::forbidden().header("X-Fine", value);
                assert_eq!(refusal.unwrap_err(), InvalidValue);
                assert_eq!(HttpResponse::unauthorized(value).unwrap_err(), InvalidValue);
            }
            for name in ["", "a b", "a:b", "a\r\nb", "ä", "a\0", "a\t"] {
                assert_eq!(response.header(name, "fine"), Err(InvalidName), "{name:?}");
                let refusal = HttpResponse::forbidden().header(name, "fine");
                assert_eq!(refusal.unwrap_err(), InvalidName, "{name:?}");
            }
            for name in [
                "Connection",
                "upgrade",
                "CONTENT-LENGTH",
                "Transfer-Encoding",
                "Sec-WebSocket-Accept",
                "sec-websocket-protocol",
                "Sec-WebSocket-Extensions",
            ] {
                assert!(
                    matches!(response.header(name, "x"), Err(Reserved(_))),
                    "{name}"
                );
            }
            assert!(matches!(HttpResponse::new(101), Err(InvalidStatus(101))));
            assert!(matches!(HttpResponse::new(600), Err(InvalidStatus(600))));
            assert_eq!(response.subprotocol("a\r\nb"), Err(NotOffered));
            response.header("X-Fine", "tab\tand ü").unwrap();
            Ok(())
        }));
    });
    let (_client, answer) = Client::connect_with(server.addr, "/", "");
    assert_eq!(answer.head.lines().count(), 6, "{answer:?}");
    assert_eq!(answer.header("X-Fine"), Some("tab\tand ü"));
}

#[test]
fn a_client_that_goes_away_in_its_head_leaves_nothing() {
    let server = Server::echo();
    let whole = upgrade_request("/", &format!("X: {}\r\n", "x".repeat(5000)));
    for (at, len) in [0, 1, 10, 200, 5000, whole.len() - 1]
        .into_iter()
        .enumerate()
    {
        for reset in [false, true] {
            let mut client = Client::raw(server.addr);
            client.write(&whole.as_bytes()[..len]);
            if reset {
                let linger = Some(Duration::ZERO);
                SockRef::from(&client.stream).set_linger(linger).unwrap();
            }
            drop(client);
            let lost = (at * 2 + usize::from(reset) + 1) as u64;
            let stats = server.wait_for("lost", |stats| {
                stats.refused.lost == lost && stats.handshakes.current == 0
            });
            assert_eq!(stats.read_buffers.current + stats.large_buffers.current, 0);
        }
    }
}

#[test]
fn a_body_behind_a_refused_request_does_not_eat_the_answer() {
    let server = Server::start(Config::default(), |app| {
        app.on_request = Some(Box::new(|_| HttpResponse::not_found()));
    });
    for _ in 0..10 {
        let mut client = Client::raw(server.addr);
        let mut writer = client.stream.try_clone().unwrap();
        let flood = std::thread::spawn(move || {
            let head = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 1048576\r\n\r\n";
            let wire = [&head[..], &vec![b'x'; 1 << 20]].concat();
            // All of it is taken: the server does not cut an amount as small as this.
            writer.write_all(&wire).unwrap();
        });
        assert_eq!(client.read_answer().status, 404);
        flood.join().unwrap();
    }
    let Stopped { shutdown, stats } = server.stop(Duration::from_secs(10));
    assert!(shutdown.is_clean());
    assert_eq!(stats.requests, 10);
}

#[test]
fn a_flood_behind_a_refused_request_ends_and_hurts_nobody() {
    let config = Config::default().close_timeout(Duration::from_millis(200));
    let server = Server::start(config, |app| {
        app.on_request = Some(Box::new(|_| HttpResponse::not_found()));
    });
    let mut good = server.connect();
    let (ended, flood_ended) = channel();
    let mut client = Client::raw(server.addr);
    client.write(b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n");
    let mut writer = client.stream.try_clone().unwrap();
    std::thread::spawn(move || {
        let chunk = vec![b'x'; 1 << 16];
        let mut written = 0u64;
        while writer.write_all(&chunk).is_ok() {
            written += 1 << 16;
        }
        let _ = ended.send(written);
    });
    for _ in 0..50 {
        good.send_text("meanwhile");
        assert_eq!(good.read_frame(), Frame::text("meanwhile"));
    }
    let written = flood_ended.recv_timeout(super::support::DEADLINE);
    assert!(written.is_ok(), "the flood is cut off");
    server.wait_for("no handshake", |stats| stats.handshakes.current == 0);
    drop(client);
}

/// Buffers for heads have run out: an honest answer instead of growth.
#[test]
fn with_no_buffer_free_for_a_head_the_answer_is_503() {
    let config = Config::default()
        .max_read_buffers(2)
        .initial_read_buffers(0);
    let server = Server::start(config, |_| {});
    let mut slow: Vec<Client> = (0..2).map(|_| Client::raw(server.addr)).collect();
    let request = upgrade_request("/", "");
    let (start, rest) = request.as_bytes().split_at(20);
    for client in &mut slow {
        client.write(start);
    }
    server.wait_for("both leased", |stats| stats.read_buffers.current == 2);
    let answer = ask(&server, start);
    assert_eq!(answer.status, 503);
    assert!(answer.header("Retry-After").is_some());
    assert_eq!(server.stats().refused.no_buffer, 1);
    // A head in one piece needs none.
    drop(server.connect());
    for client in &mut slow {
        client.write(rest);
        client.expect_upgrade();
    }
}
