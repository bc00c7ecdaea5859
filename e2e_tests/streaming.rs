use wsloop::{
    CloseCause, CloseCode, Config, ConnId, Frames, MessageKind, ProtocolError, SendErrorKind,
};

use super::support::{Event, Frame, Server, masked_frame, pattern};

const TEXT: MessageKind = MessageKind::Text;
const BINARY: MessageKind = MessageKind::Binary;

/// A server whose connections stream, and echo piece by piece.
fn streaming(config: Config) -> Server {
    Server::start(config, |app| {
        app.on_open = Some(Box::new(|conn| conn.stream_messages(true)));
    })
}

/// The next piece: its bytes, and whether it is the first and the last.
fn expect_fragment(server: &Server) -> (Vec<u8>, bool, bool) {
    server.expect("on_fragment", |event| match event {
        Event::Fragment(_, _, bytes, first, last) => Some((bytes.clone(), *first, *last)),
        _ => None,
    })
}

#[test]
fn pieces_come_as_they_arrive_and_take_no_buffer() {
    let server = streaming(Config::default());
    let mut client = server.connect();
    let wire = masked_frame(0x82, &pattern(100_000, 1));
    client.write(&wire[..14 + 10]);
    assert_eq!(expect_fragment(&server), (pattern(10, 1), true, false));
    let stats = server.stats();
    // One is there for what all connections have to write, none for what this one is sent.
    assert!(stats.large_buffers.peak <= 1, "{stats:#?}");
    assert_eq!(stats.received.messages, 0, "{stats:#?}");
    assert_eq!(
        client.read_frame(),
        Frame {
            fin: false,
            ..Frame::binary(pattern(10, 1))
        }
    );
    client.write(&wire[14 + 10..]);
    let mut rest = Vec::new();
    loop {
        let (bytes, first, last) = expect_fragment(&server);
        assert!(!first);
        rest.extend(bytes);
        if last {
            break;
        }
    }
    assert!(rest == pattern(100_000, 1)[10..]);
    assert_eq!(server.stats().received.messages, 1);
}

#[test]
fn messages_of_all_sizes_come_back() {
    let server = streaming(Config::default());
    let mut client = server.connect();
    for len in [0, 1, 125, 126, 4095, 65_535, 65_536, 300_000, 5_000_000] {
        let mut stream = client.stream.try_clone().unwrap();
        let payload = pattern(len, len as u32);
        let wire = masked_frame(0x82, &payload);
        let sender = std::thread::spawn(move || std::io::Write::write_all(&mut stream, &wire));
        let (opcode, echoed) = client.read_message();
        sender.join().unwrap().unwrap();
        assert!(opcode == 2 && echoed == payload, "{len}");
    }
}

#[test]
fn fragments_stay_fragments_with_pings_between_them() {
    let server = streaming(Config::default());
    let mut client = server.connect();
    client.write(&masked_frame(0x01, "a€".as_bytes()));
    let first = client.read_frame();
    assert_eq!((first.fin, first.opcode), (false, 1));
    client.send_ping(b"between");
    assert_eq!(client.read_frame(), Frame::pong(b"between"));
    client.write(&masked_frame(0x00, b""));
    let empty = client.read_frame();
    assert_eq!(
        (empty.fin, empty.opcode, empty.payload.len()),
        (false, 0, 0)
    );
    client.write(&masked_frame(0x80, b"z"));
    let last = client.read_frame();
    assert_eq!(
        (last.fin, last.opcode, &*last.payload),
        (true, 0, &b"z"[..])
    );
    assert_eq!(server.stats().sent.messages, 1);
}

#[test]
fn streaming_begins_and_ends_between_messages() {
    let server = Server::echo();
    let mut client = server.connect();
    let id = server.expect_open();
    let stream = |wanted| {
        server.with(move |_, connections| connections.get(id).unwrap().stream_messages(wanted));
    };
    client.write(&masked_frame(0x02, b"one, "));
    server.wait_for("the fragment", |stats| stats.read_buffers.current > 0);
    stream(true);
    client.write(&masked_frame(0x80, b"assembled"));
    assert_eq!(client.read_frame(), Frame::binary(*b"one, assembled"));
    client.write(&masked_frame(0x02, b"two, "));
    assert_eq!(expect_fragment(&server), (b"two, ".to_vec(), true, false));
    stream(false);
    client.write(&masked_frame(0x80, b"streamed"));
    assert_eq!(
        expect_fragment(&server),
        (b"streamed".to_vec(), false, true)
    );
    assert_eq!(client.read_message(), (2, b"two, streamed".to_vec()));
    client.write(&masked_frame(0x02, b"three"));
    client.write(&masked_frame(0x80, b""));
    assert_eq!(client.read_frame(), Frame::binary(*b"three"));
}

#[test]
fn a_pause_holds_pieces_back() {
    let server = Server::start(Config::default(), |app| {
        app.on_open = Some(Box::new(|conn| conn.stream_messages(true)));
        app.on_fragment = Some(Box::new(|conn, fragment| {
            if fragment.is_first() {
                conn.pause_reads();
            }
        }));
    });
    let mut client = server.connect();
    let id = server.expect_open();
    client.write(&[masked_frame(0x02, b"a"), masked_frame(0x00, b"b")].concat());
    assert_eq!(expect_fragment(&server), (b"a".to_vec(), true, false));
    client.write(&masked_frame(0x80, &pattern(3000, 3)));
    let fragment = |event: &Event| matches!(event, Event::Fragment(..));
    assert!(!server.events().iter().any(fragment));
    server.with(move |_, connections| connections.get(id).unwrap().resume_reads());
    assert_eq!(expect_fragment(&server), (b"b".to_vec(), false, false));
    let mut rest = Vec::new();
    loop {
        let (bytes, _, last) = expect_fragment(&server);
        rest.extend(bytes);
        if last {
            break;
        }
    }
    assert_eq!(rest, pattern(3000, 3));
}

#[test]
fn text_is_checked_as_it_arrives_and_the_limit_holds() {
    let server = streaming(Config::default().max_message_size(1000));
    let mut client = server.connect();
    let wire = masked_frame(0x81, b"ok \xff and more");
    client.write(&wire[..10]);
    client.expect_close(1007);
    let cause = server.expect_close().cause;
    assert_eq!(cause, CloseCause::Protocol(ProtocolError::InvalidUtf8));
    let mut client = server.connect();
    client.write(&masked_frame(0x02, &[0; 900]));
    client.write(&masked_frame(0x80, &[0; 101])[..8]);
    let echoed = client.read_frame();
    assert_eq!(echoed.payload.len(), 900);
    client.expect_close(1009);
    let server = streaming(Config::default().check_utf8(false));
    let mut client = server.connect();
    client.write(&masked_frame(0x81, b"\xff"));
    assert_eq!(client.read_frame().payload, b"\xff");
}

/// Sends on the connection from the loop's thread.
fn send(
    server: &Server,
    id: ConnId,
    kind: MessageKind,
    bytes: &'static [u8],
    last: bool,
) -> Result<(), SendErrorKind> {
    server.with(move |_, connections| {
        let mut conn = connections.get(id).unwrap();
        conn.send_fragment(kind, bytes, last)
    })
}

#[test]
fn nothing_but_control_frames_goes_between_fragments() {
    let server = Server::echo();
    let mut client = server.connect();
    let id = server.expect_open();
    assert_eq!(send(&server, id, TEXT, b"one", false), Ok(()));
    let open = SendErrorKind::MessageOpen;
    server.with(move |_, connections| {
        let mut conn = connections.get(id).unwrap();
        let refused = conn.send(BINARY, "x").unwrap_err();
        assert_eq!((refused.kind, refused.payload.len()), (open, 1));
        assert_eq!(conn.send_copy(TEXT, b"x"), Err(open));
        let frames = Frames::message(TEXT, b"x");
        assert_eq!(conn.send_frames(&frames), Err(open));
        assert_eq!(conn.send_fragment(BINARY, b"x", true), Err(open));
        conn.send_ping(b"ping").unwrap();
    });
    let first = client.read_frame();
    assert_eq!((first.fin, first.opcode), (false, 1));
    assert_eq!(client.read_frame(), Frame::ping(b"ping"));
    assert_eq!(send(&server, id, TEXT, b"two", true), Ok(()));
    let last = client.read_frame();
    assert_eq!(
        (last.fin, last.opcode, &*last.payload),
        (true, 0, &b"two"[..])
    );
    client.send_text("free again");
    assert_eq!(client.read_frame(), Frame::text("free again"));
    // Closing is possible at any time.
    assert_eq!(send(&server, id, TEXT, b"three", false), Ok(()));
    server.with(move |_, connections| {
        let mut conn = connections.get(id).unwrap();
        conn.close(CloseCode::NORMAL, "").unwrap();
    });
    assert!(!client.read_frame().fin);
    client.expect_close(1000);
    assert_eq!(server.expect_close().cause, CloseCause::Application);
}

#[test]
fn a_drain_can_be_asked_for() {
    let server = Server::start(Config::default().send_buffer_size(Some(4096)), |_| {});
    let mut client = server.connect();
    let id = server.expect_open();
    // With nothing that waits.
    server.with(move |_, connections| connections.get(id).unwrap().request_drain());
    let drain = |event: &Event| matches!(event, Event::Drain(_)).then_some(());
    server.expect("on_drain", drain);
    // Between the water marks, where it would not be called otherwise.
    let wait_at_least = 100_000;
    let mut sent = 0;
    while server.with(move |_, connections| connections.get(id).unwrap().backlog()) < wait_at_least
    {
        server.with(move |_, connections| {
            let mut conn = connections.get(id).unwrap();
            conn.send_fragment(BINARY, &[0; 10_000], false).unwrap();
        });
        sent += 10_000;
    }
    server.with(move |_, connections| connections.get(id).unwrap().request_drain());
    let drains = |event: &Event| matches!(event, Event::Drain(_));
    assert!(!server.events().iter().any(drains));
    let mut received = 0;
    while received < sent {
        received += client.read_frame().payload.len();
    }
    server.expect("on_drain", drain);
    assert!(!server.events().iter().any(drains), "once");
}
