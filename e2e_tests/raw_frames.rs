use std::io::Write;

use wsloop::{
    Config, Connections, Frames, FramesError, MessageKind, Outcome, ProtocolError, SendErrorKind,
};

use super::support::{Client, Event, Frame, Server, frame, masked_frame, pattern};

fn fragment(first_byte: u8, payload: &[u8]) -> Frame {
    Frame {
        fin: first_byte & 0x80 != 0,
        rsv: 0,
        opcode: first_byte & 0x0F,
        payload: payload.to_vec(),
    }
}

#[test]
fn one_encoding_goes_to_everybody() {
    let server = Server::start(Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, message| {
            let frames = Frames::message(message.kind(), message.as_bytes());
            let mut reached = 0;
            conn.connections().for_each(|other| {
                other.send_frames(&frames).unwrap();
                reached += 1;
            });
            assert_eq!(reached, 20);
        }));
    });
    let mut clients: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    // Copied, at the border, and shared.
    for size in [0, 10, 16_000, 16 * 1024, 200_000] {
        clients[3].send_binary(&pattern(size, 5));
        for client in &mut clients {
            assert_eq!(client.read_frame(), Frame::binary(pattern(size, 5)));
        }
    }
}

/// From within a callback, which flushes its own connection itself, and from outside of any.
#[test]
fn every_message_of_a_broadcast_reaches_everybody_and_is_counted() {
    fn broadcast<S>(connections: &mut Connections<'_, S>) {
        let before = connections.stats().sent;
        for number in 0..4 {
            let frames = Frames::message(MessageKind::Binary, &[number; 10]);
            connections.for_each(|conn| conn.send_frames(&frames).unwrap());
        }
        let sent = connections.stats().sent;
        assert_eq!(sent.messages - before.messages, 4 * 5);
        assert_eq!(sent.bytes - before.bytes, 4 * 5 * 12);
    }
    let server = Server::start(Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, _| broadcast(&mut conn.connections())));
    });
    let mut clients: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    clients[2].send_text("go");
    server.with(|_, connections| broadcast(connections));
    for client in &mut clients {
        for number in (0..4).chain(0..4) {
            assert_eq!(client.read_frame(), Frame::binary(vec![number; 10]));
        }
    }
}

#[test]
fn frames_keep_their_place_among_other_sends() {
    let large = pattern(100_000, 1);
    let frames_large = large.clone();
    let server = Server::start(Config::default(), move |app| {
        let small = Frames::builder()
            .message(MessageKind::Text, b"2")
            .fragments(MessageKind::Text, &[b"3", b"", b"4"])
            .build();
        let large = Frames::message(MessageKind::Binary, &frames_large);
        app.on_message = Some(Box::new(move |conn, _| {
            conn.send_copy(MessageKind::Text, b"1").unwrap();
            conn.send_frames(&small).unwrap();
            conn.send(MessageKind::Text, "5").unwrap();
            conn.send_frames(&large).unwrap();
            conn.send_copy(MessageKind::Text, b"6").unwrap();
            conn.send_frames(&small).unwrap();
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    let small = [
        Frame::text("2"),
        fragment(0x01, b"3"),
        fragment(0x00, b""),
        fragment(0x80, b"4"),
    ];
    assert_eq!(client.read_frame(), Frame::text("1"));
    assert_eq!(client.read_frames(4), small);
    assert_eq!(client.read_frame(), Frame::text("5"));
    assert_eq!(client.read_frame(), Frame::binary(large));
    assert_eq!(client.read_frame(), Frame::text("6"));
    assert_eq!(client.read_frames(4), small);
    // Frames that were borrowed do not come back; the payload that was handed over does.
    server.expect("on_write_complete", |event| {
        matches!(event, Event::WriteComplete(_, bytes, Outcome::Flushed) if bytes == b"5")
            .then_some(())
    });
}

#[test]
fn raw_fragments_with_pings_between_go_out_as_they_are() {
    let raw = [
        frame(0x01, b"Hel"),
        frame(0x89, b"ping"),
        frame(0x00, &pattern(20_000, 1)),
        frame(0x8A, b"pong"),
        frame(0x80, b"lo"),
        frame(0x82, b""),
    ]
    .concat();
    let frames = Frames::from_raw(raw.clone()).unwrap();
    assert_eq!(frames.as_bytes(), raw);
    let server = Server::start(Config::default(), move |app| {
        app.on_open = Some(Box::new(move |conn| {
            conn.send_frames(&frames).unwrap();
        }));
    });
    let mut client = server.connect();
    assert_eq!(client.read_frame(), fragment(0x01, b"Hel"));
    assert_eq!(client.read_frame(), Frame::ping(b"ping"));
    assert_eq!(client.read_frame(), fragment(0x00, &pattern(20_000, 1)));
    assert_eq!(client.read_frame(), Frame::pong(b"pong"));
    assert_eq!(client.read_frame(), fragment(0x80, b"lo"));
    assert_eq!(client.read_frame(), Frame::binary(b""));
}

#[test]
fn the_builder_makes_what_from_raw_accepts() {
    let built = Frames::builder()
        .message(MessageKind::Text, b"text")
        .ping(&[7; 125])
        .unwrap()
        .fragments(MessageKind::Binary, &[])
        .fragments(MessageKind::Binary, &[&pattern(70_000, 1), b"end"])
        .pong(b"")
        .unwrap()
        .build();
    let again = Frames::from_raw(built.as_bytes().to_vec()).unwrap();
    assert!(built == again);
    let by_hand = [
        frame(0x81, b"text"),
        frame(0x89, &[7; 125]),
        frame(0x82, b""),
        frame(0x02, &pattern(70_000, 1)),
        frame(0x80, b"end"),
        frame(0x8A, b""),
    ]
    .concat();
    assert!(built.as_bytes() == by_hand);
}

#[test]
fn every_mistake_in_raw_frames_has_its_error() {
    use ProtocolError::*;
    let protocol = FramesError::Protocol;
    let cases: Vec<(&str, Vec<u8>, FramesError)> = vec![
        ("rsv", frame(0xC1, b"x"), protocol(ReservedBits)),
        ("opcode", frame(0x83, b"x"), protocol(ReservedOpcode(3))),
        (
            "control opcode",
            frame(0x8B, b""),
            protocol(ReservedOpcode(11)),
        ),
        ("masked", masked_frame(0x81, b"x"), protocol(MaskedFrame)),
        (
            "16-bit length",
            vec![0x82, 126, 0, 1, 0],
            protocol(NonMinimalLength),
        ),
        (
            "64-bit length",
            [&[0x82, 127][..], &65_535u64.to_be_bytes(), &[0; 65_535]].concat(),
            protocol(NonMinimalLength),
        ),
        (
            "top bit",
            [&[0x82, 127][..], &u64::MAX.to_be_bytes()].concat(),
            protocol(LengthOverflow),
        ),
        (
            "long ping",
            frame(0x89, &[0; 126]),
            protocol(ControlFrameTooBig),
        ),
        (
            "cut ping",
            frame(0x09, b""),
            protocol(FragmentedControlFrame),
        ),
        ("stray", frame(0x80, b""), protocol(UnexpectedContinuation)),
        (
            "interrupted",
            [frame(0x01, b"a"), frame(0x81, b"b")].concat(),
            protocol(InterruptedMessage),
        ),
        ("half a header", vec![0x81], FramesError::Truncated),
        (
            "cut off",
            frame(0x81, b"abc")[..4].to_vec(),
            FramesError::Truncated,
        ),
        (
            "cut off second",
            [frame(0x81, b"a"), frame(0x82, b"b")[..2].to_vec()].concat(),
            FramesError::Truncated,
        ),
        (
            "huge",
            [&[0x82, 127][..], &(i64::MAX as u64).to_be_bytes(), &[0; 9]].concat(),
            FramesError::Truncated,
        ),
        ("unfinished", frame(0x01, b"a"), FramesError::Unfinished),
        (
            "unfinished behind a ping",
            [frame(0x01, b"a"), frame(0x00, b"b"), frame(0x89, b"")].concat(),
            FramesError::Unfinished,
        ),
        ("close", frame(0x88, &[0x03, 0xE8]), FramesError::CloseFrame),
        (
            "close in a message",
            [frame(0x01, b"a"), frame(0x88, b"")].concat(),
            FramesError::CloseFrame,
        ),
    ];
    for (what, raw, wanted) in cases {
        let got = Frames::from_raw(raw).map(|_| ());
        // A length that does not fit what is there may be told as one or the other.
        if what == "huge" {
            assert!(got.is_err(), "{what}");
            continue;
        }
        assert_eq!(got, Err(wanted), "{what}");
        assert!(!wanted.to_string().is_empty());
    }
    assert_eq!(Frames::from_raw(Vec::new()).unwrap().as_bytes(), b"");
    let too_long = Err(protocol(ControlFrameTooBig));
    assert_eq!(Frames::builder().ping(&[0; 126]).map(|_| ()), too_long);
    assert_eq!(Frames::builder().pong(&[0; 126]).map(|_| ()), too_long);
}

#[test]
fn no_frames_at_all_are_no_message() {
    let server = Server::start(Config::default(), |app| {
        app.on_message = Some(Box::new(|conn, _| {
            conn.send_frames(&Frames::builder().build()).unwrap();
            conn.send_copy(MessageKind::Text, b"only this").unwrap();
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    assert_eq!(client.read_frame(), Frame::text("only this"));
}

#[test]
fn frames_meet_the_same_limits_as_other_sends() {
    let config = Config::default()
        .max_backlog(300_000)
        .send_buffer_size(Some(4096));
    let server = Server::start(config, |app| {
        let frames = Frames::message(MessageKind::Binary, &pattern(100_000, 1));
        app.on_message = Some(Box::new(move |conn, message| {
            if message.as_bytes() == b"close" {
                conn.close(wsloop::CloseCode::NORMAL, "").unwrap();
                assert_eq!(conn.send_frames(&frames), Err(SendErrorKind::NotOpen));
                return;
            }
            for _ in 0..2 {
                conn.send_frames(&frames).unwrap();
            }
            assert_eq!(conn.send_frames(&frames), Err(SendErrorKind::BacklogFull));
        }));
    });
    let mut client = server.connect();
    client.send_text("go");
    for _ in 0..2 {
        assert_eq!(client.read_frame(), Frame::binary(pattern(100_000, 1)));
    }
    server.expect("on_drain", |event| {
        matches!(event, Event::Drain(_)).then_some(())
    });
    client
        .stream
        .write_all(&masked_frame(0x81, b"close"))
        .unwrap();
    client.expect_close(1000);
}

/// Shared frames in flight are not split by the pings that overtake the rest.
#[test]
fn control_frames_go_between_shared_frames() {
    let config = Config::default().send_buffer_size(Some(4096));
    let server = Server::start(config, |app| {
        app.on_open = Some(Box::new(|conn| {
            let mut many = Frames::builder();
            for at in 0..2000 {
                many = many.message(MessageKind::Binary, &pattern(700, at));
            }
            let many = many.build();
            conn.send_frames(&many).unwrap();
            conn.send_frames(&many).unwrap();
        }));
    });
    let mut client = server.connect();
    let (mut data, mut pongs, mut first_pong_at) = (0, 0, None);
    client.send_ping(&[0]);
    while data < 4000 || pongs == 0 {
        let frame = client.read_frame();
        if frame.opcode == 10 {
            first_pong_at.get_or_insert(data);
            pongs += 1;
            continue;
        }
        assert_eq!(frame, Frame::binary(pattern(700, data % 2000)));
        data += 1;
        if data % 500 == 0 {
            client.send_ping(&[data as u8]);
        }
    }
    assert!(first_pong_at < Some(4000), "a pong overtakes what waits");
}
