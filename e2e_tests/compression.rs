//! permessage-deflate (RFC 7692), against another implementation of deflate.

use std::time::{Duration, Instant};

use flate2::{Compress, Compression as Level, Decompress, FlushCompress, FlushDecompress};
use rand_chacha::{
    ChaCha8Rng,
    rand_core::{Rng, SeedableRng},
};
use wsloop::{
    CloseCause, Compression, Config, Connect, ConnectError, Frames, MessageKind, Occupancy,
    Outcome, Payload, ProtocolError,
    protocol::{Compressor, ExtensionError, handshake::ResponseError},
};

use super::support::{
    Client, DEADLINE, Event, Frame, RawServer, Server, frame, masked_frame, pattern,
};

const TEXT: u8 = 0x81;
const COMPRESSED_TEXT: u8 = 0xC1;
const COMPRESSED_BINARY: u8 = 0xC2;
const RSV1: u8 = 0x40;
const OFFER: &str = "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits\r\n";

/// The other end's windows.
struct Zip {
    deflate: Compress,
    inflate: Decompress,
}

impl Zip {
    fn new() -> Self {
        Self {
            deflate: Compress::new(Level::default(), false),
            inflate: Decompress::new(false),
        }
    }

    /// A message as it is sent, which may refer to those before it.
    fn pack(&mut self, message: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(message.len() + 1024);
        self.deflate
            .compress_vec(message, &mut out, FlushCompress::Sync)
            .unwrap();
        assert!(out.len() < out.capacity());
        assert!(out.ends_with(&[0, 0, 0xFF, 0xFF]), "{out:x?}");
        out.truncate(out.len() - 4);
        out
    }

    fn unpack(&mut self, frame: &Frame) -> Vec<u8> {
        assert_eq!(frame.rsv, RSV1, "{frame:?}");
        let input = [&frame.payload[..], &[0, 0, 0xFF, 0xFF]].concat();
        let before = self.inflate.total_in();
        let mut out = Vec::with_capacity(1 << 20);
        while self.inflate.total_in() - before < input.len() as u64 {
            let at = (self.inflate.total_in() - before) as usize;
            out.reserve(1 << 20);
            self.inflate
                .decompress_vec(&input[at..], &mut out, FlushDecompress::Sync)
                .unwrap();
        }
        out
    }
}

/// A message as it is sent that refers to no other.
fn pack(message: &[u8]) -> Vec<u8> {
    Zip::new().pack(message)
}

fn config(compression: Compression) -> Config {
    Config::default().compression(compression)
}

fn server(compression: Compression) -> Server {
    Server::start(config(compression), |_| {})
}

fn connect(server: &Server, offer: &str) -> (Client, Option<String>) {
    let (client, answer) = Client::connect_with(server.addr, "/", offer);
    let agreed = answer.header("sec-websocket-extensions");
    (client, agreed.map(str::to_owned))
}

fn sentence(number: usize) -> String {
    format!("{{\"number\": {number}, \"name\": \"something that is always the same\"}}").repeat(3)
}

#[test]
fn without_the_setting_nothing_is_agreed_on() {
    let server = Server::echo();
    let (mut client, agreed) = connect(&server, OFFER);
    assert_eq!(agreed, None);
    client.write(&masked_frame(COMPRESSED_TEXT, &pack(b"hello")));
    client.expect_close(1002);
}

#[test]
fn without_an_offer_nothing_is_agreed_on() {
    let server = server(Compression::Dedicated);
    let (mut client, agreed) = connect(&server, "");
    assert_eq!(agreed, None);
    client.send_text(&sentence(1));
    assert_eq!(client.read_frame(), Frame::text(&sentence(1)));
}

#[test]
fn each_mode_says_what_it_keeps() {
    let (_, agreed) = connect(&server(Compression::Dedicated), OFFER);
    assert_eq!(agreed.as_deref(), Some("permessage-deflate"));
    let (_, agreed) = connect(&server(Compression::Shared), OFFER);
    let alone = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    assert_eq!(agreed.as_deref(), Some(alone));
    let small = config(Compression::Dedicated).compression_window_bits(10);
    let (_, agreed) = connect(&Server::start(small, |_| {}), OFFER);
    let bits = "permessage-deflate; server_max_window_bits=10; client_max_window_bits=10";
    assert_eq!(agreed.as_deref(), Some(bits));
}

#[test]
fn malformed_offers_are_declined() {
    let server = server(Compression::Dedicated);
    for offer in [
        "permessage-deflate; x",
        "permessage-deflate; server_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=\"",
        "permessage-deflate;",
        "permessage-bzip2",
        ",,,;",
    ] {
        let (mut client, agreed) =
            connect(&server, &format!("Sec-WebSocket-Extensions: {offer}\r\n"));
        assert_eq!(agreed, None, "{offer}");
        client.send_text("plain");
        assert_eq!(client.read_frame(), Frame::text("plain"));
    }
}

#[test]
fn the_application_sees_the_offer_and_may_refuse_it() {
    let server = Server::start(config(Compression::Dedicated), |app| {
        app.on_upgrade = Some(Box::new(|request, response| {
            assert_eq!(request.extensions().count(), 1);
            assert!(response.deflate().is_some());
            if request.path() == "/plain" {
                response.refuse_deflate();
                assert!(response.deflate().is_none());
            }
            Ok(())
        }));
    });
    for (path, expected) in [("/plain", None), ("/", Some("permessage-deflate"))] {
        let (_, answer) = Client::connect_with(server.addr, path, OFFER);
        assert_eq!(answer.header("sec-websocket-extensions"), expected);
    }
    let stats = server.wait_for("one window", |stats| stats.connections.current == 0);
    assert_eq!(stats.compressors.peak, 1);
}

#[test]
fn an_upgrade_that_is_answered_later_compresses_too() {
    let server = Server::start(config(Compression::Dedicated), |app| {
        app.on_upgrade = Some(Box::new(|_, response| {
            response.defer();
            Ok(())
        }));
        app.on_deferred = Some(Box::new(|connections, upgrade| {
            connections.deferred(upgrade).unwrap().accept();
        }));
    });
    let (mut client, agreed) = connect(&server, OFFER);
    assert_eq!(agreed.as_deref(), Some("permessage-deflate"));
    client.write(&masked_frame(
        COMPRESSED_TEXT,
        &pack(sentence(1).as_bytes()),
    ));
    let echo = client.read_frame();
    assert_eq!(Zip::new().unpack(&echo), sentence(1).as_bytes());
}

#[test]
fn windows_are_kept_from_message_to_message() {
    let server = server(Compression::Dedicated);
    let (mut client, _) = connect(&server, OFFER);
    let mut zip = Zip::new();
    let mut lengths = Vec::new();
    for number in 0..20 {
        let message = sentence(number);
        client.write(&masked_frame(
            COMPRESSED_TEXT,
            &zip.pack(message.as_bytes()),
        ));
        let echo = client.read_frame();
        lengths.push(echo.payload.len());
        assert_eq!(zip.unpack(&echo), message.as_bytes());
    }
    assert!(lengths[10] * 3 < lengths[0], "{lengths:?}");
}

#[test]
fn shared_messages_stand_alone() {
    let server = server(Compression::Shared);
    let mut clients: Vec<Client> = (0..5).map(|_| connect(&server, OFFER).0).collect();
    for number in 0..10 {
        for client in &mut clients {
            let message = sentence(number);
            client.write(&masked_frame(COMPRESSED_TEXT, &pack(message.as_bytes())));
            let echo = client.read_frame();
            assert_eq!(Zip::new().unpack(&echo), message.as_bytes());
        }
    }
    let stats = server.stats();
    assert_eq!((stats.compressors.peak, stats.decompressors.peak), (0, 0));
}

#[test]
fn compressed_and_plain_messages_mix() {
    let server = server(Compression::Dedicated);
    let (mut client, _) = connect(&server, OFFER);
    let mut zip = Zip::new();
    for number in 0..10 {
        let message = sentence(number);
        if number % 3 == 0 {
            client.send_text(&message);
        } else {
            client.write(&masked_frame(
                COMPRESSED_TEXT,
                &zip.pack(message.as_bytes()),
            ));
        }
        assert_eq!(zip.unpack(&client.read_frame()), message.as_bytes());
        // Below the threshold.
        client.write(&masked_frame(COMPRESSED_TEXT, &zip.pack(b"short")));
        assert_eq!(client.read_frame(), Frame::text("short"));
    }
}

#[test]
fn fragments_may_be_cut_anywhere_with_control_frames_between() {
    let server = server(Compression::Dedicated);
    let (mut client, _) = connect(&server, OFFER);
    let mut zip = Zip::new();
    for cuts in [1, 2, 3, 50] {
        let message = sentence(cuts);
        let packed = zip.pack(message.as_bytes());
        let size = packed.len().div_ceil(cuts);
        let mut wire = Vec::new();
        for (index, part) in packed.chunks(size).enumerate() {
            let first = if index == 0 { 0x41 } else { 0x00 };
            wire.extend(masked_frame(first, part));
            wire.extend(masked_frame(0x89, b"p"));
        }
        wire.extend(masked_frame(0x80, b""));
        // Byte by byte as well as at once.
        if cuts == 3 {
            wire.iter().for_each(|byte| client.write(&[*byte]));
        } else {
            client.write(&wire);
        }
        let echo = loop {
            let frame = client.read_frame();
            if frame.opcode != 10 {
                break frame;
            }
        };
        assert_eq!(zip.unpack(&echo), message.as_bytes());
    }
}

#[test]
fn empty_messages_may_be_compressed() {
    let server = server(Compression::Dedicated);
    let (mut client, _) = connect(&server, OFFER);
    for payload in [&[0][..], &[]] {
        client.write(&masked_frame(COMPRESSED_TEXT, payload));
        assert_eq!(client.read_frame(), Frame::text(""));
    }
}

#[test]
fn the_bit_stands_on_the_first_frame_of_a_message_alone() {
    for wire in [
        // On a continuation.
        [masked_frame(0x41, &pack(b"a")), masked_frame(0xC0, b"")].concat(),
        // On a ping, and beside the others.
        masked_frame(0xC9, b""),
        masked_frame(0xE1, &pack(b"a")),
        masked_frame(0xD2, &pack(b"a")),
    ] {
        let server = server(Compression::Shared);
        let (mut client, _) = connect(&server, OFFER);
        client.write(&wire);
        client.expect_close(1002);
    }
}

#[test]
fn corrupt_messages_are_1007() {
    for compression in [Compression::Shared, Compression::Dedicated] {
        let server = server(compression);
        let (mut other, _) = connect(&server, OFFER);
        for payload in [&b"\xff\xff\xff\xff"[..], &pack(&[7; 5000])[..9]] {
            let (mut client, _) = connect(&server, OFFER);
            client.write(&masked_frame(COMPRESSED_BINARY, payload));
            client.expect_close(1007);
        }
        // What is shared is as good as new.
        other.write(&masked_frame(COMPRESSED_TEXT, &pack(b"hello")));
        assert_eq!(other.read_frame(), Frame::text("hello"));
        let cause = server.expect_close().cause;
        assert_eq!(cause, CloseCause::Protocol(ProtocolError::InvalidDeflate));
    }
}

#[test]
fn compressed_text_has_to_be_utf8() {
    let server = server(Compression::Shared);
    let (mut client, _) = connect(&server, OFFER);
    client.write(&masked_frame(COMPRESSED_BINARY, &pack(b"\xff")));
    assert_eq!(client.read_frame(), Frame::binary(*b"\xff"));
    client.write(&masked_frame(COMPRESSED_TEXT, &pack(b"\xff")));
    client.expect_close(1007);
    let (mut client, _) = connect(&server, OFFER);
    // Too large for the scratch buffer.
    let mut large = vec![b'a'; 500_000];
    large.push(0xFF);
    client.write(&masked_frame(COMPRESSED_TEXT, &pack(&large)));
    client.expect_close(1007);
    let stats = server.wait_for("buffers come back", |stats| stats.connections.current == 0);
    assert_eq!(stats.read_buffers.current + stats.large_buffers.current, 0);
}

#[test]
fn the_limit_counts_what_is_inflated() {
    let config = config(Compression::Shared).max_message_size(100_000);
    let server = Server::start(config, |_| {});
    let (mut client, _) = connect(&server, OFFER);
    let message = vec![b'x'; 100_000];
    client.write(&masked_frame(COMPRESSED_BINARY, &pack(&message)));
    assert_eq!(Zip::new().unpack(&client.read_frame()), message);
    // Noise becomes longer than it is.
    let mut noise = vec![0; 100_000];
    ChaCha8Rng::seed_from_u64(5).fill_bytes(&mut noise);
    let packed = pack(&noise);
    assert!(packed.len() > noise.len());
    client.write(&masked_frame(COMPRESSED_BINARY, &packed));
    assert_eq!(client.read_frame(), Frame::binary(noise));
    client.write(&masked_frame(
        COMPRESSED_BINARY,
        &pack(&vec![b'x'; 100_001]),
    ));
    client.expect_close(1009);
}

#[test]
fn a_bomb_takes_no_more_memory_than_a_message() {
    const MAX: usize = 1 << 20;
    for compression in [Compression::Shared, Compression::Dedicated] {
        let server = Server::start(config(compression).max_message_size(MAX), |_| {});
        // Zeros, the same block of them over and over: 60 KiB that would be 60 MiB.
        let mut zip = Zip::new();
        let mut block = || [zip.pack(&vec![0; 1 << 20]), vec![0, 0, 0xFF, 0xFF]].concat();
        let (first, next) = (block(), block());
        let bomb = [&first[..], &next.repeat(59), &[0]].concat();
        assert!(bomb.len() < 70_000, "{}", bomb.len());
        let before = server.stats().buffer_memory.peak;
        for _ in 0..3 {
            let (mut client, _) = connect(&server, OFFER);
            client.write(&masked_frame(COMPRESSED_BINARY, &bomb));
            client.expect_close(1009);
        }
        // A message of the largest size, and the buffer before that was too small for it.
        let peak = server.stats().buffer_memory.peak - before;
        assert!(peak <= MAX + 14 + MAX / 4, "{peak}");
        server.wait_for("all is back", |stats| stats.connections.current == 0);
        assert_eq!(server.stats().large_buffers.current, 0);
    }
}

#[test]
fn messages_of_all_sizes_come_back() {
    for compression in [Compression::Shared, Compression::Dedicated] {
        let server = server(compression);
        let (mut client, _) = connect(&server, OFFER);
        let mut zip = Zip::new();
        for size in [0, 1, 63, 64, 1000, 65_535, 65_536, 200_000, 3_000_000] {
            let noise = pattern(size, 7);
            for message in [vec![b'z'; size], noise] {
                if compression == Compression::Shared {
                    zip = Zip::new();
                }
                client.write(&masked_frame(COMPRESSED_BINARY, &zip.pack(&message)));
                let echo = client.read_frame();
                let echo = match echo.rsv {
                    0 => echo.payload,
                    _ if compression == Compression::Shared => Zip::new().unpack(&echo),
                    _ => zip.unpack(&echo),
                };
                assert!(echo == message, "{size}");
            }
        }
    }
}

#[test]
fn the_sender_chooses_for_each_message() {
    let server = Server::start(config(Compression::Shared), |app| {
        app.on_message = Some(Box::new(|conn, message| {
            let text = message.text().unwrap().to_owned();
            conn.send_copy(MessageKind::Text, text.as_bytes()).unwrap();
            conn.send_copy(MessageKind::Text.plain(), text.as_bytes())
                .unwrap();
            conn.send_copy(MessageKind::Text.compressed(), text.as_bytes())
                .unwrap();
        }));
    });
    let (mut client, _) = connect(&server, OFFER);
    let rsv = |client: &mut Client, text: &str| {
        client.send_text(text);
        let frames = client.read_frames(3);
        for frame in &frames {
            let bytes = match frame.rsv {
                0 => frame.payload.clone(),
                _ => Zip::new().unpack(frame),
            };
            assert_eq!(bytes, text.as_bytes());
        }
        [frames[0].rsv, frames[1].rsv, frames[2].rsv]
    };
    assert_eq!(rsv(&mut client, &"a".repeat(64)), [RSV1, 0, RSV1]);
    assert_eq!(rsv(&mut client, &"a".repeat(63)), [0, 0, RSV1]);
    // It would become longer.
    assert_eq!(rsv(&mut client, "abc"), [0, 0, 0]);
}

#[test]
fn what_was_handed_over_comes_back_as_it_was() {
    let server = server(Compression::Dedicated);
    let (mut client, _) = connect(&server, OFFER);
    let id = server.expect_open();
    let mut zip = Zip::new();
    let long = "to be, or not to be, ".repeat(10);
    let large = "0123456789".repeat(20_000);
    let parts: Vec<Payload> = vec![long.clone().into(), large.clone().into()];
    let payloads = [
        long.clone().into(),
        large.clone().into(),
        Payload::from(parts),
    ];
    let expected = [long.clone(), large.clone(), long + &large];
    for (payload, expected) in payloads.into_iter().zip(expected) {
        server.on(id, move |conn| {
            conn.send(MessageKind::Text, payload).unwrap()
        });
        assert_eq!(zip.unpack(&client.read_frame()), expected.as_bytes());
        let back = server.expect("on_write_complete", |event| match event {
            Event::WriteComplete(_, payload, outcome) => Some((payload.len(), *outcome)),
            _ => None,
        });
        assert_eq!(back, (expected.len(), Outcome::Flushed));
    }
    client.send_close(1000, "");
    client.expect_close(1000);
    let stats = server.wait_for("the end", |stats| stats.connections.current == 0);
    assert_eq!(stats.read_buffers.current + stats.large_buffers.current, 0);
}

#[test]
fn frames_are_compressed_once_for_many() {
    let server = server(Compression::Dedicated);
    let (mut plain, _) = connect(&server, "");
    let (mut kept, _) = connect(&server, OFFER);
    let small = "Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=9\r\n";
    let (mut small, _) = connect(&server, small);
    let (mut zip, mut small_zip) = (Zip::new(), Zip::new());
    let text = sentence(1);
    for round in 0..3 {
        let frames = Frames::message(MessageKind::Text, text.as_bytes())
            .compress(&mut Compressor::new(6, 15, 8).unwrap());
        let frames = if round == 2 {
            frames.compress(&mut Compressor::new(6, 9, 8).unwrap())
        } else {
            frames
        };
        server.with(move |_, connections| {
            connections.for_each(|conn| {
                conn.send_frames(&frames).unwrap();
                // Behind frames of others a window starts anew.
                conn.send_copy(MessageKind::Text.compressed(), sentence(2).as_bytes())
                    .unwrap();
            });
        });
        assert_eq!(plain.read_frame(), Frame::text(&text));
        assert_eq!(plain.read_frame(), Frame::text(&sentence(2)));
        assert_eq!(zip.unpack(&kept.read_frame()), text.as_bytes());
        assert_eq!(zip.unpack(&kept.read_frame()), sentence(2).as_bytes());
        // No form for such a window before the third round.
        let frame = small.read_frame();
        if round == 2 {
            assert_eq!(small_zip.unpack(&frame), text.as_bytes());
        } else {
            assert_eq!(frame, Frame::text(&text));
        }
        assert_eq!(
            small_zip.unpack(&small.read_frame()),
            sentence(2).as_bytes()
        );
    }
}

#[test]
fn with_no_windows_left_messages_stand_alone() {
    let config = config(Compression::Dedicated).max_compression_contexts(1);
    let server = Server::start(config, |_| {});
    let (first, agreed) = connect(&server, OFFER);
    assert_eq!(agreed.as_deref(), Some("permessage-deflate"));
    let alone = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
    let (mut second, agreed) = connect(&server, OFFER);
    assert_eq!(agreed.as_deref(), Some(alone));
    for number in 0..3 {
        let message = sentence(number);
        second.write(&masked_frame(COMPRESSED_TEXT, &pack(message.as_bytes())));
        assert_eq!(Zip::new().unpack(&second.read_frame()), message.as_bytes());
    }
    let one = Occupancy {
        current: 1,
        ..server.stats().compressors
    };
    assert_eq!((one.peak, one.max), (1, 1));
    // It is used again, as good as new.
    drop(first);
    server.wait_for("the window is back", |stats| stats.compressors.current == 0);
    let (mut third, agreed) = connect(&server, OFFER);
    assert_eq!(agreed.as_deref(), Some("permessage-deflate"));
    third.write(&masked_frame(
        COMPRESSED_TEXT,
        &pack(sentence(7).as_bytes()),
    ));
    assert_eq!(
        Zip::new().unpack(&third.read_frame()),
        sentence(7).as_bytes()
    );
}

#[test]
fn a_compressor_goes_back_when_it_is_not_used_for_long() {
    let millis = Duration::from_millis;
    let idle = millis(20);
    for (timeout, heartbeat, starts_anew) in [
        (Some(idle), None, true),
        // Both have their deadlines, and one timer.
        (Some(idle), Some(millis(30)), true),
        (None, None, false),
    ] {
        let config = config(Compression::Dedicated)
            .compression_idle_timeout(timeout)
            .heartbeat_interval(heartbeat);
        let server = Server::start(config, |_| {});
        let (mut client, _) = connect(&server, OFFER);
        let mut zip = Zip::new();
        let mut echo_after_a_while = |number| {
            let message = sentence(number);
            client.write(&masked_frame(
                COMPRESSED_TEXT,
                &zip.pack(message.as_bytes()),
            ));
            let echo = loop {
                let frame = client.read_frame();
                if frame != Frame::ping(b"") {
                    break frame;
                }
                client.write(&masked_frame(0x8A, b""));
            };
            // It goes on with the window that it has, whatever is in ours.
            assert_eq!(zip.unpack(&echo), message.as_bytes());
            // Longer than it takes to look twice, by the loop's own clock.
            server.with(move |_, connections| connections.set_timer(6 * idle, 1).unwrap());
            server.expect("on_timer", |event| {
                (*event == Event::Timer(1)).then_some(())
            });
            echo.payload.len()
        };
        let first = echo_after_a_while(1);
        if starts_anew {
            // A loop that was held up for so long looks once more.
            let end = Instant::now() + DEADLINE;
            while echo_after_a_while(2).abs_diff(first) >= 5 {
                assert!(Instant::now() < end, "it never starts anew");
            }
        } else {
            assert!(echo_after_a_while(2) * 2 < first);
        }
        assert_eq!(server.stats().compressors.current, 1);
    }
}

/// A compressor that is lent moves the connection's timer, and takes nothing away from what that is there for.
#[test]
fn a_heartbeat_that_is_due_is_sent_when_a_compressor_is_lent_as_well() {
    let interval = Duration::from_millis(50);
    let config = config(Compression::Dedicated).heartbeat_interval(Some(interval));
    let server = Server::start(config, |app| {
        app.on_message = Some(Box::new(|conn, message| {
            let text = message.as_bytes().to_vec();
            conn.connections().for_each(|conn| {
                conn.send_copy(MessageKind::Text, &text).unwrap();
            });
        }));
    });
    let (mut silent, _) = connect(&server, OFFER);
    let (mut other, _) = connect(&server, OFFER);
    let text = sentence(1);
    let held = server.hold();
    other.write(&masked_frame(TEXT, text.as_bytes()));
    // It is due now, and in the turn that begins then the message is found before the timers are.
    std::thread::sleep(2 * interval);
    drop(held);
    let mut zip = Zip::new();
    let (mut pings, mut messages) = (0, 0);
    while pings < 1 || messages < 1 {
        let frame = silent.read_frame();
        if frame == Frame::ping(b"") {
            pings += 1;
        } else {
            assert_eq!(zip.unpack(&frame), text.as_bytes());
            messages += 1;
        }
    }
}

#[test]
fn a_compressed_message_comes_in_one_piece() {
    let server = Server::start(config(Compression::Dedicated), |app| {
        app.on_open = Some(Box::new(|conn| conn.stream_messages(true)));
    });
    let (mut client, _) = connect(&server, OFFER);
    let mut zip = Zip::new();
    let large = "0123456789".repeat(100_000);
    for message in [sentence(1), large] {
        client.write(&masked_frame(
            COMPRESSED_TEXT,
            &zip.pack(message.as_bytes()),
        ));
        let (bytes, first, last) = server.expect("on_fragment", |event| match event {
            Event::Fragment(_, MessageKind::Text, bytes, first, last) => {
                Some((bytes.clone(), *first, *last))
            }
            _ => None,
        });
        assert!(bytes == message.as_bytes() && first && last);
        // The others still come in pieces.
        client.write(&masked_frame(0x01, b"a"));
        client.write(&masked_frame(0x80, b"b"));
        for expected in [(b"a", true, false), (b"b", false, true)] {
            server.expect("on_fragment", |event| match event {
                Event::Fragment(_, _, bytes, first, last) => {
                    assert_eq!(
                        (&bytes[..], *first, *last),
                        (&expected.0[..], expected.1, expected.2)
                    );
                    Some(())
                }
                _ => None,
            });
        }
    }
}

#[test]
fn a_client_compresses_what_it_masks() {
    for (mode, answer, keeps) in [
        (
            Compression::Dedicated,
            "Sec-WebSocket-Extensions: permessage-deflate\r\n",
            true,
        ),
        (
            Compression::Shared,
            "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover\r\n",
            false,
        ),
    ] {
        let raw = RawServer::bind();
        let dialler = Server::dialler(config(mode));
        dialler.dial(&raw.url());
        let mut peer = raw.accept();
        let offer = peer
            .request
            .lines()
            .find(|line| line.starts_with("Sec-WebSocket-Extensions"));
        let expected = match mode {
            Compression::Shared => {
                "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
            }
            _ => "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits",
        };
        assert_eq!(offer, Some(expected));
        peer.write(peer.switching(answer).as_bytes());
        let id = dialler.expect_dialled();
        let mut zip = Zip::new();
        let mut lengths = Vec::new();
        for number in 0..5 {
            let message = sentence(number);
            let payload = message.clone();
            dialler.on(id, move |conn| {
                assert!(conn.compresses());
                match number % 2 {
                    0 => conn.send(MessageKind::Text, payload).unwrap(),
                    _ => conn
                        .send_copy(MessageKind::Text, payload.as_bytes())
                        .unwrap(),
                }
            });
            let frame = peer.read_frame();
            lengths.push(frame.payload.len());
            if !keeps {
                zip = Zip::new();
            }
            assert_eq!(zip.unpack(&frame), message.as_bytes());
            peer.write(&frame_of(&zip.pack(message.as_bytes())));
            assert_eq!(dialler.expect_message(), message.as_bytes());
        }
        assert_eq!(lengths[4] * 3 < lengths[0], keeps, "{lengths:?}");
    }
}

fn frame_of(packed: &[u8]) -> Vec<u8> {
    frame(COMPRESSED_TEXT, packed)
}

#[test]
fn a_server_may_decline() {
    let raw = RawServer::bind();
    let dialler = Server::dialler(config(Compression::Dedicated));
    dialler.dial(&raw.url());
    let mut peer = raw.accept();
    peer.write(peer.switching("").as_bytes());
    let id = dialler.expect_dialled();
    dialler.on(id, |conn| {
        assert!(!conn.compresses());
        conn.send_copy(MessageKind::Text.compressed(), &[b'a'; 500])
            .unwrap();
    });
    assert_eq!(peer.read_frame(), Frame::text(&"a".repeat(500)));
    let stats = dialler.stats();
    assert_eq!(
        (stats.compressors.current, stats.decompressors.current),
        (0, 0)
    );
    peer.write(&frame_of(&pack(b"a")));
    let close = dialler.expect_close();
    assert_eq!(
        close.cause,
        CloseCause::Protocol(ProtocolError::ReservedBits)
    );
}

#[test]
fn a_client_fails_on_an_answer_that_it_did_not_ask_for() {
    use ExtensionError::{Malformed, NotGranted, NotOffered, Parameter, Repeated};
    for (answer, expected) in [
        ("permessage-deflate", NotGranted),
        (
            "permessage-deflate; server_no_context_takeover; x",
            Parameter,
        ),
        (
            "permessage-deflate; server_no_context_takeover; client_max_window_bits=7",
            Parameter,
        ),
        (
            "permessage-deflate; server_no_context_takeover, x",
            NotOffered,
        ),
        (
            "permessage-deflate; server_no_context_takeover, permessage-deflate; server_no_context_takeover",
            Repeated,
        ),
        ("permessage-deflate; =", Malformed),
    ] {
        let raw = RawServer::bind();
        let dialler = Server::dialler(config(Compression::Shared));
        dialler.dial(&raw.url());
        let mut peer = raw.accept();
        let answer = peer.switching(&format!("Sec-WebSocket-Extensions: {answer}\r\n"));
        peer.write(answer.as_bytes());
        let error = ConnectError::Response(ResponseError::Extension(expected));
        assert_eq!(dialler.expect_failed(), error);
    }
}

#[test]
fn windows_come_back_from_attempts_that_fail() {
    let raw = RawServer::bind();
    let config = config(Compression::Dedicated).max_compression_contexts(1);
    let dialler = Server::dialler(config);
    for _ in 0..3 {
        dialler.dial(&raw.url());
        let peer = raw.accept();
        assert_eq!(dialler.stats().decompressors.current, 1);
        drop(peer);
        dialler.expect_failed();
        assert_eq!(dialler.stats().decompressors.current, 0);
    }
    let connect = Connect::to(&raw.url()).unwrap();
    let first = dialler.try_dial(connect.clone(), 1).unwrap();
    let _peer = raw.accept();
    // None left for the second one.
    dialler.try_dial(connect, 2).unwrap();
    let request = raw.accept().request;
    assert!(
        request.contains("; server_no_context_takeover;"),
        "{request}"
    );
    dialler.with(move |_, connections| connections.cancel_connect(first));
    dialler.wait_for("the window is back", |stats| {
        stats.decompressors.current == 0
    });
}

#[test]
fn both_ends_of_ours_agree_in_every_pair_of_modes() {
    let modes = [
        Compression::Off,
        Compression::Shared,
        Compression::Dedicated,
    ];
    for server_mode in modes {
        let server = server(server_mode);
        for client_mode in modes {
            let dialler = Server::dialler(config(client_mode).compression_window_bits(11));
            let id = dialler.open(&server.url("/"));
            let expected = server_mode != Compression::Off && client_mode != Compression::Off;
            for number in 0..10 {
                let message = sentence(number);
                let payload = message.clone();
                let compresses = dialler.on(id, move |conn| {
                    conn.send(MessageKind::Text, payload).unwrap();
                    conn.compresses()
                });
                assert_eq!(compresses, expected);
                assert_eq!(dialler.expect_message(), message.as_bytes());
            }
        }
    }
}

#[test]
fn the_first_byte_says_that_text_is_plain() {
    let server = server(Compression::Dedicated);
    let (mut client, _) = connect(&server, OFFER);
    client.write(&masked_frame(TEXT, sentence(1).as_bytes()));
    assert_eq!(
        Zip::new().unpack(&client.read_frame()),
        sentence(1).as_bytes()
    );
}
