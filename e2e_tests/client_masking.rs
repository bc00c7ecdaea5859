//! What a client puts on the wire is masked, once, with a key of its own for each frame (RFC 6455 §5.3). `Peer::read_frame`
//! checks that of every frame in every test.

use std::{collections::HashSet, sync::mpsc::channel};

use bytes::Bytes;
use rand_chacha::{
    ChaCha20Rng,
    rand_core::{Rng, SeedableRng},
};
use wsloop::{
    CloseCode, Config, ConnId, Frames, MessageKind, Outcome, Payload, SendErrorKind, Sent,
};

use super::support::{
    DEADLINE, Event, Frame, MaskedFrame, Peer, RawServer, SEED, Server, masked_frame, pattern,
};

/// Around every threshold of header forms and buffers.
const SIZES: [usize; 12] = [
    0, 1, 3, 125, 126, 4095, 4096, 16_384, 65_535, 65_536, 65_537, 200_000,
];

/// What comes back of a payload, in the shape in which a test can look at it.
#[derive(Debug, PartialEq, Eq)]
struct Back {
    masked: bool,
    bytes: Vec<u8>,
    unmasked: Vec<u8>,
    outcome: Outcome,
}

fn flat(payload: &Payload) -> Vec<u8> {
    match payload {
        Payload::Parts(parts) => parts.iter().flat_map(flat).collect(),
        single => single.as_slice().unwrap().to_vec(),
    }
}

fn back(mut sent: Sent) -> Back {
    let (masked, bytes) = (sent.is_masked(), flat(&sent.payload));
    sent.unmask();
    assert!(!sent.is_masked());
    let unmasked = flat(&sent.payload);
    // Once is enough.
    sent.unmask();
    assert_eq!(flat(&sent.payload), unmasked);
    Back {
        masked,
        bytes,
        unmasked,
        outcome: sent.outcome,
    }
}

/// A loop that keeps the payloads that come back, and a connection of it.
struct Pair {
    dialler: Server,
    id: ConnId,
    peer: Peer,
    backs: std::sync::mpsc::Receiver<Back>,
}

impl Pair {
    fn open(config: Config) -> Self {
        let raw = RawServer::bind();
        let (report, backs) = channel();
        let dialler = Server::start(config, move |app| {
            app.on_message = Some(Box::new(|_, _| {}));
            app.on_write_complete = Some(Box::new(move |_, sent| {
                let _ = report.send(back(sent));
            }));
        });
        dialler.dial(&raw.url());
        let peer = raw.open();
        let id = dialler.expect_dialled();
        Self {
            dialler,
            id,
            peer,
            backs,
        }
    }

    fn send(&self, payload: impl Into<Payload>) -> Result<(), (SendErrorKind, Payload)> {
        let payload = payload.into();
        self.dialler.on(self.id, move |conn| {
            conn.send(MessageKind::Binary, payload)
                .map_err(|error| (error.kind, error.payload))
        })
    }

    fn back(&self) -> Back {
        self.backs
            .recv_timeout(DEADLINE)
            .expect("a payload is back")
    }
}

fn flushed(masked: bool, bytes: &[u8], payload: &[u8]) -> Back {
    Back {
        masked,
        bytes: bytes.to_vec(),
        unmasked: payload.to_vec(),
        outcome: Outcome::Flushed,
    }
}

fn xor(bytes: &[u8], key: [u8; 4]) -> Vec<u8> {
    let key = key.iter().cycle();
    bytes
        .iter()
        .zip(key)
        .map(|(byte, key)| byte ^ key)
        .collect()
}

#[test]
fn every_kind_of_frame_is_masked_with_a_key_of_its_own() {
    let mut pair = Pair::open(Config::default());
    pair.dialler.on(pair.id, |conn| {
        conn.send_copy(MessageKind::Text, b"copy").unwrap();
        conn.send_copy(MessageKind::Text, b"copy").unwrap();
        conn.send(MessageKind::Binary, vec![0; 8]).unwrap();
        let frames = Frames::builder()
            .fragments(MessageKind::Binary, &[b"frag", b"", b"ments"])
            .ping(b"raw ping")
            .unwrap()
            .pong(b"raw pong")
            .unwrap()
            .message(MessageKind::Text, b"")
            .build();
        conn.send_frames(&frames).unwrap();
        conn.send_frames(&frames).unwrap();
    });
    let fragment = |fin, opcode, payload: &[u8]| Frame {
        fin,
        rsv: 0,
        opcode,
        payload: payload.to_vec(),
    };
    let mut wanted = vec![
        Frame::text("copy"),
        Frame::text("copy"),
        Frame::binary([0; 8]),
    ];
    for _ in 0..2 {
        wanted.extend([
            fragment(false, 2, b"frag"),
            fragment(false, 0, b""),
            fragment(true, 0, b"ments"),
            Frame::ping(b"raw ping"),
            Frame::pong(b"raw pong"),
            Frame::text(""),
        ]);
    }
    for frame in wanted {
        assert_eq!(pair.peer.read_frame(), frame);
    }
    pair.dialler.on(pair.id, |conn| {
        conn.send_ping(b"ping").unwrap();
        conn.send_ping(b"").unwrap();
        conn.send_pong(b"pong").unwrap();
    });
    assert_eq!(pair.peer.read_frame(), Frame::ping(b"ping"));
    assert_eq!(pair.peer.read_frame(), Frame::ping(b""));
    assert_eq!(pair.peer.read_frame(), Frame::pong(b"pong"));
    pair.peer.send(&Frame::ping(&[7; 125]));
    assert_eq!(pair.peer.read_frame(), Frame::pong(&[7; 125]));
    pair.dialler.on(pair.id, |conn| {
        conn.close(CloseCode::NORMAL, "bye").unwrap()
    });
    assert_eq!(pair.peer.read_frame(), Frame::close(1000, "bye"));
}

/// As many control frames as the ring holds, each a byte long: masks make them longer than the ring.
#[test]
fn a_full_ring_of_control_frames_goes_out_whole() {
    let mut pair = Pair::open(Config::default());
    let sent = pair.dialler.on(pair.id, |conn| {
        let mut sent = 0u8;
        while conn.send_ping(&[sent]).is_ok() {
            sent += 1;
        }
        conn.auto_pong(&[7; 125]);
        sent
    });
    assert!(sent > 50);
    let frames: Vec<Frame> = (0..=sent).map(|_| pair.peer.read_frame()).collect();
    let (pongs, pings): (Vec<Frame>, Vec<Frame>) =
        frames.into_iter().partition(|frame| frame.opcode == 10);
    assert_eq!(pongs, [Frame::pong(&[7; 125])]);
    let wanted: Vec<Frame> = (0..sent).map(|at| Frame::ping(&[at])).collect();
    assert_eq!(pings, wanted);
}

#[test]
fn keys_come_from_the_supplied_generator() {
    let run = || {
        let mut pair = Pair::open(Config::default());
        let request_key = pair.peer.fields("Sec-WebSocket-Key")[0].to_owned();
        let mut keys = Vec::new();
        for at in 0..200 {
            pair.dialler.on(pair.id, move |conn| match at % 3 {
                0 => conn.send_copy(MessageKind::Text, b"one").unwrap(),
                1 => conn.send_ping(b"two").unwrap(),
                _ => conn
                    .send_frames(&Frames::message(MessageKind::Text, b"three"))
                    .unwrap(),
            });
            keys.push(pair.peer.read_masked().key);
        }
        (request_key, keys)
    };
    let (one, other) = (run(), run());
    assert_eq!(one, other, "the same seed gives the same keys");
    let mut stream = vec![0; 4096];
    ChaCha20Rng::from_seed(SEED).fill_bytes(&mut stream);
    let mut places = HashSet::new();
    for key in one.1 {
        let at = stream.chunks(4).position(|chunk| chunk == key);
        assert!(places.insert(at.expect("a key of the generator")));
    }
}

#[test]
fn an_owned_payload_is_masked_in_place_and_can_be_had_back() {
    let mut pair = Pair::open(Config::default());
    for size in SIZES {
        let payload = pattern(size, 1);
        pair.send(payload.clone()).unwrap();
        let MaskedFrame { frame, key } = pair.peer.read_masked();
        assert_eq!(frame, Frame::binary(&payload[..]), "{size}");
        let wire = xor(&payload, key);
        assert_eq!(pair.back(), flushed(true, &wire, &payload), "{size}");
    }
}

#[test]
fn a_pooled_payload_is_masked_in_place_and_can_be_had_back() {
    let mut pair = Pair::open(Config::default());
    for size in SIZES {
        let payload = pattern(size, 2);
        let bytes = payload.clone();
        pair.dialler.on(pair.id, move |conn| {
            let mut buffer = conn.sender().lease(bytes.len()).unwrap();
            buffer.copy_from_slice(&bytes);
            conn.send(MessageKind::Binary, buffer).unwrap();
        });
        let MaskedFrame { frame, key } = pair.peer.read_masked();
        assert_eq!(frame, Frame::binary(&payload[..]), "{size}");
        let wire = xor(&payload, key);
        assert_eq!(pair.back(), flushed(true, &wire, &payload), "{size}");
    }
}

#[test]
fn what_others_share_is_not_touched() {
    static STATIC: [u8; 70_000] = [b's'; 70_000];
    let mut pair = Pair::open(Config::default());
    for size in SIZES {
        let bytes = Bytes::from(pattern(size, 3));
        pair.send(bytes.clone()).unwrap();
        assert_eq!(pair.peer.read_frame(), Frame::binary(&bytes[..]), "{size}");
        // An empty one has nothing that could be touched.
        let back = pair.back();
        assert_eq!(
            (&back.bytes[..], back.outcome),
            (&bytes[..], Outcome::Flushed)
        );
        assert!(size == 0 || !back.masked, "{size}");
        assert_eq!(bytes, pattern(size, 3));
        // The same bytes can go out again.
        pair.send(bytes.clone()).unwrap();
        assert_eq!(pair.peer.read_frame(), Frame::binary(&bytes[..]), "{size}");
        pair.back();
        let part = &STATIC[..size.min(STATIC.len())];
        pair.send(part).unwrap();
        assert_eq!(pair.peer.read_frame(), Frame::binary(part), "{size}");
        assert_eq!(pair.back().bytes, part);
    }
    pair.dialler.wait_for("the copies are back", |stats| {
        stats.large_buffers.current == 0 && stats.read_buffers.current == 0
    });
}

#[test]
fn parts_are_masked_as_one_payload() {
    let mut pair = Pair::open(Config::default());
    let whole = pattern(5000, 4);
    // Cuts that are no multiples of the key's length.
    let owned = || {
        vec![
            Payload::from(whole[..1].to_vec()),
            Payload::Owned(Vec::new()),
            Payload::Parts(vec![
                Payload::from(whole[1..6].to_vec()),
                Payload::from(whole[6..4099].to_vec()),
            ]),
            Payload::from(whole[4099..].to_vec()),
        ]
    };
    let mixed = || {
        vec![
            Payload::from(whole[..7].to_vec()),
            Payload::from(Bytes::copy_from_slice(&whole[7..4002])),
            Payload::from(whole[4002..].to_vec()),
        ]
    };
    for (parts, masked) in [(owned(), true), (mixed(), false)] {
        pair.send(Payload::Parts(parts)).unwrap();
        let MaskedFrame { frame, key } = pair.peer.read_masked();
        assert_eq!(frame, Frame::binary(&whole[..]));
        let bytes = if masked {
            xor(&whole, key)
        } else {
            whole.clone()
        };
        assert_eq!(pair.back(), flushed(masked, &bytes, &whole));
    }
    pair.send(Payload::Parts(Vec::new())).unwrap();
    assert_eq!(pair.peer.read_frame(), Frame::binary([]));
    // More pieces than one write takes.
    let many = (0..1000)
        .map(|at| Payload::from(whole[at * 5..(at + 1) * 5].to_vec()))
        .collect();
    pair.send(Payload::Parts(many)).unwrap();
    assert_eq!(pair.peer.read_frame(), Frame::binary(&whole[..]));
}

#[test]
fn copies_in_parts_are_masked_as_one_payload() {
    let mut pair = Pair::open(Config::default());
    let whole = pattern(40_000, 4);
    for cuts in [[1, 2], [3, 20_001], [0, 40_000], [16_383, 16_385]] {
        let payload = whole.clone();
        pair.dialler.on(pair.id, move |conn| {
            let parts = [
                std::io::IoSlice::new(&payload[..cuts[0]]),
                std::io::IoSlice::new(&payload[cuts[0]..cuts[1]]),
                std::io::IoSlice::new(&payload[cuts[1]..]),
            ];
            conn.send_copy_vectored(MessageKind::Binary, &parts)
                .unwrap();
        });
        assert_eq!(
            pair.peer.read_frame(),
            Frame::binary(&whole[..]),
            "{cuts:?}"
        );
    }
}

#[test]
fn a_refused_payload_comes_back_as_it_was() {
    let config = Config::default()
        .send_queue(1)
        .max_backlog(300_000)
        .send_buffer_size(Some(4096));
    let mut pair = Pair::open(config);
    let payload = pattern(1000, 5);
    let large = pattern(1 << 20, 6);
    // The peer does not read: it stays in flight.
    pair.send(large.clone()).unwrap();
    let (kind, refused) = pair.send(payload.clone()).unwrap_err();
    assert_eq!(
        (kind, flat(&refused)),
        (SendErrorKind::WriteBusy, payload.clone())
    );
    assert_eq!(pair.peer.read_frame(), Frame::binary(&large[..]));
    assert_eq!(pair.back().unmasked, large);
    // Too much waits.
    let refused = payload.clone();
    let (kind, refused) = pair.dialler.on(pair.id, move |conn| {
        conn.send_copy(MessageKind::Binary, &[1; 299_500]).unwrap();
        let error = conn.send(MessageKind::Binary, refused).unwrap_err();
        (error.kind, error.payload)
    });
    assert_eq!(
        (kind, flat(&refused)),
        (SendErrorKind::BacklogFull, payload.clone())
    );
    assert_eq!(pair.peer.read_frame(), Frame::binary([1; 299_500]));
    // Too late.
    let late = payload.clone();
    let (kind, refused) = pair.dialler.on(pair.id, move |conn| {
        conn.close(CloseCode::NORMAL, "").unwrap();
        let error = conn.send(MessageKind::Binary, late).unwrap_err();
        (error.kind, error.payload)
    });
    assert_eq!((kind, flat(&refused)), (SendErrorKind::NotOpen, payload));
    assert_eq!(pair.peer.read_frame(), Frame::close(1000, ""));
}

/// The bound is for what goes over the wire, keys included.
#[test]
fn mask_keys_count_as_backlog() {
    let config = Config::default().max_backlog(1000);
    let pair = Pair::open(config);
    let (one, fits, full) = pair.dialler.on(pair.id, |conn| {
        // 2 + 4 + 10 bytes.
        conn.send_copy(MessageKind::Text, &[b'x'; 10]).unwrap();
        let one = conn.backlog();
        // 4 + 4 + 976 bytes would be 1,000 in all.
        let fits = conn.send(MessageKind::Text, vec![b'y'; 977]).is_ok();
        conn.send(MessageKind::Text, vec![b'y'; 976]).unwrap();
        (one, fits, conn.backlog())
    });
    assert_eq!((one, fits, full), (16, false, 1000));
}

/// What can never be copied is not refused as if it could be later.
#[test]
fn what_is_too_large_to_be_masked_is_too_big() {
    let config = Config::default()
        .max_message_size(100_000)
        .large_buffer_size(8192)
        .scratch_size(16_384)
        .max_buffer_memory(1 << 20)
        .max_idle_buffer_memory(1 << 20);
    let mut pair = Pair::open(config);
    let shared = Bytes::from(pattern(2_000_000, 1));
    let (kind, payload) = pair.send(shared.clone()).unwrap_err();
    assert_eq!(
        (kind, flat(&payload)),
        (SendErrorKind::TooBig, shared.to_vec())
    );
    let frames = Frames::message(MessageKind::Binary, &shared);
    let copied = shared.clone();
    let kinds = pair.dialler.on(pair.id, move |conn| {
        (
            conn.send_frames(&frames),
            conn.send_copy(MessageKind::Binary, &copied),
        )
    });
    assert_eq!(
        kinds,
        (Err(SendErrorKind::TooBig), Err(SendErrorKind::TooBig))
    );
    // Masked where it is.
    pair.send(shared.to_vec()).unwrap();
    assert_eq!(pair.peer.read_frame(), Frame::binary(&shared[..]));
}

#[test]
fn without_a_buffer_for_the_copy_a_shared_payload_comes_back() {
    let config = Config::default()
        .read_buffer_size(256)
        .large_buffer_size(1024)
        .max_head_size(1024)
        .initial_large_buffers(0)
        .max_large_buffers(1)
        .send_queue(4);
    let mut pair = Pair::open(config);
    let bytes = Bytes::from(pattern(900, 7));
    let given = bytes.clone();
    let (kind, payload) = pair.dialler.on(pair.id, move |conn| {
        conn.send(MessageKind::Binary, given.clone()).unwrap();
        let error = conn.send(MessageKind::Binary, given.clone()).unwrap_err();
        // What needs no copy still goes.
        conn.send(MessageKind::Binary, given.to_vec()).unwrap();
        (error.kind, error.payload)
    });
    assert_eq!(
        (kind, flat(&payload)),
        (SendErrorKind::OutOfBuffers, bytes.to_vec())
    );
    assert_eq!(pair.peer.read_frame(), Frame::binary(&bytes[..]));
    assert_eq!(pair.peer.read_frame(), Frame::binary(&bytes[..]));
}

/// Every way of sending, through a socket that takes little at a time.
#[test]
fn partial_writes_mask_once() {
    let config = Config::default()
        .send_buffer_size(Some(4096))
        .send_queue(8)
        .max_backlog(64 << 20);
    let mut pair = Pair::open(config);
    let payload = pattern(600_000, 8);
    let bytes = payload.clone();
    pair.dialler.on(pair.id, move |conn| {
        conn.send(MessageKind::Binary, bytes.clone()).unwrap();
        conn.send_copy(MessageKind::Binary, &bytes).unwrap();
        conn.send(MessageKind::Binary, Bytes::from(bytes.clone()))
            .unwrap();
        conn.send_frames(&Frames::message(MessageKind::Binary, &bytes))
            .unwrap();
        let (front, back) = bytes.split_at(234_567);
        let parts = vec![Payload::from(front.to_vec()), Payload::from(back.to_vec())];
        conn.send(MessageKind::Binary, Payload::Parts(parts))
            .unwrap();
        conn.send_ping(b"between").unwrap();
    });
    let mut messages = 0;
    let mut pings = 0;
    while messages < 5 || pings < 1 {
        let frame = pair.peer.read_frame();
        if frame.opcode == 9 {
            assert_eq!(frame, Frame::ping(b"between"));
            pings += 1;
        } else {
            assert!(
                frame == Frame::binary(&payload[..]),
                "{messages}: {frame:?}"
            );
            messages += 1;
        }
    }
    for _ in 0..3 {
        let back = pair.back();
        assert!(back.unmasked == payload && back.outcome == Outcome::Flushed);
    }
}

#[test]
fn a_discarded_payload_can_be_unmasked_too() {
    let config = Config::default().send_buffer_size(Some(4096)).send_queue(4);
    let pair = Pair::open(config);
    let payload = pattern(2 << 20, 9);
    let waits = pattern(1000, 10);
    let (first, second) = (payload.clone(), waits.clone());
    pair.dialler.on(pair.id, move |conn| {
        conn.send(MessageKind::Binary, first).unwrap();
        conn.send(MessageKind::Binary, second).unwrap();
    });
    // What waits is dropped, what is in flight is cut off with the connection.
    pair.dialler.on(pair.id, |conn| {
        conn.close_now(CloseCode::NORMAL, "").unwrap()
    });
    drop(pair.peer);
    // In the order of sending.
    let back = pair.backs.recv_timeout(DEADLINE).unwrap();
    assert!(back.masked && back.unmasked == payload);
    assert!(
        matches!(back.outcome, Outcome::Discarded { written } if written > 0 && written < payload.len()),
        "{:?}",
        back.outcome
    );
    let back = pair.backs.recv_timeout(DEADLINE).unwrap();
    assert_eq!(back.outcome, Outcome::Discarded { written: 0 });
    assert_eq!(back.unmasked, waits);
}

/// A frame in flight among others in one buffer is finished, the rest is dropped, and the close frame is readable.
#[test]
fn close_now_cuts_masked_frames_between_frames() {
    let config = Config::default()
        .send_buffer_size(Some(4096))
        .max_backlog(64 << 20);
    let mut pair = Pair::open(config);
    pair.dialler.on(pair.id, |conn| {
        for at in 0..2000 {
            conn.send_copy(MessageKind::Binary, &pattern(3000, at))
                .unwrap();
        }
    });
    pair.dialler.on(pair.id, |conn| {
        conn.close_now(CloseCode::GOING_AWAY, "cut").unwrap()
    });
    let mut at = 0;
    let last = loop {
        let frame = pair.peer.read_frame();
        if frame.opcode == 8 {
            break frame;
        }
        assert!(frame == Frame::binary(pattern(3000, at)), "{at}: {frame:?}");
        at += 1;
    };
    assert_eq!(last, Frame::close(1001, "cut"));
    assert!(at < 2000, "nothing was dropped");
}

/// Pings go out between frames of a run that is being written.
#[test]
fn control_frames_come_between_masked_frames() {
    let config = Config::default()
        .send_buffer_size(Some(4096))
        .max_backlog(64 << 20);
    let mut pair = Pair::open(config);
    pair.dialler.on(pair.id, |conn| {
        let frames = (0..400).fold(Frames::builder(), |frames, at| {
            frames.message(MessageKind::Binary, &pattern(3000, at))
        });
        conn.send_frames(&frames.build()).unwrap();
    });
    pair.dialler
        .on(pair.id, |conn| conn.send_ping(b"now").unwrap());
    let mut before_ping = None;
    let mut at = 0;
    while at < 400 {
        let frame = pair.peer.read_frame();
        if frame.opcode == 9 {
            before_ping = Some(at);
        } else {
            assert!(frame == Frame::binary(pattern(3000, at)), "{at}: {frame:?}");
            at += 1;
        }
    }
    assert!(before_ping.is_some_and(|at| at < 400), "{before_ping:?}");
}

#[test]
fn a_masked_frame_of_a_server_fails_the_connection() {
    for wire in [
        masked_frame(0x81, b"text"),
        masked_frame(0x82, b""),
        masked_frame(0x89, b"ping"),
        masked_frame(0x88, &[3, 232]),
    ] {
        let mut pair = Pair::open(Config::default());
        pair.peer.write(&wire);
        assert_eq!(pair.peer.expect_close(1002), Frame::close(1002, ""));
        let close = pair.dialler.expect("on_close", |event| match event {
            Event::Message(..) | Event::Ping(..) => panic!("{event:?}"),
            Event::Close(_, close) => Some(close.clone()),
            _ => None,
        });
        assert_eq!(
            close.cause,
            wsloop::CloseCause::Protocol(wsloop::ProtocolError::MaskedFrame)
        );
    }
}
