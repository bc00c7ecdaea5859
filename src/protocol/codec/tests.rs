use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};

use super::*;
use crate::protocol::{CloseCode, FrameBuilder, Opcode, fuzz};

fn client() -> Codec {
    Codec::client(Limits::default(), ChaCha8Rng::seed_from_u64(1))
}

fn server() -> Codec {
    Codec::server(Limits::default())
}

/// An event that does not borrow.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Heard {
    Message(MessageKind, Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>, String),
}

fn owned(event: Event<'_>) -> Heard {
    match event {
        Event::Message(kind, bytes) => Heard::Message(kind, bytes.to_vec()),
        Event::Ping(bytes) => Heard::Ping(bytes.to_vec()),
        Event::Pong(bytes) => Heard::Pong(bytes.to_vec()),
        Event::Close(payload) => {
            Heard::Close(payload.code.map(CloseCode::get), payload.reason.to_owned())
        }
    }
}

/// Everything that a codec hears in bytes that come in these pieces.
fn hear(codec: &mut Codec, pieces: &[&[u8]]) -> Result<Vec<Heard>, ProtocolError> {
    let mut heard = Vec::new();
    for piece in pieces {
        let mut piece = piece.to_vec();
        let mut at = 0;
        loop {
            let (event, consumed) = codec.process(&mut piece[at..])?;
            at += consumed;
            match event {
                Some(event) => heard.push(owned(event)),
                None => {
                    assert_eq!(at, piece.len(), "without an event all is consumed");
                    break;
                }
            }
        }
    }
    Ok(heard)
}

fn encode(encode: impl FnOnce(&mut [u8]) -> Result<usize, EncodeError>) -> Vec<u8> {
    let mut out = vec![0; 1 << 20];
    let len = encode(&mut out).unwrap();
    out.truncate(len);
    out
}

#[test]
fn both_roles_understand_each_other_however_the_bytes_are_cut() {
    for (mut from, to) in [(client(), server as fn() -> Codec), (server(), client)] {
        let mut wire = Vec::new();
        wire.extend(encode(|out| from.text("hellö", out)));
        wire.extend(encode(|out| from.ping(b"p", out)));
        wire.extend(encode(|out| {
            from.fragment(MessageKind::Binary, &[7; 200], false, out)
        }));
        wire.extend(encode(|out| from.pong(&[1; 125], out)));
        wire.extend(encode(|out| {
            from.fragment(MessageKind::Binary, b"", false, out)
        }));
        wire.extend(encode(|out| {
            from.fragment(MessageKind::Binary, b"end", true, out)
        }));
        wire.extend(encode(|out| from.binary(&[], out)));
        wire.extend(encode(|out| {
            from.message(MessageKind::Text, &[b"a", b"", b"b"], out)
        }));
        wire.extend(encode(|out| from.close(CloseCode::NORMAL, "bye", out)));
        let expected = [
            Heard::Message(MessageKind::Text, "hellö".as_bytes().to_vec()),
            Heard::Ping(b"p".to_vec()),
            Heard::Pong(vec![1; 125]),
            Heard::Message(MessageKind::Binary, [&[7; 200][..], b"end"].concat()),
            Heard::Message(MessageKind::Binary, vec![]),
            Heard::Message(MessageKind::Text, b"ab".to_vec()),
            Heard::Close(Some(1000), "bye".to_owned()),
        ];
        for size in [1, 2, 3, 5, 7, 64, 300, wire.len()] {
            let pieces: Vec<&[u8]> = wire.chunks(size).collect();
            assert_eq!(hear(&mut to(), &pieces).unwrap(), expected, "{size}");
        }
        for cut in 0..wire.len() {
            let pieces = [&wire[..cut], &wire[cut..]];
            assert_eq!(hear(&mut to(), &pieces).unwrap(), expected, "{cut}");
        }
    }
}

#[test]
fn a_whole_message_is_not_copied() {
    let mut wire = encode(|out| server().binary(&[1, 2, 3], out));
    let start = wire[2..].as_ptr();
    let mut to = client();
    let (event, _) = to.process(&mut wire).unwrap();
    let Some(Event::Message(_, bytes)) = event else {
        panic!("{event:?}");
    };
    assert_eq!(bytes.as_ptr(), start);
}

#[test]
fn the_close_handshake_ends_both_sides() {
    let (mut left, mut right) = (client(), server());
    assert_eq!(left.state(), ConnectionState::Open);
    let wire = encode(|out| left.close(CloseCode::GOING_AWAY, "", out));
    assert_eq!(left.state(), ConnectionState::Closing);
    // Only once, and nothing else any more.
    let mut out = [0; 100];
    assert_eq!(left.close_empty(&mut out), Err(EncodeError::NotOpen));
    assert_eq!(left.text("x", &mut out), Err(EncodeError::NotOpen));
    assert_eq!(left.ping(b"", &mut out), Err(EncodeError::NotOpen));
    // What the other side says meanwhile is heard.
    let late = encode(|out| right.text("late", out));
    assert_eq!(
        hear(&mut left, &[&late]).unwrap(),
        [Heard::Message(MessageKind::Text, b"late".to_vec())]
    );
    let close = Heard::Close(Some(1001), String::new());
    assert_eq!(
        hear(&mut right, &[&wire, &wire]).unwrap(),
        std::slice::from_ref(&close)
    );
    assert_eq!(right.state(), ConnectionState::Closing);
    let wire = encode(|out| right.close(CloseCode::GOING_AWAY, "", out));
    assert_eq!(right.state(), ConnectionState::Closed);
    assert_eq!(hear(&mut left, &[&wire, b"more"]).unwrap(), [close]);
    assert_eq!(left.state(), ConnectionState::Closed);
}

#[test]
fn faults_are_named_and_answered_once() {
    type Case = (&'static [u8], ProtocolError, u16);
    let cases: [Case; 10] = [
        (b"\x81\x01a", ProtocolError::UnmaskedFrame, 1002),
        (b"\xC1\x80\0\0\0\0", ProtocolError::ReservedBits, 1002),
        (b"\x83\x80\0\0\0\0", ProtocolError::ReservedOpcode(3), 1002),
        (
            b"\x80\x80\0\0\0\0",
            ProtocolError::UnexpectedContinuation,
            1002,
        ),
        (
            b"\x09\x80\0\0\0\0",
            ProtocolError::FragmentedControlFrame,
            1002,
        ),
        (b"\x88\x81\0\0\0\0a", ProtocolError::CloseLength, 1002),
        (
            b"\x88\x82\0\0\0\0\x03\xed",
            ProtocolError::CloseCode(1005),
            1002,
        ),
        (b"\x81\x81\0\0\0\0\xff", ProtocolError::InvalidUtf8, 1007),
        (b"\x01\x81\0\0\0\0\xff", ProtocolError::InvalidUtf8, 1007),
        (
            b"\x82\xff\0\0\0\0\x01\0\0\x01\0\0\0\0",
            ProtocolError::MessageTooBig,
            1009,
        ),
    ];
    for (wire, error, code) in cases {
        for size in [1, wire.len()] {
            let mut codec = server();
            let pieces: Vec<&[u8]> = wire.chunks(size).collect();
            assert_eq!(hear(&mut codec, &pieces), Err(error), "{wire:x?}");
            assert_eq!(codec.process(&mut []), Err(error), "and again");
            assert_eq!(codec.text("x", &mut [0; 9]), Err(EncodeError::NotOpen));
            let mut out = [0; 9];
            assert_eq!(codec.fail(&mut out), Ok(4));
            assert_eq!(out[..4], [&[0x88, 2][..], &code.to_be_bytes()].concat());
            assert_eq!(codec.state(), ConnectionState::Closed);
            assert_eq!(codec.fail(&mut out), Err(EncodeError::NotOpen));
        }
    }
}

#[test]
fn a_length_that_was_announced_takes_no_memory() {
    let mut codec = server();
    let mut wire = *b"\x82\xff\0\0\0\0\0\x80\0\0\0\0\0\0abc";
    assert_eq!(codec.process(&mut wire), Ok((None, 17)));
    assert!(codec.message.capacity() < 100);
}

#[test]
fn what_does_not_fit_leaves_everything_as_it_was() {
    let mut codec = server();
    let needed = 7;
    assert_eq!(
        codec.text("hello", &mut [0; 6]),
        Err(EncodeError::Build(
            crate::protocol::BuildError::BufferTooSmall { needed }
        ))
    );
    assert_eq!(codec.text("hello", &mut [0; 7]), Ok(7));
    assert!(matches!(
        codec.ping(&[0; 126], &mut [0; 200]),
        Err(EncodeError::Build(
            crate::protocol::BuildError::ControlFrameTooBig
        ))
    ));
    let bad = CloseCode::NO_STATUS;
    assert_eq!(
        codec.close(bad, "", &mut [0; 9]),
        Err(EncodeError::CloseCode(bad))
    );
    assert!(codec.close(CloseCode::NORMAL, "", &mut [0; 3]).is_err());
    assert_eq!(codec.state(), ConnectionState::Open);
}

#[test]
fn a_message_in_fragments_is_finished_first() {
    let mut codec = server();
    let mut out = [0; 20];
    let kind = MessageKind::Text;
    assert_eq!(codec.fragment(kind, b"a", false, &mut out), Ok(3));
    assert_eq!(codec.text("x", &mut out), Err(EncodeError::MessageOpen));
    let other = codec.fragment(MessageKind::Binary, b"", true, &mut out);
    assert_eq!(other, Err(EncodeError::MessageOpen));
    assert_eq!(codec.ping(b"", &mut out), Ok(2));
    assert_eq!(codec.fragment(kind, b"b", true, &mut out), Ok(3));
    assert_eq!(out[..3], *b"\x80\x01b");
    assert_eq!(codec.text("x", &mut out), Ok(3));
}

#[test]
fn mask_keys_are_fresh() {
    let mut codec = client();
    let mut keys = std::collections::HashSet::new();
    for _ in 0..1000 {
        let wire = encode(|out| codec.ping(b"", out));
        assert_eq!(wire.len(), 6);
        keys.insert(wire[2..6].to_vec());
    }
    assert_eq!(keys.len(), 1000);
}

#[cfg(feature = "deflate")]
#[test]
fn compressed_messages_come_through() {
    use crate::protocol::{Compressor, DeflateParams};

    for alone in [false, true] {
        let params = DeflateParams {
            server_no_context_takeover: alone,
            client_no_context_takeover: alone,
            server_max_window_bits: None,
            client_max_window_bits: None,
        };
        let compressor = || Compressor::new(6, 15, 8).unwrap();
        let limits = Limits {
            max_message_size: 100_000,
            ..Limits::default()
        };
        let mut from = Codec::client(limits, ChaCha8Rng::seed_from_u64(1)).with_deflate(
            &params,
            compressor(),
            64,
        );
        let mut to = Codec::server(limits).with_deflate(&params, compressor(), 64);
        let mut lengths = Vec::new();
        for round in 0..5 {
            let text = format!("{{\"round\": {round}, \"more\": \"of the same\"}}").repeat(4);
            let wire = encode(|out| from.text(&text, out));
            lengths.push(wire.len());
            let message = Heard::Message(MessageKind::Text, text.into_bytes());
            for size in [1, 1000] {
                if size == 1 && !alone {
                    continue;
                }
                let pieces: Vec<&[u8]> = wire.chunks(size).collect();
                assert_eq!(
                    hear(&mut to, &pieces).unwrap(),
                    std::slice::from_ref(&message)
                );
            }
            let plain = encode(|out| from.message(MessageKind::Text.plain(), &[&[b'a'; 99]], out));
            assert_eq!(plain.len(), 105);
            assert_eq!(hear(&mut to, &[&plain]).unwrap().len(), 1);
            assert_eq!(encode(|out| from.text("short", out)).len(), 11);
        }
        assert_eq!(lengths[4] * 2 < lengths[0], !alone, "{lengths:?}");
        // A small frame that would be a large message.
        let bomb = encode(|out| from.binary(&[0; 100_001], out));
        assert!(bomb.len() < 1000);
        assert_eq!(hear(&mut to, &[&bomb]), Err(ProtocolError::MessageTooBig));
    }
}

/// Frames as a peer might send them, most of them good.
fn random_wire(rng: &mut ChaCha8Rng) -> Vec<u8> {
    let mut wire = Vec::new();
    for _ in 0..rng.next_u32() % 8 {
        let opcode = [0, 1, 2, 2, 9, 10, 8, 3][rng.next_u32() as usize % 8];
        let control = opcode >= 8;
        let len = rng.next_u32() as usize % if control { 126 } else { 400 };
        let payload: Vec<u8> = match opcode {
            8 => [&1000_u16.to_be_bytes()[..], b"x"].concat(),
            _ => (0..len)
                .map(|_| b'a' + (rng.next_u32() % 26) as u8)
                .collect(),
        };
        let frame = FrameBuilder::new(Opcode::from_bits(opcode))
            .fin(rng.next_u32() % 3 > 0)
            .rsv(if rng.next_u32() % 40 == 0 { 0x40 } else { 0 });
        let mut out = vec![0; payload.len() + 14];
        let frame = if rng.next_u32() % 40 == 0 {
            frame
        } else {
            frame.masked([1, 2, 3, 4])
        };
        let written = frame.encode(&payload, &mut out).unwrap();
        wire.extend_from_slice(&out[..written]);
    }
    wire
}

#[test]
fn cuts_change_nothing_and_nothing_panics() {
    let mut rng = fuzz::rng(0xC0DE);
    let (mut good, mut bad) = (0, 0);
    for round in 0..5_000 {
        let wire = if round % 5 == 0 {
            let wire = random_wire(&mut rng);
            fuzz::mutated(&mut rng, &wire, b"\0\x80\xff\x7e\x7f")
        } else {
            random_wire(&mut rng)
        };
        let limits = Limits {
            max_message_size: 500,
            ..Limits::default()
        };
        let whole = hear(&mut Codec::server(limits), &[&wire]);
        let mut pieces: Vec<&[u8]> = Vec::new();
        let mut rest = &wire[..];
        while !rest.is_empty() {
            let (piece, more) = rest.split_at(1 + rng.next_u32() as usize % rest.len().min(20));
            pieces.push(piece);
            rest = more;
        }
        assert_eq!(hear(&mut Codec::server(limits), &pieces), whole);
        match whole {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
    }
    assert!(good > 100 && bad > 100, "{good} {bad}");
}
