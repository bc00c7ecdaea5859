//! What a client may do wrong: the close code, the cause that the application hears, the counter; and that nothing behind
//! the mistake is looked at.

use wsloop::{CloseCause, Config, Initiator, ProtocolError};

use super::support::{Client, Event, Frame, Server, close_payload, frame, masked_frame};

const MAX: usize = 1000;

/// Wire sequences, what is wrong with them, and the code that says so.
fn mistakes() -> Vec<(Vec<u8>, ProtocolError, u16)> {
    use ProtocolError::*;
    let key = [1, 2, 3, 4];
    let header = |bytes: &[u8]| [bytes, &key].concat();
    let mut table = vec![
        (masked_frame(0xC1, b"x"), ReservedBits, 1002),
        (masked_frame(0xA1, b"x"), ReservedBits, 1002),
        (masked_frame(0x91, b"x"), ReservedBits, 1002),
        (masked_frame(0xC9, b"x"), ReservedBits, 1002),
        (masked_frame(0xF8, b""), ReservedBits, 1002),
        (frame(0x81, b"x"), UnmaskedFrame, 1002),
        (frame(0x89, b""), UnmaskedFrame, 1002),
        (frame(0x88, &close_payload(1000, "")), UnmaskedFrame, 1002),
        (header(&[0x82, 0xFE, 0, 125]), NonMinimalLength, 1002),
        (
            header(&[0x82, 0xFF, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]),
            NonMinimalLength,
            1002,
        ),
        (header(&[0x89, 0xFE, 0, 5]), NonMinimalLength, 1002),
        (
            header(&[0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0]),
            LengthOverflow,
            1002,
        ),
        (
            header(&[0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            LengthOverflow,
            1002,
        ),
        (header(&[0x89, 0xFE, 0, 126]), ControlFrameTooBig, 1002),
        (header(&[0x8A, 0xFE, 0, 126]), ControlFrameTooBig, 1002),
        (header(&[0x88, 0xFE, 0, 126]), ControlFrameTooBig, 1002),
        (
            header(&[0x89, 0xFF, 0, 0, 0, 0, 0, 1, 0, 0]),
            ControlFrameTooBig,
            1002,
        ),
        (masked_frame(0x09, b"x"), FragmentedControlFrame, 1002),
        (masked_frame(0x0A, b""), FragmentedControlFrame, 1002),
        (masked_frame(0x08, b""), FragmentedControlFrame, 1002),
        (masked_frame(0x80, b"x"), UnexpectedContinuation, 1002),
        (masked_frame(0x00, b"x"), UnexpectedContinuation, 1002),
        (
            [masked_frame(0x01, b"x"), masked_frame(0x81, b"y")].concat(),
            InterruptedMessage,
            1002,
        ),
        (
            [masked_frame(0x02, b""), masked_frame(0x02, b"")].concat(),
            InterruptedMessage,
            1002,
        ),
        (masked_frame(0x88, b"\x03"), CloseLength, 1002),
        (masked_frame(0x88, b"\x03\xE8ok\xFF"), CloseReason, 1007),
        (masked_frame(0x88, b"\x03\xE8\xE2\x82"), CloseReason, 1007),
        (masked_frame(0x81, b"ok\xFFok"), InvalidUtf8, 1007),
        (masked_frame(0x81, b"\xC0\x80"), InvalidUtf8, 1007),
        (masked_frame(0x81, b"\xED\xA0\x80"), InvalidUtf8, 1007),
        (masked_frame(0x81, b"\xF4\x90\x80\x80"), InvalidUtf8, 1007),
        (masked_frame(0x81, b"half \xE2\x82"), InvalidUtf8, 1007),
        (
            [masked_frame(0x01, b"\xE2"), masked_frame(0x80, b"\x28")].concat(),
            InvalidUtf8,
            1007,
        ),
        (
            [masked_frame(0x01, b"\xE2"), masked_frame(0x80, b"")].concat(),
            InvalidUtf8,
            1007,
        ),
        (masked_frame(0x82, &[0; MAX + 1]), MessageTooBig, 1009),
        (masked_frame(0x01, &[b'a'; MAX + 1]), MessageTooBig, 1009),
        (
            header(&[0x82, 0xFF, 0x7F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF]),
            MessageTooBig,
            1009,
        ),
    ];
    for opcode in [3, 4, 5, 6, 7, 0xB, 0xC, 0xD, 0xE, 0xF] {
        let wire = masked_frame(0x80 | opcode, b"x");
        table.push((wire, ReservedOpcode(opcode), 1002));
    }
    for code in [
        0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535,
    ] {
        let wire = masked_frame(0x88, &close_payload(code, "reason"));
        table.push((wire, CloseCode(code), 1002));
    }
    table
}

fn server() -> Server {
    Server::start(Config::default().max_message_size(MAX), |_| {})
}

/// What the application was told of the connection: nothing of it but that it opened, read and ended so.
fn assert_heard(server: &Server, error: ProtocolError, what: &str) {
    let close = loop {
        let event = server.expect(what, |event| Some(event.clone()));
        match event {
            Event::Upgrade { .. } | Event::Open(_) | Event::BytesRead(..) => {}
            Event::Close(_, close) => break close,
            other => panic!("{what}: {other:?}"),
        }
    };
    assert_eq!(close.cause, CloseCause::Protocol(error), "{what}");
    assert_eq!(close.initiator, Initiator::Local, "{what}");
    assert_eq!(close.code, Some(error.close_code()), "{what}");
    assert!(!close.clean, "{what}");
}

fn assert_counted(server: &Server, mistakes: &[(Vec<u8>, ProtocolError, u16)]) {
    let count = |wanted: fn(&ProtocolError) -> bool| {
        mistakes
            .iter()
            .filter(|(_, error, _)| wanted(error))
            .count() as u64
    };
    let closed = server.stats().closed;
    let utf8 = count(|error| *error == ProtocolError::InvalidUtf8);
    let size = count(|error| *error == ProtocolError::MessageTooBig);
    assert_eq!(closed.invalid_utf8, utf8);
    assert_eq!(closed.message_too_big, size);
    assert_eq!(closed.protocol, mistakes.len() as u64 - utf8 - size);
    assert_eq!(closed.peer + closed.application + closed.io, 0);
}

#[test]
fn every_mistake_is_answered_with_its_code() {
    let server = server();
    let mistakes = mistakes();
    for (wire, error, code) in &mistakes {
        let what = format!("{error:?} {:02x?}", &wire[..wire.len().min(16)]);
        let mut client = server.connect();
        client.write(wire);
        assert_eq!(client.read_frame(), Frame::close(*code, ""), "{what}");
        client.expect_end();
        assert_heard(&server, *error, &what);
    }
    assert_counted(&server, &mistakes);
}

#[test]
fn every_mistake_is_found_byte_by_byte_too() {
    let server = server();
    let mistakes = mistakes();
    for (wire, error, code) in &mistakes {
        let what = format!("{error:?} {:02x?}", &wire[..wire.len().min(16)]);
        let mut client = server.connect();
        for byte in &wire[..wire.len().min(24)] {
            // The server may have ended the connection in the middle.
            let _ = std::io::Write::write(&mut client.stream, &[*byte]);
        }
        assert_eq!(client.read_frame(), Frame::close(*code, ""), "{what}");
        client.expect_end();
        assert_heard(&server, *error, &what);
    }
    assert_counted(&server, &mistakes);
}

#[test]
fn nothing_behind_a_mistake_is_delivered() {
    let server = server();
    let behind = [
        masked_frame(0x81, b"a message"),
        masked_frame(0x89, b"a ping"),
        masked_frame(0x8A, b"a pong"),
        masked_frame(0x88, &close_payload(1000, "")),
    ]
    .concat();
    for (wire, error, code) in &mistakes() {
        let what = format!("{error:?} {:02x?}", &wire[..wire.len().min(16)]);
        let mut client = server.connect();
        client.write(&[&wire[..], &behind].concat());
        assert_eq!(client.read_frame(), Frame::close(*code, ""), "{what}");
        client.expect_end();
        assert_heard(&server, *error, &what);
    }
}

/// Messages that were good are answered although the mistake stands right behind them, in the same segment.
#[test]
fn what_was_answered_before_a_mistake_still_arrives() {
    let server = server();
    for (wire, error, code) in &mistakes() {
        let mut client = server.connect();
        client.write(&[&masked_frame(0x81, b"good")[..], wire].concat());
        assert_eq!(client.read_frame(), Frame::text("good"), "{error:?}");
        client.expect_close(*code);
    }
}

/// §8.1 asks for an end as soon as it is seen: no byte of the offending character's rest is needed.
#[test]
fn invalid_text_is_refused_before_its_frame_or_message_is_complete() {
    let server = server();
    let unfinished_frame =
        |text: &[u8]| masked_frame(0x81, &[text, &[b'.'; 100]].concat())[..6 + text.len()].to_vec();
    for wire in [
        unfinished_frame(b"ok\xFF"),
        unfinished_frame(b"\xC1"),
        unfinished_frame(b"\xED\xA0"),
        unfinished_frame(b"\xF4\x90"),
        unfinished_frame(b"\xF5"),
        unfinished_frame(b"\xE2\x28"),
        [masked_frame(0x01, b"fine"), masked_frame(0x00, b"\xF4\x90")].concat(),
        [masked_frame(0x01, b"\xF4"), masked_frame(0x00, b"\x90")].concat(),
    ] {
        for one_by_one in [false, true] {
            let mut client = server.connect();
            let step = if one_by_one { 1 } else { wire.len() };
            for part in wire.chunks(step) {
                client.write(part);
            }
            client.expect_close(1007);
            assert_heard(&server, ProtocolError::InvalidUtf8, &format!("{wire:02x?}"));
        }
    }
}

#[test]
fn text_is_not_checked_when_that_is_switched_off_but_close_reasons_are() {
    let config = Config::default().check_utf8(false);
    let server = Server::start(config, |_| {});
    let mut client = server.connect();
    client.write(&masked_frame(0x81, b"\xFF"));
    assert_eq!(client.read_frame().payload, b"\xFF");
    client.write(&masked_frame(0x01, b"\xFF"));
    client.write(&masked_frame(0x80, b"\xFE"));
    assert_eq!(client.read_frame().payload, b"\xFF\xFE");
    client.write(&masked_frame(0x88, b"\x03\xE8\xFF"));
    client.expect_close(1007);
}

#[test]
fn a_length_above_the_limit_is_refused_by_its_header_alone() {
    let server = server();
    let mut client = server.connect();
    client.write(&masked_frame(0x82, &[0; MAX + 1])[..8]);
    client.expect_close(1009);
    let stats = server.stats();
    assert_eq!(stats.large_buffers.peak, 0, "nothing was taken for it");
}

/// A client that keeps sending after its mistake still gets the close frame: a reset must not eat it.
#[test]
fn the_close_frame_survives_a_flood_behind_the_mistake() {
    let server = server();
    for _ in 0..5 {
        let mut client = server.connect();
        let wire = [masked_frame(0x83, b""), vec![0x55; 1 << 20]].concat();
        let mut writer = client.stream.try_clone().unwrap();
        let flood = std::thread::spawn(move || {
            let _ = std::io::Write::write_all(&mut writer, &wire);
        });
        assert_eq!(client.read_frame(), Frame::close(1002, ""));
        flood.join().unwrap();
        client.expect_end();
    }
    server.wait_for("all gone", |stats| stats.connections.current == 0);
}

#[test]
fn one_clients_mistake_is_not_anothers() {
    let server = server();
    let mut good: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    let mut bad: Vec<Client> = (0..5).map(|_| server.connect()).collect();
    for (at, client) in good.iter_mut().enumerate() {
        client.write(&masked_frame(0x81, b"hello")[..5 + at % 3]);
    }
    for client in &mut bad {
        client.write(&masked_frame(0x83, b"x"));
        client.expect_close(1002);
    }
    for (at, client) in good.iter_mut().enumerate() {
        client.write(&masked_frame(0x81, b"hello")[5 + at % 3..]);
        assert_eq!(client.read_frame(), Frame::text("hello"));
    }
}
