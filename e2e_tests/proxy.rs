//! The proxy of the examples, between a raw client and a server of the harness.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use wsloop::{CloseCause, CloseCode, Config, HttpResponse, Initiator, OriginPolicy};

use super::support::{
    Client, DEADLINE, EchoServer, Event, Frame, Server, masked_frame, pattern, upgrade_request,
};

fn in_front_of(server: &Server) -> EchoServer {
    EchoServer::proxy(&format!("ws://{}", server.addr), &[])
}

/// Writes while the test reads.
fn write_beside(client: &Client, wire: Vec<u8>) -> JoinHandle<()> {
    let mut stream = client.stream.try_clone().unwrap();
    thread::spawn(move || stream.write_all(&wire).unwrap())
}

/// A server by hand: accepts one connection and reads its request.
fn raw_upstream(connect_timeout: &str) -> (EchoServer, TcpListener) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("ws://{}", listener.local_addr().unwrap());
    (
        EchoServer::proxy(&url, &["--connect-timeout", connect_timeout]),
        listener,
    )
}

fn accept_raw(listener: &TcpListener) -> (TcpStream, String) {
    let (mut stream, _) = listener.accept().unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        request.push(byte[0]);
    }
    (stream, String::from_utf8(request).unwrap())
}

fn ask(proxy: &EchoServer) -> Client {
    let mut client = Client::raw(proxy.addr);
    client.write(upgrade_request("/", "").as_bytes());
    client
}

/// Waits until a number has not grown for a while; returns it.
fn settled(mut number: impl FnMut() -> u64) -> u64 {
    let end = Instant::now() + DEADLINE;
    let mut before = number();
    loop {
        thread::sleep(Duration::from_millis(300));
        let now = number();
        if now == before {
            return now;
        }
        assert!(Instant::now() < end, "it does not stop at {now}");
        before = now;
    }
}

#[test]
fn messages_of_all_sizes_come_back_through_it() {
    let server = Server::echo();
    let proxy = in_front_of(&server);
    let mut client = Client::connect(proxy.addr);
    for len in [0, 1, 125, 126, 65_535, 65_536, 1 << 20, 16 << 20] {
        let payload = pattern(len, len as u32);
        let sender = write_beside(&client, masked_frame(0x82, &payload));
        let (opcode, echoed) = client.read_message();
        sender.join().unwrap();
        assert!(opcode == 2 && echoed == payload, "{len}");
    }
    client.send_text("aß€😀");
    let (opcode, echoed) = client.read_message();
    assert_eq!((opcode, &*echoed), (1, "aß€😀".as_bytes()));
    client.send_ping(b"local");
    assert_eq!(client.read_frame(), Frame::pong(b"local"));
    assert_eq!(server.stats().received.pings, 0);
    // The message of 16 MiB was never in it as a whole, in either direction.
    let resident = proxy.resident();
    assert!(resident < 16 << 20, "{resident}");
}

#[test]
fn a_fragment_is_passed_on_before_the_rest_is_sent() {
    let server = Server::start(Config::default(), |app| {
        app.on_open = Some(Box::new(|conn| conn.stream_messages(true)));
    });
    let proxy = in_front_of(&server);
    let mut client = Client::connect(proxy.addr);
    client.write(&masked_frame(0x01, b"first, "));
    let arrived = server.expect("the first fragment", |event| match event {
        Event::Fragment(_, _, bytes, true, false) => Some(bytes.clone()),
        _ => None,
    });
    assert_eq!(arrived, b"first, ");
    // And back, while the message is still open on both ways.
    let echoed = client.read_frame();
    assert_eq!(
        (echoed.fin, echoed.opcode, &*echoed.payload),
        (false, 1, &b"first, "[..])
    );
    // A part of a frame is passed on too.
    let wire = masked_frame(0x80, &pattern(1000, 9).map_ascii());
    let (start, rest) = wire.split_at(200);
    client.write(start);
    let echoed = client.read_frame();
    assert_eq!((echoed.fin, echoed.opcode), (false, 0));
    client.write(rest);
    let mut payload = echoed.payload;
    loop {
        let frame = client.read_frame();
        payload.extend(frame.payload);
        if frame.fin {
            break;
        }
    }
    assert_eq!(payload, pattern(1000, 9).map_ascii());
}

trait MapAscii {
    fn map_ascii(self) -> Vec<u8>;
}

impl MapAscii for Vec<u8> {
    fn map_ascii(self) -> Vec<u8> {
        self.into_iter().map(|byte| byte & 0x7F).collect()
    }
}

/// More than all buffers of the kernel on the way.
const FLOOD: usize = 64;

fn flood() -> Vec<u8> {
    (0..FLOOD as u32)
        .flat_map(|at| masked_frame(0x82, &pattern(1 << 20, at)))
        .collect()
}

#[test]
fn a_client_that_does_not_read_stops_both_ways_and_loses_nothing() {
    let server = Server::echo();
    let proxy = in_front_of(&server);
    let mut client = Client::connect(proxy.addr);
    let sender = write_beside(&client, flood());
    let received = settled(|| server.stats().received.bytes);
    assert!(
        received < (FLOOD as u64 - 1) << 20,
        "it stopped: {received}"
    );
    let resident = proxy.resident();
    assert!(resident < 16 << 20, "{resident}");
    for at in 0..FLOOD as u32 {
        let (opcode, echoed) = client.read_message();
        assert!(opcode == 2 && echoed == pattern(1 << 20, at), "{at}");
    }
    sender.join().unwrap();
    assert!(proxy.resident() < 16 << 20);
}

#[test]
fn an_upstream_server_that_does_not_read_stops_the_client() {
    let server = Server::start(Config::default(), |app| {
        app.on_open = Some(Box::new(|conn| conn.pause_reads()));
        app.on_message = Some(Box::new(|_, _| {}));
    });
    let proxy = in_front_of(&server);
    let client = Client::connect(proxy.addr);
    let id = server.expect_open();
    let sender = write_beside(&client, flood());
    settled(|| proxy.ticks());
    assert!(!sender.is_finished(), "the kernel took all of it");
    let resident = proxy.resident();
    assert!(resident < 16 << 20, "{resident}");
    server.with(move |_, connections| connections.get(id).unwrap().resume_reads());
    for at in 0..FLOOD as u32 {
        assert!(server.expect_message() == pattern(1 << 20, at), "{at}");
    }
    sender.join().unwrap();
}

#[test]
fn the_clients_close_is_passed_on() {
    let server = Server::echo();
    let proxy = in_front_of(&server);
    let mut client = Client::connect(proxy.addr);
    client.send_close(4000, "bye");
    assert_eq!(client.expect_close(4000).payload[2..], *b"bye");
    let close = server.expect_close();
    assert_eq!(close.cause, CloseCause::Peer);
    assert_eq!(
        (close.code, &*close.reason),
        (Some(CloseCode::new(4000)), "bye")
    );

    let mut client = Client::connect(proxy.addr);
    client.write(&masked_frame(0x88, b""));
    assert_eq!(client.read_frame().payload, b"");
    client.expect_end();
    let close = server.expect_close();
    assert_eq!((close.cause, close.code), (CloseCause::Peer, None));

    let client = Client::connect(proxy.addr);
    drop(client);
    let close = server.expect_close();
    assert_eq!(close.code, Some(CloseCode::GOING_AWAY));

    let mut client = Client::connect(proxy.addr);
    client.write(&masked_frame(0x83, b""));
    client.expect_close(1002);
    assert_eq!(server.expect_close().code, Some(CloseCode::GOING_AWAY));
}

#[test]
fn the_upstream_servers_close_is_passed_on() {
    let server = Server::echo();
    let proxy = in_front_of(&server);
    for code in [1000, 1001, 1011, 4321] {
        let mut client = Client::connect(proxy.addr);
        let id = server.expect_open();
        server.with(move |_, connections| {
            let mut conn = connections.get(id).unwrap();
            // What was sent before arrives before.
            conn.send_copy(wsloop::MessageKind::Text, b"last words")
                .unwrap();
            conn.close(CloseCode::new(code), "why").unwrap();
        });
        assert_eq!(client.read_frame(), Frame::text("last words"));
        assert_eq!(client.read_frame(), Frame::close(code, "why"));
        client.send_close(code, "");
        client.expect_end();
    }
    let mut client = Client::connect(proxy.addr);
    let id = server.expect_open();
    server.with(move |_, connections| connections.get(id).unwrap().close_empty());
    let frame = client.read_frame();
    assert_eq!((frame.opcode, &*frame.payload), (8, &b""[..]));
}

#[test]
fn an_upstream_server_that_vanishes_is_a_bad_gateway() {
    let (proxy, listener) = raw_upstream("60");
    let mut client = ask(&proxy);
    let (mut stream, request) = accept_raw(&listener);
    let key = request
        .lines()
        .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "));
    let accept = wsloop::protocol::handshake::accept_key(key.unwrap().as_bytes());
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {}\r\n\r\n",
        std::str::from_utf8(&accept).unwrap()
    );
    // With a message behind the answer, before there is a client to pass it on to.
    let message = super::support::frame(0x81, b"early");
    stream
        .write_all(&[answer.as_bytes(), &message].concat())
        .unwrap();
    client.expect_upgrade();
    assert_eq!(client.read_message(), (1, b"early".to_vec()));
    drop(stream);
    client.expect_close(1014);
}

#[test]
fn a_refusal_comes_before_the_101() {
    let server = Server::start(Config::default(), |app| {
        app.on_upgrade = Some(Box::new(|request, _| {
            let status = request.path()[1..].parse().unwrap();
            Err(HttpResponse::new(status).unwrap())
        }));
    });
    let proxy = in_front_of(&server);
    for status in [401, 403, 404, 500, 302] {
        let mut client = Client::raw(proxy.addr);
        client.write(upgrade_request(&format!("/{status}"), "").as_bytes());
        assert_eq!(client.read_answer().status, 502, "{status}");
    }
    // Nobody there.
    drop(server);
    let mut client = ask(&proxy);
    assert_eq!(client.read_answer().status, 502);
}

#[test]
fn an_upstream_server_that_does_not_answer_is_a_gateway_timeout() {
    let (proxy, listener) = raw_upstream("1");
    let mut client = ask(&proxy);
    let _upstream = accept_raw(&listener);
    assert_eq!(client.read_answer().status, 504);
}

#[test]
fn a_client_that_leaves_takes_the_attempt_with_it() {
    let (proxy, listener) = raw_upstream("60");
    let client = ask(&proxy);
    let (mut stream, _) = accept_raw(&listener);
    // Long before the timeout.
    drop(client);
    match stream.read(&mut [0; 10]) {
        Ok(0) => {}
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_the_request_says_is_passed_on_and_what_the_answer_says_back() {
    let config = Config::default().allowed_origins(OriginPolicy::Any);
    let server = Server::start(config, |app| {
        app.on_upgrade = Some(Box::new(|request, response| {
            assert_eq!(request.target(), "/chat?room=1");
            assert!(request.subprotocols().eq(["v1", "v2"]));
            assert_eq!(request.origin(), Some("http://page"));
            assert_eq!(request.header("Authorization"), Some("Bearer x"));
            assert!(request.header_values("Cookie").eq([b"a=1", b"b=2"]));
            assert_eq!(request.header("User-Agent"), Some("test/1"));
            assert_eq!(request.header("X-Other"), None);
            assert_ne!(request.host(), Some("localhost"));
            response.subprotocol("v2").unwrap();
            response.header("Set-Cookie", "c=3").unwrap();
            response.header("Set-Cookie", "d=4; Path=/").unwrap();
            response.header("X-Other", "not passed").unwrap();
            Ok(())
        }));
    });
    let proxy = in_front_of(&server);
    let more = "Sec-WebSocket-Protocol: v1, v2\r\nOrigin: http://page\r\nAuthorization: Bearer x\r\n\
        Cookie: a=1\r\nCookie: b=2\r\nUser-Agent: test/1\r\nX-Other: y\r\n";
    let (_client, answer) = Client::connect_with(proxy.addr, "/chat?room=1", more);
    assert_eq!(answer.header("sec-websocket-protocol"), Some("v2"));
    let cookies = answer
        .head
        .lines()
        .filter(|line| line.starts_with("Set-Cookie"));
    assert!(cookies.eq(["Set-Cookie: c=3", "Set-Cookie: d=4; Path=/"]));
    assert_eq!(answer.header("x-other"), None);
}

#[test]
fn a_stop_closes_both_sides() {
    let server = Server::echo();
    let mut proxy = in_front_of(&server);
    let mut client = Client::connect(proxy.addr);
    proxy.signal("TERM");
    client.expect_close(1001);
    let close = server.expect_close();
    assert_eq!(
        (close.initiator, close.code),
        (Initiator::Remote, Some(CloseCode::GOING_AWAY))
    );
    assert!(proxy.wait().success());
}

/// The upstream server reads nothing while its answers wait. A proxy that did the same towards it would wait for ever.
#[test]
fn a_server_that_answers_more_than_it_is_asked_is_served_to_the_end() {
    const QUESTIONS: usize = 300;
    const ANSWER: usize = 256 * 1024;
    let config = Config::default().recv_buffer_size(Some(4096));
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, message| {
            conn.send_copy(message.kind(), &[7; ANSWER]).unwrap();
        }));
    });
    let proxy = in_front_of(&server);
    let mut client = Client::connect(proxy.addr);
    let questions = masked_frame(0x82, &[1; 64 * 1024]).repeat(QUESTIONS);
    let sender = write_beside(&client, questions);
    for at in 0..QUESTIONS {
        let (_, answer) = client.read_message();
        assert_eq!(answer.len(), ANSWER, "{at}");
    }
    sender.join().unwrap();
}
